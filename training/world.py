"""The world the built-in model knows: flat, poster-like pictures and their captions.

    python world.py sheet.png      draws a sheet of random pictures
    python world.py --heldout      writes heldout.json, the captions that judge the model

Single objects, two to four of a kind, two objects side by side or one above the other, and scenes with a sky and a
ground. Everything is drawn here; no outside picture is used. Needs numpy and PIL only.
"""
import json, math, random, sys, zlib
from pathlib import Path
import numpy as np
from PIL import Image, ImageDraw
from shapes import EXTENT, SHAPES

SIZE = 128                     # pixels a side
SUPER = 4                      # supersampling: pictures are drawn 4 times larger, then averaged

COLOURS = {
    "red": (218, 38, 40), "orange": (246, 136, 26), "yellow": (250, 216, 48),
    "green": (44, 156, 72), "blue": (40, 88, 212), "purple": (132, 54, 172),
    "pink": (246, 150, 192), "white": (250, 250, 250), "black": (22, 22, 28),
}
SIZES = {"small": 0.17, "medium": 0.245, "large": 0.335}   # half extent, as a share of the picture
PLACES = ("left", "right", "top", "bottom", "middle")
NUMBERS = {2: "two", 3: "three", 4: "four"}
RELATIONS = ("left", "right", "above", "below")            # where the first object is, as seen from the second
TIMES = ("day", "dusk", "night")
GROUNDS = ("hills", "sea", "mountains")
SKIES = ("none", "sun", "moon", "stars")
KINDS = ("single", "count", "pair", "scene")
SHARES = (.34, .14, .28, .24)                              # of the kinds, among the pictures of the training

SKY = {"day": (150, 208, 248), "dusk": (250, 168, 116), "night": (26, 32, 78)}
GROUND = {
    "hills": {"day": (98, 178, 84), "dusk": (112, 112, 58), "night": (28, 66, 50)},
    "sea": {"day": (36, 110, 196), "dusk": (142, 78, 116), "night": (18, 52, 116)},
    "mountains": {"day": (132, 128, 140), "dusk": (120, 82, 98), "night": (66, 66, 92)},
}
SUN = {"day": (252, 222, 60), "dusk": (238, 72, 40)}
PALE = (244, 240, 214)                                     # moon and stars
STARS = ((.12, .12), (.3, .07), (.5, .17), (.68, .06), (.88, .14), (.2, .28), (.8, .3), (.4, .33))


# --- pictures ---------------------------------------------------------------------------------------

def place(shape, colour, x, y, r):
    return {"shape": shape, "colour": colour, "x": x, "y": y, "r": r}


def arrange(rng, thing):
    """The small range that a caption leaves open: every object with its centre and half extent, as shares."""
    jitter = lambda: rng.uniform(-0.02, 0.02)
    if thing["kind"] == "single":
        r = SIZES[thing["size"]] * rng.uniform(0.94, 1.06)
        w, h = EXTENT[thing["shape"]] * r
        x, y, edge = 0.5 + jitter(), 0.5 + jitter(), rng.uniform(0.03, 0.06)
        if thing["place"] == "left": x = w + edge
        if thing["place"] == "right": x = 1 - w - edge
        if thing["place"] == "top": y = h + edge
        if thing["place"] == "bottom": y = 1 - h - edge
        return [place(thing["shape"], thing["colour"], x, y, r)]
    if thing["kind"] == "count":
        spots, r = {2: (((.28, .5), (.72, .5)), .18), 3: (((.5, .27), (.27, .72), (.73, .72)), .165),
                    4: (((.28, .28), (.72, .28), (.28, .72), (.72, .72)), .16)}[thing["count"]]
        r *= rng.uniform(0.95, 1.05)
        dx, dy = jitter(), jitter()
        return [place(thing["shape"], thing["colour"], x + dx, y + dy, r) for x, y in spots]
    if thing["kind"] == "pair":
        ahead = thing["relation"] in ("left", "above")
        spots = ((.27, .5), (.73, .5)) if thing["relation"] in ("left", "right") else ((.5, .27), (.5, .73))
        dx, dy, r = jitter(), jitter(), 0.19 * rng.uniform(0.95, 1.05)
        both = [(thing["shape"], thing["colour"]), (thing["shape2"], thing["colour2"])]
        return [place(s, c, x + dx, y + dy, r) for (s, c), (x, y) in zip(both if ahead else both[::-1], spots)]
    if thing["shape"] == "none":
        return []
    x, y = {"boat": (.5, .66), "rocket": (.34, .3)}.get(thing["shape"], (.36, .68))
    return [place(thing["shape"], thing["colour"], x + 2 * jitter(), y + jitter(), 0.2 * rng.uniform(0.95, 1.05))]


def picture(thing, objects, size=SIZE, supersampling=SUPER):
    """[size, size, 3] uint8."""
    n = size * supersampling
    behind = SKY[thing["time"]] if thing["kind"] == "scene" else COLOURS[thing["background"]]
    image = Image.new("RGB", (n, n), behind)
    pen = ImageDraw.Draw(image)

    def shape(name, colour, x, y, r):
        for points, solid in SHAPES[name]:
            pen.polygon([((x + r * px) * n, (y + r * py) * n) for px, py in points], fill=colour if solid else behind)

    if thing["kind"] == "scene":
        scenery(pen, shape, thing, n)
    for o in objects:
        shape(o["shape"], COLOURS[o["colour"]], o["x"], o["y"], o["r"])
    return np.asarray(image.reduce(supersampling))


def scenery(pen, shape, thing, n):
    """Sky and ground; the sun stands at the right, so that there is room for an object."""
    ground = GROUND[thing["ground"]][thing["time"]]
    if thing["sky"] == "sun":
        shape("circle", SUN[thing["time"]], .76, .24 if thing["time"] == "day" else .5, .13)
    if thing["sky"] == "moon":
        shape("moon", PALE, .76, .22, .13)
    if thing["sky"] == "stars":
        for x, y in STARS:
            shape("star", PALE, x, y, .045)
    if thing["ground"] == "mountains":
        for points in (((-.1, .8), (.3, .38), (.7, .8)), ((.35, .8), (.75, .45), (1.15, .8))):
            pen.polygon([(x * n, y * n) for x, y in points], fill=ground)
        pen.rectangle((0, .78 * n, n, n), fill=GROUND["hills"][thing["time"]])
    elif thing["ground"] == "sea":
        pen.rectangle((0, .66 * n, n, n), fill=ground)
    else:
        pen.ellipse((-.5 * n, .6 * n, .75 * n, 1.5 * n), fill=ground)
        pen.ellipse((.3 * n, .68 * n, 1.5 * n, 1.6 * n), fill=ground)
        pen.rectangle((0, .9 * n, n, n), fill=ground)


def draw(rng, thing):
    return picture(thing, arrange(rng, thing))


# --- what is in a picture, and what is held out -------------------------------------------------------

def held_out(shape, colour):
    """One pair of shape and colour in ten never occurs in training, in no kind of picture."""
    return zlib.crc32(f"a {colour} {shape}".encode()) % 10 == 3


def coloured(rng, held=False, shapes=tuple(SHAPES)):
    while True:
        shape, colour = rng.choice(shapes), rng.choice(list(COLOURS))
        if held_out(shape, colour) == held:
            return shape, colour


def sample(rng, held=False, kind=None):
    """What is to be seen. With `held` the first object is one of those that are held out."""
    kind = kind or rng.choices(KINDS, SHARES)[0]
    if kind == "scene":
        return scene(rng, held)
    shape, colour = coloured(rng, held)
    thing = {"kind": kind, "shape": shape, "colour": colour}
    others = [colour]
    if kind == "single":
        thing |= {"size": rng.choice(("small", "medium", "medium", "large")), "place": rng.choice(PLACES)}
    if kind == "count":
        thing["count"] = rng.choice(list(NUMBERS))
    if kind == "pair":
        while (second := coloured(rng)) == (shape, colour) or second[0] == shape:
            pass
        thing |= dict(zip(("shape2", "colour2"), second)) | {"relation": rng.choice(RELATIONS)}
        others.append(second[1])
    thing["background"] = rng.choice([c for c in COLOURS if c not in others])
    return thing


def scene(rng, held):
    ground, time = rng.choice(GROUNDS), rng.choice(TIMES)
    sky = rng.choice({"day": ("sun", "sun", "none"), "dusk": ("sun", "sun", "none"), "night": ("moon", "stars", "none")}[time])
    fitting = {"hills": ("house", "tree", "flower", "cat", "rocket"), "sea": ("boat", "boat", "rocket", "fish"),
               "mountains": ("house", "tree", "cat", "rocket")}[ground]
    shape, colour = ("none", "none") if rng.random() < 0.25 and not held else coloured(rng, held, fitting)
    return {"kind": "scene", "shape": shape, "colour": colour, "time": time, "ground": ground, "sky": sky}


# --- captions ------------------------------------------------------------------------------------------

SIZE_WORDS = {"small": ("small", "small", "little", "tiny"), "large": ("large", "large", "big", "huge"),
              "medium": ("", "", "", "medium")}
PLACE_WORDS = {"left": ("on the left",), "right": ("on the right",),
               "top": ("at the top",), "bottom": ("at the bottom",),
               "middle": ("", "", "", "in the middle", "in the center")}
RELATION_WORDS = {"left": ("to the left of", "left of"), "right": ("to the right of", "right of"),
                  "above": ("above", "over"), "below": ("below", "under")}
TIME_WORDS = {"day": ("by day", "in the daytime", "on a sunny day", "under a blue sky"),
              "dusk": ("at dusk", "at sunset", "in the evening"), "night": ("at night", "in the dark", "under a night sky")}
GROUND_WORDS = {"hills": ("green hills", "hills", "a meadow"), "sea": ("the sea", "the ocean", "water"),
                "mountains": ("mountains", "the mountains")}
SKY_WORDS = {"sun": ("the sun", "a sun"), "moon": ("the moon", "a moon"), "stars": ("stars", "a starry sky")}
PLURALS = {"cross": "crosses", "fish": "fish"}


def a(words):
    return ("an " if words[0] in "aeiou" else "a ") + words


def plural(shape):
    return PLURALS.get(shape, shape + "s")


def default_background(colours):
    """What a caption that names no background means."""
    return "black" if "white" in colours else "white"


def caption(rng, thing, whole=False):
    """One of many wordings. With `whole` the background is always named."""
    if thing["kind"] == "scene":
        return of_scene(rng, thing)
    colours = [thing["colour"]] + ([thing["colour2"]] if thing["kind"] == "pair" else [])
    bg, where = thing["background"], ""
    if thing["kind"] == "single":
        size, where = rng.choice(SIZE_WORDS[thing["size"]]), rng.choice(PLACE_WORDS[thing["place"]])
        bare = " ".join(w for w in (size, thing["colour"], thing["shape"]) if w)
        obj = a(bare)
    elif thing["kind"] == "count":
        bare = obj = f"{NUMBERS[thing['count']]} {thing['colour']} {plural(thing['shape'])}"
    else:
        one, two = a(f"{thing['colour']} {thing['shape']}"), a(f"{thing['colour2']} {thing['shape2']}")
        bare = obj = f"{one} {rng.choice(RELATION_WORDS[thing['relation']])} {two}"
    on, comma = (" " + where if where else ""), (", " + where if where else "")
    if not whole and bg == default_background(colours) and rng.random() < 0.3:
        return rng.choice((f"{obj}{on}", f"{bare}{comma}", f"a picture of {obj}{on}"))
    return rng.choice((
        f"{obj}{on} on {a(bg)} background", f"{obj}{on} on {a(bg)} background", f"{obj}{on}, on {a(bg)} background",
        f"{bare}{comma}, {bg} background", f"{obj} on {a(bg)} background{comma}", f"{obj}{on}, on {bg}",
        f"{obj} on {bg}{comma}", f"a picture of {obj}{on} on {a(bg)} background",
        f"a drawing of {obj}{on}, {bg} background", f"a poster with {obj}{on} on {bg}", f"{bg} background, {bare}{comma}",
        f"on {a(bg)} background, {obj}{on}", f"{a(bg)} background with {obj}{on}"))


def of_scene(rng, thing):
    time, ground = rng.choice(TIME_WORDS[thing["time"]]), rng.choice(GROUND_WORDS[thing["ground"]])
    sky = rng.choice(SKY_WORDS[thing["sky"]]) if thing["sky"] != "none" else ""
    if thing["shape"] == "none":
        return rng.choice((f"{ground} {time}" + (f" with {sky}" if sky else ""),
                           (f"{sky} over {ground} {time}" if sky else f"a picture of {ground} {time}"),
                           f"a landscape with {ground}" + (f" and {sky}" if sky else "") + f" {time}"))
    obj = a(f"{thing['colour']} {thing['shape']}")
    link = {"hills": "on", "sea": "on", "mountains": "in front of"}[thing["ground"]]
    if thing["shape"] == "rocket":
        link = "over"
    under = rng.choice((f" under {sky}", f" and {sky}", f", with {sky}")) if sky else ""
    return rng.choice((f"{obj} {link} {ground} {time}{under}", f"{obj} {link} {ground}{under}, {time}",
                       f"a picture of {obj} {link} {ground} {time}{under}", f"{time}, {obj} {link} {ground}{under}"))


FILLERS = ("please draw me can you show i want make a the of some this that it is are which and with one there nice very "
           "simple cute bit colored colour color image drawing illustration flat style in for my").split()


def loosely(rng, thing):
    """What people type: the same in any order and with other words between, of which none matters."""
    pick = rng.choice
    parts = []
    if thing["kind"] == "scene":
        if thing["shape"] != "none":
            parts.append(pick((f"{thing['colour']} {thing['shape']}", f"{thing['shape']} in {thing['colour']}")))
        parts += [pick(GROUND_WORDS[thing["ground"]]), pick(TIME_WORDS[thing["time"]])]
        if thing["sky"] != "none":
            parts.append(pick(SKY_WORDS[thing["sky"]]))
    else:
        colour, shape = thing["colour"], thing["shape"]
        if thing["kind"] == "single":
            size = pick(SIZE_WORDS[thing["size"]])
            parts.append(pick((f"{size} {colour} {shape}", f"{size} {shape} in {colour}", f"{colour} {shape}, {size}", f"{shape} is {colour} and {size}")))
            parts.append(pick(PLACE_WORDS[thing["place"]]))
        elif thing["kind"] == "count":
            number, shapes = NUMBERS[thing["count"]], plural(shape)
            parts.append(pick((f"{number} {colour} {shapes}", f"{number} {shapes} in {colour}", f"{colour} {shapes}, {number} of them")))
        else:
            one, two = f"{colour} {shape}", f"{thing['colour2']} {thing['shape2']}"
            beside = {"left": ("beside", "next to"), "above": ("on top of",), "below": ("beneath",)}.get(thing["relation"], ())
            sides = {"left": ("left", "right"), "right": ("right", "left"), "above": ("top", "bottom"), "below": ("bottom", "top")}[thing["relation"]]
            parts.append(pick((*(f"{one} {r} {two}" for r in (*RELATION_WORDS[thing["relation"]], *beside)),
                               f"{one} {sides[0]}, {two} {sides[1]}", f"{sides[0]} {one} {sides[1]} {two}")))
        default = default_background([colour, thing.get("colour2", colour)])
        if thing["background"] != default or rng.random() < 0.6:
            parts.append(pick((f"{thing['background']} background", f"on {thing['background']}", f"background in {thing['background']}")))
    parts = [part for part in parts if part]
    rng.shuffle(parts)
    words = pick((", ", " ", " and ", ". ", ": ")).join(parts).split()
    noise = pick((0, 0, 0.1, 0.25))
    for at in range(len(words), -1, -1):
        if rng.random() < noise:
            junk = "".join(rng.choices("abcdefghiklmnoprstuvwy", k=rng.randint(2, 8)))
            words.insert(at, pick(FILLERS) if rng.random() < 0.7 else junk)
    return " ".join(words)


def heldout_list():
    """Objects whose colour and shape never met: 300 single ones first, then the other kinds."""
    rng, rows = random.Random(20261127), []
    for kind, n in (("single", 300), ("count", 80), ("pair", 80), ("scene", 40)):
        for _ in range(n):
            thing = sample(rng, kind != "scene", kind)
            rows.append({"prompt": caption(rng, thing, whole=True), "seed": 1000 + len(rows), "expect": thing})
    return rows


def sheet(pictures, columns=12, gap=2):
    """[H, W, 3] pictures -> one image."""
    h, w = pictures[0].shape[:2]
    rows = math.ceil(len(pictures) / columns)
    out = np.full((rows * (h + gap) - gap, columns * (w + gap) - gap, 3), 128, np.uint8)
    for k, p in enumerate(pictures):
        y, x = k // columns * (h + gap), k % columns * (w + gap)
        out[y:y + h, x:x + w] = p
    return Image.fromarray(out)


if __name__ == "__main__":
    if sys.argv[1:] == ["--heldout"]:
        rows = heldout_list()
        lines = ",\n".join(" " + json.dumps(row) for row in rows)
        Path(__file__).with_name("heldout.json").write_text(f"[\n{lines}\n]\n")
        held = [f"{c} {s}" for s in SHAPES for c in COLOURS if held_out(s, c)]
        print(len(rows), "captions;", len(held), "pairs held out:", ", ".join(held))
    else:
        rng = random.Random(1)
        things = [sample(rng) for _ in range(96)]
        for thing in things[:24]:
            print(caption(rng, thing))
        sheet([draw(rng, thing) for thing in things]).save(sys.argv[1])

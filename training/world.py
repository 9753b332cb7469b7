"""The world the built-in model knows: one flat object on a flat background, and its captions.

    python world.py sheet.png      draws a sheet of random pictures
    python world.py --heldout      writes heldout.json, the 500 captions that judge the model

Everything is drawn here; no outside picture is used. Needs numpy and PIL only.
"""
import json, math, random, sys, zlib
from pathlib import Path
import numpy as np
from PIL import Image, ImageDraw

SIZE = 96                      # pixels a side
SUPER = 4                      # supersampling: masks are drawn 4 times larger, then averaged

COLOURS = {
    "red": (218, 38, 40), "orange": (246, 136, 26), "yellow": (250, 216, 48),
    "green": (44, 156, 72), "blue": (40, 88, 212), "purple": (132, 54, 172),
    "pink": (246, 150, 192), "white": (250, 250, 250), "black": (22, 22, 28),
}
SIZES = {"small": 0.19, "medium": 0.26, "large": 0.335}    # half extent, as a share of the picture
PLACES = ("left", "right", "top", "bottom", "middle")


def _turn(n, radius=lambda k: 1.0, start=-90.0):
    """n points around the centre; radius(k) is the distance of the k-th."""
    return [(radius(k) * math.cos(math.radians(start + 360 * k / n)),
             radius(k) * math.sin(math.radians(start + 360 * k / n))) for k in range(n)]


def _heart():
    t = np.linspace(0, 2 * math.pi, 60, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return list(zip(x / 16, (y + 2.5) / 16))


def _moon():
    """A crescent open to the right: the outer circle, then back along an inner one."""
    outer = [(math.cos(a) + .25, math.sin(a)) for a in np.linspace(math.radians(50), math.radians(310), 40)]
    (x0, y0), r = outer[0], 0.83
    cx = x0 - math.sqrt(max(r * r - y0 * y0, 0)) + .26
    a0 = math.atan2(y0, x0 - cx)
    r = math.hypot(y0, x0 - cx)
    inner = [(cx + r * math.cos(a), r * math.sin(a)) for a in np.linspace(2 * math.pi - a0, a0, 40)]
    return outer + inner


# Polygons with y downwards, roughly inside [-1, 1]; every shape has the visual weight of the others.
SHAPES = {
    "circle": _turn(64, lambda k: 0.97),
    "square": [(-.86, -.86), (.86, -.86), (.86, .86), (-.86, .86)],
    "triangle": [(0, -.92), (1, .82), (-1, .82)],
    "star": _turn(10, lambda k: 1.1 if k % 2 == 0 else 0.46),
    "heart": _heart(),
    "diamond": [(0, -1.1), (.8, 0), (0, 1.1), (-.8, 0)],
    "cross": [(-.34, -1), (.34, -1), (.34, -.34), (1, -.34), (1, .34), (.34, .34), (.34, 1), (-.34, 1),
              (-.34, .34), (-1, .34), (-1, -.34), (-.34, -.34)],
    "moon": _moon(),
    "house": [(0, -1), (1.02, -.1), (.76, -.1), (.76, .94), (.24, .94), (.24, .3), (-.24, .3), (-.24, .94),
              (-.76, .94), (-.76, -.1), (-1.02, -.1)],
    "tree": [(0, -1.08), (.62, -.3), (.34, -.3), (.92, .5), (.2, .5), (.2, 1.04), (-.2, 1.04), (-.2, .5),
             (-.92, .5), (-.34, -.3), (-.62, -.3)],
}


def _centred(points):
    """Move the middle of the bounding box to the origin, so that places mean the same for all shapes."""
    p = np.array(points, np.float64)
    return p - (p.min(0) + p.max(0)) / 2


SHAPES = {name: _centred(p) for name, p in SHAPES.items()}


# --- pictures ---------------------------------------------------------------------------------------

def mask(shape, x, y, r, size=SIZE):
    """Coverage in [0, 1] of a shape with centre (x, y) and half extent r, all as shares of the picture."""
    n = size * SUPER
    im = Image.new("L", (n, n), 0)
    ImageDraw.Draw(im).polygon([((x + r * px) * n, (y + r * py) * n) for px, py in SHAPES[shape]], fill=255)
    return np.asarray(im.reduce(SUPER), np.float32) / 255


def paint(m, colour, background):
    """[H, W] coverage and two RGB triples -> [H, W, 3] uint8."""
    fg, bg = np.array(colour, np.float32), np.array(background, np.float32)
    return np.rint(bg + m[..., None] * (fg - bg)).astype(np.uint8)


def geometry(rng, shape, size, place):
    """The small range that a caption leaves open: centre and half extent."""
    r = SIZES[size] * rng.uniform(0.94, 1.06)
    w, h = np.abs(SHAPES[shape]).max(0) * r
    x, y = rng.uniform(0.475, 0.525), rng.uniform(0.475, 0.525)
    edge = rng.uniform(0.04, 0.07)
    if place == "left": x = w + edge
    if place == "right": x = 1 - w - edge
    if place == "top": y = h + edge
    if place == "bottom": y = 1 - h - edge
    return x, y, r


def draw(rng, thing):
    m = mask(thing["shape"], *geometry(rng, thing["shape"], thing["size"], thing["place"]))
    return paint(m, COLOURS[thing["colour"]], COLOURS[thing["background"]])


# --- what is in a picture, and what is held out -------------------------------------------------------

def held_out(shape, colour, background):
    """One triple in ten never occurs in training. The README's example is not among them."""
    if (shape, colour, background) == ("circle", "red", "blue"):
        return False
    return zlib.crc32(f"{colour} {shape} on {background}".encode()) % 10 == 0


def sample(rng, held=False):
    while True:
        shape = rng.choice(list(SHAPES))
        colour, background = rng.sample(list(COLOURS), 2)
        if held_out(shape, colour, background) == held:
            break
    size = rng.choice(("small", "medium", "medium", "large"))
    place = rng.choice(PLACES)
    return {"shape": shape, "colour": colour, "background": background, "size": size, "place": place}


# --- captions ------------------------------------------------------------------------------------------

SIZE_WORDS = {"small": ("small", "small", "little", "tiny"), "large": ("large", "large", "big", "huge"),
              "medium": ("", "", "", "medium")}
PLACE_WORDS = {"left": ("on the left",), "right": ("on the right",),
               "top": ("at the top",), "bottom": ("at the bottom",),
               "middle": ("", "", "", "in the middle", "in the center")}


def a(words):
    return ("an " if words[0] in "aeiou" else "a ") + words


def default_background(colour):
    """What a caption that names no background means."""
    return "black" if colour == "white" else "white"


def caption(rng, thing, whole=False):
    """One of many wordings. With `whole` the background is always named."""
    size, place = rng.choice(SIZE_WORDS[thing["size"]]), rng.choice(PLACE_WORDS[thing["place"]])
    bg = thing["background"]
    obj = " ".join(w for w in (size, thing["colour"], thing["shape"]) if w)
    on = " " + place if place else ""
    comma = ", " + place if place else ""
    if not whole and bg == default_background(thing["colour"]) and rng.random() < 0.3:
        return rng.choice((f"{a(obj)}{on}", f"{obj}{comma}", f"a picture of {a(obj)}{on}"))
    return rng.choice((
        f"{a(obj)}{on} on {a(bg)} background",
        f"{a(obj)}{on} on {a(bg)} background",
        f"{a(obj)}{on}, on {a(bg)} background",
        f"{obj}{comma}, {bg} background",
        f"{a(obj)} on {a(bg)} background{comma}",
        f"{a(obj)}{on}, on {bg}",
        f"{a(obj)} on {bg}{comma}",
        f"a picture of {a(obj)}{on} on {a(bg)} background",
        f"a drawing of {a(obj)}{on}, {bg} background",
        f"a poster with {a(obj)}{on} on {bg}",
        f"{bg} background, {obj}{comma}",
        f"on {a(bg)} background, {a(obj)}{on}",
        f"{a(bg)} background with {a(obj)}{on}",
    ))


def heldout_list(n=500):
    rng = random.Random(20261123)
    rows = []
    for k in range(n):
        thing = sample(rng, held=True)
        rows.append({"prompt": caption(rng, thing, whole=True), "seed": 1000 + k, "expect": thing})
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
        print(len(rows), "captions;", sum(held_out(s, c, b) for s in SHAPES for c in COLOURS for b in COLOURS if b != c),
              "triples held out of", len(SHAPES) * len(COLOURS) * (len(COLOURS) - 1))
    else:
        rng = random.Random(1)
        things = [sample(rng) for _ in range(96)]
        for thing in things[:10]:
            print(caption(rng, thing))
        sheet([draw(rng, thing) for thing in things]).save(sys.argv[1])

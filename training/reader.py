"""The judge: reads what is to be seen off the pixels. numpy and PIL only.

    python reader.py            its accuracy on 1000 of our own drawings, and on the same drawings judged
                                by each other's captions (what a judge that sees nothing would accept)

Of objects on a flat background it reads the background, how many there are and how they stand, and the colour, the
shape, the size and the place of each. Of scenes it reads the time of the day and the ground.
"""
import functools, random
import numpy as np
from PIL import Image
import world

NAMES = list(world.COLOURS)
PALETTE = np.array([world.COLOURS[n] for n in NAMES], np.float32)
GRID = 48                       # templates are compared at this many pixels a side
NEAR = 50                       # the most that a colour may be off its name, as a distance of RGB


def nearest(pixels):
    """[..., 3] -> index of the nearest palette colour, and the distance to it."""
    d = np.linalg.norm(pixels[..., None, :] - PALETTE, axis=-1)
    return d.argmin(-1), d.min(-1)


@functools.cache
def templates():
    """Each shape, its bounding box centred and stretched to the grid's width or height, and its half extent."""
    out = {}
    for name in world.SHAPES:
        extent = float(world.EXTENT[name].max())
        thing = {"kind": "single", "background": "black"}
        drawn = world.picture(thing, [world.place(name, "white", 0.5, 0.5, 0.5 / extent)], GRID)
        low, high = world.COLOURS["black"][0], world.COLOURS["white"][0]
        out[name] = (drawn[..., 0].astype(np.float32) - low) / (high - low), extent
    return out


def components(mask):
    """Connected parts of a [n, n] mask, the largest first, as (rows, columns) of their pixels. Eight neighbours count."""
    label, parts = np.zeros(mask.shape, int), []
    n = mask.shape[0]
    for y, x in zip(*np.nonzero(mask)):
        if label[y, x]:
            continue
        stack, part = [(y, x)], []
        label[y, x] = len(parts) + 1
        while stack:
            cy, cx = stack.pop()
            part.append((cy, cx))
            for ny in range(max(0, cy - 1), min(n, cy + 2)):
                for nx in range(max(0, cx - 1), min(n, cx + 2)):
                    if mask[ny, nx] and not label[ny, nx]:
                        label[ny, nx] = len(parts) + 1
                        stack.append((ny, nx))
        parts.append(tuple(np.array(part).T))
    return sorted(parts, key=lambda p: -len(p[0]))


def read_object(x, ground, part, grow=2):
    """Colour, shape, half extent and centre of one object of a picture, or None if nothing clear is there."""
    n = x.shape[0]
    pixels = x[part]
    index, _ = nearest(pixels)
    colour = np.bincount(index, minlength=len(NAMES)).argmax()
    paint = np.median(pixels[index == colour], axis=0)
    if np.linalg.norm(paint - PALETTE[colour]) > NEAR:
        return None
    # Coverage: how far each pixel lies on the line from background to object; only around this one.
    y0, y1, x0, x1 = part[0].min() - grow, part[0].max() + 1 + grow, part[1].min() - grow, part[1].max() + 1 + grow
    y0, x0, y1, x1 = max(0, y0), max(0, x0), min(n, y1), min(n, x1)
    line = paint - ground
    inside = ((x[y0:y1, x0:x1] - ground) @ line / (line @ line + 1e-6)) > 0.5
    rows, columns = inside.sum(1) > 1, inside.sum(0) > 1        # a stray pixel is no extent
    if not rows.any() or not columns.any():
        return None
    (a, b), (c, d) = np.flatnonzero(rows)[[0, -1]] + [0, 1], np.flatnonzero(columns)[[0, -1]] + [0, 1]
    half, cy, cx = max(b - a, d - c) / 2, (a + b) / 2, (c + d) / 2
    box = Image.fromarray(inside.astype(np.uint8) * 255)
    canvas = Image.new("L", (int(2 * half) + 3,) * 2)
    canvas.paste(box, (round(half + 1 - cx), round(half + 1 - cy)))
    middle = half + 1
    got = np.asarray(canvas.resize((GRID, GRID), Image.BOX, (middle - half, middle - half, middle + half, middle + half)), np.float32) / 255
    score = {name: np.minimum(got, t).sum() / np.maximum(got, t).sum() for name, (t, _) in templates().items()}
    shape = max(score, key=score.get)
    return {"colour": NAMES[colour], "shape": shape if score[shape] > 0.66 else "none", "r": half / n / templates()[shape][1],
            "x": (x0 + cx) / n, "y": (y0 + cy) / n, "w": (d - c) / 2 / n, "h": (b - a) / 2 / n}


def read_scene(x):
    """The time and the ground: what the sky and the lowest rows are like."""
    n = x.shape[0]
    sky = np.median(np.concatenate([x[:n // 10].reshape(-1, 3), x[:n // 3, :n // 8].reshape(-1, 3)]), axis=0)
    time = min(world.TIMES, key=lambda t: np.linalg.norm(sky - world.SKY[t]))
    if np.linalg.norm(sky - world.SKY[time]) > NEAR:
        return None
    low = np.median(x[int(.92 * n):].reshape(-1, 3), axis=0)
    sea = np.linalg.norm(low - world.GROUND["sea"][time]) < np.linalg.norm(low - world.GROUND["hills"][time])
    # Mountains are where nothing else has their colour.
    rock = np.linalg.norm(x[int(.5 * n):int(.76 * n)] - world.GROUND["mountains"][time], axis=-1) < 30
    return {"kind": "scene", "time": time, "ground": "sea" if sea else "mountains" if rock.mean() > 0.2 else "hills"}


def read(picture, scene=False):
    """[H, W, 3] uint8 -> what is to be seen, as `world.sample` has it; fields that are not clear are missing."""
    x = picture.astype(np.float32)
    n = x.shape[0]
    if scene:
        return read_scene(x) or {"kind": "none"}
    edge = max(1, n // 32)
    border = np.concatenate([x[:edge].reshape(-1, 3), x[-edge:].reshape(-1, 3), x[:, :edge].reshape(-1, 3), x[:, -edge:].reshape(-1, 3)])
    index, distance = nearest(border)
    bg = np.bincount(index, minlength=len(NAMES)).argmax()
    if (index == bg).mean() < 0.75 or np.median(distance) > NEAR:
        return {"kind": "none"}
    ground = np.median(border[index == bg], axis=0)
    away = np.linalg.norm(x - ground, axis=-1) > 60
    # Specks and soft edges are no objects.
    parts = [p for p in components(away) if len(p[0]) > 0.006 * n * n]
    seen = [o for o in (read_object(x, ground, p) for p in parts) if o]
    out = {"kind": "none", "background": NAMES[bg]}
    if not seen:
        return out
    first = seen[0]
    out |= {"colour": first["colour"], "shape": first["shape"]}
    kinds = {(o["shape"], o["colour"]) for o in seen}
    if len(seen) == 1:
        out |= {"kind": "single", "size": size(first), "place": where(first)}
    elif len(seen) == 2 and len(kinds) == 2:
        out |= {"kind": "pair", "objects": seen}
    else:
        # All of a kind, but for one that may be unclear.
        shapes = [o["shape"] for o in seen]
        out |= {"kind": "count", "count": len(seen), "shape": max(dict.fromkeys(shapes), key=shapes.count)}
    return out


def size(o):
    return min(world.SIZES, key=lambda s: abs(world.SIZES[s] - o["r"]))


def where(o):
    """An object is at an edge when it is nearer to where it would touch than to the middle."""
    off = {"left": (0.5 - o["x"]) / (0.5 - o["w"] - 0.045), "right": (o["x"] - 0.5) / (0.5 - o["w"] - 0.045),
           "top": (0.5 - o["y"]) / (0.5 - o["h"] - 0.045), "bottom": (o["y"] - 0.5) / (0.5 - o["h"] - 0.045)}
    place = max(off, key=off.get)
    return place if off[place] > 0.5 else "middle"


def right(seen, wanted):
    """{field: whether it is right} of what a caption says. "both" is what a picture is mostly judged by."""
    kind = wanted["kind"]
    if kind == "scene":
        return {"time": seen.get("time") == wanted["time"], "ground": seen.get("ground") == wanted["ground"],
                "both": (seen.get("time"), seen.get("ground")) == (wanted["time"], wanted["ground"])}
    out = {"background": seen.get("background") == wanted["background"]}
    if kind == "pair":
        return out | right_pair(seen, wanted)
    for field in ("colour", "shape", "size", "place", "count"):
        if field in wanted:
            out[field] = seen.get(field) == wanted[field] and (field != "count" or seen["kind"] == "count")
    return out | {"both": out["colour"] and out["shape"]}


def right_pair(seen, wanted):
    objects = {(o["shape"], o["colour"]): o for o in seen.get("objects", [])}
    one, other = (objects.get((wanted["shape" + k], wanted["colour" + k])) for k in ("", "2"))
    colours = {o["colour"] for o in objects.values()} == {wanted["colour"], wanted["colour2"]}
    relation = False
    if one and other:
        dx, dy = one["x"] - other["x"], one["y"] - other["y"]
        relation = wanted["relation"] == (("left" if dx < 0 else "right") if abs(dx) > abs(dy) else ("above" if dy < 0 else "below"))
    return {"colour": colours, "both": bool(one and other), "relation": relation}


def judge(picture, wanted):
    return right(read(picture, wanted["kind"] == "scene"), wanted)


def table(judged, wanted):
    """Percent right of every field, by kind: {"single shape": 93.1, ...}."""
    sums = {}
    for fields, thing in zip(judged, wanted):
        for field, good in fields.items():
            sums.setdefault(f"{thing['kind']} {field}", []).append(good)
    return {key: 100 * float(np.mean(goods)) for key, goods in sums.items()}


def show(rows):
    """{title: table} as Markdown."""
    names = list(rows)
    keys = dict.fromkeys(key for name in names for key in rows[name])
    print("| | " + " | ".join(names) + " |\n|---|" + "--:|" * len(names))
    for key in keys:
        print(f"| {key} | " + " | ".join(f"{rows[n][key]:.1f}" if key in rows[n] else "" for n in names) + " |")


def own_drawings(n=1000):
    """On our own drawings; the same with the captions of each kind shuffled among themselves; and how many are accepted, in
    percent, when all are shuffled."""
    rng = random.Random(5)
    wanted = [world.sample(rng, held=rng.random() < 0.3) for _ in range(n)]
    pictures = [world.draw(rng, w) for w in wanted]
    shuffled = list(wanted)
    for kind in world.KINDS:
        at = [i for i, w in enumerate(wanted) if w["kind"] == kind]
        for i, j in zip(at, random.Random(6).sample(at, len(at))):
            shuffled[i] = wanted[j]
    true = table([judge(p, w) for p, w in zip(pictures, wanted)], wanted)
    false = table([judge(p, w) for p, w in zip(pictures, shuffled)], shuffled)
    mixed = random.Random(7).sample(wanted, n)
    return true, false, 100 * float(np.mean([judge(p, w)["both"] for p, w in zip(pictures, mixed)]))


if __name__ == "__main__":
    true, false, accepted = own_drawings()
    show({"own drawings, %": true, "by other captions of its kind, %": false})
    print(f"\nof all captions shuffled, it accepts {accepted:.1f} %")

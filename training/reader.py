"""The judge: reads background, colour, shape, size and place off the pixels. numpy and PIL only.

    python reader.py            its accuracy on 1000 of our own drawings, and on the same drawings judged
                                by each other's captions (what a judge that sees nothing would accept)
"""
import functools, random
import numpy as np
from PIL import Image
import world

NAMES = list(world.COLOURS)
PALETTE = np.array([world.COLOURS[n] for n in NAMES], np.float32)
GRID = 48                       # templates are compared at this many pixels a side
FIELDS = ("background", "colour", "shape", "size", "place")


def nearest(pixels):
    """[..., 3] -> index of the nearest palette colour, and the distance to it."""
    d = np.linalg.norm(pixels[..., None, :] - PALETTE, axis=-1)
    return d.argmin(-1), d.min(-1)


def most_common(index):
    count = np.bincount(index, minlength=len(NAMES))
    return int(count.argmax()), count.max() / max(1, count.sum())


@functools.cache
def templates():
    """Each shape, its bounding box centred and stretched to the grid's width or height."""
    out = {}
    for name, points in world.SHAPES.items():
        extent = float(np.abs(points).max())
        out[name] = world.mask(name, 0.5, 0.5, 0.5 / extent, GRID), extent
    return out


def read(picture):
    """[H, W, 3] uint8 -> the five fields; "none" where nothing clear is there."""
    seen = dict.fromkeys(FIELDS, "none")
    x = picture.astype(np.float32)
    n = x.shape[0]
    edge = max(1, n // 32)
    border = np.concatenate([x[:edge].reshape(-1, 3), x[-edge:].reshape(-1, 3),
                             x[:, :edge].reshape(-1, 3), x[:, -edge:].reshape(-1, 3)])
    index, distance = nearest(border)
    bg, share = most_common(index)
    if share < 0.8 or np.median(distance) > 45:
        return seen
    seen["background"] = NAMES[bg]

    # The object: what is clearly not background. Its colour is that of most of its pixels; anti-aliased
    # edges are mixtures, and few.
    ground = np.median(border[index == bg], axis=0)
    away = np.linalg.norm(x - ground, axis=-1)
    rough = away > 50
    if rough.sum() < 0.01 * n * n:
        return seen
    index, distance = nearest(x[rough])
    index[index == bg] = -1
    fg, share = most_common(index[index >= 0]) if (index >= 0).any() else (bg, 0)
    paint = x[rough][index == fg]
    if fg == bg or (index == fg).mean() < 0.5 or np.linalg.norm(np.median(paint, axis=0) - PALETTE[fg]) > 45:
        return seen
    seen["colour"] = NAMES[fg]

    # Coverage: how far each pixel lies on the line from background to object.
    line = np.median(paint, axis=0) - ground
    inside = ((x - ground) @ line / (line @ line)) > 0.5
    rows, columns = inside.sum(1) > 1, inside.sum(0) > 1        # a stray pixel is no extent
    if not rows.any() or not columns.any():
        return seen
    y0, y1 = np.flatnonzero(rows)[[0, -1]] + [0, 1]
    x0, x1 = np.flatnonzero(columns)[[0, -1]] + [0, 1]
    half, cx, cy = max(y1 - y0, x1 - x0) / 2, (x0 + x1) / 2, (y0 + y1) / 2
    box = Image.fromarray(inside.astype(np.uint8) * 255).resize(
        (GRID, GRID), Image.BOX, (max(0, cx - half), max(0, cy - half), min(n, cx + half), min(n, cy + half)))
    got = np.asarray(box, np.float32) / 255
    score = {name: np.minimum(got, t).sum() / np.maximum(got, t).sum() for name, (t, _) in templates().items()}
    shape = max(score, key=score.get)
    if score[shape] < 0.7:
        return seen
    seen["shape"] = shape

    r = half / n / templates()[shape][1]
    seen["size"] = min(world.SIZES, key=lambda s: abs(world.SIZES[s] - r))
    # An object is at an edge when it is nearer to where it would touch than to the middle.
    w, h = (x1 - x0) / 2 / n, (y1 - y0) / 2 / n
    off = {"left": (0.5 - cx / n) / (0.5 - w - 0.055), "right": (cx / n - 0.5) / (0.5 - w - 0.055),
           "top": (0.5 - cy / n) / (0.5 - h - 0.055), "bottom": (cy / n - 0.5) / (0.5 - h - 0.055)}
    place = max(off, key=off.get)
    seen["place"] = place if off[place] > 0.5 else "middle"
    return seen


def table(seen, wanted):
    """What share of pictures is right in each field, and by shuffled captions; all in percent."""
    def both(s, w):
        return s["background"] == w["background"] and s["colour"] == w["colour"]
    n = len(seen)
    out = {"background and colour": sum(map(both, seen, wanted)) / n}
    out |= {f: sum(s[f] == w[f] for s, w in zip(seen, wanted)) / n for f in FIELDS}
    out["all five"] = sum(s == w for s, w in zip(seen, wanted)) / n
    shuffles = [random.Random(k).sample(wanted, n) for k in range(20)]
    out["background and colour, captions shuffled"] = sum(
        sum(map(both, seen, w)) for w in shuffles) / (n * len(shuffles))
    return {k: 100 * v for k, v in out.items()}


def show(rows):
    """{title: table} as Markdown."""
    names = list(rows)
    print("| | " + " | ".join(names) + " |\n|---|" + "--:|" * len(names))
    for key in rows[names[0]]:
        print(f"| {key} | " + " | ".join(f"{rows[n][key]:.1f}" for n in names) + " |")


def own_drawings(n=1000):
    rng = random.Random(5)
    wanted = [world.sample(rng, held=rng.random() < 0.5) for _ in range(n)]
    return table([read(world.draw(rng, w)) for w in wanted], wanted)


if __name__ == "__main__":
    show({"own drawings, %": own_drawings()})

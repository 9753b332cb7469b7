"""The sixteen shapes, as polygons with y downwards, roughly inside [-1, 1].

Each is a list of (points, solid); what is not solid is cut out and shows what lies behind. They are meant to differ at
20 pixels, and to weigh about the same to the eye.
"""
import math
import numpy as np


def disc(x=0.0, y=0.0, r=1.0, ry=None, n=40):
    t = np.linspace(0, 2 * math.pi, n, endpoint=False)
    return list(zip(x + r * np.cos(t), y + (ry or r) * np.sin(t)))


def spokes(n, far, near):
    t = np.radians(-90 + 180 * np.arange(2 * n) / n)
    r = np.where(np.arange(2 * n) % 2 == 0, far, near)
    return list(zip(r * np.cos(t), r * np.sin(t)))


def heart():
    t = np.linspace(0, 2 * math.pi, 60, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return list(zip(x / 16, (y + 2.5) / 16))


def moon():
    """A crescent open to the right: the outer circle, then back along an inner one."""
    outer = [(math.cos(a) + .25, math.sin(a)) for a in np.linspace(math.radians(50), math.radians(310), 40)]
    (x0, y0), r = outer[0], 0.83
    cx = x0 - math.sqrt(max(r * r - y0 * y0, 0)) + .26
    a0 = math.atan2(y0, x0 - cx)
    r = math.hypot(y0, x0 - cx)
    return outer + [(cx + r * math.cos(a), r * math.sin(a)) for a in np.linspace(2 * math.pi - a0, a0, 40)]


def arc(r, y, start, end, n=16):
    t = np.radians(np.linspace(start, end, n))
    return list(zip(r * np.cos(t), y + r * np.sin(t)))


def mirrored(points):
    return [(-x, y) for x, y in points]


ROCKET = [(.30, -.72), (.43, -.3), (.43, .3), (.82, .74), (.82, 1.08), (.3, .84), (.2, .84)]
SHAPES = {
    "circle": [(disc(r=.97, n=64), 1)],
    "square": [([(-.86, -.86), (.86, -.86), (.86, .86), (-.86, .86)], 1)],
    "triangle": [([(0, -.92), (1, .82), (-1, .82)], 1)],
    "star": [(spokes(5, 1.1, .46), 1)],
    "heart": [(heart(), 1)],
    "diamond": [([(0, -1.1), (.8, 0), (0, 1.1), (-.8, 0)], 1)],
    "cross": [([(-.34, -1), (.34, -1), (.34, -.34), (1, -.34), (1, .34), (.34, .34), (.34, 1), (-.34, 1),
                (-.34, .34), (-1, .34), (-1, -.34), (-.34, -.34)], 1)],
    "moon": [(moon(), 1)],
    "house": [([(0, -1), (1.02, -.1), (.76, -.1), (.76, .94), (.24, .94), (.24, .3), (-.24, .3), (-.24, .94),
                (-.76, .94), (-.76, -.1), (-1.02, -.1)], 1)],
    "tree": [([(0, -1.08), (.62, -.3), (.34, -.3), (.92, .5), (.2, .5), (.2, 1.04), (-.2, 1.04), (-.2, .5),
               (-.92, .5), (-.34, -.3), (-.62, -.3)], 1)],
    "flower": [(disc(.62 * math.cos(a), .62 * math.sin(a), .38, n=24), 1) for a in np.radians(-90 + 60 * np.arange(6))]
    + [(disc(r=.5), 1), (disc(r=.27, n=24), 0)],
    "fish": [(disc(-.25, 0, .77, .56), 1), ([(.3, 0), (1.02, -.58), (.84, 0), (1.02, .58)], 1),
             (disc(-.62, -.14, .13, n=16), 0)],
    "boat": [([(-1, .42), (1, .42), (.6, .95), (-.6, .95)], 1), ([(-.06, -1), (.06, -1), (.06, .5), (-.06, .5)], 1),
             ([(-.06, -.95), (-.06, .22), (-.82, .22)], 1), ([(.06, -.7), (.06, .22), (.7, .22)], 1)],
    "rocket": [([(0, -1.12), *ROCKET, *mirrored(ROCKET)[::-1]], 1), (disc(0, -.28, .19, n=20), 0)],
    "cat": [(disc(0, .2, .88, .74), 1), ([(-.84, -.95), (-.1, -.5), (-.86, .2)], 1), ([(.84, -.95), (.1, -.5), (.86, .2)], 1),
            (disc(-.34, .1, .13, .17, 16), 0), (disc(.34, .1, .13, .17, 16), 0), ([(-.14, .42), (.14, .42), (0, .6)], 0)],
    "face": [(disc(r=.97, n=64), 1), (disc(-.35, -.26, .14, .18, 16), 0), (disc(.35, -.26, .14, .18, 16), 0),
             (arc(.66, .06, 15, 165) + arc(.44, .06, 165, 15), 0)],
}


def _centred(parts):
    """The middle of the bounding box goes to the origin, so that places mean the same for all shapes."""
    solid = np.concatenate([np.array(p) for p, s in parts if s])
    middle = (solid.min(0) + solid.max(0)) / 2
    return [(np.array(p) - middle, s) for p, s in parts]


SHAPES = {name: _centred(parts) for name, parts in SHAPES.items()}
EXTENT = {name: np.abs(np.concatenate([p for p, s in parts if s])).max(0) for name, parts in SHAPES.items()}

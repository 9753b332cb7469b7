"""Latents that are laid down, not found.

A cell of 8x8 pixels has twelve channels: the mean colours of its four quarters. They are smooth, of about unit
variance, and need no encoder, so that the U-Net is trained before there is one; and a picture of flat colours is hardly
more than its 32x32 quarters and the knowledge of how edges run, which is what the decoder learns.
"""
import numpy as np
import torch
import world

CHANNELS = 12
CELLS = world.SIZE // 8
SCALE = 0.75                   # about the deviation of colours in [-1, 1]


def of_quarters(x):
    """[N, 3, 2h, 2w] in [-1, 1] -> [N, 12, h, w]."""
    return torch.nn.functional.pixel_unshuffle(x, 2) / SCALE


def of_pictures(x):
    """[N, 3, 8h, 8w] in [-1, 1] -> [N, 12, h, w]."""
    return of_quarters(torch.nn.functional.avg_pool2d(x, 4))


def batch(rng, n):
    """Latents [n, 12, cells, cells] and captions. They are drawn anew every time: no picture occurs twice."""
    pictures, captions = [], []
    for _ in range(n):
        thing = world.sample(rng)
        # The means of quarters, without the pixels between.
        pictures.append(world.picture(thing, world.arrange(rng, thing), world.SIZE // 4, 8))
        wording = rng.choices((lambda *_: "", world.caption, world.loosely), (0.05, 0.65, 0.3))[0]
        captions.append(wording(rng, thing))
    x = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return of_quarters(x), captions

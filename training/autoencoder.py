"""Stage 1: the autoencoder, a narrow AutoencoderTiny (8 pixels a cell, 4 channels).

    python autoencoder.py --dir runs --minutes 15

Latents that an autoencoder finds for itself ring and hide details, and are slow to diffuse. Ours are laid
down (see `latents`): three channels are the mean colour of each 8x8 cell, the fourth is how much of the cell and its
neighbours the object covers. They are smooth, of about unit variance, and the U-Net need not wait for the
autoencoder: the decoder learns to draw from them, sharp edges included, and the encoder learns to
find them in a picture. Noise on the latents makes the decoder forgiving.
"""
import argparse, math, random, time
from pathlib import Path
import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
import world

WIDTH = 24


def build():
    return AutoencoderTiny(
        encoder_block_out_channels=(WIDTH,) * 4, decoder_block_out_channels=(WIDTH,) * 4,
        num_encoder_blocks=(1, 1, 2, 3), num_decoder_blocks=(3, 3, 2, 1),
        latent_channels=4, scaling_factor=1.0)


def latents(pictures, coverage):
    """[N,3,H,W] in [-1,1] and [N,1,H,W] in [0,1] -> [N,4,H/8,W/8]."""
    colour = F.avg_pool2d(pictures, 8) / 0.72
    cells = [s // 8 for s in coverage.shape[-2:]]
    shape = F.interpolate(coverage, size=cells, mode="bilinear", antialias=True)
    return torch.cat([colour, (shape - 0.15) / 0.33], 1)


def batch(rng, n, size):
    """Half as captions have it; half anywhere and of any size. One in four has colours off the palette.
    A picture smaller than the world's shows the same sizes in pixels, so that edges cost less to learn."""
    zoom = world.SIZE / size
    pictures, coverage = [], []
    for _ in range(n):
        thing = world.sample(rng)
        x, y, r = world.geometry(rng, thing["shape"], thing["size"], thing["place"])
        if zoom > 1 or rng.random() < 0.5:
            r = min(0.46, zoom * rng.uniform(0.15, 0.36))
            x, y = rng.uniform(r, 1 - r), rng.uniform(r, 1 - r)
        colours = world.COLOURS[thing["colour"]], world.COLOURS[thing["background"]]
        if rng.random() < 0.25:
            colours = [[rng.randrange(256) for _ in range(3)] for _ in range(2)]
        m = world.mask(thing["shape"], x, y, r, size)
        coverage.append(m)
        pictures.append(world.paint(m, *colours))
    pictures = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return pictures.contiguous(memory_format=torch.channels_last), torch.from_numpy(np.stack(coverage))[:, None]


def psnr(x, y):
    """dB of each picture; both in [-1, 1]."""
    return -10 * torch.log10(((x.clamp(-1, 1) - y) / 2).pow(2).mean((1, 2, 3)) + 1e-10)


def save(file, **state):
    torch.save(state, str(file) + ".new")
    Path(str(file) + ".new").rename(file)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--dir", type=Path, default=Path("runs"))
    p.add_argument("--minutes", type=float, default=15, help="the learning rate has decayed by then; runs again from a checkpoint")
    p.add_argument("--batch", type=int, default=16)
    p.add_argument("--lr", type=float, default=2e-3)
    p.add_argument("--threads", type=int, default=2, help="1 is faster when the machine is busy")
    o = p.parse_args()
    o.dir.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(o.threads)
    file = o.dir / "autoencoder.pt"

    vae = build().to(memory_format=torch.channels_last)
    opt = torch.optim.AdamW(vae.parameters(), o.lr, weight_decay=1e-4, fused=True)
    step, spent = 0, 0.0
    if file.exists():
        s = torch.load(file)
        vae.load_state_dict(s["model"]); opt.load_state_dict(s["opt"]); step, spent = s["step"], s["spent"]
    rng = random.Random(step + 7)
    start, last, total = spent, time.time(), max(o.minutes * 60, 1)
    while spent < start + total:
        done = (spent - start) / total
        for g in opt.param_groups:
            g["lr"] = o.lr * min(1, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        x, coverage = batch(rng, o.batch, 64 if done < 0.75 else world.SIZE)
        z = latents(x, coverage)
        noise = torch.rand(len(z), 1, 1, 1).square() * 0.35 * torch.randn_like(z)
        y = vae.decode(z + noise).sample
        # Yellow on orange has as many corners as white on black: weigh pictures by their contrast.
        weight = 1 / ((x.amax((2, 3)) - x.amin((2, 3))).mean(1) + 0.3)
        pixels = (((y - x).abs() + 2 * (y - x).pow(2)).mean((1, 2, 3)) * weight).mean() / weight.mean()
        found = (vae.encode(x[:4]).latents - z[:4]).pow(2).mean()
        opt.zero_grad()
        (pixels + found).backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        opt.step()
        step += 1
        now = time.time(); spent += now - last; last = now
        if step % 50 == 0:
            db = psnr(y, x)
            print(f"{step} {spent / 60:.1f} min  pixels {pixels:.4f}  dB mean {db.mean():.1f} worst {db.min():.1f}  "
                  f"encoder {found:.4f}", flush=True)
        if step % 200 == 0 or spent >= start + total:
            save(file, model=vae.state_dict(), opt=opt.state_dict(), step=step, spent=spent)


if __name__ == "__main__":
    main()

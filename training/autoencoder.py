"""Stage 2: the autoencoder, a narrow AutoencoderTiny (8 pixels a cell, 12 channels).

    python autoencoder.py --dir runs --minutes 15

Its latents are laid down (latents.py): the decoder learns to draw from them, sharp edges included, and the encoder learns
to find them in a picture. Noise on the latents makes the decoder forgiving. It is trained on pieces of 64x64 pixels, the
last quarter on whole pictures, which costs less than half.
"""
import argparse, math, random, time
from pathlib import Path
import numpy as np
import torch
from diffusers import AutoencoderTiny
import latents, world

WIDTH = 32


def build():
    return AutoencoderTiny(
        encoder_block_out_channels=(WIDTH,) * 4, decoder_block_out_channels=(WIDTH,) * 4,
        num_encoder_blocks=(1, 1, 1, 2), num_decoder_blocks=(3, 2, 2, 1),
        latent_channels=latents.CHANNELS, scaling_factor=1.0)


def batch(rng, n, size):
    """[n, 3, size, size] in [-1, 1]: pictures, or pieces of them along the cells. One in five has its colours mixed."""
    out = []
    for _ in range(n):
        thing = world.sample(rng)
        x = world.draw(rng, thing)
        if size < world.SIZE:
            # Of three pieces the one with the most in it.
            spots = [[8 * rng.randint(0, (world.SIZE - size) // 8) for _ in range(2)] for _ in range(3)]
            pieces = [x[a:a + size, b:b + size] for a, b in spots]
            x = max(pieces, key=lambda p: p[::4, ::4].std(axis=(0, 1)).sum())
        if rng.random() < 0.2:
            x = x[..., rng.sample(range(3), 3)]
            x = 255 - x if rng.random() < 0.5 else x
        out.append(x)
    x = torch.from_numpy(np.stack(out)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return x.contiguous(memory_format=torch.channels_last)


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
    torch.manual_seed(step + 7)
    start, last, total = spent, time.time(), max(o.minutes * 60, 1)
    while spent < start + total:
        done = (spent - start) / total
        for g in opt.param_groups:
            g["lr"] = o.lr * min(1, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        x = batch(rng, o.batch, 64 if done < 0.75 else world.SIZE)
        z = latents.of_pictures(x)
        noise = torch.rand(len(z), 1, 1, 1).pow(3) * 0.3 * torch.randn_like(z)
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
        if step % 100 == 0:
            db = psnr(y, x)
            print(f"{step} {spent / 60:.1f} min  pixels {pixels:.4f}  dB mean {db.mean():.1f} worst {db.min():.1f}  "
                  f"encoder {found:.4f}", flush=True)
        if step % 500 == 0 or spent >= start + total:
            save(file, model=vae.state_dict(), opt=opt.state_dict(), step=step, spent=spent)
            print("   ", through(vae), flush=True)


@torch.no_grad()
def through(vae, n=64):
    """dB of held-out drawings that were encoded and decoded, and of those that were decoded from the rule's latents."""
    rng = random.Random(41)
    x = torch.from_numpy(np.stack([world.draw(rng, world.sample(rng, held=True)) for _ in range(n)])).permute(0, 3, 1, 2).float() / 127.5 - 1
    both, rule = psnr(vae.decode(vae.encode(x).latents).sample, x), psnr(vae.decode(latents.of_pictures(x)).sample, x)
    return f"{n} held-out drawings: {both.mean():.1f} dB, worst {both.min():.1f}; by rule {rule.mean():.1f}, worst {rule.min():.1f}"


if __name__ == "__main__":
    main()

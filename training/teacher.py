"""Stage 3: the U-Net.

    python teacher.py --dir runs --minutes 70        again to continue; --minutes counts from now

It predicts v on the scaled-linear schedule. Most samples are at the four timesteps that the four-step LCM
sampler visits, where the finished model is judged; the rest are anywhere, so that other step counts
work. Since a caption nearly determines its picture, such a model sampled the LCM way (predict the picture,
add noise again, predict) draws in four steps before any distillation.
"""
import argparse, copy, random, time
from pathlib import Path
import torch
from diffusers import LCMScheduler, UNet2DConditionModel
import autoencoder, latents, reader, text_encoder, tokenizer, world

CHANNELS = (48, 96, 160)
LCM_STEPS = (999, 759, 499, 259)
SCHEDULE = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                prediction_type="v_prediction", original_inference_steps=50, clip_sample=False,
                set_alpha_to_one=True, steps_offset=1, timestep_spacing="leading", rescale_betas_zero_snr=False)


def build():
    """Few channels where there are many cells; attention (head size 32) only below."""
    return UNet2DConditionModel(
        sample_size=latents.CELLS, in_channels=latents.CHANNELS, out_channels=latents.CHANNELS,
        block_out_channels=CHANNELS, layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=text_encoder.WIDTH, attention_head_dim=tuple(c // 32 for c in CHANNELS), norm_num_groups=16,
        use_linear_projection=True)


class Noise:
    def __init__(self):
        abar = LCMScheduler(**SCHEDULE).alphas_cumprod
        self.a, self.s = abar.sqrt()[:, None, None, None], (1 - abar).sqrt()[:, None, None, None]

    def add(self, z, noise, t):
        return self.a[t] * z + self.s[t] * noise

    def v(self, z, noise, t):
        return self.a[t] * noise - self.s[t] * z

    def picture(self, x, v, t):
        return self.a[t] * x - self.s[t] * v


def timesteps(n):
    t = torch.randint(0, 1000, (n,))
    at = torch.tensor(LCM_STEPS)[torch.randint(0, 4, (n,))]
    return torch.where(torch.rand(n) < 0.7, at, t)


@torch.no_grad()
def generate(unet, words, text, prompts, seed=0, steps=4):
    """Latents, by diffusers' own LCM sampler without guidance."""
    scheduler = LCMScheduler(**SCHEDULE)
    scheduler.set_timesteps(steps)
    states = text(tokenizer.encode(words, prompts)).last_hidden_state
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(len(prompts), latents.CHANNELS, latents.CELLS, latents.CELLS, generator=random)
    for t in scheduler.timesteps:
        v = unet(x, t, encoder_hidden_states=states).sample
        x = scheduler.step(v, t, x, generator=random, return_dict=False)[0]
    return x


@torch.no_grad()
def pixels(vae, z):
    y = vae.decode(z).sample.clamp(-1, 1)
    return ((y / 2 + 0.5) * 255).round().byte().permute(0, 2, 3, 1).numpy()


KEYS = ("single colour", "single shape", "single both", "single size", "single place", "count both", "count count", "pair both",
        "pair relation", "scene both")


def judge(unet, words, text, vae, n, steps=4, sheet=None):
    """One line: percent right on every n-th of the 500 held-out captions, of all kinds."""
    rows = world.heldout_list()[::n]
    pictures = pixels(vae, generate(unet, words, text, [r["prompt"] for r in rows], steps=steps))
    if sheet:
        world.sheet(list(pictures), 16).save(sheet)
    wanted = [r["expect"] for r in rows]
    got = reader.table([reader.judge(p, w) for p, w in zip(pictures, wanted)], wanted)
    return f"{steps} steps: " + "  ".join(f"{k} {got[k]:.0f}" for k in KEYS)


def decoder(folder):
    """As far as it is trained."""
    if not (folder / "autoencoder.pt").exists():
        return Averages()
    vae = autoencoder.build()
    vae.load_state_dict(torch.load(folder / "autoencoder.pt")["model"])
    return vae


class Averages:
    """Without a trained decoder the quarters themselves are the picture, four times too coarse."""

    def decode(self, z):
        y = torch.nn.functional.pixel_shuffle(z * latents.SCALE, 2)
        sample = torch.nn.functional.interpolate(y, scale_factor=4, mode="bicubic")
        return type("Decoded", (), {"sample": sample})


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--dir", type=Path, default=Path("runs"))
    p.add_argument("--minutes", type=float, default=70, help="the learning rate has decayed by then")
    p.add_argument("--batch", type=int, default=16)
    p.add_argument("--lr", type=float, default=1e-3)
    p.add_argument("--threads", type=int, default=2, help="1 is faster when the machine is busy")
    o = p.parse_args()
    torch.set_num_threads(o.threads)
    words, text = text_encoder.load(o.dir)
    file = o.dir / "teacher.pt"

    unet = build()
    average = copy.deepcopy(unet).eval().requires_grad_(False)
    opt = torch.optim.AdamW(unet.parameters(), o.lr, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    step, spent = 0, 0.0
    if file.exists():
        s = torch.load(file)
        unet.load_state_dict(s["model"]); average.load_state_dict(s["average"]); opt.load_state_dict(s["opt"])
        step, spent = s["step"], s["spent"]
    noise, rng = Noise(), random.Random(step + 3)
    torch.manual_seed(step + 3)
    start, last, total = spent, time.time(), o.minutes * 60
    sums = [0.0] * 5
    counts = [1e-9] * 5
    while spent < start + total:
        # Warm up, hold, and decay over the last 40 %: the decay is worth more than the hold.
        done = (spent - start) / total
        lr = o.lr * min(1, (step + 1) / 150) * (1 if done < 0.6 else max(0.02, (1 - done) / 0.4))
        for g in opt.param_groups:
            g["lr"] = lr
        z, captions = latents.batch(rng, o.batch)
        with torch.no_grad():
            states = text(tokenizer.encode(words, captions)).last_hidden_state
        t, e = timesteps(len(z)), torch.randn_like(z)
        v = unet(noise.add(z, e, t), t, encoder_hidden_states=states).sample
        each = (v - noise.v(z, e, t)).pow(2).mean((1, 2, 3))
        loss = each.mean()
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        opt.step()
        step += 1
        keep = min(0.998, (step + 1) / (step + 10))
        torch._foreach_lerp_(list(average.parameters()), list(unet.parameters()), 1 - keep)

        for k, at in enumerate((*LCM_STEPS, None)):
            here = each.detach()[t == at] if at is not None else each.detach()
            sums[k] += here.sum().item(); counts[k] += len(here)
        now = time.time(); spent += now - last; last = now
        if step % 100 == 0:
            print(f"{step} {spent / 60:.1f} min  lr {lr:.1e}  loss {sums[4] / counts[4]:.4f}  at "
                  + " ".join(f"{at}: {s / c:.4f}" for at, s, c in zip(LCM_STEPS, sums, counts)), flush=True)
            sums, counts = [0.0] * 5, [1e-9] * 5
        over = spent >= start + total
        if step % 250 == 0 or over:
            autoencoder.save(file, model=unet.state_dict(), average=average.state_dict(), opt=opt.state_dict(),
                             step=step, spent=spent)
        if step % 500 == 0 or over:
            print("   ", judge(average, words, text, decoder(o.dir), 1 if over else 5, sheet=o.dir / "teacher.png"), flush=True)


if __name__ == "__main__":
    main()

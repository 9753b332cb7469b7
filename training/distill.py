"""Stage 4: latent consistency distillation, with guidance baked in.

    python distill.py --dir runs --minutes 1.5

The student must predict from a noisy picture what its own average predicts one step of the guided teacher
further down. The hops are as long as those of the four-step sampler, so the end of the chain reaches its
beginning in few updates. It starts as the teacher and is kept only where `evaluate.py` says that it is better.
"""
import argparse, copy, random, time
from pathlib import Path
import torch
import autoencoder, latents, teacher, text_encoder, tokenizer


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--dir", type=Path, default=Path("runs"))
    p.add_argument("--minutes", type=float, default=1.5)
    p.add_argument("--batch", type=int, default=16)
    p.add_argument("--lr", type=float, default=3e-4)
    p.add_argument("--guidance", type=float, default=1.5, help="1 is none")
    p.add_argument("--threads", type=int, default=2, help="1 is faster when the machine is busy")
    o = p.parse_args()
    torch.set_num_threads(o.threads)
    words, text = text_encoder.load(o.dir)
    vae = teacher.decoder(o.dir)
    guide = teacher.build().eval().requires_grad_(False)
    guide.load_state_dict(torch.load(o.dir / "teacher.pt")["average"])
    student = copy.deepcopy(guide).train().requires_grad_(True)
    average = copy.deepcopy(guide)
    opt = torch.optim.AdamW(student.parameters(), o.lr, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
    file = o.dir / "student.pt"
    step, spent = 0, 0.0
    if file.exists():
        s = torch.load(file)
        student.load_state_dict(s["model"]); average.load_state_dict(s["average"]); opt.load_state_dict(s["opt"])
        step, spent = s["step"], s["spent"]
    noise, rng = teacher.Noise(), random.Random(step + 77)
    torch.manual_seed(step + 77)
    nothing = text(tokenizer.encode(words, [""])).last_hidden_state
    start, last, total, sums = spent, time.time(), o.minutes * 60, 0.0
    while spent < start + total:
        lr = o.lr * min(1, (step + 1) / 50) * max(0.02, 1 - (spent - start) / total)
        for g in opt.param_groups:
            g["lr"] = lr
        z, captions = latents.batch(rng, o.batch)
        t, e = teacher.timesteps(len(z)), torch.randn_like(z)
        s = (t - torch.randint(60, 261, t.shape)).clamp(min=0)
        x = noise.add(z, e, t)
        with torch.no_grad():
            states = text(tokenizer.encode(words, captions)).last_hidden_state
            v = guide(x, t, encoder_hidden_states=states).sample
            if o.guidance != 1:
                v0 = guide(x, t, encoder_hidden_states=nothing.expand(len(z), -1, -1)).sample
                v = v0 + o.guidance * (v - v0)
            picture = noise.picture(x, v, t)
            further = noise.a[s] * picture + noise.s[s] * (noise.a[t] * v + noise.s[t] * x)      # DDIM
            there = average(further, s, encoder_hidden_states=states).sample
            goal = torch.where((s == 0)[:, None, None, None], picture, noise.picture(further, there, s))
        got = noise.picture(x, student(x, t, encoder_hidden_states=states).sample, t)
        # The same weighting as the teacher's loss on v.
        loss = ((got - goal) / noise.s[t].clamp(min=0.2)).pow(2).mean()
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        opt.step()
        step += 1
        torch._foreach_lerp_(list(average.parameters()), list(student.parameters()), 1 - min(0.99, (step + 1) / (step + 10)))
        sums += loss.item()
        now = time.time(); spent += now - last; last = now
        if step % 50 == 0:
            print(f"{step} {spent / 60:.1f} min  lr {lr:.1e}  loss {sums / 50:.5f}", flush=True)
            sums = 0.0
        over = spent >= start + total
        if step % 200 == 0 or over:
            autoencoder.save(file, model=student.state_dict(), average=average.state_dict(), opt=opt.state_dict(), step=step, spent=spent)
            for n in (1, 2, 4):
                print("   ", teacher.judge(average, words, text, vae, 1 if over else 5, n, o.dir / "student.png"), flush=True)


if __name__ == "__main__":
    main()

"""Stage 1: the text encoder, a CLIPTextModel of 3 layers of 160, taught alone and then frozen.

    python text_encoder.py --dir runs --steps 1500       again to continue, with a lower learning rate

Learnt together with the U-Net, the words take thousands of costly steps to mean anything. Alone it takes
minutes: from every state after the caption's end, linear heads must tell everything that the caption says. The heads are thrown away; the U-Net's cross-attention finds the same directions.
"""
import argparse, math, random, time
from pathlib import Path
import torch
import torch.nn.functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizerFast
import tokenizer, world

NONE = "none"
FIELDS = {"kind": list(world.KINDS), "background": [NONE, *world.COLOURS], "colour": [NONE, *world.COLOURS],
          "shape": [NONE, *world.SHAPES], "size": [NONE, *world.SIZES], "place": [NONE, *world.PLACES],
          "count": [NONE, *world.NUMBERS], "relation": [NONE, *world.RELATIONS], "colour2": [NONE, *world.COLOURS],
          "shape2": [NONE, *world.SHAPES], "time": [NONE, *world.TIMES], "ground": [NONE, *world.GROUNDS], "sky": list(world.SKIES)}
WIDTH = 160


def build(words):
    return CLIPTextModel(CLIPTextConfig(
        vocab_size=len(words), hidden_size=WIDTH, intermediate_size=2 * WIDTH, num_hidden_layers=3, num_attention_heads=4,
        max_position_embeddings=77, hidden_act="quick_gelu", projection_dim=WIDTH, bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id))


def load(folder):
    """The tokenizer and the frozen encoder; together captions -> [N, 77, WIDTH]."""
    words = CLIPTokenizerFast.from_pretrained(folder / "tokenizer")
    text = build(words)
    text.load_state_dict(torch.load(folder / "text_encoder.pt"))
    text.eval().requires_grad_(False)
    return words, text


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--dir", type=Path, default=Path("runs"))
    p.add_argument("--steps", type=int, default=1500)
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--lr", type=float, default=2e-3)
    p.add_argument("--threads", type=int, default=2, help="1 is faster when the machine is busy")
    o = p.parse_args()
    torch.set_num_threads(o.threads)
    torch.manual_seed(0)
    words = CLIPTokenizerFast.from_pretrained(o.dir / "tokenizer")
    text = build(words)
    if (file := o.dir / "text_encoder.pt").exists():
        text.load_state_dict(torch.load(file))
    heads = torch.nn.ModuleDict({f: torch.nn.Linear(WIDTH, len(v)) for f, v in FIELDS.items()})
    weights = [*text.parameters(), *heads.parameters()]
    opt = torch.optim.AdamW(weights, 1e-3, weight_decay=0.01, fused=True)
    rng, start = random.Random(11), time.time()
    for step in range(1, o.steps + 1):
        for g in opt.param_groups:
            g["lr"] = o.lr * min(1, step / 50) * 0.5 * (1 + math.cos(math.pi * step / (o.steps + 1)))
        things = [world.sample(rng) for _ in range(o.batch)]
        ids = tokenizer.encode(words, [rng.choice((world.caption, world.loosely))(rng, t) for t in things])
        after = ids == words.eos_token_id                     # the end and the padding, which is the same token
        states = text(ids).last_hidden_state[after]
        row = after.nonzero()[:, 0]
        loss, right = 0, {}
        for f, names in FIELDS.items():
            wanted = torch.tensor([names.index(t.get(f, NONE)) for t in things])[row]
            said = heads[f](states)
            loss = loss + F.cross_entropy(said, wanted) / len(FIELDS)
            right[f] = (said.argmax(-1) == wanted).float().mean().item()
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        opt.step()
        if step % 50 == 0:
            print(f"{step} {(time.time() - start) / 60:.1f} min  loss {loss:.3f}  "
                  + "  ".join(f"{f} {100 * r:.1f}" for f, r in right.items()), flush=True)
    torch.save(text.state_dict(), file)


if __name__ == "__main__":
    main()

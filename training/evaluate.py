"""Judges pictures of the held-out captions.

    python evaluate.py --pictures DIR                  DIR/000.png ... DIR/499.png, in the order of heldout.json
    python evaluate.py --pictures DIR --torch MODEL    draws them first, with diffusers, one fixed seed each

A picture of line k is drawn with its prompt and seed, 4 steps and no guidance. Judging needs numpy and PIL only.
"""
import argparse, json
from pathlib import Path
import numpy as np
from PIL import Image
import reader, world


def draw(rows, model, folder, steps):
    """As diffusers does it: float32, the generator on the CPU, one picture at a time."""
    import torch
    from diffusers import StableDiffusionPipeline
    torch.set_num_threads(2)
    pipe = StableDiffusionPipeline.from_pretrained(model, variant="fp16", torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    for k, row in enumerate(rows):
        pipe(row["prompt"], num_inference_steps=steps, guidance_scale=1.0,
             generator=torch.Generator().manual_seed(row["seed"])).images[0].save(folder / f"{k:03}.png")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--pictures", type=Path, required=True)
    p.add_argument("--captions", type=Path, default=Path(__file__).with_name("heldout.json"))
    p.add_argument("--torch", metavar="MODEL")
    p.add_argument("--steps", type=int, default=4, help="with --torch")
    p.add_argument("--sheet", type=Path, help="also save the first 96 pictures on one sheet")
    o = p.parse_args()
    rows = json.loads(o.captions.read_text())
    if o.torch:
        o.pictures.mkdir(parents=True, exist_ok=True)
        draw(rows, o.torch, o.pictures, o.steps)
    pictures = [np.asarray(Image.open(o.pictures / f"{k:03}.png").convert("RGB")) for k in range(len(rows))]
    seen, wanted = [reader.read(x) for x in pictures], [row["expect"] for row in rows]
    reader.show({f"{len(rows)} held-out captions, %": reader.table(seen, wanted),
                 "the reader on 1000 own drawings, %": reader.own_drawings()})
    print("\nshape by shape, %: " + ", ".join(
        f"{s} {100 * np.mean([a['shape'] == s for a, b in zip(seen, wanted) if b['shape'] == s]):.0f}" for s in world.SHAPES))
    print("by size, shape right, %: " + ", ".join(
        f"{z} {100 * np.mean([a['shape'] == b['shape'] for a, b in zip(seen, wanted) if b['size'] == z]):.0f}" for z in world.SIZES))
    wrong = [(k, b, a) for k, (a, b) in enumerate(zip(seen, wanted)) if (a["background"], a["colour"]) != (b["background"], b["colour"])]
    for k, b, a in wrong[:10]:
        print(f"{k:03}.png wanted {b['colour']} on {b['background']}, read {a['colour']} on {a['background']}: {rows[k]['prompt']}")
    if o.sheet:
        world.sheet(pictures[:96]).save(o.sheet)


if __name__ == "__main__":
    main()

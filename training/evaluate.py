"""Judges pictures of the held-out captions.

    python evaluate.py --pictures DIR [DIR ...]        DIR/000.png, ... in the order of heldout.json; a column each
    python evaluate.py --torch MODEL --pictures DIR    draws them first, with diffusers, one fixed seed each

Judging needs numpy and PIL only.
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
    folder.mkdir(parents=True, exist_ok=True)
    for k, row in enumerate(rows):
        pipe(row["prompt"], num_inference_steps=steps, guidance_scale=1.0,
             generator=torch.Generator().manual_seed(row["seed"])).images[0].save(folder / f"{k:03}.png")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--pictures", type=Path, nargs="+", required=True)
    p.add_argument("--captions", type=Path, default=Path(__file__).with_name("heldout.json"))
    p.add_argument("--torch", metavar="MODEL")
    p.add_argument("--steps", type=int, default=4, help="with --torch")
    p.add_argument("--sheet", type=Path, help="also save every fifth picture of the first folder on one sheet")
    o = p.parse_args()
    rows = json.loads(o.captions.read_text())
    if o.torch:
        draw(rows, o.torch, o.pictures[0], o.steps)
    wanted = [row["expect"] for row in rows]
    tables, first = {}, None
    for folder in o.pictures:
        pictures = [np.asarray(Image.open(folder / f"{k:03}.png").convert("RGB")) for k in range(len(rows))]
        judged = [reader.judge(picture, thing) for picture, thing in zip(pictures, wanted)]
        tables[folder.name] = reader.table(judged, wanted)
        first = first or (pictures, judged)
    reader.show(tables)
    pictures, judged = first
    singles = [(j, w) for j, w in zip(judged, wanted) if w["kind"] == "single"]
    print("\nshape by shape, %: " + ", ".join(
        f"{s} {100 * np.mean(got):.0f}" for s in world.SHAPES if (got := [j["shape"] for j, w in singles if w["shape"] == s])))
    print("by size, shape right, %: " + ", ".join(
        f"{z} {100 * np.mean([j['shape'] for j, w in singles if w['size'] == z]):.0f}" for z in world.SIZES))
    if o.sheet:
        world.sheet(pictures[::5]).save(o.sheet)


if __name__ == "__main__":
    main()

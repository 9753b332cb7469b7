"""Draws the pictures that are shown: the strip in the README, and the contact sheet of prompts.txt, with the native command.
Picture k has seed k.

    python strip.py                                    strip.png
    python strip.py --prompts prompts.txt --out contact.png --columns 8
"""

import argparse
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
PROMPTS = [
    "a red circle on a blue background",
    "a yellow star on a black background",
    "three yellow moons on a black background",
    "a large black cat on a white background",
    "a red house on green hills by day with the sun",
    "four green trees on a yellow background",
    "the mountains at night under a starry sky",
    "a yellow star above a blue moon on black",
]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tintype", default=HERE.parent / "target/release/tintype")
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--prompts", type=Path)
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--out", type=Path, default=HERE / "strip.png")
    args = parser.parse_args()
    prompts = args.prompts.read_text().splitlines() if args.prompts else PROMPTS
    pictures = []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "a.png"
        for seed, prompt in enumerate(prompts, 1):
            subprocess.run([args.tintype, "generate", prompt, "--seed", str(seed), "--model", args.model, "--device", "cpu", "--out", out],
                           check=True, stderr=subprocess.DEVNULL)
            pictures.append(Image.open(out).convert("RGB"))
    side, gap = pictures[0].width, 4
    place = lambda k: ((k % args.columns) * (side + gap), k // args.columns * (side + gap))
    right, low = place(min(len(pictures), args.columns) - 1)[0], place(len(pictures) - 1)[1]
    sheet = Image.new("RGB", (right + side, low + side), "white")
    for k, picture in enumerate(pictures):
        sheet.paste(picture, place(k))
    sheet.save(args.out, optimize=True)


if __name__ == "__main__":
    main()

"""Draws the strip of pictures in the README with the native command: picture k has seed k."""

import argparse
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
PROMPTS = [
    "a red circle on a blue background",
    "a yellow star on a black background",
    "a pink heart on white",
    "a green tree on a yellow background",
    "a white moon on black",
    "an orange house on a blue background",
    "a small purple diamond on the left, on yellow",
    "a large black cross on a red background",
]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tintype", default=HERE.parent / "target/release/tintype")
    parser.add_argument("--out", type=Path, default=HERE / "strip.png")
    args = parser.parse_args()
    pictures = []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "a.png"
        for seed, prompt in enumerate(PROMPTS, 1):
            subprocess.run([args.tintype, "generate", prompt, "--seed", str(seed), "--out", out],
                           check=True, stderr=subprocess.DEVNULL)
            pictures.append(Image.open(out).convert("RGB"))
    side, gap = pictures[0].width, 4
    strip = Image.new("RGB", (len(pictures) * (side + gap) - gap, side), "white")
    for i, picture in enumerate(pictures):
        strip.paste(picture, (i * (side + gap), 0))
    strip.save(args.out, optimize=True)


if __name__ == "__main__":
    main()

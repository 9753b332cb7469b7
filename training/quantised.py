"""What quantised weights cost: PSNR of pictures drawn with q8 weights against f32 weights, same seeds.

    python quantised.py [--count 20] [--model builtin]
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).parent


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tintype", default=HERE.parent / "target/release/tintype")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--model", default="builtin")
    args = parser.parse_args()
    psnr = []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "a.png"
        for caption in json.loads((HERE / "heldout.json").read_text())[: args.count]:
            pictures = []
            for weights in ("f32", "q8"):
                subprocess.run([args.tintype, "generate", caption["prompt"], "--seed", str(caption["seed"]),
                                "--weights", weights, "--activations", "f32", "--model", args.model, "--out", out],
                               check=True, stderr=subprocess.DEVNULL)
                pictures.append(np.asarray(Image.open(out), float))
            error = np.mean((pictures[0] - pictures[1]) ** 2)
            psnr.append(10 * np.log10(255**2 / max(error, 1e-9)))
    print(f"{len(psnr)} pictures, q8 against f32: mean {np.mean(psnr):.1f} dB, worst {min(psnr):.1f} dB")


if __name__ == "__main__":
    main()

"""Draws the held-out captions with the native command, for evaluate.py to judge.

    python draw.py --out DIR [--steps 4] [--weights f16] [--model builtin] [--device cpu]
"""

import argparse
import json
import subprocess
from pathlib import Path

HERE = Path(__file__).parent


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tintype", default=HERE.parent / "target/release/tintype")
    parser.add_argument("--steps", default="4")
    parser.add_argument("--weights", default="f16")
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    captions = json.loads((HERE / "heldout.json").read_text())
    for i, caption in enumerate(captions):
        command = [args.tintype, "generate", caption["prompt"], "--seed", str(caption["seed"]),
                   "--steps", args.steps, "--weights", args.weights, "--model", args.model, "--device", args.device,
                   "--out", args.out / f"{i:03}.png"]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        print(f"\r{i + 1} of {len(captions)}", end="", flush=True)
    print()


if __name__ == "__main__":
    main()

"""Times ONNX Runtime itself, outside a browser: `python native.py [--models DIR] [--threads N] [CASE ...]`.

A case is what export.py calls it; by default it is the picture. The graphs are those in f32. A line of JSON for each: seconds of
the runs after the first, and |found - wanted| / |wanted| of the output from PyTorch's.
"""
import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import onnxruntime
from safetensors.numpy import load_file

ROUNDS = 3


def measure(models, case, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(models / f"{case}.onnx", options, providers=["CPUExecutionProvider"])
    tensors = load_file(models / f"{case}.safetensors")
    feeds = {i.name: tensors[f"in.{i.name}"] for i in session.get_inputs()}
    seconds = []
    for _ in range(1 + ROUNDS):
        begun = time.perf_counter()
        (output,) = session.run(None, feeds)
        seconds.append(time.perf_counter() - begun)
    wanted = tensors[session.get_outputs()[0].name]
    error = np.linalg.norm(output - wanted) / np.linalg.norm(wanted)
    return {"case": case, "version": onnxruntime.__version__, "threads": threads,
            "first": seconds[0], "rounds": seconds[1:], "error": float(error)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, default=Path(__file__).resolve().parents[2] / "target/peers")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("case", nargs="*", default=["picture"])
    options = parser.parse_args()
    for case in options.case:
        print(json.dumps(measure(options.models, case, options.threads)), flush=True)


if __name__ == "__main__":
    main()

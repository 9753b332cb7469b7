"""CLIP's merges as models/clip/merges.bin has them, from a tokenizer's folder: python merges.py FOLDER OUT"""

import json
import struct
import sys
from pathlib import Path

folder, out = map(Path, sys.argv[1:])
ids = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
pairs = [line.split(" ") for line in lines if line and not line.startswith("#version")]
out.write_bytes(b"".join(struct.pack("<HH", ids[a], ids[b]) for a, b in pairs))

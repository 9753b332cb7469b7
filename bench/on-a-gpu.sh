#!/usr/bin/env bash
# Everything worth knowing of a real GPU, in ten minutes on a fresh machine: natively, in Chromium, beside ONNX Runtime Web and
# PyTorch. Each part writes what it found to target/on-a-gpu as it ends, and its table to bench/RESULTS.md.
#
#   bash bench/on-a-gpu.sh                  with a network: installs what is missing, then measures
#   bash bench/on-a-gpu.sh --prepare        builds and fetches (--help: what is yours to bring), and measures nothing: then copy
#                                           the whole checkout
#   bash bench/on-a-gpu.sh --offline        on a copy: fetches nothing, and says which parts it had to leave out
#   ... --part native,chromium,peers,torch  some of the parts;  --help has the other options
set -euo pipefail
cd "$(dirname "$0")/.."

# A prepared copy brings its own node, and may bring Python.
for bin in target/on-a-gpu/node/bin target/on-a-gpu/python/bin; do
  if [ -d "$bin" ]; then PATH="$PWD/$bin:$PATH"; fi
done
if ! command -v node > /dev/null; then
  echo "node is missing: install it, or prepare this folder where there is a network (--prepare)." >&2
  exit 1
fi
if [ ! -d node_modules ]; then
  case " $* " in
    *" --offline "*) echo "node_modules is missing: prepare this folder where there is a network (--prepare)." >&2; exit 1 ;;
  esac
  npm ci
fi
exec node bench/gpu/run.mjs "$@"

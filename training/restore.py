"""Makes checkpoints of the committed weights, for every stage to go on from: models/builtin (the student, the text encoder,
the autoencoder) and weights/teacher.fp16.safetensors. Optimisers begin anew.

    python restore.py --dir runs
"""
import argparse, shutil
from pathlib import Path
import torch
from safetensors.torch import load_file
import autoencoder, teacher, text_encoder

HERE = Path(__file__).parent
MODEL = HERE.parent / "models/builtin"


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--dir", type=Path, default=Path("runs"))
    o = p.parse_args()
    o.dir.mkdir(parents=True, exist_ok=True)
    shutil.copytree(MODEL / "tokenizer", o.dir / "tokenizer", dirs_exist_ok=True)
    read = lambda path: {name: w.float() for name, w in load_file(path).items()}
    torch.save(read(MODEL / "text_encoder/model.fp16.safetensors"), o.dir / "text_encoder.pt")
    vae, unet = autoencoder.build(), teacher.build()
    keep(o.dir / "autoencoder.pt", vae, read(MODEL / "vae/diffusion_pytorch_model.fp16.safetensors"))
    keep(o.dir / "teacher.pt", unet, read(HERE / "weights/teacher.fp16.safetensors"))
    keep(o.dir / "student.pt", unet, read(MODEL / "unet/diffusion_pytorch_model.fp16.safetensors"))


def keep(file, network, weights):
    network.load_state_dict(weights)
    opt = torch.optim.AdamW(network.parameters(), fused=True)
    autoencoder.save(file, model=weights, average=weights, opt=opt.state_dict(), step=0, spent=0.0)


if __name__ == "__main__":
    main()

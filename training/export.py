"""Stage 5: writes the finished model in the diffusers layout, rounded to fp16, and the teacher for later runs.

    python export.py --dir runs --out ../models/builtin [--unet teacher.pt]
"""
import argparse, shutil
from pathlib import Path
import torch
from safetensors.torch import save_file
from diffusers import LCMScheduler, StableDiffusionPipeline
from transformers import CLIPTokenizer
import autoencoder, teacher, text_encoder

if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("--dir", type=Path, default=Path("runs"))
    p.add_argument("--out", type=Path, default=Path("../models/builtin"))
    p.add_argument("--unet", default="student.pt", help="which checkpoint's averaged weights")
    o = p.parse_args()
    unet, vae = teacher.build(), autoencoder.build()
    unet.load_state_dict(torch.load(o.dir / o.unet)["average"])
    vae.load_state_dict(torch.load(o.dir / "autoencoder.pt")["model"])
    _, text = text_encoder.load(o.dir)
    pipe = StableDiffusionPipeline(
        vae=vae, text_encoder=text, tokenizer=CLIPTokenizer.from_pretrained(o.dir / "tokenizer"), unet=unet,
        scheduler=LCMScheduler(**teacher.SCHEDULE), safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    pipe.to(dtype=torch.float16)
    for part in (unet, vae, text):
        assert all(w.isfinite().all() for w in part.parameters()), "a weight does not fit fp16"
    pipe.save_pretrained(o.out, variant="fp16")
    for file in (o.dir / "tokenizer").iterdir():          # tokenizer.json as well, for loaders of the fast kind
        shutil.copyfile(file, o.out / "tokenizer" / file.name)
    for file in o.out.rglob("*.safetensors"):
        file.chmod(0o644)
    guide = torch.load(o.dir / "teacher.pt")["average"]
    weights = Path(__file__).with_name("weights")
    weights.mkdir(exist_ok=True)
    save_file({name: w.half().contiguous() for name, w in guide.items()}, weights / "teacher.fp16.safetensors")
    for name, part in (("U-Net", unet), ("text encoder", text), ("autoencoder", vae)):
        print(f"{name}: {sum(w.numel() for w in part.parameters()) / 1e6:.2f} M parameters")
    print(f"{sum(f.stat().st_size for f in o.out.rglob('*') if f.is_file()) / 1e6:.1f} MB in {o.out}")

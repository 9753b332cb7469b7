"""Whole pipelines: latents after every step and the picture, with what rounding alone changes."""
import copy
import inspect

import numpy as np
import torch
from PIL import Image

from measure import error
from schedulers import public

OTHERS = {"fp32_vs_fp64": torch.float64, "torch_fp16_vs_fp32": torch.float16}


def remade(kind, pipe, **parts):
    """A pipeline of another class, or with other parts, around the parts and settings of `pipe`."""
    known = inspect.signature(kind.__init__).parameters
    parts = {k: v for k, v in {**pipe.config, **pipe.components, **parts}.items() if k in known}
    if "requires_safety_checker" in known:
        parts["requires_safety_checker"] = False
    made = kind(**parts)
    made.set_progress_bar_config(disable=True)
    return made


def converted(pipe, dtype):
    parts = {k: copy.deepcopy(v).to(dtype) for k, v in pipe.components.items()
             if isinstance(v, torch.nn.Module)}
    return remade(type(pipe), pipe, scheduler=copy.deepcopy(pipe.scheduler), **parts)


def generate(pipe, seed, args):
    gen = [torch.Generator().manual_seed(s) for s in seed] if isinstance(seed, list) else \
        torch.Generator().manual_seed(seed)
    tensors, times = {}, []

    def note(i, t, latents):
        tensors[f"latents.{i}"] = latents.clone()
        times.append(float(t))

    def step(_, i, t, state):
        note(i, t, state["latents"])
        return {}

    def returned(*given, **named):
        out = advance(*given, **named)
        note(len(times), given[1], out.prev_sample[:len(args["class_labels"])])
        return out

    known, advance = inspect.signature(pipe.__call__).parameters, pipe.scheduler.step
    if "callback_on_step_end" in known:
        watch = dict(callback_on_step_end=step)
    elif "callback" in known:
        watch = dict(callback=note)
    else:       # it tells nobody of its latents but the scheduler, with those without a label behind
        watch, pipe.scheduler.step = {}, returned
    image = pipe(**args, generator=gen, output_type="np", **watch).images
    return {"image": torch.from_numpy(np.asarray(image)).float(), **tensors}, times


def case(golden, name, pipe, seed, args, limits, model, scheduler, note=None, pictures=None,
         unlisted=None, resized=None):
    """`pictures`: arguments that are files of the set, or lists; `unlisted`: one that is another field;
    `resized`: a picture with the size it gets first, which only the note says."""
    pictures = pictures or {}
    read = lambda v: [*map(read, v)] if isinstance(v, list) else Image.open(golden.out / v)
    opened = {k: read(v) for k, v in (pictures | (unlisted or {})).items()}
    if resized:
        file, *size = resized
        opened["image"] = Image.open(golden.out / file).resize(size, Image.LANCZOS)
        note = f"input {file} resized with PIL Lanczos to width {size[0]}, height {size[1]} first"
        args["image"] = "Image"
    s = pipe.scheduler
    copies = {field: converted(pipe, dtype) for field, dtype in OTHERS.items()}
    out, times = generate(pipe, seed, args | opened)
    errors = {}
    for field, dtype in OTHERS.items():
        other, _ = generate(copies[field], seed, args | opened)
        a, b = (out, other) if dtype == torch.float64 else (other, out)
        each = {k: error(a[k], b[k])["rel_l2"] for k in out}
        worst = max(each, key=each.get)
        errors[field] = {**error(a["image"], b["image"]), "worst": worst,
                         "worst_rel_l2": each[worst]}
    png = []
    for i, image in enumerate(out["image"]):
        png.append(f"ref/pipe/{name}.{i}.png")
        (golden.out / png[-1]).parent.mkdir(exist_ok=True)
        levels = (image.numpy() * 255).round().astype(np.uint8)
        Image.fromarray(levels).save(golden.out / png[-1])
    clipped = ((out["image"] == 0) | (out["image"] == 1)).float().mean().item()
    inputs = {"image_input": unlisted["image"]} if unlisted else {"image_inputs": pictures}
    golden.add(f"pipe/{name}", out, limits, model=model, scheduler=scheduler,
               scheduler_class=type(s).__name__, scheduler_config=public(s.config), seed=seed,
               args=args | {k: "Image" for k, v in pictures.items() if isinstance(v, str)},
               **inputs, step_timesteps=times, png=png,
               clipped_fraction=round(clipped, 4), note=note, **errors)
    return out["image"]

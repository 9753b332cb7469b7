//! The shapes of SDXL's U-Net: a ResNet block, a transformer block and a change of size at each of its levels. The
//! network itself is not built yet, so this chain stands for it.

use crate::nn::{Attention, Conv, GroupNorm, Heads, LayerNorm, Linear, Projections};
use crate::ops::{Activation, Epilogue, Matmul};
use crate::pipeline::Planned;
use crate::plan::{Recorder, Target, Tensor};
use crate::quant::Format;
use crate::shape::Shape;
use crate::weights::Declarations;

/// Channels of the levels, and whether they have transformers.
const LEVELS: [(u32, bool); 3] = [(320, false), (640, true), (1280, true)];
const HEAD: u32 = 64;
/// Width and tokens of the prompt.
const CONTEXT: (u32, u32) = (2048, 77);

/// For a picture of `size` (width, height).
pub fn plan(format: Format, target: &Target, [width, height]: [usize; 2]) -> Planned {
    let mut d = Declarations::new(format);
    let mut r = Recorder::new(target);
    r.section("unet");
    let latent = Shape::new(1, height as u32 / 8, width as u32 / 8, 4);
    let mut x = r.input("sample", latent, target.elem);
    let text = r.input("text", Shape::tokens(1, CONTEXT.1, CONTEXT.0), target.elem);
    for (channels, transformer) in LEVELS {
        let first = x.shape.c == 4;
        let conv = Conv::declare(&mut d, "conv", x.shape.c, channels, 3, true);
        x = if first {
            conv.record(&mut r, x, None, Epilogue::default())
        } else {
            conv.downsample(&mut r, x, (1, 1))
        };
        x = resnet(&mut d, &mut r, x);
        if transformer {
            x = block(&mut d, &mut r, x, text);
        }
    }
    for (channels, _) in LEVELS.into_iter().rev().skip(1) {
        let conv = Conv::declare(&mut d, "conv", x.shape.c, channels, 3, true);
        x = conv.upsample(&mut r, x, (x.shape.h * 2, x.shape.w * 2));
        x = resnet(&mut d, &mut r, x);
    }
    let conv = Conv::declare(&mut d, "conv", x.shape.c, 4, 3, true);
    let y = conv.record(&mut r, x, None, Epilogue::default());
    r.output("sample_out", y);
    Planned { name: "unet", declarations: d, plan: r.finish() }
}

/// With as many channels from a skip connection as there are.
fn resnet(d: &mut Declarations, r: &mut Recorder, x: Tensor) -> Tensor {
    let channels = x.shape.c;
    let norm = GroupNorm::declare(d, "norm", 2 * channels, 32, 1e-5);
    let [wide, conv] = [2 * channels, channels].map(|c| Conv::declare(d, "conv", c, channels, 3, true));
    let shortcut = Conv::declare(d, "shortcut", 2 * channels, channels, 1, true);
    let h = norm.record(r, x, Some(x), Activation::Silu);
    let h = wide.record(r, h, None, Epilogue::default());
    let residual = Some(shortcut.record(r, x, Some(x), Epilogue::default()));
    conv.record(r, h, None, Epilogue { residual, ..Default::default() })
}

/// Self-attention, attention over the prompt, and GEGLU.
fn block(d: &mut Declarations, r: &mut Recorder, x: Tensor, text: Tensor) -> Tensor {
    let width = x.shape.c;
    let heads = Heads { count: width / HEAD, size: HEAD };
    let norm = LayerNorm::declare(d, "norm", width, 1e-5);
    let own = Attention::declare(d, "attn1", width, heads, Projections::UNET);
    let (cross, keys_values) = Attention::cross(d, "attn2", width, CONTEXT.0, heads, Projections::UNET);
    let gate = Linear::geglu(d, "ff.net.0.proj", width, 4 * width);
    let out = Linear::declare(d, "ff.net.2", 4 * width, width, true);
    let shape = x.shape;
    let x = x.viewed(Shape::tokens(1, shape.pixels(), width));
    let h = norm.record(r, x);
    let x = own.record(r, h, None, x, false);
    let context = keys_values.of(text).record(r);
    let h = norm.record(r, x);
    let x = cross.record(r, h, Some(context), x, false);
    let h = norm.record(r, x);
    let h = gate.of(h).record(r);
    let epilogue = Epilogue { residual: Some(x), ..Default::default() };
    Matmul { epilogue, ..out.of(h) }.record(r).viewed(shape)
}

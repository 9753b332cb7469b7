//! 3x3 convolutions by Winograd's F(4x4, 3x3), in four kernels: kernels/winograd_weight.wgsl, kernels/winograd_input.wgsl,
//! kernels/winograd_tile.wgsl and kernels/winograd_output.wgsl. Slabs of outputs have their weights transformed at a time,
//! bands of tiles their inputs.

use super::{Lowering, add_layout, flags};
use crate::kernels::{WinogradInputParams, WinogradOutputParams, WinogradTileParams, WinogradWeightParams};
use crate::plan::ops::{Conv, Operator};
use crate::plan::{Cost, Tensor};
use crate::program::Binding;
use crate::shape::{Elem, Shape};
use crate::tuning::{Tile, Winograd};
use tintype_quant::Format;

/// Elements of a transformed tile.
const ELEMENTS: u32 = 36;
/// Outputs of a tile along one side.
const OUT: u32 = 4;
/// Channels of a workgroup of a transform, in groups of four, and its threads.
const ACROSS: u32 = 16;
const THREADS: u32 = 6 * ACROSS;
/// Bytes of a block of 4 inputs x 4 outputs.
const BLOCK: u64 = 64;
/// FLOPs of a transform, for each weight, input channel of a tile, output channel of a tile.
const WEIGHT_FLOPS: u64 = 270;
const INPUT_FLOPS: u64 = 12 * 20;
const OUTPUT_FLOPS: u64 = 10 * 16;

/// Whether Winograd can compute it at all.
pub(super) fn fits(conv: &Conv) -> bool {
    conv.kernel() == 3 && conv.stride == 1 && conv.pad == (1, 1)
}

pub(super) fn lower(conv: &Conv, l: &mut Lowering, y: Tensor, (how, tile): (Winograd, Tile)) {
    let (m, x, out) = (conv.weight.matrix, conv.x.shape, y.shape);
    let (inputs, outputs) = (m.inputs / 4, m.outputs / 4);
    let [h, w] = conv.size();
    let [tiles_w, tiles_h] = [out.w, out.h].map(|n| n.div_ceil(OUT));
    let tiles = out.n * tiles_w * tiles_h;
    let elements = u64::from(ELEMENTS);
    let width = even(outputs, how.bytes / (elements * u64::from(inputs) * BLOCK), ACROSS);
    let a_tile = u64::from(inputs.max(width)) * Elem::F32.bytes();
    let rows = even(tiles, how.bytes / (elements * a_tile), tile.rows);

    let u = l.workspace(Shape::new(1, ELEMENTS, width * inputs, 16));
    let v = l.workspace(Shape::new(1, ELEMENTS, rows.min(tiles), inputs * 4));
    let products = l.workspace(Shape::new(1, ELEMENTS, rows.min(tiles), width * 4));
    let blob = Binding::Weight(conv.weight.handle, m.bytes() as u64);
    let e = &conv.epilogue;
    let (add_at, add_stride) = add_layout(e);
    let model = conv.cost(y).model_flops;
    let whole = u64::from(tiles) * u64::from(outputs);
    let mut done = 0;

    for first_output in (0..outputs).step_by(width as usize) {
        let width = width.min(outputs - first_output);
        let of_all = |bytes: u64| bytes * u64::from(width) / u64::from(outputs);
        let params = WinogradWeightParams { first: 0, inputs, outputs: width, first_output };
        let values = u64::from(inputs * width) * 16;
        let made = elements * u64::from(inputs * width) * BLOCK;
        let cost = Cost { model_flops: 0, executed_flops: values * WEIGHT_FLOPS };
        let threads = [inputs * width, 6];
        l.dispatch(("winograd_weight", m.format.as_str()), &params, vec![blob, u.into()], threads, cost);
        l.moves(of_all(m.bytes() as u64) + made);

        for first_tile in (0..tiles).step_by(rows as usize) {
            let rows = rows.min(tiles - first_tile);
            let (across, down) = (u64::from(inputs * 4), u64::from(rows));
            let of_tiles = |t: Tensor| t.bytes() * down / u64::from(tiles);
            let [v_bytes, product_bytes] = [u64::from(inputs) * v.elem.bytes(), u64::from(width) * 16]
                .map(|bytes| elements * down * bytes);
            // What one band has of all inputs stays for the other slabs.
            if first_output == 0 || rows < tiles {
                let params = WinogradInputParams {
                    first: 0,
                    images: x.n,
                    in_h: x.h,
                    in_w: x.w,
                    virtual_h: h,
                    virtual_w: w,
                    // As torch computes them, so that an odd size picks the same neighbours.
                    ratio_h: x.h as f32 / h as f32,
                    ratio_w: x.w as f32 / w as f32,
                    inputs1: x.c4(),
                    inputs2: conv.x2.map_or(0, |t| t.shape.c4()),
                    tiles_w,
                    tiles_h,
                    first_tile,
                    tiles: rows,
                };
                let bindings = vec![conv.x.into(), conv.x2.into(), v.into()];
                let cost = Cost { model_flops: 0, executed_flops: across * down * INPUT_FLOPS };
                let threads = [inputs.div_ceil(ACROSS) * THREADS, rows];
                l.dispatch(("winograd_input", y.elem.as_str()), &params, bindings, threads, cost);
                l.moves(of_tiles(conv.x) + conv.x2.map_or(0, of_tiles) + v_bytes);
            }

            let params = WinogradTileParams { first: 0, rows, inputs1: inputs, inputs2: 0, outputs: width };
            let [across_tiles, down_tiles] = tile.grid(rows, width * 4);
            let before = done;
            done += down * u64::from(width);
            let part = |n: u64| (u128::from(model) * u128::from(n) / u128::from(whole)) as u64;
            let cost = Cost {
                model_flops: part(done) - part(before),
                executed_flops: 2 * elements * down * across * u64::from(width * 4),
            };
            let name = format!("f32.f32.{}.{}", tile.rows, tile.each);
            let threads = [across_tiles, down_tiles * ELEMENTS];
            let bindings = vec![v.into(), Binding::Unused, u.into(), products.into()];
            l.dispatch(("winograd_tile", &name), &params, bindings, threads, cost);
            l.moves(v_bytes + made + product_bytes);

            let params = WinogradOutputParams {
                first: 0,
                images: out.n,
                out_h: out.h,
                out_w: out.w,
                outputs,
                width,
                first_output,
                tiles_w,
                tiles_h,
                first_tile,
                tiles: rows,
                scale_at: m.scale_at(),
                bias_at: m.bias_at(),
                add_at,
                add_stride,
                activation: e.activation as u32,
                flags: flags(e),
            };
            // Only 8-bit weights have scales that come at the end.
            let scaled = if m.format == Format::Q8 { "q8" } else { "f16" };
            let name = format!("{}.{scaled}", y.elem.as_str());
            let bindings =
                vec![products.into(), blob, e.add.map(|(t, _)| t).into(), e.residual.into(), y.into()];
            let executed_flops = u64::from(width * 4) * down * OUTPUT_FLOPS;
            let cost = Cost { model_flops: 0, executed_flops };
            let threads = [width.div_ceil(ACROSS) * THREADS, rows];
            l.dispatch(("winograd_output", &name), &params, bindings, threads, cost);
            l.moves(product_bytes + of_all(of_tiles(y) + e.residual.map_or(0, of_tiles)));
        }
    }
}

/// `all` cut into as few parts as may be, none larger than `most`, all of one size but the last: a multiple of `unit`.
fn even(all: u32, most: u64, unit: u32) -> u32 {
    let most = (most / u64::from(unit)).max(1) * u64::from(unit);
    let parts = u64::from(all).div_ceil(most) as u32;
    all.div_ceil(parts).next_multiple_of(unit)
}

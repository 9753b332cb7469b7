// conv_tile: the convolution of conv.wgsl, by workgroups whose threads share what they fetch. Rows are pixels of all images.
// Grid: x = outputs / 64, y = pixels / ROWS, counted in workgroups.
// Twin: tests/twin/conv.rs
//# use elem conv weight cell activation epilogue tile tile_blocks
//# const ROWS EACH KERNEL

@compute @workgroup_size(THREADS)
fn conv_tile(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let o = group.x * OUT_VEC4S;
    let first = (group.y + p.first) * ROWS;
    let inputs = p.inputs1 + p.inputs2;
    let next = KERNEL * KERNEL * inputs;
    for (var u = 0u; u < KERNEL; u++) {
        for (var v = 0u; v < KERNEL; v++) {
            let block = (u * KERNEL + v) * inputs;
            locate(first, t, u, v);
            fetch_inputs(t, 0u);
            fetch_weights(t, 0u, o, block, next);
            for (var k = 0u; k < inputs; k += STEP) {
                share_inputs(t, k, inputs);
                share_weights(t);
                workgroupBarrier();
                fetch_inputs(t, k + STEP);
                fetch_weights(t, k + STEP, o, block, next);
                multiply_step(t);
                workgroupBarrier();
            }
        }
    }
    finish(t, first, o);
}

// The stored pixel that a tap of an output pixel sees.
fn spot(pixel: u32, u: u32, v: u32) -> Spot {
    let area = p.out_h * p.out_w;
    let image = min(pixel / area, p.images - 1u);
    let inner = pixel % area;
    // Unsigned on purpose: an index left of or above the image wraps to a huge number.
    let row = inner / p.out_w * p.stride + u - p.pad;
    let column = inner % p.out_w * p.stride + v - p.pad;
    let inside = row < p.virtual_h && column < p.virtual_w;
    let i = min(u32(f32(min(row, p.virtual_h)) * p.ratio_h), p.in_h - 1u);
    let j = min(u32(f32(min(column, p.virtual_w)) * p.ratio_w), p.in_w - 1u);
    return Spot((image * p.in_h + i) * p.in_w + j, inside);
}

// Eight outputs of a pixel.
fn store(pixel: u32, o: u32, acc0: vec4<f32>, acc1: vec4<f32>) {
    store_four(pixel, o, acc0);
    store_four(pixel, o + 1u, acc1);
}

fn store_four(pixel: u32, o: u32, acc: vec4<f32>) {
    let area = p.out_h * p.out_w;
    if pixel < p.images * area && o < p.outputs {
        y[pixel * p.outputs + o] = encode(epilogue(pixel / area, pixel, o, acc));
    }
}

// group_conv: y[i, j, o] = act(bias[o] + sum over rows u, columns v and inputs c of the group of o of
// x[i + u - kernel / 2, j + v - kernel / 2, c] * w[c, u, v, o]), zero outside; groups have as many outputs as inputs.
// Gated: the outputs are values and behind them as many gates, and y = value * silu(gate).
// Grid: x = channels of y / 4, y = pixels of all images. A thread makes one vec4.
// Twin: tests/twin/group_conv.rs
//# use elem activation

const BIAS: u32 = 1u;
const GATED: u32 = 2u;

// `channels` and `outputs` count fours, of x and of y; `inputs` single channels of a group.
struct Params {
    first: u32,
    images: u32,
    h: u32,
    w: u32,
    channels: u32,
    outputs: u32,
    inputs: u32,
    kernel: u32,
    activation: u32,
    flags: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<Elem>;               // [images, h, w, channels]
@group(0) @binding(2) var<storage, read> w: array<vec4<f32>>;          // [inputs, kernel, kernel, channels], bias [channels]
@group(0) @binding(3) var<storage, read_write> y: array<Elem>;         // [images, h, w, outputs]

@compute @workgroup_size(8, 8)
fn group_conv(@builtin(global_invocation_id) id: vec3<u32>) {
    let pixel = id.y + p.first;
    if id.x >= p.outputs || pixel >= p.images * p.h * p.w {
        return;
    }
    var v = made(pixel, id.x);
    if (p.flags & GATED) != 0u {
        v *= silu(made(pixel, id.x + p.outputs));
    }
    y[pixel * p.outputs + id.x] = encode(activate(p.activation, v));
}

fn made(pixel: u32, o: u32) -> vec4<f32> {
    let taps = p.kernel * p.kernel;
    let row = pixel / p.w % p.h;
    let column = pixel % p.w;
    let image = pixel / (p.w * p.h);
    let group = p.inputs / 4u;
    var sum = vec4<f32>();
    if (p.flags & BIAS) != 0u {
        sum = w[p.inputs * taps * p.channels + o];
    }
    for (var tap = 0u; tap < taps; tap++) {
        // What is before the first is a large number.
        let i = row + tap / p.kernel - p.kernel / 2u;
        let j = column + tap % p.kernel - p.kernel / 2u;
        if i >= p.h || j >= p.w {
            continue;
        }
        let at = ((image * p.h + i) * p.w + j) * p.channels;
        if p.inputs == 1u {
            sum += decode(x[at + o]) * w[tap * p.channels + o];
            continue;
        }
        let each = taps * p.channels;
        for (var c = 0u; c < group; c++) {
            let v = decode(x[at + o / group * group + c]);
            let to = (4u * c * taps + tap) * p.channels + o;
            sum += v.x * w[to] + v.y * w[to + each] + v.z * w[to + 2u * each] + v.w * w[to + 3u * each];
        }
    }
    return sum;
}

// winograd_weight: the weights of a 3x3 convolution as the products of winograd_tile.wgsl take them. Made anew for each call:
// kept, they would take four times as many values.
// Grid: x = blocks of 4 inputs x 4 outputs, y = 6, a thread a row of the transformed tile.
// In 32 bits: what F(4x4) adds to the rounding of halves would show.
// Twin: tests/twin/conv.rs
//# use weight

struct Params {
    first: u32,
    // Groups of four: of inputs, of the outputs at hand, before them.
    inputs: u32,
    outputs: u32,
    first_output: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> w: array<vec4<u32>>;          // [outputs, 9, inputs] blocks, scale, bias
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;    // [36, inputs * 4, outputs]

struct Three {
    a: mat4x4<f32>,
    b: mat4x4<f32>,
    c: mat4x4<f32>,
}

@compute @workgroup_size(64)
fn winograd_weight(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= p.inputs * p.outputs {
        return;
    }
    // What is written, four times what is read, is what neighbouring threads have side by side.
    let o = id.x % p.outputs;
    let k = id.x / p.outputs;
    let row = id.y + p.first;
    let first = (p.first_output + o) * 9u * p.inputs + k;
    let v = Three(column(first, row), column(first + p.inputs, row), column(first + 2u * p.inputs, row));
    for (var i = 0u; i < 6u; i++) {
        let f = factors(i);
        let made = v.a * f.x + v.b * f.y + v.c * f.z;
        let at = ((row * 6u + i) * p.inputs + k) * 4u * p.outputs + o;
        y[at] = made[0];
        y[at + p.outputs] = made[1];
        y[at + 2u * p.outputs] = made[2];
        y[at + 3u * p.outputs] = made[3];
    }
}

// `first`: the block of the upper weight.
fn column(first: u32, row: u32) -> mat4x4<f32> {
    let f = factors(row);
    return weight(first) * f.x + weight(first + 3u * p.inputs) * f.y + weight(first + 6u * p.inputs) * f.z;
}

// Of the three weights of a column or a row, for an element of it.
fn factors(i: u32) -> vec3<f32> {
    switch i {
        case 0u: { return vec3<f32>(1.0, 0.0, 0.0); }
        case 1u: { return vec3<f32>(-0.6666666666666666, -0.4714045207910317, -0.3333333333333333); }
        case 2u: { return vec3<f32>(-0.6666666666666666, 0.4714045207910317, -0.3333333333333333); }
        case 3u: { return vec3<f32>(0.16666666666666666, 0.23570226039551584, 0.3333333333333333); }
        case 4u: { return vec3<f32>(0.16666666666666666, -0.23570226039551584, 0.3333333333333333); }
        default: { return vec3<f32>(0.0, 0.0, 1.0); }
    }
}

// Winograd's F(4x4, 3x3) at the points 0, ±1/√2, ±√2 (Lavin and Gray, "Fast algorithms for convolutional neural networks",
// 2015; Alam et al., "Winograd convolution for deep neural networks: efficient point selection", 2022). A tile of 6x6 inputs
// becomes 36 elements, in each of which the convolution is a product over channels; those become 4x4 outputs.
// A transform goes down the columns of a tile, then along its rows: a thread has one of them, of four channels.
const SIDE: u32 = 6u;
const OUT: u32 = 4u;
// Threads beside each other have neighbouring channels.
const ACROSS: u32 = 16u;
const THREADS: u32 = SIDE * ACROSS;
const A: f32 = 0.7071067811865476;
const B: f32 = 1.4142135623730951;

// [row, column, channels]
var<workgroup> turned: array<vec4<f32>, SIDE * THREADS>;

struct Six {
    a: vec4<f32>,
    b: vec4<f32>,
    c: vec4<f32>,
    d: vec4<f32>,
    e: vec4<f32>,
    f: vec4<f32>,
}

// What a column leaves for its rows, and what a row finds.
fn leave(row: u32, t: u32, v: vec4<f32>) {
    turned[row * THREADS + t] = v;
}

fn found(t: u32) -> Six {
    let first = t / ACROSS * THREADS + t % ACROSS;
    return Six(
        turned[first],
        turned[first + ACROSS],
        turned[first + 2u * ACROSS],
        turned[first + 3u * ACROSS],
        turned[first + 4u * ACROSS],
        turned[first + 5u * ACROSS],
    );
}

// A workgroup's share of a product, through its memory: ROWS rows x 64 outputs, 16 inputs a step. A thread makes EACH rows
// x 8 outputs in registers. The operands of the next step are fetched while this one is multiplied.
// The kernel says where the rows of its input are: `spot`; tile_blocks.wgsl or tile_rows.wgsl where its weights are.
const OUT_VEC4S: u32 = 16u;
const STEP: u32 = 4u;
// Threads beside each other and below each other.
const ACROSS: u32 = 8u;
const DOWN: u32 = ROWS / EACH;
const THREADS: u32 = ACROSS * DOWN;
// Threads that fetch vec4s of the same inputs, each of another row or output.
const APART: u32 = THREADS / STEP;

// Rows are a cell longer than needed, so that neighbouring ones lie in other banks. Two indices, one of which is constant
// where it counts: a driver clamps the other one once.
var<workgroup> xs: array<array<Cell, STEP + 1u>, ROWS>;
// Inputs of the step x its outputs: the first four of the eight of each thread, then the others.
var<workgroup> ws: array<array<Cell, OUT_VEC4S + 1u>, STEP * 4u>;

//# repeat i EACH
var<private> a$i0: vec4<f32>;
var<private> a$i1: vec4<f32>;
//# end
//# repeat i EACH/2
var<private> spot$i: Spot;
var<private> next_x$i: Elem;
//# end

// A row of the input, and whether it counts, or is zero.
struct Spot {
    row: u32,
    inside: bool,
}

fn input(s: Spot, k: u32) -> Elem {
    if k < p.inputs1 {
        return x1[s.row * p.inputs1 + k];
    }
    return x2[s.row * p.inputs2 + min(k - p.inputs1, max(p.inputs2, 1u) - 1u)];
}

// Where the rows are that this thread fetches; for one tap of a convolution.
fn locate(first: u32, t: u32, u: u32, v: u32) {
//# repeat i EACH/2
    spot$i = spot(first + t / STEP + $iu * APART, u, v);
//# end
}

// Fetches inputs from `k` on.
fn fetch_inputs(t: u32, k: u32) {
    let c = k + t % STEP;
//# repeat i EACH/2
    next_x$i = input(spot$i, c);
//# end
}

// Puts what was fetched where all threads see it; inputs from `inputs` on are zero.
fn share_inputs(t: u32, k: u32, inputs: u32) {
    let c = t % STEP;
    let row = t / STEP;
    let live = k + c < inputs;
//# repeat i EACH/2
    xs[row + $iu * APART][c] = narrow(select(vec4<f32>(), decode(next_x$i), live && spot$i.inside));
//# end
}

// The weights of an input of the step, for four neighbouring outputs.
fn share_weight(input: u32, four: u32, v: vec4<f32>) {
    ws[input][four % 2u * ACROSS + four / 2u] = narrow(v);
}

fn multiply_step(t: u32) {
    let column = t % ACROSS;
    let row = t / ACROSS;
//# repeat k 4
    {
//# repeat i EACH
        let x$i = widen(xs[row + $iu * DOWN][$k]);
//# end
//# repeat q 4
        {
            let w0 = widen(ws[$ku * 4u + $qu][column]);
            let w1 = widen(ws[$ku * 4u + $qu][column + ACROSS]);
//# repeat i EACH
            a$i0 += x$i[$q] * w0;
            a$i1 += x$i[$q] * w1;
//# end
        }
//# end
    }
//# end
}

// What this thread has of row `i`, for a loop that a driver need not unroll.
fn made(i: u32) -> array<vec4<f32>, 2> {
    switch i {
//# repeat i EACH
        case $iu: { return array<vec4<f32>, 2>(a$i0, a$i1); }
//# end
        default: { return array<vec4<f32>, 2>(); }
    }
}

fn finish(t: u32, first: u32, o: u32) {
    for (var i = 0u; i < EACH; i++) {
        let eight = made(i);
        store(first + t / ACROSS + i * DOWN, o + t % ACROSS * 2u, eight[0], eight[1]);
    }
}

// The weights of a tile as they are stored, in blocks of 4 inputs x 4 outputs.
var<private> next_w: Packed;

// Fetches those of inputs from `k` on: of an output's first input they are in `block`, of the next four outputs `next` later.
fn fetch_weights(t: u32, k: u32, o: u32, block: u32, next: u32) {
    let four = min(o + t / STEP % OUT_VEC4S, p.outputs - 1u);
    next_w = fetch(four * next + min(block + k + t % STEP, next - 1u));
}

// Puts them where all threads see them.
fn share_weights(t: u32) {
    if t / STEP < OUT_VEC4S {
        let m = unpack(next_w);
//# repeat q 4
        share_weight(t % STEP * 4u + $qu, t / STEP, m[$q]);
//# end
    }
}

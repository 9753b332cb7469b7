// The weights of a tile as a kernel has made them: for each input a row of all outputs.
//# repeat i EACH/2
var<private> next_w$i: vec4<f32>;
//# end

// Fetches those of inputs from `k` on, of `inputs` whose first one is in row `first`.
fn fetch_weights(t: u32, k: u32, o: u32, first: u32, inputs: u32) {
    let four = min(o + t % OUT_VEC4S, p.outputs - 1u);
    let row = k * 4u + t / OUT_VEC4S;
//# repeat i EACH/2
    next_w$i = w[(first + min(row + $iu * THREADS / OUT_VEC4S, inputs * 4u - 1u)) * p.outputs + four];
//# end
}

// Puts them where all threads see them.
fn share_weights(t: u32) {
//# repeat i EACH/2
    share_weight(t / OUT_VEC4S + $iu * THREADS / OUT_VEC4S, t % OUT_VEC4S, next_w$i);
//# end
}

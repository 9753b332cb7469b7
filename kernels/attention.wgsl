// attention: y[n, t, h] = sum over s of softmax over s of (cap(scale * q[n, t, h] . k[n, s, g]) + bias) * v[n, s, g]
// with g = h / shared_by, cap(v) = cap tanh(v / cap), and biases of image and key, and of head and distance.
// Online softmax (Milakov and Gimelshein 2018), four keys at a time; causal: s <= t.
// q, k and v may be slabs of one fused projection: each has a start and a row stride.
// Grid: x = images * heads, y = queries. A thread makes one query of one head, no barriers.
// Twin: tests/twin/attention.rs
//# use elem attention
//# const HEAD

@compute @workgroup_size(1, 64)
fn attention(@builtin(global_invocation_id) id: vec3<u32>) {
    let image = id.x / p.heads;
    let at = id.x % p.heads * p.head;
    let kv_at = id.x % p.heads / p.shared_by * p.head;
    let t = id.y + p.first;
    if image >= p.images || t >= p.queries {
        return;
    }
    // HEAD is the variant's capacity, p.head the true size (both in fours): the rest stays zero.
    var query: array<vec4<f32>, HEAD>;
    var acc: array<vec4<f32>, HEAD>;
    let q_row = (image * p.queries + t) * p.q_stride + p.q_at + at;
    for (var c = 0u; c < HEAD; c++) {
        query[c] = select(vec4<f32>(), decode(q[q_row + min(c, p.head - 1u)]) * p.scale, c < p.head);
        acc[c] = vec4<f32>();
    }

    var end = p.keys;
    if (p.flags & CAUSAL) != 0u {
        end = min(end, t + 1u);
    }
    let last = end - 1u;
    var largest = NEVER;
    var sum = 0.0;
    var scores = vec4<f32>();
    let keys = keys_from(image);
    let distances = distances_from(id.x % p.heads) - t;
    for (var s = 0u; s < end; s += 4u) {
        let key = min(vec4<u32>(s, s + 1u, s + 2u, s + 3u), vec4<u32>(last));
        let k_row = (image * p.keys + key) * p.k_stride + p.k_at + kv_at;
        var score = vec4<f32>();
        for (var c = 0u; c < HEAD; c++) {
            let j = min(c, p.head - 1u);
            let a = query[c];
            score += vec4<f32>(
                dot(a, decode(k[k_row.x + j])),
                dot(a, decode(k[k_row.y + j])),
                dot(a, decode(k[k_row.z + j])),
                dot(a, decode(k[k_row.w + j])),
            );
        }
        scores += score;
        score = finished(score, keys + key, distances + key);
        score = select(vec4<f32>(NEVER), score, vec4<u32>(s, s + 1u, s + 2u, s + 3u) < vec4<u32>(end));
        let peak = max(largest, max(max(score.x, score.y), max(score.z, score.w)));
        let shrink = exp(max(largest - peak, -87.0));
        let e = select(vec4<f32>(), exp(max(score - peak, vec4<f32>(-87.0))), score > vec4<f32>(NEVER));
        largest = peak;
        sum = sum * shrink + e.x + e.y + e.z + e.w;
        let v_row = (image * p.keys + key) * p.v_stride + p.v_at + kv_at;
        for (var c = 0u; c < HEAD; c++) {
            let j = min(c, p.head - 1u);
            acc[c] = acc[c] * shrink
                + e.x * decode(v[v_row.x + j]) + e.y * decode(v[v_row.y + j])
                + e.z * decode(v[v_row.z + j]) + e.w * decode(v[v_row.w + j]);
        }
    }

    sum = unless_odd(sum, dot(scores, vec4<f32>(1.0)));
    let y_row = ((image * p.queries + t) * p.heads) * p.head + at;
    for (var c = 0u; c < p.head; c++) {
        y[y_row + c] = encode(acc[c] / sum);
    }
}

// attention_quad: attention.wgsl for SwiftShader, where loads cost most: a thread makes four queries of one
// head, eight keys at a time.
// Grid: x = images * heads, y = queries / 4.
// Twin: tests/twin/attention.rs
//# use elem attention
//# const HEAD

@compute @workgroup_size(1, 16)
fn attention_quad(@builtin(global_invocation_id) id: vec3<u32>) {
    let image = id.x / p.heads;
    let at = id.x % p.heads * p.head;
    let kv_at = id.x % p.heads / p.shared_by * p.head;
    let t = (id.y + p.first) * 4u;
    if image >= p.images || t >= p.queries {
        return;
    }
    // Queries past the end repeat the last one and are not stored.
    let query = min(vec4<u32>(t, t + 1u, t + 2u, t + 3u), vec4<u32>(p.queries - 1u));
    let q_row = (image * p.queries + query) * p.q_stride + p.q_at + at;
    // Column j holds channel j of the four queries. HEAD is the variant's capacity, p.head the true size (both in
    // fours).
    var queries: array<mat4x4<f32>, HEAD>;
    var acc: array<mat4x4<f32>, HEAD>;
    for (var c = 0u; c < p.head; c++) {
        queries[c] = transpose(
            mat4x4<f32>(decode(q[q_row.x + c]), decode(q[q_row.y + c]), decode(q[q_row.z + c]), decode(q[q_row.w + c])),
        ) * p.scale;
        acc[c] = mat4x4<f32>();
    }

    let causal = (p.flags & CAUSAL) != 0u;
    var last = p.keys - 1u;
    if causal {
        last = min(last, t + 3u);
    }
    var largest = vec4<f32>(NEVER);
    var sum = vec4<f32>();
    var scores = vec4<f32>();
    let keys = keys_from(image);
    let distances = distances_from(id.x % p.heads) - query;
    for (var s = 0u; s <= last; s += 8u) {
        let key0 = vec4<u32>(s, s + 1u, s + 2u, s + 3u);
        let key1 = key0 + 4u;
        let seen0 = min(key0, vec4<u32>(last));
        let seen1 = min(key1, vec4<u32>(last));
        let k0 = (image * p.keys + seen0) * p.k_stride + p.k_at + kv_at;
        let k1 = (image * p.keys + seen1) * p.k_stride + p.k_at + kv_at;
        // Column j holds the scores of key j with the four queries.
        var score0 = mat4x4<f32>();
        var score1 = mat4x4<f32>();
        for (var c = 0u; c < p.head; c++) {
            let a = queries[c];
            score0 += a * mat4x4<f32>(decode(k[k0.x + c]), decode(k[k0.y + c]), decode(k[k0.z + c]), decode(k[k0.w + c]));
            score1 += a * mat4x4<f32>(decode(k[k1.x + c]), decode(k[k1.y + c]), decode(k[k1.z + c]), decode(k[k1.w + c]));
        }
        scores += ((score0[0] + score0[1]) + (score0[2] + score0[3])) + ((score1[0] + score1[1]) + (score1[2] + score1[3]));
        score0 = mat4x4<f32>(
            finished(score0[0], vec4<u32>(keys + seen0.x), distances + seen0.x),
            finished(score0[1], vec4<u32>(keys + seen0.y), distances + seen0.y),
            finished(score0[2], vec4<u32>(keys + seen0.z), distances + seen0.z),
            finished(score0[3], vec4<u32>(keys + seen0.w), distances + seen0.w),
        );
        score1 = mat4x4<f32>(
            finished(score1[0], vec4<u32>(keys + seen1.x), distances + seen1.x),
            finished(score1[1], vec4<u32>(keys + seen1.y), distances + seen1.y),
            finished(score1[2], vec4<u32>(keys + seen1.z), distances + seen1.z),
            finished(score1[3], vec4<u32>(keys + seen1.w), distances + seen1.w),
        );
        // The last key that each query sees.
        let end = select(vec4<u32>(last), min(query, vec4<u32>(last)), causal);
        score0 = mat4x4<f32>(
            visible(score0[0], key0.x, end), visible(score0[1], key0.y, end),
            visible(score0[2], key0.z, end), visible(score0[3], key0.w, end),
        );
        score1 = mat4x4<f32>(
            visible(score1[0], key1.x, end), visible(score1[1], key1.y, end),
            visible(score1[2], key1.z, end), visible(score1[3], key1.w, end),
        );
        let peak0 = max(max(score0[0], score0[1]), max(score0[2], score0[3]));
        let peak1 = max(max(score1[0], score1[1]), max(score1[2], score1[3]));
        let peak = max(largest, max(peak0, peak1));
        let shrink = exp(max(largest - peak, vec4<f32>(-87.0)));
        let e0 = mat4x4<f32>(
            weight(score0[0], peak), weight(score0[1], peak), weight(score0[2], peak), weight(score0[3], peak),
        );
        let e1 = mat4x4<f32>(
            weight(score1[0], peak), weight(score1[1], peak), weight(score1[2], peak), weight(score1[3], peak),
        );
        largest = peak;
        sum = sum * shrink + ((e0[0] + e0[1]) + (e0[2] + e0[3])) + ((e1[0] + e1[1]) + (e1[2] + e1[3]));
        let v0 = (image * p.keys + seen0) * p.v_stride + p.v_at + kv_at;
        let v1 = (image * p.keys + seen1) * p.v_stride + p.v_at + kv_at;
        for (var c = 0u; c < p.head; c++) {
            let before = acc[c];
            let values0 =
                mat4x4<f32>(decode(v[v0.x + c]), decode(v[v0.y + c]), decode(v[v0.z + c]), decode(v[v0.w + c]));
            let values1 =
                mat4x4<f32>(decode(v[v1.x + c]), decode(v[v1.y + c]), decode(v[v1.z + c]), decode(v[v1.w + c]));
            acc[c] = mat4x4<f32>(before[0] * shrink, before[1] * shrink, before[2] * shrink, before[3] * shrink)
                + e0 * transpose(values0) + e1 * transpose(values1);
        }
    }

    sum = vec4<f32>(
        unless_odd(sum.x, scores.x), unless_odd(sum.y, scores.y), unless_odd(sum.z, scores.z), unless_odd(sum.w, scores.w),
    );
    let y_row = (image * p.queries + query) * p.heads * p.head + at;
    for (var c = 0u; c < p.head; c++) {
        let rows = transpose(acc[c]);
        // A query past the end stores what its last one does, which is the same.
        y[y_row.x + c] = encode(rows[0] / sum.x);
        y[y_row.y + c] = encode(rows[1] / sum.y);
        y[y_row.z + c] = encode(rows[2] / sum.z);
        y[y_row.w + c] = encode(rows[3] / sum.w);
    }
}

// Scores of a key that comes after `end` do not count.
fn visible(score: vec4<f32>, key: u32, end: vec4<u32>) -> vec4<f32> {
    return select(vec4<f32>(NEVER), score, vec4<u32>(key) <= end);
}

fn weight(score: vec4<f32>, peak: vec4<f32>) -> vec4<f32> {
    return select(vec4<f32>(), exp(max(score - peak, vec4<f32>(-87.0))), score > vec4<f32>(NEVER));
}

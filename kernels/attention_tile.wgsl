// attention_tile: attention.wgsl by workgroups whose threads share keys and values (FlashAttention-2, Dao 2023).
// A workgroup takes QUERIES queries through all keys, 4 COLUMNS keys a step; a thread makes EACH queries x 4 keys of scores,
// and of the output EACH queries x WIDTH vec4s in each of CHUNKS pieces of a head.
// Grid: x = images * heads, y = queries / QUERIES, counted in workgroups.
// Twin: tests/twin/attention.rs
//# use elem attention attention_tile
//# trip COLUMNS
//# const HEAD COLUMNS WIDTH CHUNKS QUERIES EACH LOADS

@compute @workgroup_size(THREADS)
fn attention_tile(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let image = group.x / p.heads;
    let head = group.x % p.heads * p.head;
    let kv_head = group.x % p.heads / p.shared_by * p.head;
    let first = (group.y + p.first) * QUERIES;
    let row = t / COLUMNS;
    let column = t % COLUMNS;
    let causal = (p.flags & CAUSAL) != 0u;
    var end = p.keys;
    if causal {
        end = min(end, first + QUERIES);
    }
//# repeat i EACH
    // The largest score so far, and the sum of weights.
    var peak$i = NEVER;
    var sum$i = 0.0;
//# end
    // The sum of all scores.
    var scores = 0.0;
    // Keys that the thread's first query sees, of which each of the others sees DOWN more.
    let seen = select(p.keys, first + row + 1u, causal);
    if CHUNKS == 1u {
        share_queries(t, image, first, head, 0u);
    }
    fetch_keys(t, image * p.keys, 0u, kv_head, 0u);
    for (var s = 0u; s < end; s += KEYS) {
//# repeat i EACH
        s$i = vec4<f32>();
//# end
//# repeat h CHUNKS
        if $hu > 0u {
            workgroupBarrier();
        }
        if CHUNKS > 1u {
            share_queries(t, image, first, head, $hu * CHUNK);
        }
        share_next(t);
        workgroupBarrier();
        if $hu + 1u < CHUNKS {
            fetch_keys(t, image * p.keys, s, kv_head, ($hu + 1u) * CHUNK);
        } else {
            fetch_values(t, image * p.keys, s, kv_head, 0u);
        }
        score(row, column);
//# end
        let key = vec4<u32>(0u, 1u, 2u, 3u) + s + column * 4u;
        let there = min(key, vec4<u32>(p.keys - 1u));
        let keys = keys_from(image) + there;
        let distances = distances_from(group.x % p.heads) + there;
        var tell = vec4<f32>(NEVER);
//# repeat i EACH
        s$i = finished(s$i * p.scale, keys, distances - min(first + row + $iu * DOWN, p.queries - 1u));
        s$i = select(vec4<f32>(NEVER), s$i, key < vec4<u32>(min(p.keys, seen + $iu * DOWN)));
        scores += (s$i.x + s$i.y) + (s$i.z + s$i.w);
        tell[$i] = max(max(s$i.x, s$i.y), max(s$i.z, s$i.w));
//# end
        told[row][column] = tell;
        workgroupBarrier();
        var largest = tell;
//# repeat c COLUMNS
        largest = max(largest, told[row][$c]);
//# end
//# repeat i EACH
        {
            let peak = max(peak$i, largest[$i]);
            let shrink = exp(max(peak$i - peak, -87.0));
            peak$i = peak;
            let weights = select(vec4<f32>(), exp(max(s$i - peak, vec4<f32>(-87.0))), s$i > vec4<f32>(NEVER));
            sum$i = sum$i * shrink + ((weights.x + weights.y) + (weights.z + weights.w));
            ps[row + $iu * DOWN][column] = encode(weights);
//# repeat h CHUNKS
//# repeat j WIDTH
            y$h$i$j *= shrink;
//# end
//# end
        }
//# end
//# repeat h CHUNKS
        if $hu > 0u {
            workgroupBarrier();
        }
        share_next(t);
        workgroupBarrier();
        if $hu + 1u < CHUNKS {
            fetch_values(t, image * p.keys, s, kv_head, ($hu + 1u) * CHUNK);
        } else {
            fetch_keys(t, image * p.keys, s + KEYS, kv_head, 0u);
        }
        blend$h(row, column);
//# end
        workgroupBarrier();
    }
    var tell = vec4<f32>();
//# repeat i EACH
    tell[$i] = unless_odd(sum$i, scores);
//# end
    told[row][column] = tell;
    workgroupBarrier();
    tell = vec4<f32>();
//# repeat c COLUMNS
    tell += told[row][$c];
//# end
//# repeat i EACH
    {
        let query = first + row + $iu * DOWN;
        let at = (image * p.queries + query) * p.heads * p.head + head;
//# repeat h CHUNKS
//# repeat j WIDTH
        store(query, at, $hu * CHUNK + $ju * COLUMNS + column, y$h$i$j / tell[$i]);
//# end
//# end
    }
//# end
}

fn store(query: u32, at: u32, c: u32, value: vec4<f32>) {
    if query < p.queries && c < p.head {
        y[at + c] = encode(value);
    }
}

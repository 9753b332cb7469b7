// attention_tile: attention.wgsl by workgroups whose threads share keys and values (FlashAttention-2, Dao 2023).
// A workgroup takes QUERIES queries through all keys, 4 COLUMNS keys a step; a thread makes EACH queries x 4 keys of scores,
// and of the output EACH queries x WIDTH vec4s in each of CHUNKS pieces of a head.
// Grid: x = images * heads, y = queries / QUERIES, counted in workgroups.
// Twin: tests/twin/attention.rs
//# use elem cell attention
//# const HEAD COLUMNS WIDTH CHUNKS QUERIES EACH LOADS

const KEYS: u32 = 4u * COLUMNS;
const CHUNK: u32 = COLUMNS * WIDTH;
// Threads below each other.
const DOWN: u32 = QUERIES / EACH;
const THREADS: u32 = COLUMNS * DOWN;
const_assert HEAD == CHUNK * CHUNKS && LOADS * THREADS >= KEYS * CHUNK;

// Rows are a cell longer than needed, so that neighbouring ones lie in other banks.
var<workgroup> qs: array<array<Cell, CHUNK + 1u>, QUERIES>;
// Keys, then values: of each thread's four keys the first ones, then the second ones, the third, the fourth.
var<workgroup> kv: array<array<Cell, CHUNK + 1u>, KEYS>;
// The weights of four keys a cell.
var<workgroup> ps: array<array<Cell, COLUMNS + 1u>, QUERIES>;
// What the threads of a row tell each other.
var<workgroup> told: array<array<f32, THREADS>, EACH>;

//# repeat h CHUNKS
//# repeat i EACH
//# repeat j WIDTH
var<private> y$h$i$j: vec4<f32>;
//# end
//# end
//# end
//# repeat i EACH
var<private> s$i: vec4<f32>;
//# end
// Keys or values on their way.
//# repeat l LOADS
var<private> next$l: Elem;
//# end

@compute @workgroup_size(THREADS)
fn attention_tile(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let image = group.x / p.heads;
    let head = group.x % p.heads * p.head;
    let first = (group.y + p.first) * QUERIES;
    let row = t / COLUMNS;
    let column = t % COLUMNS;
    let causal = (p.flags & CAUSAL) != 0u;
    var end = p.keys;
    if causal {
        end = min(end, first + QUERIES);
    }
//# repeat i EACH
    // The largest score so far, the sum of weights, the sum of scores.
    var peak$i = NEVER;
    var sum$i = 0.0;
    var scores$i = 0.0;
    let seen$i = select(p.keys, min(p.keys, first + row + $iu * DOWN + 1u), causal);
//# end
    if CHUNKS == 1u {
        share_queries(t, image, first, head, 0u);
    }
    fetch_keys(t, image * p.keys, 0u, head, 0u);
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
        share_next(t, $hu * CHUNK);
        workgroupBarrier();
        if $hu + 1u < CHUNKS {
            fetch_keys(t, image * p.keys, s, head, ($hu + 1u) * CHUNK);
        } else {
            fetch_values(t, image * p.keys, s, head, 0u);
        }
        score(row, column);
//# end
        let key = vec4<u32>(0u, 1u, 2u, 3u) + s + column * 4u;
//# repeat i EACH
        s$i = select(vec4<f32>(NEVER), s$i * p.scale, key < vec4<u32>(seen$i));
        scores$i += (s$i.x + s$i.y) + (s$i.z + s$i.w);
        told[$i][t] = max(max(s$i.x, s$i.y), max(s$i.z, s$i.w));
//# end
        workgroupBarrier();
//# repeat i EACH
        {
            var largest = peak$i;
            for (var c = 0u; c < COLUMNS; c++) {
                largest = max(largest, told[$i][row * COLUMNS + c]);
            }
            let shrink = exp(max(peak$i - largest, -87.0));
            peak$i = largest;
            let weights = select(vec4<f32>(), exp(max(s$i - largest, vec4<f32>(-87.0))), s$i > vec4<f32>(NEVER));
            sum$i = sum$i * shrink + ((weights.x + weights.y) + (weights.z + weights.w));
            ps[row + $iu * DOWN][column] = narrow(weights);
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
        share_next(t, $hu * CHUNK);
        workgroupBarrier();
        if $hu + 1u < CHUNKS {
            fetch_values(t, image * p.keys, s, head, ($hu + 1u) * CHUNK);
        } else {
            fetch_keys(t, image * p.keys, s + KEYS, head, 0u);
        }
        blend$h(row, column);
//# end
        workgroupBarrier();
    }
//# repeat i EACH
    told[$i][t] = unless_odd(sum$i, scores$i);
//# end
    workgroupBarrier();
//# repeat i EACH
    {
        let query = first + row + $iu * DOWN;
        var sum = 0.0;
        for (var c = 0u; c < COLUMNS; c++) {
            sum += told[$i][row * COLUMNS + c];
        }
        let at = (image * p.queries + query) * p.heads * p.head + head;
//# repeat h CHUNKS
//# repeat j WIDTH
        store(query, at, $hu * CHUNK + $ju * COLUMNS + column, y$h$i$j / sum);
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

// Puts vec4s `begin`.. of the head of all queries where every thread sees them.
fn share_queries(t: u32, image: u32, first: u32, head: u32, begin: u32) {
    for (var i = t; i < QUERIES * CHUNK; i += THREADS) {
        let c = begin + i % CHUNK;
        let query = image * p.queries + min(first + i / CHUNK, p.queries - 1u);
        let value = decode(q[query * p.q_stride + p.q_at + head + min(c, p.head - 1u)]);
        qs[i / CHUNK][i % CHUNK] = narrow(select(vec4<f32>(), value, c < p.head));
    }
}

// Fetches vec4s `begin`.. of the head of the keys begin `s` on; those past the last key repeat it.
fn fetch_keys(t: u32, base: u32, s: u32, head: u32, begin: u32) {
//# repeat l LOADS
    next$l = k[(base + key_of(t + $lu * THREADS, s)) * p.k_stride + p.k_at + head + vec4_of(t + $lu * THREADS, begin)];
//# end
}

fn fetch_values(t: u32, base: u32, s: u32, head: u32, begin: u32) {
//# repeat l LOADS
    next$l = v[(base + key_of(t + $lu * THREADS, s)) * p.v_stride + p.v_at + head + vec4_of(t + $lu * THREADS, begin)];
//# end
}

fn key_of(i: u32, s: u32) -> u32 {
    return min(s + i / CHUNK, p.keys - 1u);
}

fn vec4_of(i: u32, begin: u32) -> u32 {
    return min(begin + i % CHUNK, p.head - 1u);
}

// Puts what was fetched where all threads see it; what is behind the head is zero.
fn share_next(t: u32, begin: u32) {
//# repeat l LOADS
    {
        let i = t + $lu * THREADS;
        if i < KEYS * CHUNK {
            let c = i % CHUNK;
            let key = i / CHUNK;
            kv[key % 4u * COLUMNS + key / 4u][c] = narrow(select(vec4<f32>(), decode(next$l), begin + c < p.head));
        }
    }
//# end
}

// Adds the products of queries and keys in the chunk at hand.
fn score(row: u32, column: u32) {
    for (var c = 0u; c < CHUNK; c++) {
//# repeat j 4
        let k$j = widen(kv[column + $ju * COLUMNS][c]);
//# end
//# repeat i EACH
        {
            let q = widen(qs[row + $iu * DOWN][c]);
            s$i += vec4<f32>(dot(q, k0), dot(q, k1), dot(q, k2), dot(q, k3));
        }
//# end
    }
}

// Adds the values in the chunk at hand, each times its weight.
//# repeat h CHUNKS
fn blend$h(row: u32, column: u32) {
    for (var k = 0u; k < COLUMNS; k++) {
//# repeat i EACH
        let p$i = widen(ps[row + $iu * DOWN][k]);
//# end
//# repeat q 4
        {
//# repeat j WIDTH
            let v$j = widen(kv[k + $qu * COLUMNS][column + $ju * COLUMNS]);
//# repeat i EACH
            y$h$i$j += p$i[$q] * v$j;
//# end
//# end
        }
//# end
    }
}
//# end

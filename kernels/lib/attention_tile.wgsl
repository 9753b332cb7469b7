// How a workgroup of attention_tile.wgsl moves queries, keys and values, and multiplies them.
const KEYS: u32 = 4u * COLUMNS;
const CHUNK: u32 = COLUMNS * WIDTH;
// Threads below each other.
const DOWN: u32 = QUERIES / EACH;
const THREADS: u32 = COLUMNS * DOWN;
// Threads that fetch the same vec4 of a head, each of another key.
const APART: u32 = THREADS / CHUNK;
const_assert HEAD == CHUNK * CHUNKS && THREADS == APART * CHUNK && LOADS * APART >= KEYS;

// Rows are a cell longer than needed, so that neighbouring ones lie in other banks.
var<workgroup> qs: array<array<Elem, CHUNK + 1u>, QUERIES>;
// Keys, then values: of each thread's four keys the first ones, then the second ones, the third, the fourth.
var<workgroup> kv: array<array<Elem, CHUNK + 1u>, KEYS>;
// The weights of four keys a cell.
var<workgroup> ps: array<array<Elem, COLUMNS + 1u>, QUERIES>;
// What the threads of a row tell each other: a number for each of their queries.
var<workgroup> told: array<array<vec4<f32>, COLUMNS>, DOWN>;

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

// Puts vec4s `begin`.. of the head of all queries where every thread sees them.
fn share_queries(t: u32, image: u32, first: u32, head: u32, begin: u32) {
    for (var i = t; i < QUERIES * CHUNK; i += THREADS) {
        let c = begin + i % CHUNK;
        let query = image * p.queries + min(first + i / CHUNK, p.queries - 1u);
        let value = q[query * p.q_stride + p.q_at + head + min(c, p.head - 1u)];
        qs[i / CHUNK][i % CHUNK] = select(Elem(), value, c < p.head);
    }
}

// Fetches vec4s `begin`.. of the head of the keys from `s` on; those past the last key repeat it.
fn fetch_keys(t: u32, base: u32, s: u32, head: u32, begin: u32) {
    let at = p.k_at + head + min(begin + t % CHUNK, p.head - 1u);
//# repeat l LOADS
    next$l = k[(base + min(s + t / CHUNK + $lu * APART, p.keys - 1u)) * p.k_stride + at];
//# end
}

fn fetch_values(t: u32, base: u32, s: u32, head: u32, begin: u32) {
    let at = p.v_at + head + min(begin + t % CHUNK, p.head - 1u);
//# repeat l LOADS
    next$l = v[(base + min(s + t / CHUNK + $lu * APART, p.keys - 1u)) * p.v_stride + at];
//# end
}

// Puts what was fetched where all threads see it. Behind the head is its last vec4 again: there queries are zero.
fn share_next(t: u32) {
    let c = t % CHUNK;
//# repeat l LOADS
    {
        let key = t / CHUNK + $lu * APART;
        if LOADS * APART == KEYS || key < KEYS {
            kv[key % 4u * COLUMNS + key / 4u][c] = next$l;
        }
    }
//# end
}

// Adds the products of queries and keys in the chunk at hand.
fn score(row: u32, column: u32) {
    var c = 0u;
    loop {
//# repeat w WIDTH
        {
//# repeat j 4
            let k$j = decode(kv[column + $ju * COLUMNS][c + $wu]);
//# end
//# repeat i EACH
            let q$i = decode(qs[row + $iu * DOWN][c + $wu]);
//# repeat e 4
            s$i.x += q$i[$e] * k0[$e];
            s$i.y += q$i[$e] * k1[$e];
            s$i.z += q$i[$e] * k2[$e];
            s$i.w += q$i[$e] * k3[$e];
//# end
//# end
        }
//# end
        continuing {
            c += WIDTH;
            break if c == CHUNK;
        }
    }
}

// Adds the values in the chunk at hand, each times its weight.
//# repeat h CHUNKS
fn blend$h(row: u32, column: u32) {
    for (var k = 0u; k < COLUMNS; k++) {
//# repeat i EACH
        let p$i = decode(ps[row + $iu * DOWN][k]);
//# end
//# repeat q 4
//# repeat j WIDTH
        let v$q$j = decode(kv[k + $qu * COLUMNS][column + $ju * COLUMNS]);
//# repeat i EACH
        y$h$i$j += p$i[$q] * v$q$j;
//# end
//# end
//# end
    }
}
//# end

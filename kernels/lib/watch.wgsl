// Values that went wrong, counted by kernels that read every value of a network anyway. A kernel binds `watch`; its
// counters are sums of whole numbers, so their order does not matter. By bits, since a compiler may assume that every
// value is finite and fold a comparison away.

// The bits of an infinity; those of what is not a number are above them.
const INFINITE: u32 = 0x7f800000u;
// A counter is full here: what runs at the same time may still add to it without an overflow.
const FULL: u32 = 0x7fffffffu;

fn magnitude(v: vec4<f32>) -> vec4<u32> {
    return bitcast<vec4<u32>>(v) & vec4<u32>(0x7fffffffu);
}

// Whether any of these magnitudes is to be counted.
fn faulty(m: vec4<u32>) -> bool {
    return any(m >= vec4<u32>(CLAMP));
}

// How many are not finite, and how many are at the clamp of `encode`.
fn faults(m: vec4<u32>) -> vec2<u32> {
    let infinite = m >= vec4<u32>(INFINITE);
    let clamped = m >= vec4<u32>(CLAMP);
    let one = vec4<u32>(1u);
    return vec2<u32>(dot(select(vec4<u32>(), one, infinite), one), dot(select(one, vec4<u32>(), infinite | !clamped), one));
}

fn count_faults(found: vec2<u32>) {
    if found.x > 0u && atomicLoad(&watch[0]) < FULL {
        atomicAdd(&watch[0], found.x);
    }
    if found.y > 0u && atomicLoad(&watch[1]) < FULL {
        atomicAdd(&watch[1], found.y);
    }
}

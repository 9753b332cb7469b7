// mean: y[n, i, j, c] = the mean of x[n, 2i..2i+2, 2j..2j+2, c]; of an odd size, the last row and column are
// means of what is there (average pooling by two, rounding sizes up).
// Grid: x = channels / 4, y = pixels of y.
// Twin: tests/twin/mean.rs
//# use elem

struct Params {
    first: u32,
    images: u32,
    in_h: u32,
    in_w: u32,
    channels: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<Elem>;               // [images, in_h, in_w, channels]
@group(0) @binding(2) var<storage, read_write> y: array<Elem>;         // [images, out_h, out_w, channels]

@compute @workgroup_size(8, 8)
fn mean(@builtin(global_invocation_id) id: vec3<u32>) {
    let out_h = (p.in_h + 1u) / 2u;
    let out_w = (p.in_w + 1u) / 2u;
    let pixel = id.y + p.first;
    if id.x >= p.channels || pixel >= p.images * out_h * out_w {
        return;
    }
    let row = pixel / out_w % out_h * 2u;
    let column = pixel % out_w * 2u;
    let rows = min(p.in_h - row, 2u);
    let columns = min(p.in_w - column, 2u);
    let corner = (pixel / (out_w * out_h) * p.in_h + row) * p.in_w + column;
    var sum = vec4<f32>();
    for (var u = 0u; u < rows; u++) {
        for (var v = 0u; v < columns; v++) {
            sum += decode(x[(corner + u * p.in_w + v) * p.channels + id.x]);
        }
    }
    y[pixel * p.channels + id.x] = encode(sum / f32(rows * columns));
}

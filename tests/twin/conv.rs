/// `x` is `[images, h, w, inputs]`, `weight` is `[outputs, inputs, kernel, kernel]`.
pub struct Conv<'a> {
    pub x: &'a [f64],
    pub size: [usize; 3],
    pub weight: &'a [f64],
    pub bias: &'a [f64],
    pub kernel: usize,
    pub stride: usize,
    /// Zeros before and after.
    pub pad: (usize, usize),
    pub upsample: Option<(usize, usize)>,
}

/// `[images, h', w', outputs]`.
pub fn conv(c: &Conv) -> Vec<f64> {
    let [images, h, w] = c.size;
    let inputs = c.x.len() / (images * h * w);
    let (seen_h, seen_w) = c.upsample.unwrap_or((h, w));
    let out = |n: usize| (n + c.pad.0 + c.pad.1 - c.kernel) / c.stride + 1;
    // torch's nearest neighbour computes with 32 bits.
    let nearest =
        |i: usize, from: usize, to: usize| ((i as f32 * (from as f32 / to as f32)) as usize).min(from - 1);
    let pixel = |n: usize, i: isize, j: isize, k: usize| {
        if i < 0 || j < 0 || i >= seen_h as isize || j >= seen_w as isize {
            return 0.0;
        }
        let (i, j) = (nearest(i as usize, h, seen_h), nearest(j as usize, w, seen_w));
        c.x[((n * h + i) * w + j) * inputs + k]
    };
    let mut y = vec![];
    for n in 0..images {
        for i in 0..out(seen_h) {
            for j in 0..out(seen_w) {
                for (o, bias) in c.bias.iter().enumerate() {
                    let mut sum = *bias;
                    for k in 0..inputs {
                        for u in 0..c.kernel {
                            for v in 0..c.kernel {
                                let row = (i * c.stride + u) as isize - c.pad.0 as isize;
                                let column = (j * c.stride + v) as isize - c.pad.0 as isize;
                                let weight = c.weight[((o * inputs + k) * c.kernel + u) * c.kernel + v];
                                sum += pixel(n, row, column, k) * weight;
                            }
                        }
                    }
                    y.push(sum);
                }
            }
        }
    }
    y
}

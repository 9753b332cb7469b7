use super::activate;
use tintype::plan::ops::Activation;

/// A convolution of groups: `x` is `[images, h, w, channels]`, `weight` `[channels, inputs, kernel, kernel]`.
pub fn group_conv(
    x: &[f64],
    [images, h, w]: [usize; 3],
    weight: &[f64],
    bias: Option<&[f64]>,
    [inputs, kernel]: [usize; 2],
) -> Vec<f64> {
    let channels = x.len() / (images * h * w);
    let mut y = vec![];
    for (n, i, j) in (0..images * h * w).map(|at| (at / (h * w), at / w % h, at % w)) {
        for o in 0..channels {
            let mut sum = bias.map_or(0.0, |bias| bias[o]);
            for (u, v) in (0..kernel * kernel).map(|tap| (tap / kernel, tap % kernel)) {
                let (row, column) = (i + u, j + v);
                let [before_row, before_column] = [row, column].map(|at| at < kernel / 2);
                let (row, column) = (row.wrapping_sub(kernel / 2), column.wrapping_sub(kernel / 2));
                if before_row || before_column || row >= h || column >= w {
                    continue;
                }
                for c in 0..inputs {
                    let from = ((n * h + row) * w + column) * channels + o / inputs * inputs + c;
                    sum += x[from] * weight[((o * inputs + c) * kernel + u) * kernel + v];
                }
            }
            y.push(sum);
        }
    }
    y
}

/// `[rows, 2 width]`, values and behind them gates: `value * silu(gate)`.
pub fn gated_halves(x: &[f64], width: usize) -> Vec<f64> {
    let row = |row: &[f64]| -> Vec<f64> {
        (0..width).map(|c| row[c] * activate(Activation::Silu, row[width + c])).collect()
    };
    x.chunks(2 * width).flat_map(row).collect()
}

/// The mean of every 2x2 pixels of `x` `[images, h, w, channels]`, or of as many as there are.
pub fn mean(x: &[f64], [images, h, w, channels]: [usize; 4]) -> Vec<f64> {
    let mut y = vec![];
    for n in 0..images {
        for (i, j) in (0..h).step_by(2).flat_map(|i| (0..w).step_by(2).map(move |j| (i, j))) {
            for c in 0..channels {
                let rows = i..h.min(i + 2);
                let pixels = rows.flat_map(|i| (j..w.min(j + 2)).map(move |j| (n * h + i) * w + j));
                let values: Vec<f64> = pixels.map(|pixel| x[pixel * channels + c]).collect();
                y.push(values.iter().sum::<f64>() / values.len() as f64);
            }
        }
    }
    y
}

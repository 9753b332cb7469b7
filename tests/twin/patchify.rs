/// `[n, h, w, c]` to `[n, h / size, w / size, (size, size, c)]`.
pub fn patchify(x: &[f64], [n, h, w, c]: [usize; 4], size: usize) -> Vec<f64> {
    let mut y = vec![];
    for (image, i, j) in places(n, h / size, w / size) {
        for (u, v) in (0..size).flat_map(|u| (0..size).map(move |v| (u, v))) {
            let pixel = (image * h + i * size + u) * w + j * size + v;
            y.extend_from_slice(&x[pixel * c..][..c]);
        }
    }
    y
}

/// `[n, h, w, (size, size, c)]` to `[n, h size, w size, c]`.
pub fn unpatchify(x: &[f64], [n, h, w, c]: [usize; 4], size: usize) -> Vec<f64> {
    let channels = c / (size * size);
    let mut y = vec![];
    for (image, row, column) in places(n, h * size, w * size) {
        let square = (image * h + row / size) * w + column / size;
        let at = (row % size * size + column % size) * channels;
        y.extend_from_slice(&x[square * c + at..][..channels]);
    }
    y
}

fn places(n: usize, h: usize, w: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..n * h * w).map(move |i| (i / (h * w), i / w % h, i % w))
}

/// Means of channels that follow one another of squares, `[n, h, w, c]` to `[n, h / size, w / size, channels]`.
pub fn shrink(x: &[f64], [n, h, w, c]: [usize; 4], size: usize, channels: usize) -> Vec<f64> {
    let mut y = vec![];
    for (image, i, j) in places(n, h / size, w / size) {
        let mut square = vec![];
        for channel in 0..c {
            for (u, v) in (0..size).flat_map(|u| (0..size).map(move |v| (u, v))) {
                square.push(x[((image * h + i * size + u) * w + j * size + v) * c + channel]);
            }
        }
        let each = square.len() / channels;
        y.extend(square.chunks(each).map(|values| values.iter().sum::<f64>() / each as f64));
    }
    y
}

/// Channels repeated in their place and spread over squares, `[n, h, w, c]` to `[n, h size, w size, channels]`.
pub fn grow(x: &[f64], [n, h, w, c]: [usize; 4], size: usize, channels: usize) -> Vec<f64> {
    let (each, copies) = (size * size, size * size * channels / c);
    let mut y = vec![];
    for (image, row, column) in places(n, h * size, w * size) {
        let square = &x[((image * h + row / size) * w + column / size) * c..][..c];
        let repeated: Vec<f64> = square.iter().flat_map(|&v| vec![v; copies]).collect();
        let place = row % size * size + column % size;
        y.extend((0..channels).map(|channel| repeated[channel * each + place]));
    }
    y
}

//! Matrix products by the `gemm` crate, behind slices.

/// A matrix in a slice: element (i, j) is at `start + i * row + j * column`.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub data: &'a [f32],
    pub start: usize,
    pub row: usize,
    pub column: usize,
}

impl View<'_> {
    fn check(&self, rows: usize, columns: usize) {
        let last = self.start + (rows - 1) * self.row + (columns - 1) * self.column;
        assert!(
            last < self.data.len(),
            "a matrix of {rows} x {columns} ends at {last} of {}",
            self.data.len()
        );
    }
}

/// `out = out * (accumulate ? 1 : 0) + factor * a b`, where `a` is m x k, `b` k x n, and row i of the m x n
/// result begins at `start + i * stride` of `out`. Uses all cores unless `alone`.
#[expect(clippy::too_many_arguments, reason = "a product has three matrices and three sizes")]
pub fn product(
    [m, n, k]: [usize; 3],
    out: &mut [f32],
    start: usize,
    stride: usize,
    accumulate: bool,
    a: View,
    b: View,
    factor: f32,
    alone: bool,
) {
    a.check(m, k);
    b.check(k, n);
    let last = start + (m - 1) * stride + n - 1;
    assert!(last < out.len(), "a result of {m} x {n} ends at {last} of {}", out.len());
    let parallelism = if alone { gemm::Parallelism::None } else { gemm::Parallelism::Rayon(0) };
    // SAFETY: the asserts above keep every element of the three matrices inside its slice; `out` is
    // borrowed mutably, so it overlaps neither input.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr().add(start),
            1,
            stride as isize,
            accumulate,
            a.data.as_ptr().add(a.start),
            a.column as isize,
            a.row as isize,
            b.data.as_ptr().add(b.start),
            b.column as isize,
            b.row as isize,
            1.0,
            factor,
            false,
            false,
            false,
            parallelism,
        );
    }
}

//! The random numbers of torch's CPU generator, so that a seed gives the image it gives in diffusers.
//!
//! Source: PyTorch 2.15, `aten/src/ATen/core/{MT19937RNGEngine,DistributionsHelper}.h` and
//! `aten/src/ATen/native/cpu/DistributionTemplates.h`. Uniforms are bit-exact, so are normals under 16 elements; float32
//! normals from 16 elements on differ from torch's vectorised logarithm and sines by at most about 1e-6 (torch's own
//! builds differ from each other by as much). A seed's float32 numbers, which images are drawn from, are the same in
//! every torch; its halves are not ([`Halves`]).

use half::{bf16, f16};

/// A stream of random numbers, equal to `torch.Generator("cpu").manual_seed(seed)`.
///
/// A draw of `n` elements is one `torch.randn` of any shape with `n` elements, in row-major order. Two
/// consecutive draws equal one draw of both only if the first has a multiple of 16 elements.
#[derive(Clone)]
pub struct Generator {
    engine: Mt19937,
    /// The sine half of the last scalar Box-Muller pair: torch keeps it in the generator, across calls
    /// and across larger draws in between.
    spare: Option<f64>,
    halves: Halves,
}

/// How normals in half precision are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halves {
    /// Computed in float32 and rounded once: torch since 2.12.
    Rounded,
    /// Every value on the way is a half, from 16 elements on: torch before 2.12.
    Throughout,
}

impl Halves {
    /// The rounding of a torch version such as "2.9.1+cu128"; a string that is no version means the newest.
    pub fn of_torch(version: &str) -> Halves {
        let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
        match (parts.next().flatten(), parts.next().flatten()) {
            (Some(major), Some(minor)) if (major, minor) < (2, 12) => Halves::Throughout,
            _ => Halves::Rounded,
        }
    }
}

impl Generator {
    /// Only the low 32 bits of the seed count, as in torch.
    pub fn new(seed: u64) -> Self {
        Generator { engine: Mt19937::new(seed as u32), spare: None, halves: Halves::Rounded }
    }

    /// This generator with the rounding of another torch version.
    pub fn with_halves(self, halves: Halves) -> Self {
        Generator { halves, ..self }
    }

    /// `n` uniform numbers in [0, 1), multiples of 2^-24: `torch.rand(n)`.
    pub fn rand(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.uniform(&SINGLE) as f32).collect()
    }

    /// `n` unit normal numbers: `torch.randn(n)`.
    pub fn randn(&mut self, n: usize) -> Vec<f32> {
        self.normals(n, &SINGLE).into_iter().map(|x| x as f32).collect()
    }

    /// `n` unit normal numbers: `torch.randn(n, dtype=torch.float64)`. Not a finer `randn`: from 16
    /// elements on the numbers are others.
    pub fn randn_f64(&mut self, n: usize) -> Vec<f64> {
        self.normals(n, &DOUBLE)
    }

    /// `n` unit normal numbers: `torch.randn(n, dtype=torch.float16)`: a rounded `randn` where `n` is below 16 or a
    /// multiple of it; others have a tail of their own.
    pub fn randn_f16(&mut self, n: usize) -> Vec<f16> {
        self.half_normals(n, &HALF).into_iter().map(|x| f16::from_f32(x as f32)).collect()
    }

    /// `n` unit normal numbers: `torch.randn(n, dtype=torch.bfloat16)`, of which the same is true.
    pub fn randn_bf16(&mut self, n: usize) -> Vec<bf16> {
        self.half_normals(n, &BRAIN).into_iter().map(|x| bf16::from_f32(x as f32)).collect()
    }

    fn half_normals(&mut self, n: usize, format: &Format) -> Vec<f64> {
        if self.halves == Halves::Throughout || n < 16 || n.is_multiple_of(16) {
            let format = if self.halves == Halves::Throughout { format } else { &SINGLE };
            return self.normals(n, format);
        }
        // The elements behind the last whole group are not drawn before the tail, as they are for other types.
        let mut out = self.normals(n / 16 * 16, &SINGLE);
        out.truncate(n - 16);
        out.extend(self.normals(16, &SINGLE));
        out
    }

    fn normals(&mut self, n: usize, format: &Format) -> Vec<f64> {
        if n < 16 {
            return (0..n).map(|_| self.scalar_normal()).collect();
        }
        let mut out: Vec<f64> = (0..n).map(|_| self.uniform(format)).collect();
        for group in out.as_chunks_mut::<16>().0 {
            box_muller(group, format);
        }
        // torch does not finish the last, short group: it redraws the last 16 elements as a whole.
        if !n.is_multiple_of(16) {
            let mut tail = [0.0; 16];
            tail.fill_with(|| self.uniform(format));
            box_muller(&mut tail, format);
            out[n - 16..].copy_from_slice(&tail);
        }
        out
    }

    /// One normal number of a draw under 16 elements: double precision whatever the type of the draw.
    fn scalar_normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let angle = std::f64::consts::TAU * self.uniform(&DOUBLE);
        let radius = (-2.0 * (-self.uniform(&DOUBLE)).ln_1p()).sqrt();
        self.spare = Some(radius * angle.sin());
        radius * angle.cos()
    }

    /// A uniform number in [0, 1) with as many bits as the format has in its significand.
    fn uniform(&mut self, format: &Format) -> f64 {
        let mut bits = u64::from(self.engine.next());
        if format.bits > 32 {
            bits = bits << 32 | u64::from(self.engine.next());
        }
        let mask = (1u64 << format.bits) - 1;
        (bits & mask) as f64 / (mask + 1) as f64
    }
}

/// The number format of a draw: torch rounds every intermediate value to it.
struct Format {
    /// Bits of the significand, the hidden one included.
    bits: u32,
    /// 2 pi as torch's kernel for this format holds it: the half formats multiply in double.
    tau: f64,
    round: fn(f64) -> f64,
}

const DOUBLE: Format = Format { bits: 53, tau: std::f64::consts::TAU, round: |x| x };
const SINGLE: Format = Format { bits: 24, tau: std::f32::consts::TAU as f64, round: |x| f64::from(x as f32) };
const HALF: Format =
    Format { bits: 11, tau: std::f64::consts::TAU, round: |x| f64::from(f16::from_f32(x as f32)) };
const BRAIN: Format =
    Format { bits: 8, tau: std::f64::consts::TAU, round: |x| f64::from(bf16::from_f32(x as f32)) };

/// 16 uniforms become 16 normals: element j and element j + 8 make one pair.
fn box_muller(group: &mut [f64; 16], format: &Format) {
    let round = format.round;
    let (low, high) = group.split_at_mut(8);
    for (a, b) in low.iter_mut().zip(high) {
        let log = round(round(1.0 - *a).ln());
        let radius = round(round(-2.0 * log).sqrt());
        let angle = round(format.tau * *b);
        *a = round(radius * round(angle.cos()));
        *b = round(radius * round(angle.sin()));
    }
}

/// The Mersenne twister of Matsumoto and Nishimura (1998), 32 bits.
#[derive(Clone)]
struct Mt19937 {
    state: [u32; 624],
    next: usize,
}

impl Mt19937 {
    fn new(seed: u32) -> Self {
        let mut state = [seed; 624];
        for i in 1..624 {
            let before = state[i - 1];
            state[i] = 1_812_433_253u32.wrapping_mul(before ^ before >> 30).wrapping_add(i as u32);
        }
        Mt19937 { state, next: 624 }
    }

    fn next(&mut self) -> u32 {
        if self.next == 624 {
            self.twist();
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= y << 7 & 0x9d2c_5680;
        y ^= y << 15 & 0xefc6_0000;
        y ^ y >> 18
    }

    fn twist(&mut self) {
        for i in 0..624 {
            let y = self.state[i] & 0x8000_0000 | self.state[(i + 1) % 624] & 0x7fff_ffff;
            let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + 397) % 624] ^ y >> 1 ^ odd;
        }
        self.next = 0;
    }
}

#[cfg(test)]
mod tests {
    //! The expected numbers are printed by torch 2.9.1 (AVX-512 build), where nothing else is said.
    use super::*;

    /// Float32 normals are at most 5.6 (24-bit uniforms), and torch's vector logarithm, sine and cosine are
    /// good to a few 2^-24 each: 2e-6 in the result.
    const SINGLE_LIMIT: f64 = 2e-6;

    fn assert_close(got: &[f64], wanted: &[f64], limit: f64) {
        assert_eq!(got.len(), wanted.len());
        for (i, (g, w)) in got.iter().zip(wanted).enumerate() {
            assert!((g - w).abs() <= limit, "element {i}: {g} instead of {w}");
        }
    }

    fn widen<T: Into<f64>>(values: Vec<T>) -> Vec<f64> {
        values.into_iter().map(Into::into).collect()
    }

    #[test]
    fn the_engine_is_the_standard_one() {
        // C++ [rand.predef]: the 10000th output of mt19937 with its default seed.
        let mut engine = Mt19937::new(5489);
        let last = (0..10_000).map(|_| engine.next()).last();
        assert_eq!(last, Some(4_123_659_995));
    }

    #[test]
    fn short_draws_are_exact() {
        let wanted = [0.33669036626815796, 0.12880940735340118, 0.23446236550807953, 0.23033303022384644];
        assert_eq!(widen(Generator::new(42).randn(4)), wanted);
        assert_eq!(Generator::new(42).randn_f64(2), [0.33669035438385886, 0.1288094051365897]);
        assert_eq!(
            widen(Generator::new(42).randn_f16(3)),
            [0.336669921875, 0.1287841796875, 0.2344970703125]
        );
    }

    #[test]
    fn long_draws_redraw_their_tail() {
        let wanted = [
            1.9269152879714966,
            -0.1595974713563919,
            -0.4973975419998169,
            0.439589262008667,
            -0.7581311464309692,
            1.078317642211914,
            0.8008005619049072,
            1.680620551109314,
            0.3558599054813385,
            1.2964228391647339,
            0.610466480255127,
            1.334737777709961,
            -0.2316243201494217,
            0.041759490966796875,
            -0.2515752911567688,
            0.859858512878418,
            -0.3097267746925354,
        ];
        assert_close(&widen(Generator::new(42).randn(17)), &wanted, SINGLE_LIMIT);
        // The first element is outside the tail, the others are in it.
        let double = Generator::new(42).randn_f64(17);
        assert_close(&double[..1], &[0.2995562877502637], 1e-14);
        let tail = [1.108461181451433, 0.8651734647119074, 0.855215961472287, 0.2494118796915765];
        assert_close(&double[13..], &tail, 1e-14);
    }

    #[test]
    fn half_draws_are_exact() {
        let old = || Generator::new(42).with_halves(Halves::Throughout);
        let f16 = widen(old().randn_f16(17));
        assert_eq!(f16[..4], [0.386962890625, -0.313232421875, -1.45703125, 0.1373291015625]);
        assert_eq!(f16[14..], [0.7265625, -0.28564453125, 1.619140625]);
        let bf16 = widen(old().randn_bf16(17));
        assert_eq!(bf16[..4], [-0.80859375, -0.765625, 0.82421875, -1.1875]);
        assert_eq!(bf16[14..], [0.04150390625, -0.64453125, -2.171875]);
    }

    /// Printed by torch 2.15.0; its source is the same since 2.12.
    #[test]
    fn halves_of_the_newest_torch_are_rounded_singles() {
        let f16 = widen(Generator::new(42).randn_f16(17));
        assert_eq!(f16[..4], [1.9267578125, 1.642578125, -0.1595458984375, -0.497314453125]);
        assert_eq!(f16[14..], [0.041748046875, -0.25146484375, 0.85986328125]);
        let bf16 = widen(Generator::new(42).randn_bf16(17));
        assert_eq!(bf16[..4], [1.9296875, 1.640625, -0.1591796875, -0.498046875]);
        assert_eq!(bf16[14..], [0.041748046875, -0.251953125, 0.859375]);
        let rounded: Vec<bf16> = Generator::new(7).randn(64).into_iter().map(bf16::from_f32).collect();
        assert_eq!(Generator::new(7).randn_bf16(64), rounded);
        // The draws that follow: 32 and 48 uniforms were taken.
        let next = |mut generator: Generator, n| {
            generator.randn_bf16(n);
            generator.rand(1)
        };
        let after = |n| Generator::new(1).rand(n + 1).split_off(n);
        assert_eq!(next(Generator::new(1), 17), after(32));
        assert_eq!(next(Generator::new(1), 40), after(48));
        for (version, halves) in [
            ("2.9.1+cu128", Halves::Throughout),
            ("1.13.0", Halves::Throughout),
            ("2.11.0", Halves::Throughout),
            ("2.12.1", Halves::Rounded),
            ("2.15.0+cpu", Halves::Rounded),
            ("3.0", Halves::Rounded),
            ("", Halves::Rounded),
        ] {
            assert_eq!(Halves::of_torch(version), halves, "{version}");
        }
    }

    #[test]
    fn a_spare_number_survives_a_long_draw() {
        let mut generator = Generator::new(7);
        let first = [-0.1467950940132141, 0.7861412763595581, 0.9468216300010681];
        assert_eq!(widen(generator.randn(3)), first);
        let long = widen(generator.randn(16));
        let wanted = [-0.17643792927265167, 1.7501723766326904, 1.9300168752670288];
        assert_close(&long[..3], &wanted, SINGLE_LIMIT);
        assert_eq!(widen(generator.randn(1)), [-1.1143440008163452]);
        assert_eq!(widen(generator.rand(2)), [0.5209300518035889, 0.593231201171875]);
    }

    #[test]
    fn only_the_low_half_of_the_seed_counts() {
        let low = Generator::new(1).randn(2);
        assert_eq!(Generator::new((1 << 32) + 1).randn(2), low);
        assert_eq!(widen(low), [0.6613521575927734, 0.266924113035202]);
    }
}

//! Progress of a whole call, from the work of its parts.

use std::cell::Cell;

use super::request::{Stage, Watch};
use super::shares::COMPILING_OF_CALL;

/// Parts of a call one after the other, each with its share of the executed FLOPs. The fraction never goes back.
pub(super) struct DrawProgress<'a> {
    watch: &'a Watch<'a>,
    /// The fraction before the first work.
    begin: f64,
    work: f64,
    done: Cell<f64>,
    /// What the caller was told, in an earlier attempt too.
    last: &'a Cell<f64>,
}

impl<'a> DrawProgress<'a> {
    /// `work` is that of all parts together.
    pub fn new(watch: &'a Watch<'a>, compiles: bool, work: f64, last: &'a Cell<f64>) -> DrawProgress<'a> {
        let begin = if compiles { COMPILING_OF_CALL } else { 0.0 };
        DrawProgress { watch, begin, work: work.max(1.0), done: Cell::new(0.0), last }
    }

    /// Before the first part.
    pub fn compile(&self, done: usize, count: usize) {
        self.tell(Stage::Compile { done, count }, self.begin * done as f64 / count.max(1) as f64);
    }

    /// The next part: what is returned takes the fraction of it that is done.
    pub fn part(&self, stage: Stage, work: f64) -> impl Fn(f64) {
        let before = self.done.get();
        self.done.set(before + work);
        move |fraction| {
            let done = (before + work * fraction) / self.work;
            self.tell(stage, self.begin + (1.0 - self.begin) * done);
        }
    }

    pub fn finish(&self) {
        self.tell(Stage::Decode, 1.0);
    }

    fn tell(&self, stage: Stage, fraction: f64) {
        let fraction = fraction.clamp(self.last.get(), 1.0);
        self.last.set(fraction);
        (self.watch.progress)(stage, fraction);
    }
}

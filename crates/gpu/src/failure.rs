//! What a device reported since it was made: an error, or that it was lost.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use super::Gpu;
use super::wait::Signal;
use crate::error::{Code, Error, Result};
use crate::host::{now, pause};

/// What a loss breaks is often reported a moment before the loss itself.
const SETTLE_SECONDS: f64 = 0.25;

/// Written by the callbacks of a device.
#[derive(Clone, Default)]
pub(super) struct Failure(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    error: Option<Error>,
    /// Of those who wait for what a lost device may never do.
    waiting: Vec<Waker>,
}

impl Failure {
    /// The first error counts, and a loss more than any other.
    pub fn note(&self, code: Code, message: String) {
        let mut state = self.0.lock().expect("no panic while held");
        let known = state.error.as_ref().map(|e| e.code);
        let lost = code == Code::DeviceLost && known != Some(Code::DeviceLost);
        if lost || known.is_none() {
            state.error = Some(Error::new(code, message));
        }
        if lost {
            state.waiting.drain(..).for_each(Waker::wake);
        }
    }

    fn error(&self) -> Option<Error> {
        self.0.lock().expect("no panic while held").error.clone()
    }

    fn lost(&self) -> Option<Error> {
        self.error().filter(|e| e.code == Code::DeviceLost)
    }
}

impl Gpu {
    /// What the device reported since it was made, if it is broken.
    pub(super) fn check(&self) -> Result<()> {
        self.failure.error().map_or(Ok(()), Err)
    }

    /// Waits for a callback, which a lost device may never call.
    pub(super) async fn wait<T>(&self, signal: Signal<T>) -> Result<T> {
        let mut signal = pin!(signal);
        poll_fn(|context| {
            if let Poll::Ready(value) = signal.as_mut().poll(context) {
                return Poll::Ready(Ok(value));
            }
            if let Some(e) = self.failure.lost() {
                return Poll::Ready(Err(e));
            }
            let mut state = self.failure.0.lock().expect("no panic while held");
            state.waiting.retain(|waker| !waker.will_wake(context.waker()));
            state.waiting.push(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// The result of some work, but the loss of the device in place of an error that it explains.
    pub async fn settle<T>(&self, result: Result<T>) -> Result<T> {
        let Err(e) = result else { return result };
        if e.code != Code::Internal {
            return Err(e);
        }
        let begin = now();
        while self.failure.lost().is_none() && now() - begin < SETTLE_SECONDS {
            #[cfg(not(target_arch = "wasm32"))]
            self.poll_until_idle();
            pause().await;
        }
        Err(self.failure.lost().unwrap_or(e))
    }

    /// Loses the device, as a driver may at any moment; for tests.
    pub fn lose(&self) {
        self.device.destroy();
        // Natively a loss is told by the driver at once, but this one by a poll.
        self.poll_until_idle();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_counts_but_a_loss_counts_more() {
        let failure = Failure::default();
        assert!(failure.error().is_none());
        failure.note(Code::Internal, "first".to_owned());
        failure.note(Code::OutOfMemory, "second".to_owned());
        assert_eq!(failure.error().unwrap().message, "first");
        assert!(failure.lost().is_none());
        failure.note(Code::DeviceLost, "third".to_owned());
        failure.note(Code::DeviceLost, "fourth".to_owned());
        assert_eq!(failure.lost().unwrap().message, "third");
        failure.note(Code::Internal, "fifth".to_owned());
        assert_eq!(failure.error().unwrap().message, "third");
    }
}

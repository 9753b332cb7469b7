//! What the host gives to every room: a clock, a pause, a way to cancel.

#[cfg(target_arch = "wasm32")]
mod web;

#[cfg(target_arch = "wasm32")]
pub use web::write_buffer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};

/// A browser gets to handle messages this often.
#[cfg(target_arch = "wasm32")]
const BREATH_SECONDS: f64 = 0.05;

/// Lets a caller end a run from outside; looked at between pieces of work.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::cancelled()) } else { Ok(()) }
    }
}

/// A text in Unicode's normal form C.
pub fn nfc(text: &str) -> String {
    #[cfg(target_arch = "wasm32")]
    return web::nfc(text);
    #[cfg(not(target_arch = "wasm32"))]
    unicode_normalization::UnicodeNormalization::nfc(text).collect()
}

/// Seconds from some fixed moment.
pub fn now() -> f64 {
    #[cfg(target_arch = "wasm32")]
    return web::now();
    #[cfg(not(target_arch = "wasm32"))]
    {
        use std::sync::OnceLock;
        use std::time::Instant;
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed().as_secs_f64()
    }
}

/// Lets a browser deliver the messages that wait. Natively nothing waits but for a GPU, and there polls do it.
pub async fn pause() {
    #[cfg(target_arch = "wasm32")]
    web::breathe().await;
}

/// Lets a browser deliver messages, such as one that cancels, during long work on its thread: called often, it
/// pauses now and then.
pub async fn breathe() {
    #[cfg(target_arch = "wasm32")]
    {
        use std::cell::Cell;
        thread_local!(static LAST: Cell<f64> = const { Cell::new(0.0) });
        if now() - LAST.get() > BREATH_SECONDS {
            pause().await;
            LAST.set(now());
        }
    }
}

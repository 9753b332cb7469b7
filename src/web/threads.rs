//! Threads in a browser: further workers with an instance of the module each, on the same memory, that run
//! rayon's loops. www/runtime.ts starts them, where the page is cross-origin isolated.

use std::sync::Once;

use js_sys::{Array, Function, Promise};
use rayon::{ThreadBuilder, ThreadPoolBuilder};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::Worker;

use crate::host::pause;

/// Makes the loops of the CPU ready, once: with threads where `gather` starts some, and run in by the engine.
pub async fn start(gather: Option<Function>) {
    static WARM: Once = Once::new();
    if let Some(gather) = gather
        && rayon::current_thread_index().is_none()
    {
        make_pool(&gather).await;
    }
    // While the load waits for bytes.
    WARM.call_once(|| {
        spawn_local(async {
            for () in tintype_cpu::warm_up() {
                pause().await;
            }
        });
    });
}

/// Makes this worker and the ones that `gather(module, memory)` resolves to rayon's threads. Blocking is
/// allowed in workers; on a page's own thread it is not, and nothing of this runs there.
async fn make_pool(gather: &Function) {
    let promise = gather.call2(&JsValue::NULL, &wasm_bindgen::module(), &wasm_bindgen::memory());
    // It never fails: a worker that could not be started is one thread less.
    let workers: Array = match promise {
        Ok(promise) => JsFuture::from(promise.unchecked_into::<Promise>())
            .await
            .map_or_else(|_| Array::new(), JsCast::unchecked_into),
        Err(_) => Array::new(),
    };
    let pool = ThreadPoolBuilder::new()
        .num_threads(workers.length() as usize + 1)
        .use_current_thread()
        .spawn_handler(|thread: ThreadBuilder| {
            let worker: Worker = workers.pop().unchecked_into();
            let thread = JsValue::from(Box::into_raw(Box::new(thread)) as usize as f64);
            worker.post_message(&thread).expect("a number can be sent");
            Ok(())
        })
        .build();
    // The pool is this worker's for good; dropping it would end the threads.
    std::mem::forget(pool.expect("the handler refuses no thread"));
}

/// What a worker does that was told to be the thread `thread`: it returns only when the pool ends.
#[wasm_bindgen(js_name = runThread)]
pub fn run_thread(thread: usize) {
    // SAFETY: the number is that of one `Box::into_raw` in `start`, on the same memory, and is sent once.
    unsafe { Box::from_raw(thread as *mut ThreadBuilder) }.run();
}

//! The clock and the pause of a browser.

use js_sys::{Function, Promise, Reflect, global};
use wasm_bindgen::JsCast;
use wasm_bindgen::prelude::*;

/// Seconds since the page or worker began.
pub fn now() -> f64 {
    #[wasm_bindgen]
    extern "C" {
        type Clock;
        #[wasm_bindgen(method)]
        fn now(this: &Clock) -> f64;
    }
    let clock = Reflect::get(&global(), &"performance".into()).expect("performance is everywhere");
    clock.unchecked_into::<Clock>().now() / 1000.0
}

/// Goes on after the messages that are waiting have been handled.
pub async fn breathe() {
    let promise = Promise::new(&mut |resolve, _| {
        let timer = Reflect::get(&global(), &"setTimeout".into()).expect("setTimeout is everywhere");
        // It can only fail on a wrong argument.
        let _ = timer.unchecked_into::<Function>().call2(&JsValue::NULL, &resolve, &0.into());
    });
    // The promise is never rejected.
    let _ = wasm_bindgen_futures::JsFuture::from(promise).await;
}

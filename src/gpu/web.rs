//! What wgpu cannot do in a browser.

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
    let clock =
        js_sys::Reflect::get(&js_sys::global(), &"performance".into()).expect("performance is everywhere");
    clock.unchecked_into::<Clock>().now() / 1000.0
}

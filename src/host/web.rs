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

/// Goes on after the messages that are waiting have been handled: our own comes behind them. (A timer would
/// be held back for milliseconds each time.)
pub async fn breathe() {
    #[wasm_bindgen]
    extern "C" {
        type MessageChannel;
        #[wasm_bindgen(constructor)]
        fn new() -> MessageChannel;
        #[wasm_bindgen(method, getter)]
        fn port1(this: &MessageChannel) -> MessagePort;
        #[wasm_bindgen(method, getter)]
        fn port2(this: &MessageChannel) -> MessagePort;

        type MessagePort;
        #[wasm_bindgen(method, setter)]
        fn set_onmessage(this: &MessagePort, callback: &Function);
        #[wasm_bindgen(method, js_name = postMessage)]
        fn post_message(this: &MessagePort, message: &JsValue);
        #[wasm_bindgen(method)]
        fn close(this: &MessagePort);
    }
    let channel = MessageChannel::new();
    let promise = Promise::new(&mut |resolve, _| {
        channel.port1().set_onmessage(&resolve);
        channel.port2().post_message(&JsValue::NULL);
    });
    // The promise is never rejected.
    let _ = wasm_bindgen_futures::JsFuture::from(promise).await;
    channel.port1().close();
}

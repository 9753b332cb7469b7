//! What a browser's own objects are needed for: the clock, the pause, normal forms of text, and writes from memory that threads share.

use std::cell::RefCell;

use js_sys::{Promise, Reflect, Uint8Array, global};
use wasm_bindgen::JsCast;
use wasm_bindgen::prelude::*;
use web_sys::{MessageChannel, Performance};

/// Seconds since the page or worker began.
pub fn now() -> f64 {
    let clock = Reflect::get(&global(), &"performance".into()).expect("performance is everywhere");
    clock.unchecked_into::<Performance>().now() / 1000.0
}

pub fn nfc(text: &str) -> String {
    js_sys::JsString::from(text).normalize("NFC").into()
}

/// Goes on after the messages that are waiting have been handled: our own comes behind them. (A timer would
/// be held back for milliseconds each time.)
pub async fn breathe() {
    let channel = MessageChannel::new().expect("every browser has message channels");
    let promise = Promise::new(&mut |resolve, _| {
        channel.port1().set_onmessage(Some(&resolve));
        channel.port2().post_message(&JsValue::NULL).expect("null can be sent");
    });
    // The promise is never rejected.
    let _ = wasm_bindgen_futures::JsFuture::from(promise).await;
    channel.port1().close();
}

#[wasm_bindgen]
extern "C" {
    type Queue;
    #[wasm_bindgen(method, catch, js_name = writeBuffer)]
    fn write_buffer(
        this: &Queue,
        buffer: &JsValue,
        at: f64,
        bytes: &Uint8Array,
    ) -> std::result::Result<(), JsValue>;
}

/// Writes to a `GPUBuffer` through a `GPUQueue`. The module's memory is shared, and not every browser takes views of such
/// memory here: it gets a copy, always in the same place, because garbage of such a size is not collected in time.
pub fn write_buffer(queue: &JsValue, buffer: &JsValue, at: u64, bytes: &[u8]) {
    thread_local!(static COPY: RefCell<Uint8Array> = RefCell::new(Uint8Array::new_with_length(0)));
    COPY.with_borrow_mut(|copy| {
        let length = bytes.len() as u32;
        if copy.length() < length {
            *copy = Uint8Array::new_with_length(length);
        }
        let copy = copy.subarray(0, length);
        copy.copy_from(bytes);
        let written = queue.unchecked_ref::<Queue>().write_buffer(buffer, at as f64, &copy);
        written.expect("a write of whole words within a buffer");
    });
}

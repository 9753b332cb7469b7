//! The linker of kernels: build.rs links every variant to check it, the runtime links the one it needs.
//! This file is compiled into both, so it uses nothing of either.

/// `enable` lines first, then constants, then the libraries, then the kernel.
///
/// `constants` are (name, value), `libraries` the texts that fill the kernel's slots.
pub fn link(kernel: &str, libraries: &[&str], constants: &[(&str, u32)]) -> String {
    let mut enables = Vec::new();
    let mut body = String::new();
    for (name, value) in constants {
        body += &format!("const {name}: u32 = {value}u;\n");
    }
    for text in libraries.iter().chain([&kernel]) {
        for line in text.lines() {
            if line.starts_with("enable ") {
                enables.push(line);
            } else {
                body += line;
                body.push('\n');
            }
        }
    }
    enables.dedup();
    enables.iter().map(|line| format!("{line}\n")).collect::<String>() + &body
}

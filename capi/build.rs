//! Gives the shared library libzmq's soname. Generates nothing.

fn main() {
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libzmq.so.5");
    println!("cargo::rerun-if-changed=build.rs");
}

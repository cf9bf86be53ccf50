//! Compiles the C++ shim against the libtorch that tch uses.

use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=src/shim.cpp");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    let Ok(libtorch) = std::env::var("LIBTORCH") else {
        println!("cargo:warning=LIBTORCH is not set");
        eprintln!("LIBTORCH does not name a libtorch 2.11.0; run `./justw setup` once");
        std::process::exit(1);
    };
    let include = Path::new(&libtorch).join("include");
    if !include.join("ATen/DeviceAccelerator.h").is_file() {
        eprintln!("{} holds no libtorch 2.11.0 headers; run `./justw setup` again", include.display());
        std::process::exit(1);
    }
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .file("src/shim.cpp")
        .compile("rankbench_torch_ext");
}

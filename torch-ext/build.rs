//! Compiles the C++ shim against the libtorch that tch uses.

use std::path::{Path, PathBuf};

fn main() {
    for folder in ["csrc", "kernels"] {
        println!("cargo:rerun-if-changed={folder}");
    }
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
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .opt_level(3)
        .files(["csrc/shim.cpp", "csrc/attention_cpu.cpp", "csrc/dropout.cpp", "csrc/lora_linear.cpp"])
        .compile("rankbench_torch_ext");
    // Tests compile the kernels for a CPU (src/emulator.rs).
    println!("cargo:rustc-env=TORCH_EXT_CXX={}", build.get_compiler().path().display());
    println!("cargo:rustc-env=TORCH_EXT_LIBTORCH={libtorch}");
    build_cuda_library(Path::new(&libtorch));
}

/// A library of its own for CUDA graphs and kernels; an empty file where libtorch has no CUDA half or CUDA's headers are missing.
fn build_cuda_library(libtorch: &Path) {
    println!("cargo:rerun-if-env-changed=CUDA_HOME");
    let out = PathBuf::from(std::env::var("OUT_DIR").unwrap_or_default()).join("cuda.so");
    let has_cuda = libtorch.join("lib/libtorch_cuda.so").is_file();
    let Some(headers) = cuda_headers(libtorch).filter(|_| has_cuda) else {
        println!("cargo:warning=built without CUDA graphs and kernels: no CUDA libtorch, or no CUDA headers");
        std::fs::write(&out, []).expect("OUT_DIR can be written");
        return;
    };
    let include = libtorch.join("include");
    let mut command = cc::Build::new().cpp(true).std("c++17").warnings(false).get_compiler().to_command();
    command.args(["-shared", "-fPIC", "-O2", "-s", "-o"]).arg(&out).args(["csrc/cuda.cpp", "csrc/kernels.cpp"]);
    for folder in [&include, &include.join("torch/csrc/api/include"), &headers] {
        command.arg("-I").arg(folder);
    }
    match command.status() {
        Ok(status) if status.success() => {}
        other => {
            eprintln!("the CUDA library did not build ({other:?}): {command:?}");
            std::process::exit(1);
        }
    }
}

/// CUDA's headers: a toolkit's, or those that come with libtorch's Python wheel.
fn cuda_headers(libtorch: &Path) -> Option<PathBuf> {
    let home = std::env::var_os("CUDA_HOME").map(|home| Path::new(&home).join("include"));
    let wheels = libtorch.canonicalize().ok().and_then(|torch| torch.parent().map(Path::to_path_buf));
    let bundled = wheels.map(|wheels| wheels.join("triton/backends/nvidia/include"));
    let candidates = [home, bundled, Some("/usr/local/cuda/include".into())];
    candidates.into_iter().flatten().find(|folder| folder.join("crt/host_defines.h").is_file())
}

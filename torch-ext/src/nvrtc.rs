//! The project's own CUDA kernels, compiled by NVRTC when a GPU is first used. Each has a reference implementation in plain tensors,
//! with which every other device computes.

use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};

use tch::{Kind, Tensor};

use crate::error::{Error, Result};
use crate::ffi::{Kernels, functions};

/// Files of `kernels/` that are compiled as one.
pub struct Module {
    /// The kind of values, or the width of attention's heads.
    variant: &'static CStr,
    /// Contents in words, for `rankbench doctor`.
    pub title: &'static str,
    /// Oldest architecture with the instructions the kernels use.
    oldest: c_int,
    files: &'static [&'static str],
    options: &'static [&'static CStr],
    kernels: &'static [&'static [&'static CStr]],
}

/// Turing: float16 on tensor cores.
const TURING: c_int = 75;
/// Ampere: bfloat16, and copies to shared memory that run beside the work.
const AMPERE: c_int = 80;

/// Names of files of `kernels/` with their contents.
macro_rules! sources {
    ($($name:literal),* $(,)?) => { &[$(($name, include_str!(concat!("../kernels/", $name)))),*] };
}

/// Everything a kernel includes.
const SOURCES: &[(&str, &str)] = sources![
    "adalora.cu",
    "adalora_traits.h",
    "adamw.cu",
    "adamw_lists.h",
    "attention.cu",
    "attention_traits.h",
    "branch_gradients.cu",
    "branches.h",
    "dropout.cu",
    "dropout_traits.h",
    "encoder_layer.cu",
    "gemm_3xf16.cu",
    "norm.cu",
    "norm_traits.h",
    "philox.cuh",
    "position_bias.cu",
    "position_bias_traits.h",
    "ptx.cuh",
    "values.cuh",
    "warp.cuh",
];

const IN_BOTH: &[&CStr] =
    &[c"dropout", c"norm_forward", c"norm_backward", c"position_bias_forward", c"position_bias_backward"];
const FLOAT32: Module = Module {
    variant: c"f32",
    title: "float32",
    oldest: TURING,
    files: &["dropout.cu", "norm.cu", "position_bias.cu", "gemm_3xf16.cu", "adamw.cu", "adalora.cu"],
    options: &[],
    kernels: &[
        IN_BOTH,
        &[c"split_to_f16", c"unscale", c"square_sums", c"clip_factor", c"adamw"],
        &[c"gram_distance_forward", c"gram_distance_backward", c"importance", c"component_scores"],
    ],
};
const BFLOAT16: Module = Module {
    variant: c"bf16",
    title: "bfloat16",
    oldest: AMPERE,
    files: &["dropout.cu", "norm.cu", "position_bias.cu", "encoder_layer.cu", "branch_gradients.cu"],
    options: &[c"-DBF16"],
    kernels: &[
        IN_BOTH,
        &[c"gather_tokens", c"gelu_forward", c"gelu_backward"],
        &[c"write_branches", c"mask_other_runs", c"branch_gradients"],
    ],
};
const HEADS_OF_64: Module = Module {
    variant: c"64",
    title: "attention for heads of 64",
    oldest: AMPERE,
    files: &["attention.cu"],
    options: &[c"-DBF16", c"-DHEAD=64"],
    kernels: &[&[
        c"attention_forward",
        c"attention_backward_keys",
        c"attention_backward_queries",
        c"attention_backward_distances",
    ]],
};
const HEADS_OF_32: Module =
    Module { variant: c"32", title: "attention for heads of 32", options: &[c"-DBF16", c"-DHEAD=32"], ..HEADS_OF_64 };
/// Every kernel in the variants that are launched.
pub const MODULES: [Module; 4] = [FLOAT32, BFLOAT16, HEADS_OF_64, HEADS_OF_32];

/// Libraries with NVRTC: libtorch's own, which knows the driver, too, and the bare one, which is enough to compile.
const LIBRARIES: [&str; 2] = ["libcaffe2_nvrtc.so", "libnvrtc.so.13"];

const BUILTINS: &str = "libnvrtc-builtins.so.13.0";

/// Variants of [`MODULES`] that are loaded, a bit each.
static LOADED: AtomicU32 = AtomicU32::new(0);

/// The modules that a card of an architecture (e.g. 90) runs. Operations without a kernel there use plain tensors.
pub fn supported(architecture: c_int) -> impl Iterator<Item = &'static Module> {
    MODULES.iter().filter(move |module| architecture >= module.oldest)
}

/// Architecture of a device, e.g. 90.
///
/// # Errors
/// A build or a machine without CUDA.
pub fn architecture(device: usize) -> Result<c_int> {
    let functions = functions()?;
    let mut architecture: c_int = 0;
    // SAFETY: `architecture` outlives the call.
    functions.kernels.check(unsafe { (functions.architecture)(device as c_int, &mut architecture) })?;
    Ok(architecture)
}

/// Kernels of a device that are being compiled, a thread each: that takes a second or two, in which the host has other work.
pub struct Compiling(Vec<(&'static Module, JoinHandle<Result<Vec<u8>>>)>);

impl Compiling {
    /// Begins to compile the kernels that a device runs.
    ///
    /// # Errors
    /// A build or a machine without CUDA.
    pub fn begin(device: usize) -> Result<Self> {
        let architecture = architecture(device)?;
        let begin = |module| (module, thread::spawn(move || compile(architecture, module, LIBRARIES.map(Path::new))));
        Ok(Compiling(supported(architecture).map(begin).collect()))
    }

    /// Loads them; from then on operations use them.
    ///
    /// # Errors
    /// A machine without NVRTC.
    pub fn load(mut self) -> Result<()> {
        let lost = || Error::Cuda("the run-time compiler ended in a panic".into());
        while let Some((module, compiled)) = self.0.pop() {
            module.load(&compiled.join().unwrap_or_else(|_| Err(lost()))?)?;
        }
        Ok(())
    }
}

impl Drop for Compiling {
    /// Waits for the compiler: a process must not end under it.
    fn drop(&mut self) {
        self.0.drain(..).for_each(|(_, compiled)| drop(compiled.join()));
    }
}

impl Module {
    fn load(&self, binary: &[u8]) -> Result<()> {
        let functions = functions()?;
        let names: Vec<*const c_char> = self.kernels.iter().copied().flatten().map(|name| name.as_ptr()).collect();
        let load = functions.load_kernels;
        // SAFETY: the binary is a whole cubin, and the driver copies it; the names outlive the call.
        let code = unsafe {
            load(binary.as_ptr().cast::<c_char>(), self.variant.as_ptr(), names.as_ptr(), names.len() as c_int)
        };
        functions.kernels.check(code)?;
        LOADED.fetch_or(self.bit(), Ordering::Relaxed);
        Ok(())
    }

    fn bit(&self) -> u32 {
        MODULES.iter().position(|module| module.variant == self.variant).map_or(0, |index| 1 << index)
    }

    fn is_loaded(&self) -> bool {
        LOADED.load(Ordering::Relaxed) & self.bit() != 0
    }
}

/// The loaded kernels, where they take a tensor of this device and kind.
pub(crate) fn kernels(x: &Tensor) -> Option<&'static Kernels> {
    let is_loaded = match x.kind() {
        Kind::Float => FLOAT32.is_loaded(),
        Kind::BFloat16 => BFLOAT16.is_loaded(),
        _ => false,
    };
    let is_supported = x.device().is_cuda() && is_loaded;
    let functions = if is_supported { functions().ok() } else { None };
    functions.map(|functions| &functions.kernels)
}

/// The same for kernels that exist in float32 alone.
pub(crate) fn float32_kernels(x: &Tensor) -> Option<&'static Kernels> {
    kernels(x).filter(|_| x.kind() == Kind::Float)
}

/// Whether attention has kernels for heads of a width.
pub(crate) fn has_head_width(width: i64) -> bool {
    let is_of_width = |module: &&Module| module.variant.to_bytes() == width.to_string().as_bytes();
    [&HEADS_OF_64, &HEADS_OF_32].into_iter().find(is_of_width).is_some_and(Module::is_loaded)
}

/// NVRTC's functions.
struct Nvrtc(*mut c_void);

impl Nvrtc {
    fn open<'a>(libraries: impl IntoIterator<Item = &'a Path>) -> Result<Self> {
        let mut tried = Vec::new();
        for library in libraries {
            let name = CString::new(library.as_os_str().as_encoded_bytes()).map_err(|e| Error::Cuda(e.to_string()))?;
            // SAFETY: NVRTC's initialisers have no effects of their own.
            let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW) };
            if !handle.is_null() {
                let nvrtc = Nvrtc(handle);
                nvrtc.load_builtins();
                return Ok(nvrtc);
            }
            tried.push(library.display().to_string());
        }
        Err(Error::Cuda(format!("the run-time compiler is not here (tried {})", tried.join(", "))))
    }

    /// Opens the second library that NVRTC asks for by its bare name: it is in NVRTC's folder, which is on no search path.
    fn load_builtins(&self) {
        let Ok(symbol) = self.symbol(c"nvrtcVersion") else { return };
        // SAFETY: a zeroed Dl_info is valid, and the call only fills it in.
        let folder = unsafe {
            let mut info: libc::Dl_info = std::mem::zeroed();
            if libc::dladdr(symbol, &mut info) == 0 || info.dli_fname.is_null() {
                return;
            }
            let path = Path::new(OsStr::from_bytes(CStr::from_ptr(info.dli_fname).to_bytes())).canonicalize();
            path.ok().and_then(|path| path.parent().map(Path::to_path_buf))
        };
        let builtins = folder.map(|folder| folder.join(BUILTINS).into_os_string().into_encoded_bytes());
        if let Some(Ok(path)) = builtins.map(CString::new) {
            // SAFETY: data for the compiler; without it the compiler says so itself.
            unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
        }
    }

    fn symbol(&self, name: &CStr) -> Result<*mut c_void> {
        // SAFETY: handle and name are valid.
        let symbol = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        match symbol.is_null() {
            true => Err(Error::Cuda(format!("the run-time compiler has no {}", name.to_string_lossy()))),
            false => Ok(symbol),
        }
    }
}

type Program = *mut c_void;
type Create = unsafe extern "C" fn(
    *mut Program,
    *const c_char,
    *const c_char,
    c_int,
    *const *const c_char,
    *const *const c_char,
) -> c_int;
type Compile = unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int;
type Size = unsafe extern "C" fn(Program, *mut usize) -> c_int;
type Get = unsafe extern "C" fn(Program, *mut c_char) -> c_int;
type Destroy = unsafe extern "C" fn(*mut Program) -> c_int;

/// Compiles a module to a cubin for an architecture (e.g. 90). Needs no GPU.
///
/// # Errors
/// No NVRTC, or source that does not compile, with the compiler's messages.
pub fn compile<'a>(
    architecture: c_int,
    module: &Module,
    libraries: impl IntoIterator<Item = &'a Path>,
) -> Result<Vec<u8>> {
    let nvrtc = Nvrtc::open(libraries)?;
    // SAFETY: the types are those of nvrtc.h, and every pointer outlives its call.
    unsafe {
        let create = std::mem::transmute::<*mut c_void, Create>(nvrtc.symbol(c"nvrtcCreateProgram")?);
        let run = std::mem::transmute::<*mut c_void, Compile>(nvrtc.symbol(c"nvrtcCompileProgram")?);
        let log_size = std::mem::transmute::<*mut c_void, Size>(nvrtc.symbol(c"nvrtcGetProgramLogSize")?);
        let log = std::mem::transmute::<*mut c_void, Get>(nvrtc.symbol(c"nvrtcGetProgramLog")?);
        let size = std::mem::transmute::<*mut c_void, Size>(nvrtc.symbol(c"nvrtcGetCUBINSize")?);
        let get = std::mem::transmute::<*mut c_void, Get>(nvrtc.symbol(c"nvrtcGetCUBIN")?);
        let destroy = std::mem::transmute::<*mut c_void, Destroy>(nvrtc.symbol(c"nvrtcDestroyProgram")?);
        let terminated = |text: String| CString::new(text).map_err(|e| Error::Cuda(e.to_string()));
        let source = terminated(module.files.iter().map(|file| format!("#include \"{file}\"\n")).collect())?;
        let names: Vec<CString> =
            SOURCES.iter().map(|(name, _)| terminated(name.to_string())).collect::<Result<_>>()?;
        let texts: Vec<CString> =
            SOURCES.iter().map(|(_, text)| terminated(text.to_string())).collect::<Result<_>>()?;
        let [names, texts] = [&names, &texts].map(|all| all.iter().map(|one| one.as_ptr()).collect::<Vec<_>>());
        let mut program: Program = std::ptr::null_mut();
        let name = c"rankbench.cu".as_ptr();
        let count = names.len() as c_int;
        if create(&mut program, source.as_ptr(), name, count, texts.as_ptr(), names.as_ptr()) != 0 {
            return Err(Error::Cuda("the run-time compiler does not start".into()));
        }
        let target = CString::new(format!("-arch=sm_{architecture}")).map_err(|e| Error::Cuda(e.to_string()))?;
        // Functions of the headers shared with the host have no `__device__`.
        let mut options = vec![target.as_ptr(), c"-default-device".as_ptr()];
        options.extend(module.options.iter().map(|option| option.as_ptr()));
        let code = run(program, options.len() as c_int, options.as_ptr());
        let (measure, read) = if code == 0 { (size, get) } else { (log_size, log) };
        let mut length = 0;
        measure(program, &mut length);
        let mut bytes = vec![0u8; length];
        read(program, bytes.as_mut_ptr().cast::<c_char>());
        destroy(&mut program);
        match code {
            0 => Ok(bytes),
            _ => Err(Error::Cuda(format!("sm_{architecture}: {}", String::from_utf8_lossy(&bytes)))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Turing, both kinds of Ampere, Hopper and the newest consumer cards.
    const ARCHITECTURES: [c_int; 5] = [75, 80, 86, 90, 120];

    #[test]
    fn cards_before_ampere_run_the_float32_kernels_alone() {
        let titles = |architecture| supported(architecture).map(|module| module.title).collect::<Vec<_>>();
        assert!(titles(70).is_empty());
        assert_eq!(titles(75), ["float32"]);
        for architecture in [80, 86, 120] {
            assert_eq!(titles(architecture).len(), MODULES.len(), "sm_{architecture}");
        }
    }

    #[test]
    fn every_module_has_a_bit_of_its_own() {
        assert_eq!(MODULES.each_ref().map(Module::bit), [1, 2, 4, 8]);
    }

    /// With NVRTC of the Python wheels beside libtorch, which a libtorch without CUDA does not have.
    #[test]
    fn kernels_compile_for_every_card_that_runs_them() {
        let libtorch = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/libtorch");
        let wheel = libtorch.canonicalize().map(|torch| torch.join("../nvidia/cu13/lib/libnvrtc.so.13"));
        let Some(library) = wheel.ok().filter(|library| library.is_file()) else {
            eprintln!("skipped: no NVRTC beside {}", libtorch.display());
            return;
        };
        for architecture in ARCHITECTURES {
            for module in supported(architecture) {
                let cubin = compile(architecture, module, [library.as_path()]).unwrap();
                assert!(cubin.starts_with(b"\x7fELF"), "sm_{architecture} {:?}", module.variant);
                for name in module.kernels.iter().copied().flatten() {
                    let section = [b".text.", name.to_bytes_with_nul()].concat();
                    let is_there = cubin.windows(section.len()).any(|bytes| bytes == section);
                    assert!(is_there, "sm_{architecture} {:?} has no {name:?}", module.variant);
                }
            }
        }
        assert!(compile(1, &FLOAT32, [library.as_path()]).unwrap_err().to_string().contains("sm_1"));
    }
}

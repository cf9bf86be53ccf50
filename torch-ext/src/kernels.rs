//! The project's own CUDA kernels: compiled by NVRTC when a GPU is first used, each with a plain-tensor twin elsewhere.

use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use tch::{Kind, Tensor};

use crate::cuda::{checked, functions};
use crate::{Error, Result};

const SOURCE: &str = include_str!("kernels/position_bias.cu");
/// libtorch's own way to NVRTC and the driver; the bare library is enough to compile.
const LIBRARIES: [&str; 2] = ["libcaffe2_nvrtc.so", "libnvrtc.so.13"];

const BUILTINS: &str = "libnvrtc-builtins.so.13.0";

static LOADED: AtomicBool = AtomicBool::new(false);

/// Compiles the kernels for a device and loads them; from then on [`are_loaded`].
///
/// # Errors
/// A build or a machine without CUDA, or without NVRTC.
pub fn load(device: usize) -> Result<()> {
    let functions = functions()?;
    let mut architecture: c_int = 0;
    // SAFETY: `architecture` outlives the call.
    checked(functions, unsafe { (functions.architecture)(device as c_int, &mut architecture) })?;
    for (which, kind) in [(0, Kind::Float), (1, Kind::BFloat16)] {
        let module = compile(architecture, kind, LIBRARIES.map(Path::new))?;
        // SAFETY: the module is a whole cubin, and the driver copies it.
        checked(functions, unsafe { (functions.load_kernels)(which, module.as_ptr().cast::<c_char>()) })?;
    }
    LOADED.store(true, Ordering::Relaxed);
    Ok(())
}

/// Whether the kernels are used.
pub fn are_loaded() -> bool {
    LOADED.load(Ordering::Relaxed)
}

/// Disentangled attention's bias `[rows, heads, length, length]` of the products of every position with every distance,
/// `content` and `position` `[heads, rows * length, 2 length]`, and the additive mask `[rows, 1, 1, length]`.
///
/// # Errors
/// Kernels that are not loaded; shapes that do not belong together.
pub fn position_bias(content: &Tensor, position: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let functions = functions()?;
    let pointer = |tensor: &Tensor| tensor.as_ptr().cast::<c_void>();
    let mut out = std::ptr::null_mut();
    // SAFETY: the tensors and `out` outlive the call, which gives a new tensor away.
    unsafe {
        let call = functions.position_bias;
        checked(functions, call(pointer(content), pointer(position), pointer(mask), &mut out))?;
        Ok(Tensor::from_ptr(out.cast()))
    }
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

    /// NVRTC opens a second library by its bare name, which lies beside it and on nobody's path: opened here, it is found.
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

/// The kernels as a cubin for an architecture (e.g. 90) and values of a kind. Needs no GPU.
///
/// # Errors
/// No NVRTC; source that does not compile, with the compiler's words.
pub fn compile<'a>(architecture: c_int, kind: Kind, libraries: impl IntoIterator<Item = &'a Path>) -> Result<Vec<u8>> {
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
        let source = CString::new(SOURCE).map_err(|e| Error::Cuda(e.to_string()))?;
        let mut program: Program = std::ptr::null_mut();
        let name = c"position_bias.cu".as_ptr();
        if create(&mut program, source.as_ptr(), name, 0, std::ptr::null(), std::ptr::null()) != 0 {
            return Err(Error::Cuda("the run-time compiler does not start".into()));
        }
        let target = CString::new(format!("-arch=sm_{architecture}")).map_err(|e| Error::Cuda(e.to_string()))?;
        let mut options = vec![target.as_ptr()];
        if kind == Kind::BFloat16 {
            options.push(c"-DBF16".as_ptr());
        }
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

    /// NVRTC of the Python wheels beside libtorch; where they are not, this says so.
    #[test]
    fn kernels_compile_for_ampere_and_hopper() {
        let libtorch = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/libtorch");
        let wheel = libtorch.canonicalize().map(|torch| torch.join("../nvidia/cu13/lib/libnvrtc.so.13"));
        let Some(library) = wheel.ok().filter(|library| library.is_file()) else {
            eprintln!("skipped: no NVRTC beside {}", libtorch.display());
            return;
        };
        for architecture in [80, 90] {
            for kind in [Kind::Float, Kind::BFloat16] {
                let cubin = compile(architecture, kind, [library.as_path()]).unwrap();
                assert!(cubin.starts_with(b"\x7fELF"), "sm_{architecture} {kind:?}");
            }
        }
        assert!(compile(1, Kind::Float, [library.as_path()]).unwrap_err().to_string().contains("sm_1"));
    }
}

//! Calls to a device: synchronisation, memory, the TF32 switch, and the libtorch that serves it.

use std::ffi::{c_char, c_int, c_longlong};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use tch::Device;

use crate::error::{Error, Result, check, text};

unsafe extern "C" {
    fn rb_version() -> *const c_char;
    fn rb_synchronize(device: c_int) -> c_int;
    fn rb_reset_peak_memory(device: c_int) -> c_int;
    fn rb_peak_memory(device: c_int, allocated: *mut c_longlong, reserved: *mut c_longlong) -> c_int;
    fn rb_let_segments_grow() -> c_int;
    fn rb_release_memory(device: c_int) -> c_int;
    fn rb_allow_tf32(allow: bool) -> c_int;
}

/// Version of the libtorch headers this was built with, e.g. `2.11.0`.
pub fn version() -> String {
    // SAFETY: the shim gives a static, NUL-terminated string.
    unsafe { text(rb_version()) }
}

/// Loads libtorch's CUDA half where this machine has a driver, and says whether it is available. The linker leaves it out of a
/// program that names none of its symbols. Loading takes a second or two, so call this only where a GPU may be used, and before the
/// first question about CUDA: libtorch remembers the answer.
pub fn load_cuda() -> bool {
    let has_driver =
        ["/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg"].iter().any(|path| Path::new(path).exists());
    // SAFETY: the library is libtorch's own; its initialisers only register kernels.
    let is_here = has_driver
        && !unsafe { libc::dlopen(c"libtorch_cuda.so".as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) }.is_null();
    // Growing segments waste less memory between a step's tensors (a tenth of its memory). A user's own configuration wins, and
    // under WSL some drivers cannot map such segments.
    let is_configured =
        ["PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"].iter().any(|name| std::env::var_os(name).is_some());
    if is_here && !is_configured && !Path::new("/dev/dxg").exists() {
        // SAFETY: no pointers cross. A libtorch that refuses keeps its default.
        let _ = unsafe { rb_let_segments_grow() };
    }
    is_here
}

/// Lets the C library keep freed memory for later tensors, where the user has set nothing else: a tensor of tens of megabytes from
/// fresh pages costs a fault for each of them, a twelfth of a step on a CPU.
pub fn keep_freed_memory() {
    let is_configured = |name: &str| std::env::var_os(name).is_some();
    if ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"].into_iter().any(is_configured) {
        return;
    }
    #[cfg(target_env = "gnu")]
    // SAFETY: plain integers cross. A refusal changes nothing. 32 MiB is the largest threshold that glibc takes.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, c_int::MAX);
    }
}

/// PCI bus id of a GPU, e.g. `0000:0F:00.0`: the name that other libraries know it by, whatever `CUDA_VISIBLE_DEVICES` says.
/// `None` for a CPU and before [`load_cuda`].
pub fn pci_bus_id(device: Device) -> Option<String> {
    type GetPciBusId = unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int;
    let Device::Cuda(index) = device else { return None };
    // libtorch_cuda.so brings the CUDA runtime, which this program is not linked with.
    // SAFETY: the symbol is the CUDA runtime's function of this type, which writes at most as many bytes as it is told.
    unsafe {
        let function = libc::dlsym(libc::RTLD_DEFAULT, c"cudaDeviceGetPCIBusId".as_ptr());
        if function.is_null() {
            return None;
        }
        let mut id = [0; 64];
        let code = std::mem::transmute::<*mut libc::c_void, GetPciBusId>(function)(id.as_mut_ptr(), 64, index as c_int);
        (code == 0).then(|| text(id.as_ptr()))
    }
}

/// Waits for everything queued on a GPU. Does nothing on a CPU.
///
/// # Errors
/// A failure on the device, which can stem from any earlier operation.
pub fn synchronize(device: Device) -> Result<()> {
    match device {
        // SAFETY: plain integers cross.
        Device::Cuda(index) => check(unsafe { rb_synchronize(index as c_int) }),
        _ => Ok(()),
    }
}

/// Peak memory in bytes since [`reset_peak_memory`]. Numbers that a device does not have are `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PeakMemory {
    /// Bytes of tensors on a GPU. Those of a captured step count as long as its graph lives.
    pub allocated: Option<u64>,
    /// Bytes that the allocator held of a GPU: tensors, and memory kept for later ones.
    pub reserved: Option<u64>,
    /// Resident set of the process, for work on a CPU.
    pub resident: Option<u64>,
}

/// Empties the allocator's cache and starts new peaks, so that earlier work is not part of them.
///
/// # Errors
/// libtorch's; on a CPU a kernel that does not allow it is not an error (the peak is then that of the whole process).
pub fn reset_peak_memory(device: Device) -> Result<()> {
    release_memory(device)?;
    match device {
        // SAFETY: plain integers cross.
        Device::Cuda(index) => check(unsafe { rb_reset_peak_memory(index as c_int) }),
        _ => {
            // SAFETY: no pointers cross.
            unsafe { libc::malloc_trim(0) };
            let _ = std::fs::write("/proc/self/clear_refs", "5");
            Ok(())
        }
    }
}

/// Peak memory since [`reset_peak_memory`].
///
/// # Errors
/// libtorch's, or that `/proc/self/status` cannot be read.
pub fn peak_memory(device: Device) -> Result<PeakMemory> {
    match device {
        Device::Cuda(index) => {
            let (mut allocated, mut reserved): (c_longlong, c_longlong) = (0, 0);
            // SAFETY: both numbers outlive the call.
            check(unsafe { rb_peak_memory(index as c_int, &mut allocated, &mut reserved) })?;
            let [allocated, reserved] = [allocated, reserved].map(|bytes| Some(bytes.max(0) as u64));
            Ok(PeakMemory { allocated, reserved, resident: None })
        }
        _ => Ok(PeakMemory { resident: Some(peak_resident()?), ..PeakMemory::default() }),
    }
}

/// Returns unused memory of the allocator to a GPU, after everything queued is done. Does nothing on a CPU.
///
/// # Errors
/// As [`synchronize`].
pub fn release_memory(device: Device) -> Result<()> {
    match device {
        // SAFETY: plain integers cross.
        Device::Cuda(index) => check(unsafe { rb_release_memory(index as c_int) }),
        _ => Ok(()),
    }
}

fn peak_resident() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(|e| Error::Memory(e.to_string()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or_else(|| Error::Memory("it has no VmHWM".into()))
}

pub(crate) static IS_TF32_ALLOWED: AtomicBool = AtomicBool::new(false);

/// Allows or forbids TF32 in float32 matrix products on a GPU.
///
/// # Errors
/// libtorch's.
pub fn allow_tf32(allow: bool) -> Result<()> {
    IS_TF32_ALLOWED.store(allow, Ordering::Relaxed);
    // SAFETY: a plain boolean crosses.
    check(unsafe { rb_allow_tf32(allow) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_pinned_one() {
        assert!(version().starts_with("2.11.0"), "{}", version());
    }

    #[test]
    fn a_device_that_is_not_there_is_an_error() {
        if !tch::Cuda::is_available() {
            assert!(synchronize(Device::Cuda(0)).is_err());
        }
    }
}

//! The kernels on a CPU, for tests: `kernels/` and `csrc/kernels.cpp` as they are, compiled as C++ with `tests/emulator`, which runs
//! the threads of a block as fibers. So a wrong kernel is seen without a GPU.

use std::ffi::{CString, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tch::{Device, Kind, Tensor};

use crate::ffi::{Kernels, find};
use crate::ops::dropout::DropoutRng;

struct Emulator {
    kernels: Kernels,
    schedule: unsafe extern "C" fn(c_int) -> c_int,
}

/// Runs a test with the emulated kernels, once in each schedule (`tests/emulator/emulator.h`).
pub(crate) fn in_every_schedule(test: impl Fn(&Kernels)) {
    static EMULATOR: OnceLock<Emulator> = OnceLock::new();
    let Emulator { kernels, schedule } = EMULATOR.get_or_init(|| load(&build()));
    // SAFETY: plain integers cross.
    let count = unsafe { schedule(0) };
    for index in 0..count {
        eprintln!("schedule {index}");
        // SAFETY: as above.
        unsafe { schedule(index) };
        test(kernels);
    }
}

fn load(library: &Path) -> Emulator {
    let path = CString::new(library.as_os_str().as_bytes()).unwrap();
    // SAFETY: the library is built from this repository's sources, with functions of these types.
    unsafe {
        let handle: *mut c_void = libc::dlopen(path.as_ptr(), libc::RTLD_NOW);
        assert!(!handle.is_null(), "{}", std::ffi::CStr::from_ptr(libc::dlerror()).to_string_lossy());
        let poison_memory: unsafe extern "C" fn() = find(handle, c"rb_emulator_poison_memory").unwrap();
        poison_memory();
        Emulator { kernels: Kernels::find(handle).unwrap(), schedule: find(handle, c"rb_emulator_schedule").unwrap() }
    }
}

/// A translation unit: its source, whether it needs libtorch's headers, and options.
type Unit = (&'static str, bool, &'static [&'static str]);

/// libtorch's headers are most of the compiler's work, so their units are not optimised.
const UNITS: [Unit; 7] = [
    ("csrc/kernels.cpp", true, &["-O0"]),
    ("tests/emulator/launch.cpp", true, &["-O0"]),
    ("tests/emulator/emulator.cpp", false, &["-O2"]),
    ("tests/emulator/kernels_attention.cpp", false, &["-O2", "-DHEAD=64"]),
    ("tests/emulator/kernels_attention.cpp", false, &["-O2", "-DHEAD=32"]),
    ("tests/emulator/kernels_values.cpp", false, &["-O2"]),
    ("tests/emulator/kernels_values.cpp", false, &["-O2", "-DBF16"]),
];

/// Compiles what has changed since the last time.
fn build() -> PathBuf {
    let folder = Path::new(env!("OUT_DIR")).join("emulator");
    std::fs::create_dir_all(&folder).unwrap();
    // Tests of another process may be building the same.
    let lock = std::fs::File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let objects: Vec<PathBuf> = std::thread::scope(|scope| {
        let threads: Vec<_> = UNITS
            .iter()
            .enumerate()
            .map(|(index, unit)| {
                scope.spawn({
                    let folder = &folder;
                    move || object(folder, index, unit)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let library = folder.join("emulator.so");
    run(compiler().args(["-shared", "-Wl,-Bsymbolic", "-o"]).arg(&library).args(&objects));
    library
}

fn compiler() -> Command {
    Command::new(env!("TORCH_EXT_CXX"))
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}:\n{}", String::from_utf8_lossy(&output.stderr));
}

fn object(folder: &Path, index: usize, (source, needs_libtorch, options): &Unit) -> PathBuf {
    let object = folder.join(format!("{index}.o"));
    let dependencies = object.with_extension("d");
    if is_fresh(&object, &dependencies) {
        return object;
    }
    let mut command = compiler();
    // longjmp from fiber to fiber looks like a corrupt stack to fortified headers.
    command.args(["-std=c++17", "-fPIC", "-w", "-U_FORTIFY_SOURCE", "-MD", "-MF"]).arg(&dependencies).args(*options);
    if *needs_libtorch {
        let include = Path::new(env!("TORCH_EXT_LIBTORCH")).join("include");
        command.arg("-I").arg(&include).arg("-I").arg(include.join("torch/csrc/api/include"));
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
    run(command.arg("-c").arg(source).arg("-o").arg(&object));
    object
}

/// Whether an object is newer than all that it was compiled from.
fn is_fresh(object: &Path, dependencies: &Path) -> bool {
    let modified = |path: &Path| std::fs::metadata(path).and_then(|data| data.modified()).ok();
    let (Some(made), Ok(list)) = (modified(object), std::fs::read_to_string(dependencies)) else { return false };
    let is_older = |path: &str| modified(Path::new(path)).is_some_and(|time| time < made);
    list.split_whitespace().skip(1).filter(|word| *word != "\\").all(is_older)
}

/// Output and gradients of emulated kernels against those of a reference implementation in float32, for inputs rounded to `kind`,
/// compared value by value relative to the largest.
pub(crate) fn compare(
    what: &str,
    (kind, bound): (Kind, f64),
    inputs: &[Tensor],
    by_kernels: impl Fn(&[Tensor]) -> Tensor,
    reference: impl Fn(&[Tensor]) -> Tensor,
) {
    let results = |kind_of_leaves: Kind, work: &dyn Fn(&[Tensor]) -> Tensor| {
        let leaf = |x: &Tensor| x.to_kind(kind).to_kind(kind_of_leaves).copy().set_requires_grad(true);
        let leaves: Vec<Tensor> = inputs.iter().map(leaf).collect();
        let out = work(&leaves);
        let factor = (Tensor::arange(out.numel() as i64, (Kind::Float, Device::Cpu)) * 0.7).sin();
        (&out * factor.view(out.size().as_slice()).to_kind(out.kind())).sum(Kind::Float).backward();
        let grads = leaves.iter().map(Tensor::grad).filter(Tensor::defined);
        std::iter::once(out.detach()).chain(grads).map(|x| x.to_kind(Kind::Double)).collect::<Vec<_>>()
    };
    let (got, want) = (results(kind, &by_kernels), results(Kind::Float, &reference));
    assert_eq!(got.len(), want.len(), "{what} {kind:?}: gradients");
    for (index, (got, want)) in got.iter().zip(&want).enumerate() {
        let error = ((got - want).abs().max() / want.abs().max()).double_value(&[]);
        assert!(
            error <= bound,
            "{what} {kind:?}, result {index}: {error:.1e} of the largest value, at most {bound:.1e}"
        );
    }
}

/// Kinds of values with kernels, and how far their results may be from the reference's.
pub(crate) const KINDS: [(Kind, f64); 2] = [(Kind::Float, 2e-6), (Kind::BFloat16, 1.5e-2)];

/// Normally distributed values on the CPU.
pub(crate) fn random(shape: &[i64]) -> Tensor {
    Tensor::randn(shape, (Kind::Float, Device::Cpu))
}

/// Step 1 of runs with seeds of more than 32 bits.
pub(crate) fn dropout_rng(runs: i64) -> DropoutRng {
    let seeds: Vec<i64> = (0..runs).map(|run| 1_234_567_890_123 * (run + 1)).collect();
    let rng = DropoutRng::new(&seeds, Device::Cpu);
    rng.advance();
    rng.begin_at(6);
    rng
}

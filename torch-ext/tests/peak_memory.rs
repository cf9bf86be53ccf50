//! Peak memory of a process, in one of its own: tests beside it would take memory, too.

use tch::{Device, Kind, Tensor};
use torch_ext::device::{peak_memory, reset_peak_memory};

#[test]
fn peak_memory_sees_an_allocation() {
    reset_peak_memory(Device::Cpu).unwrap();
    let peak = || peak_memory(Device::Cpu).unwrap().resident.unwrap();
    let before = peak();
    let big = Tensor::ones([64, 1024, 1024], (Kind::Float, Device::Cpu));
    assert!(big.size()[0] == 64 && peak() > before + (200 << 20));
    drop(big);
    reset_peak_memory(Device::Cpu).unwrap();
    assert!(peak() < before + (100 << 20), "the next peak does not hold what was given back");
}

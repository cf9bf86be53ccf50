//! Energy that a GPU takes, counted by the card and read through NVML.

use nvml_wrapper::Nvml;
use tch::Device;

/// Library of the driver. The name without a version is there only where the driver's headers are installed.
const LIBRARY: &str = "libnvidia-ml.so.1";
/// Shortest time in seconds whose energy is given: the counter moves every 20 to 100 ms, so of less than this it says too little.
const SHORTEST: f64 = 1.0;

/// Energy counter of a card.
pub struct EnergyMeter {
    nvml: Nvml,
    bus_id: String,
}

impl EnergyMeter {
    /// The counter of a device's card; `None` for a CPU, without NVML, for cards before Volta, and for a part of a card (MIG), whose
    /// share of the energy is not counted.
    pub fn of(device: Device) -> Option<Self> {
        Self::find(LIBRARY, torch_ext::device::pci_bus_id(device)?)
    }

    fn find(library: &str, bus_id: String) -> Option<Self> {
        let nvml = Nvml::builder().lib_path(library.as_ref()).init().ok()?;
        let is_divided = nvml.device_by_pci_bus_id(&*bus_id).ok()?.mig_mode().is_ok_and(|mode| mode.current != 0);
        let meter = EnergyMeter { nvml, bus_id };
        meter.joules().filter(|_| !is_divided)?;
        Some(meter)
    }

    /// Joules since the driver was loaded, of everything that the card does.
    pub fn joules(&self) -> Option<f64> {
        Some(self.nvml.device_by_pci_bus_id(&*self.bus_id).ok()?.total_energy_consumption().ok()? as f64 / 1000.0)
    }

    /// Joules since the counter was `before`, which was `seconds` ago; `None` for a time too short.
    pub fn joules_since(&self, before: Option<f64>, seconds: f64) -> Option<f64> {
        Some(self.joules()? - before?).filter(|_| seconds >= SHORTEST)
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use super::*;

    /// NVML of three cards: one, one that is divided, one that counts no energy. Every look at a counter finds 2.5 J more.
    const NVML: &str = r#"
        #include <string.h>
        int nvmlInit_v2(void) { return 0; }
        int nvmlShutdown(void) { return 0; }
        int nvmlDeviceGetHandleByPciBusId_v2(const char* id, const char** card) {
            if (strncmp(id, "0000:", 5)) return 6;
            *card = strdup(id + 5);
            return 0;
        }
        int nvmlDeviceGetMigMode(const char* card, unsigned* current, unsigned* pending) {
            if (!strcmp(card, "old")) return 3;
            *current = *pending = !strcmp(card, "divided");
            return 0;
        }
        int nvmlDeviceGetTotalEnergyConsumption(const char* card, unsigned long long* millijoules) {
            static unsigned long long total = 0;
            if (!strcmp(card, "old")) return 3;
            *millijoules = total += 2500;
            return 0;
        }
    "#;

    fn library(dir: &Path) -> PathBuf {
        let (source, library) = (dir.join("nvml.c"), dir.join("libnvml.so"));
        std::fs::write(&source, NVML).unwrap();
        let made = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status().unwrap();
        assert!(made.success());
        library
    }

    #[test]
    fn energy_is_what_the_counter_moved() {
        let dir = tempfile::tempdir().unwrap();
        let library = library(dir.path());
        let meter = |bus_id: &str| EnergyMeter::find(library.to_str().unwrap(), bus_id.into());
        let whole = meter("0000:whole").unwrap();
        let before = whole.joules();
        assert_eq!(whole.joules_since(before, 1.0), Some(2.5));
        assert_eq!(whole.joules_since(before, 0.5), None, "the counter moves too slowly");
        assert_eq!(whole.joules_since(None, 1.0), None);
        for other in ["0000:divided", "0000:old", "elsewhere"] {
            assert!(meter(other).is_none(), "{other}");
        }
    }

    #[test]
    fn without_nvml_or_a_gpu_there_is_no_counter() {
        assert!(EnergyMeter::of(Device::Cpu).is_none());
        assert!(EnergyMeter::find("/nowhere/libnvidia-ml.so.1", "0000:whole".into()).is_none());
    }
}

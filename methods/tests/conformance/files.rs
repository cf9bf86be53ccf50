//! Export, import and merge.

use std::path::Path;

use encoders::{Encoder, Frozen};
use methods::LoraLayers;
use methods::peft::config::PeftConfig;
use methods::peft::files::PeftFiles;
use methods::peft::format::TrainedAdapter;
use methods::registry::{METHODS, find, read_adapter};
use methods::tuners::sora::GATES;

use crate::model::{Model, STEPS, each_module, error, everywhere};
use crate::{ROUNDING, TOLERANCE};

fn save(files: &PeftFiles, dir: &Path) {
    std::fs::write(dir.join("adapter_model.safetensors"), &files.weights).unwrap();
    std::fs::write(dir.join("adapter_config.json"), files.config.to_string()).unwrap();
}

fn read_back(files: &PeftFiles, encoder: &dyn Encoder) -> Box<dyn TrainedAdapter> {
    let dir = tempfile::tempdir().unwrap();
    save(files, dir.path());
    read_adapter(dir.path(), encoder).unwrap()
}

/// Whether a weight can hold what the method does: it attaches branches or replaces weights.
fn is_linear(model: &Model) -> bool {
    let views = model.step.params().views();
    let adapters = model.adapters(&views);
    let attached = model.attached(&views);
    let replaces = (0..model.encoder.info().weights.len()).any(|index| attached.weight(index).is_some());
    replaces || each_module(model, &adapters).next().is_some()
}

fn put_in_place(trained: &dyn TrainedAdapter, encoder: &dyn Encoder) {
    let merged = trained.merged(encoder).unwrap();
    tch::no_grad(|| {
        for (name, own) in &encoder.info().weights {
            own.shallow_clone().copy_(&merged[name]);
        }
    });
}

#[test]
fn merged_and_unmerged_outputs_agree() {
    everywhere(|mut model| {
        model.train(5);
        let views = model.step.params().views();
        let unmerged = model.logits(&views, model.attached(&views).as_ref());
        let trained = model.trained(&views);
        if !is_linear(&model) {
            assert!(trained.merged(model.encoder.as_ref()).is_err(), "{}", model.title);
            return;
        }
        put_in_place(trained.as_ref(), model.encoder.as_ref());
        let off = error(&model.logits(&views, &Frozen), &unmerged);
        assert!(off <= TOLERANCE, "{}: {off:e}", model.title);
    });
}

#[test]
fn an_export_reads_back_the_same() {
    everywhere(|mut model| {
        model.train(STEPS);
        let views = model.step.params().views();
        let trained = model.trained(&views);
        let read = read_back(&trained.write("tiny").unwrap(), model.encoder.as_ref());
        let again = model.logits(&views, read.attach(model.encoder.as_ref()).unwrap().as_ref());
        let logits = model.logits(&views, model.attached(&views).as_ref());
        assert!(error(&again, &logits) <= TOLERANCE, "{}", model.title);
        assert!(error(&again, &model.logits(&views, &Frozen)) > TOLERANCE, "{}: nothing was trained", model.title);
        let names = |of: &dyn TrainedAdapter| of.tensors().keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(read.as_ref()), names(trained.as_ref()), "{}", model.title);
        if is_linear(&model) {
            put_in_place(read.as_ref(), model.encoder.as_ref());
            assert!(error(&model.logits(&views, &Frozen), &logits) <= TOLERANCE, "{}", model.title);
        }
    });
}

/// The files of a method are read by its own format alone.
#[test]
fn a_file_is_that_of_its_method() {
    everywhere(|model| {
        let views = model.step.params().views();
        let files = model.trained(&views).write("tiny").unwrap();
        let dir = tempfile::tempdir().unwrap();
        save(&files, dir.path());
        let config = PeftConfig::read(&dir.path().join("adapter_config.json")).unwrap();
        let own = find(model.step.method().name()).unwrap().format;
        assert!(own.accepts(&config) && own.peft_types().contains(&config.peft_type()), "{}", model.title);
        for other in METHODS.iter().map(|method| method.format) {
            assert!(!other.accepts(&config) || std::ptr::addr_eq(other, own), "{}", model.title);
        }
    });
}

#[test]
fn an_adapter_whose_gates_are_all_pruned_is_still_one_that_peft_loads() {
    everywhere(|mut model| {
        model.train(2);
        let Some(gates) = model.step.params().group(GATES) else { return };
        tch::no_grad(|| drop(gates.flat.shallow_clone().zero_()));
        let views = model.step.params().views();
        let files = model.trained(&views).write("tiny").unwrap();
        let config = &files.config;
        assert_eq!(config["target_modules"].as_array().unwrap().len(), 1, "{}: {config}", model.title);
        let read = read_back(&files, model.encoder.as_ref());
        let logits = model.logits(&views, read.attach(model.encoder.as_ref()).unwrap().as_ref());
        // Trained biases are still there.
        let mut unadapted = LoraLayers::new(Vec::new());
        unadapted.weights = model.adapters(&views).weights;
        assert!(error(&logits, &model.logits(&views, &unadapted)) <= ROUNDING, "{}", model.title);
    });
}

//! Names of a stack and of the runs in it, in messages.

use crate::plan::spec::RunSpec;

/// The name of each run within its stack: its seed, behind its method and its place in a grid where these differ in the stack.
pub fn names(stack: &[&RunSpec]) -> Vec<String> {
    let differ = |of: fn(&RunSpec) -> &str| stack.windows(2).any(|pair| of(pair[0]) != of(pair[1]));
    let (methods, labels) = (differ(|spec| &spec.method), differ(|spec| &spec.label));
    let name = |spec: &&RunSpec| {
        let method = methods.then(|| spec.method.clone());
        let label = (labels && !spec.label.is_empty()).then(|| spec.label.clone());
        let seed = format!("seed {}", spec.seed);
        method.into_iter().chain(label).chain([seed]).collect::<Vec<_>>().join(", ")
    };
    stack.iter().map(name).collect()
}

/// The name of a stack.
pub fn title(stack: &[&RunSpec]) -> String {
    let Some(first) = stack.first() else { return String::new() };
    let seeds: Vec<String> = stack.iter().map(|spec| spec.seed.to_string()).collect();
    match stack.iter().all(|spec| spec.method == first.method && spec.label == first.label) {
        true => format!("{} {} seed {}", first.task, first.method, seeds.join(", ")),
        false => format!("{}, {} runs side by side", first.task, stack.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::spec::tests::run_spec;

    #[test]
    fn runs_of_one_setting_are_named_by_their_seeds() {
        let runs = [0, 1].map(|seed| RunSpec { seed, ..run_spec("lora") });
        let stack: Vec<&RunSpec> = runs.iter().collect();
        assert_eq!(names(&stack), ["seed 0", "seed 1"]);
        assert_eq!(title(&stack), "rte lora seed 0, 1");
    }

    #[test]
    fn others_are_named_by_what_differs() {
        let runs = [run_spec("adalora"), RunSpec { seed: 1, label: "lr=0.1".into(), ..run_spec("lora") }];
        let stack: Vec<&RunSpec> = runs.iter().collect();
        assert_eq!(names(&stack), ["adalora, seed 0", "lora, lr=0.1, seed 1"]);
        assert_eq!(title(&stack), "rte, 2 runs side by side");
    }
}

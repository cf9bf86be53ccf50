//! Values of flags as people write them: names without regard to case, `all`, ranges, and what a slip probably meant.

use datasets::tasks::TASKS;
use methods::registry::METHODS;

use crate::analysis::published::TABLE1_TASKS;
use crate::plan::grid;
use crate::plan::recipe::{Override, embedded_names};

/// Names of tasks or methods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names(pub Vec<String>);

/// Master seeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seeds(pub Vec<u64>);

/// Value of the option `target_modules`.
#[derive(Debug, Clone, PartialEq)]
pub struct Targets(pub toml::Value);

/// `--tasks`; `all` is the eight of Table 1.
pub fn tasks(text: &str) -> Result<Names, String> {
    names(text, TABLE1_TASKS.into_iter())
}

/// `--methods`.
pub fn methods(text: &str) -> Result<Names, String> {
    names(text, METHODS.iter().map(|method| method.name))
}

/// Names between commas, in lower case and trimmed; `all` is every known one. Whether each is known is checked with the recipe's own.
fn names(text: &str, known: impl Iterator<Item = &'static str>) -> Result<Names, String> {
    let names: Vec<String> = text.split(',').map(|name| name.trim().to_lowercase()).collect();
    match names.as_slice() {
        [all] if all == "all" => Ok(Names(known.map(str::to_string).collect())),
        _ if names.iter().any(String::is_empty) => Err("expected names with commas between them".into()),
        _ => Ok(Names(names)),
    }
}

/// `--seeds`: `0,1,2`, `0-4`, and both together.
pub fn seeds(text: &str) -> Result<Seeds, String> {
    let number = |text: &str| text.trim().parse::<u64>().map_err(|_| format!("'{}' is no seed", text.trim()));
    let mut seeds = Vec::new();
    for part in text.split(',') {
        match part.split_once('-') {
            Some((first, last)) => {
                let (first, last) = (number(first)?, number(last)?);
                if first > last || last - first >= 1_000 {
                    return Err(format!("'{}' is no range of at most 1000 seeds, such as 0-4", part.trim()));
                }
                seeds.extend(first..=last);
            }
            None => seeds.push(number(part)?),
        }
    }
    Ok(Seeds(seeds))
}

/// `--targets`: names between commas, or `all-linear`. Which there are is known by the backbone.
pub fn targets(text: &str) -> Result<Targets, String> {
    let names: Vec<String> = text.split(',').map(|name| name.trim().to_string()).collect();
    match names.as_slice() {
        [all] if all == "all-linear" => Ok(Targets(all.as_str().into())),
        _ if names.iter().any(String::is_empty) => Err("expected all-linear, or names with commas between them".into()),
        _ => Ok(Targets(names.into())),
    }
}

/// `--rank` as exceptions behind those of a recipe: AdaLoRA starts with 1.5 times its target (spec §2.8).
pub fn ranks(rank: u32) -> Vec<Override> {
    let rank = i64::from(rank);
    let adalora = vec!["adalora".to_string()];
    vec![
        exception(having("r"), &[("r", rank)]),
        exception(adalora, &[("target_r", rank), ("init_r", (3 * rank + 1) / 2)]),
    ]
}

/// `--targets` as exceptions behind those of a recipe.
pub fn target_modules(targets: &Targets) -> Vec<Override> {
    let option = "target_modules";
    vec![exception(having(option), &[(option, targets.0.clone())])]
}

/// Names of the methods that have an option.
fn having(option: &str) -> Vec<String> {
    let key = format!("options.{option}");
    METHODS.iter().filter(|method| grid::has_option(method, &key)).map(|method| method.name.to_string()).collect()
}

/// Options of some methods on every task.
fn exception<V: Clone + Into<toml::Value>>(methods: Vec<String>, options: &[(&str, V)]) -> Override {
    let options = options.iter().map(|(name, value)| (name.to_string(), value.clone().into()));
    Override { tasks: Vec::new(), methods, train: toml::Table::new(), options: options.collect() }
}

/// Message for a name that is no recipe: what there is, and the flag that was probably meant.
pub fn no_recipe(given: &str) -> String {
    let meant = tip(given).map_or(String::new(), |tip| format!(" {tip}."));
    format!("there is no recipe '{given}': neither a file nor one of the embedded ones, {}.{meant}", embedded_names())
}

/// `use --tasks a,b` for a name that stands where none belongs.
pub fn tip(given: &str) -> Option<String> {
    let name = given.trim().trim_matches(',').to_lowercase();
    let flag = if TASKS.iter().any(|task| task.name == name) {
        "--tasks cola,rte"
    } else if METHODS.iter().any(|method| method.name == name) {
        "--methods lora,sora"
    } else if name.parse::<u64>().is_ok() {
        "--seeds 0,1,2"
    } else {
        return None;
    };
    Some(format!("'{given}' stands by itself: values are separated by commas without blanks, as in {flag}"))
}

/// Message of `run` without a recipe.
pub fn which_recipe() -> String {
    format!(
        "which recipe? There are {}, or a file of your own (`rankbench list recipes` says what each is, `rankbench recipe NAME` \
         prints it, docs/recipes.md explains every key). For a first look: `rankbench quickstart`; for your own comparison: \
         `rankbench run table1 --tasks cola --methods lora,adalora,sora --seeds 0-4 --epochs 10`",
        embedded_names()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_trimmed_and_lower_case() {
        assert_eq!(tasks(" RTE, CoLA").unwrap().0, ["rte", "cola"]);
        assert_eq!(tasks("All").unwrap().0, TABLE1_TASKS);
        assert_eq!(methods("all").unwrap().0.len(), METHODS.len());
        assert!(tasks("rte,,cola").is_err());
    }

    #[test]
    fn seeds_are_numbers_and_ranges() {
        assert_eq!(seeds("0-2, 21").unwrap().0, [0, 1, 2, 21]);
        for wrong in ["", "a", "3-1", "0-", "0-100000", "-1"] {
            assert!(seeds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn targets_are_names_or_all_linear() {
        assert_eq!(targets("query, value").unwrap().0, vec!["query", "value"].into());
        assert_eq!(targets("all-linear").unwrap().0, "all-linear".into());
        assert!(targets("query,").is_err() && targets("").is_err());
        let exceptions = target_modules(&targets("Wqkv").unwrap());
        assert_eq!(exceptions.len(), 1);
        assert_eq!(exceptions[0].methods, ["lora", "adalora", "sora", "dora", "dylora"]);
        assert_eq!(exceptions[0].options["target_modules"], vec!["Wqkv"].into());
    }

    #[test]
    fn a_name_that_stands_by_itself_gets_its_flag() {
        assert!(tip("mrpc").unwrap().contains("--tasks cola,rte"));
        assert!(tip("SoRA").unwrap().contains("--methods"));
        assert!(tip("21").unwrap().contains("--seeds"));
        assert_eq!(tip("what"), None);
    }
}

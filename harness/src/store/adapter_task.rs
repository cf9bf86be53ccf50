//! The task of an adapter, in its configuration: `auto_mapping` is the one dictionary there that PEFT keeps and does not read for an
//! adapter with a `task_type`.

use serde_json::{Value, json};

/// Key of the task.
const KEY: &str = "rankbench_task";

/// Value of `auto_mapping` for a task.
pub fn mapping(task: &str) -> Value {
    json!({ KEY: task })
}

/// The task that a configuration names.
pub fn task(config: &Value) -> Option<&str> {
    config.get("auto_mapping")?.get(KEY)?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_task_comes_back() {
        assert_eq!(task(&json!({ "auto_mapping": mapping("rte") })), Some("rte"));
        assert_eq!(task(&json!({ "auto_mapping": null })), None);
    }
}

//! Warnings about the engine, and the command of `airlock shell`.

use std::collections::BTreeMap;

use crate::cli::output::Output;
use crate::core::escape::Escaped;
use crate::engine::EngineInfo;

/// The command of `airlock shell`. An image may lack bash.
pub(crate) const SHELL_COMMAND: &str = "command -v bash >/dev/null && exec bash -l || exec sh -l";

/// Warns about an engine without limits, and about a runtime with known vulnerabilities. Only `airlock doctor` reports those that a
/// distribution may have fixed.
pub(crate) fn print_engine_warnings(info: &EngineInfo, output: Output) {
    if !info.unlimited_resources.is_empty() {
        let resources = info.unlimited_resources.join(", ");
        output.print_status(&format!("this engine does not limit {resources}; for a remedy, run `airlock doctor`"));
    }
    let mut known: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for (component, version, advisory, _) in
        info.list_advisories().into_iter().filter(|(.., may_be_fixed)| !may_be_fixed)
    {
        known.entry((component, version)).or_default().push(advisory.id);
    }
    for ((component, version), ids) in known {
        let (component, version) = (Escaped::new(component), Escaped::new(version));
        output.print_status(&format!(
            "{component} {version} is affected by {}; for details, run `airlock doctor`",
            ids.join(", ")
        ));
    }
}

//! The hosts of Go modules that a repository uses.

use std::collections::BTreeSet;
use std::path::Path;

use super::repo::HostRepo;

impl HostRepo {
    /// Lists the hosts of the modules in `go.mod` and `go.sum` at the root of HEAD.
    #[must_use]
    pub fn list_go_hosts(&self) -> BTreeSet<String> {
        let repository = self.repository();
        let read = |name: &str| {
            let tree = repository.head().ok()?.peel_to_tree().ok()?;
            let entry = tree.get_path(Path::new(name)).ok()?;
            Some(String::from_utf8_lossy(repository.find_blob(entry.id()).ok()?.content()).into_owned())
        };
        let text = ["go.mod", "go.sum", "go.work.sum"].into_iter().filter_map(read).collect::<String>();
        let words =
            text.lines().filter_map(|line| line.trim().trim_start_matches("require ").split_ascii_whitespace().next());
        let hosts = words.filter_map(|module| module.split_once('/').map(|(host, _)| host));
        hosts.filter(|host| host.contains('.') && !host.starts_with('.')).map(str::to_owned).collect()
    }
}

//! Chooses the mount points inside the agent's container.

use std::path::Path;

use crate::git::{HostRepo, Snapshot};

/// Directories of the image, of the agent's home and of Airlock. A repository at, above or below one of them is mounted
/// at `/work/NAME`.
const PROTECTED_DIRS: [&str; 18] = [
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/home/agent",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/sys",
    "/usr/bin",
    "/usr/lib",
    "/usr/local/bin",
    "/usr/sbin",
];
/// Directories that a mount must not hide. A repository at or above one of them is mounted at `/work/NAME`; one below
/// it keeps its path.
const PARENT_DIRS: [&str; 10] = ["/", "/home", "/media", "/mnt", "/opt", "/srv", "/tmp", "/usr", "/var", "/work"];

/// The workspace's mount point and the directory to start in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AgentPaths {
    /// The mount point. It is the path on the host if the image allows it.
    pub workspace: String,
    /// The user's current directory if the snapshot has it; otherwise the mount point.
    pub workdir: String,
}

impl AgentPaths {
    /// Chooses the paths for a snapshot.
    #[must_use]
    pub(crate) fn new(host: &HostRepo, snapshot: &Snapshot) -> Self {
        let workspace = mount_point(&host.root, &host.dir_name());
        let subdir = host.subdir.to_str().filter(|s| !s.is_empty());
        // The engine would create a directory that HEAD does not have, and root would own it.
        let known = subdir.filter(|s| snapshot.has_directory(s.as_bytes()));
        let workdir = known.map_or_else(|| workspace.clone(), |s| format!("{workspace}/{s}"));
        Self { workspace, workdir }
    }
}

fn mount_point(root: &Path, name: &str) -> String {
    let fits = |text: &&str| {
        let path = Path::new(text);
        let hides = |taken: &&str| Path::new(taken).starts_with(path);
        !PROTECTED_DIRS.iter().any(|closed| path.starts_with(closed))
            && !PROTECTED_DIRS.iter().any(hides)
            && !PARENT_DIRS.iter().any(hides)
            && !text.chars().any(|c| c.is_control() || c == ':')
    };
    root.to_str().filter(fits).map_or_else(
        || {
            let plain: String =
                name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect();
            let plain = plain.trim_start_matches('.');
            format!("/work/{}", if plain.is_empty() { "repository" } else { plain })
        },
        str::to_owned,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workspace_uses_host_path_unless_it_hides_files() {
        let mount = |root: &str| mount_point(Path::new(root), "my repo");
        for kept in ["/home/ann/project", "/srv/project", "/tmp/x/y", "/opt/p", "/var/tmp/p", "/usr/src/linux", "/p"] {
            assert_eq!(mount(kept), kept);
        }
        for moved in ["/", "/usr", "/home", "/home/agent", "/home/agent/p", "/root/p", "/etc/app", "/proc/1", "/a:b"] {
            assert_eq!(mount(moved), "/work/my_repo", "{moved}");
        }
    }
}

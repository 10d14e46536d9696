//! Lists versions of runtimes and kernels with known container escapes.
//!
//! Only vulnerabilities that an agent could exploit are listed. An agent has no capabilities, no network and no
//! separate user namespace, and does not choose the image. Distributions backport fixes without changing the version
//! number, so a version with a distribution's suffix may be fixed.

/// A known container escape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advisory {
    /// The component as the engine names it, or `kernel`.
    pub component: &'static str,
    pub id: &'static str,
    pub allows: &'static str,
    /// The first affected version.
    since: Version,
    /// The first fixed version of each branch.
    fixed: &'static [Version],
}

/// Major, minor, patch, and the number of the release candidate (the largest number for a release).
type Version = (u32, u32, u32, u32);

const RELEASE: u32 = u32::MAX;

const fn release_version(major: u32, minor: u32, patch: u32) -> Version {
    (major, minor, patch, RELEASE)
}

const ADVISORIES: &[Advisory] = &[
    Advisory {
        component: "runc",
        id: "CVE-2019-5736",
        allows: "a container to overwrite the runtime",
        since: (0, 0, 0, 0),
        fixed: &[(1, 0, 0, 7)],
    },
    Advisory {
        component: "runc",
        id: "CVE-2024-21626",
        allows: "a process to start in a host directory",
        since: (1, 0, 0, 93),
        fixed: &[release_version(1, 1, 12)],
    },
    Advisory {
        component: "runc",
        id: "CVE-2025-31133",
        allows: "an image to write host files through masked paths",
        since: (0, 0, 0, 0),
        fixed: &[release_version(1, 2, 8), release_version(1, 3, 3), (1, 4, 0, 3)],
    },
    Advisory {
        component: "containerd",
        id: "CVE-2022-23648",
        allows: "an image to read host files",
        since: (0, 0, 0, 0),
        fixed: &[release_version(1, 4, 13), release_version(1, 5, 10), release_version(1, 6, 1)],
    },
    Advisory {
        component: "kernel",
        id: "CVE-2022-0847",
        allows: "a process to write to read-only files",
        since: release_version(5, 8, 0),
        fixed: &[release_version(5, 10, 102), release_version(5, 15, 25), release_version(5, 16, 11)],
    },
];

/// Returns the advisories for this version of a component. The second value is whether a distribution may have
/// backported the fix.
#[must_use]
pub(crate) fn find_advisories(component: &str, version: &str) -> Vec<(&'static Advisory, bool)> {
    let Some(number) = parse_version(version) else { return Vec::new() };
    let known = ADVISORIES.iter().filter(|a| a.component == component && a.affects_version(number));
    known.map(|a| (a, has_distribution_suffix(component, version))).collect()
}

impl Advisory {
    fn affects_version(&self, version: Version) -> bool {
        let branch = |v: &Version| (v.0, v.1);
        if version < self.since {
            return false;
        }
        match self.fixed.iter().find(|m| branch(m) == branch(&version)) {
            Some(fixed) => version < *fixed,
            // An older branch was abandoned without a fix; a newer branch started with the fix.
            None => self.fixed.iter().map(branch).max().is_some_and(|newest| branch(&version) < newest),
        }
    }
}

/// Parses versions such as `1.1.5`, `v1.1.5+ds1`, `1.0.0-rc93` and `6.1.0-18-amd64`.
fn parse_version(text: &str) -> Option<Version> {
    let number = |text: &str| text.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u32>().ok();
    let mut parts = text.trim_start_matches('v').splitn(3, '.');
    let (major, minor, rest) = (number(parts.next()?)?, number(parts.next()?)?, parts.next().unwrap_or("0"));
    let candidate = rest.split_once("-rc").and_then(|(_, n)| number(n.trim_start_matches(['.', '-'])));
    Some((major, minor, number(rest)?, candidate.unwrap_or(RELEASE)))
}

fn has_distribution_suffix(component: &str, version: &str) -> bool {
    let suffixes = ["+ds", "+dfsg", "+deb", "ubuntu", "~deb", ".el", ".fc", ".amzn"];
    // Almost every kernel in use has a distribution's suffix.
    suffixes.iter().any(|mark| version.contains(mark)) || component == "kernel" && version.contains('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(component: &str, version: &str) -> Vec<&'static str> {
        find_advisories(component, version).into_iter().map(|(a, _)| a.id).collect()
    }

    #[test]
    fn versions_are_compared_within_their_branch() {
        assert_eq!(ids("runc", "1.0.0-rc6"), ["CVE-2019-5736", "CVE-2025-31133"]);
        assert_eq!(ids("runc", "1.1.5+ds1"), ["CVE-2024-21626", "CVE-2025-31133"]);
        assert_eq!(ids("runc", "1.1.12"), ["CVE-2025-31133"]);
        assert_eq!(ids("runc", "1.2.7"), ["CVE-2025-31133"]);
        assert_eq!(ids("runc", "1.4.0-rc.2"), ["CVE-2025-31133"]);
        for fixed in ["1.2.8", "v1.3.3", "1.4.0-rc.3", "1.4.0", "1.5.0", "2.0.0"] {
            assert_eq!(ids("runc", fixed), [""; 0], "{fixed}");
        }
        assert_eq!(ids("containerd", "1.6.0"), ["CVE-2022-23648"]);
        assert_eq!(ids("containerd", "1.6.20~ds1"), [""; 0]);
        assert_eq!(ids("kernel", "5.15.0-25-generic"), ["CVE-2022-0847"]);
        assert_eq!(ids("kernel", "5.11.0"), ["CVE-2022-0847"], "an unmaintained branch");
        for fixed in ["5.4.0", "6.1.0-18-amd64", "5.15.25", "5.17.0"] {
            assert_eq!(ids("kernel", fixed), [""; 0], "{fixed}");
        }
        for invalid in ["", "unknown", "1", "x.y"] {
            assert_eq!(ids("runc", invalid), [""; 0], "{invalid}");
        }
    }

    #[test]
    fn distribution_suffix_is_detected() {
        let has_suffix =
            |component, version| find_advisories(component, version).first().map(|(_, has_suffix)| *has_suffix);
        assert_eq!(has_suffix("runc", "1.1.5+ds1"), Some(true));
        assert_eq!(has_suffix("runc", "1.1.5"), Some(false));
        assert_eq!(has_suffix("kernel", "5.15.0-25-generic"), Some(true));
    }
}

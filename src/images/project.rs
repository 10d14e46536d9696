//! Suggests packages for a project from the names of its files.

/// A file at the root of a project, with the Debian packages by which such a project is built and tested.
struct Marker {
    files: &'static [&'static str],
    packages: &'static [&'static str],
}

const MARKERS: [Marker; 14] = [
    Marker { files: &["Cargo.toml"], packages: &["cargo", "rustc", "gcc", "libc6-dev", "pkg-config"] },
    Marker { files: &["package.json"], packages: &["nodejs", "npm"] },
    Marker { files: &["pnpm-lock.yaml"], packages: &["nodejs", "npm:pnpm"] },
    // The configuration file of Yarn from version 2 on.
    Marker { files: &[".yarnrc.yml"], packages: &["nodejs", "npm:@yarnpkg/cli-dist"] },
    Marker { files: &["bun.lock", "bun.lockb"], packages: &["npm:bun"] },
    Marker { files: &["uv.lock"], packages: &["pip:uv"] },
    Marker { files: &["poetry.lock"], packages: &["pip:poetry"] },
    Marker {
        files: &["pyproject.toml", "setup.py", "requirements.txt"],
        packages: &["python3", "python3-pip", "python3-venv", "python3-dev", "gcc", "libc6-dev"],
    },
    Marker { files: &["go.mod"], packages: &["golang-go", "gcc", "libc6-dev"] },
    Marker { files: &["pom.xml"], packages: &["default-jdk-headless", "maven"] },
    Marker { files: &["build.gradle", "build.gradle.kts"], packages: &["default-jdk-headless"] },
    Marker { files: &["Gemfile"], packages: &["ruby", "ruby-dev", "ruby-bundler", "gcc", "make", "libc6-dev"] },
    Marker { files: &["composer.json"], packages: &["php-cli", "composer"] },
    Marker { files: &["mix.exs"], packages: &["elixir"] },
];

/// A suggestion for a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectSuggestion {
    /// The files that it is made from.
    pub files: Vec<&'static str>,
    /// The names of the packages, sorted.
    pub packages: Vec<String>,
}

impl ProjectSuggestion {
    /// Makes a suggestion; `has_file` tells whether the root of the project has a file.
    #[must_use]
    pub fn find_for(has_file: impl Fn(&str) -> bool) -> Option<Self> {
        let (mut files, mut packages) = (Vec::new(), std::collections::BTreeSet::new());
        for marker in &MARKERS {
            if let Some(file) = marker.files.iter().find(|file| has_file(file)) {
                files.push(*file);
                packages.extend(marker.packages.iter().map(|&name| name.to_owned()));
            }
        }
        if has_file("yarn.lock") && !has_file(".yarnrc.yml") {
            files.push("yarn.lock");
            packages.insert("npm:yarn".to_owned());
        }
        (!files.is_empty()).then(|| Self { files, packages: packages.into_iter().collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_of_all_languages_are_suggested() {
        let files = ["Cargo.toml", "package.json", "README.md"];
        let found = ProjectSuggestion::find_for(|file| files.contains(&file)).expect("found");
        assert_eq!(found.files, ["Cargo.toml", "package.json"]);
        assert_eq!(found.packages, ["cargo", "gcc", "libc6-dev", "nodejs", "npm", "pkg-config", "rustc"]);
        assert_eq!(ProjectSuggestion::find_for(|file| file == "README.md"), None);
        let yarn = |files: &[&str]| ProjectSuggestion::find_for(|file| files.contains(&file)).expect("found").packages;
        assert_eq!(yarn(&["yarn.lock"]), ["npm:yarn"]);
        assert_eq!(yarn(&["yarn.lock", ".yarnrc.yml"]), ["nodejs", "npm:@yarnpkg/cli-dist"]);
        assert_eq!(yarn(&["uv.lock", "pnpm-lock.yaml"]), ["nodejs", "npm:pnpm", "pip:uv"]);
    }
}

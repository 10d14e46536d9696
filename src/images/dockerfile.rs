//! Writes the Dockerfile of the agent layer.

use super::base_facts::{BaseFacts, Distribution};
use super::recipe::{ToolClient, split_tool};

/// The stage that gets Claude Code where the host has no npm. Its label marks what can be removed after the build.
const NPM_STAGE: &str = r#"FROM node:22-bookworm-slim AS claude
LABEL dev.airlock.image=stage
ARG CLAUDE_PACKAGE
RUN cd /tmp && npm pack "${CLAUDE_PACKAGE}" && tar xzf ./*.tgz && mv package/claude /claude
"#;

/// Returns the Dockerfile for a base. `has_binary` says whether the build context has a file `claude`.
pub(super) fn render_dockerfile(facts: &BaseFacts, packages: &[String], has_binary: bool) -> String {
    let mut text = String::from(
        "# The agent image of Airlock: Claude Code and the usual tools, for a user without rights.\nARG BASE\n",
    );
    if !has_binary {
        text += NPM_STAGE;
    }
    text += "FROM ${BASE}\nUSER 0:0\n";
    let tools = |client: ToolClient| {
        let found = packages.iter().filter_map(|name| split_tool(name)).filter(|(own, _)| *own == client);
        found.map(|(_, tool)| format!(" '{tool}'")).collect::<String>()
    };
    let (npm, pip) = (tools(ToolClient::Npm), tools(ToolClient::Pip));
    let of_distribution = packages.iter().filter(|name| split_tool(name).is_none());
    let clients = facts.npm.iter().filter(|_| !npm.is_empty()).chain(facts.pip.iter().filter(|_| !pip.is_empty()));
    let wanted: Vec<&str> = facts.missing.iter().chain(of_distribution).chain(clients).map(String::as_str).collect();
    if let Some(distribution) = facts.distribution.filter(|_| !wanted.is_empty()) {
        let list = wanted.join(" ");
        text += &match distribution {
            Distribution::Debian => format!(
                "RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends {list} && rm -rf /var/lib/apt/lists/*\n"
            ),
            Distribution::Fedora => format!(
                "RUN dnf=$(command -v dnf || command -v microdnf) && $dnf install -y {list} && $dnf clean all\n"
            ),
            Distribution::Alpine => format!("RUN apk add --no-cache {list} libgcc libstdc++\n"),
        };
    }
    if !npm.is_empty() {
        text += &format!("RUN npm install --global --no-fund --no-audit{npm} && npm cache clean --force\n");
    }
    if !pip.is_empty() {
        text += &format!("RUN PIP_BREAK_SYSTEM_PACKAGES=1 pip3 install --no-cache-dir{pip}\n");
    }
    // Programs such as Java take the home from the list of users. Login shells replace the PATH of the image's environment.
    text += r#"RUN set -eu; \
    name=agent; grep -q "^$name:" /etc/passwd && name=airlock-agent; \
    grep -q '^[^:]*:[^:]*:1000:' /etc/group || echo "$name:x:1000:" >> /etc/group; \
    grep -q '^[^:]*:[^:]*:1000:' /etc/passwd || echo "$name:x:1000:1000::/home/agent:/bin/bash" >> /etc/passwd; \
    home=$(sed -n 's/^[^:]*:[^:]*:1000:[^:]*:[^:]*:\([^:]*\):.*/\1/p' /etc/passwd | head -n 1); \
    if [ -d "$home" ] && [ "$home" != / ] && [ "$home" != /home/agent ]; then \
        mkdir -p /usr/share/airlock; ln -sfn "$home" /usr/share/airlock/home; \
        sed -i 's|^\([^:]*:[^:]*:1000:[^:]*:[^:]*:\)[^:]*|\1/home/agent|' /etc/passwd; \
    fi; \
    mkdir -p /home/agent /.airlock /work /etc/profile.d /var/tmp /run; \
    chown 1000:1000 /home/agent; \
    printf 'export PATH="%s"\n' "$PATH" > /etc/profile.d/zz-airlock-path.sh
"#;
    text += if has_binary {
        "COPY claude /usr/local/bin/claude\n"
    } else {
        "COPY --from=claude /claude /usr/local/bin/claude\n"
    };
    text + "ENV HOME=/home/agent LANG=C.UTF-8\nUSER 1000:1000\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_installed_by_the_manager_of_the_base() {
        let facts = |manager: &str| BaseFacts::parse_output(&format!("manager {manager}\ntool git\n"));
        let debian = render_dockerfile(&facts("apt-get"), &["cargo".into()], true);
        assert!(debian.contains("apt-get install") && debian.contains(" make bash cargo &&"), "{debian}");
        assert!(!debian.contains(" git ") && !debian.contains("AS claude"), "{debian}");
        let alpine = render_dockerfile(&facts("apk"), &[], false);
        assert!(alpine.contains("apk add --no-cache") && alpine.contains("COPY --from=claude"), "{alpine}");
        assert!(render_dockerfile(&facts("dnf"), &[], true).contains("procps-ng"));
        let packages = ["npm:pnpm".to_owned(), "pip:uv".into(), "zstd".into()];
        let tools = render_dockerfile(&facts("apt-get"), &packages, true);
        assert!(tools.contains(" zstd npm python3-pip &&") && tools.contains(" 'pnpm' &&"), "{tools}");
        assert!(tools.contains(" 'uv'\n"), "{tools}");
        let present = BaseFacts::parse_output("manager apt-get\ntool npm\ntool pip3\n");
        assert!(!render_dockerfile(&present, &packages, true).contains(" npm python3-pip "));
        let other = render_dockerfile(&facts("none"), &[], true);
        assert!(!other.contains("install"), "{other}");
    }
}

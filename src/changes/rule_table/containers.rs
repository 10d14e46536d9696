//! Path rules for containers, virtual machines and cloud workspaces.

use super::PathRule;
use crate::changes::Severity::Medium;

pub(super) const RULES: &[PathRule] = &[
    PathRule {
        severity: Medium,
        name: "container",
        reason: "runs when the container is built or started",
        paths: &[
            "{Dockerfile,Containerfile}*",
            "{*.dockerfile,*.containerfile,Singularity,Apptainer}",
            "docker-bake*.{hcl,json}",
        ],
        source: "https://docs.docker.com/reference/dockerfile/",
    },
    PathRule {
        severity: Medium,
        name: "container",
        reason: "runs when the container is built or started",
        paths: &["{compose*,docker-compose*,podman-compose*}.y*ml"],
        source: "https://docs.docker.com/reference/compose-file/",
    },
    PathRule {
        severity: Medium,
        name: "container",
        reason: "runs when the container is built or started",
        paths: &[".devcontainer/**", "{.devcontainer.json,devcontainer-feature.json,devcontainer-template.json}"],
        source: "https://containers.dev/implementors/json_reference/",
    },
    PathRule {
        severity: Medium,
        name: "container",
        reason: "runs when the container is built or started",
        paths: &["{*.container,*.kube,distrobox.ini}", "mkosi.*"],
        source: "podman-systemd.unit(5)",
    },
    PathRule {
        severity: Medium,
        name: "container",
        reason: "runs when the machine is started",
        paths: &["Vagrantfile*", ".vagrant/**", "*.pkr.hcl", "Homestead.y*ml"],
        source: "https://developer.hashicorp.com/vagrant/docs/vagrantfile",
    },
    PathRule {
        severity: Medium,
        name: "container",
        reason: "runs when the cluster or the service is started",
        paths: &[
            "Tiltfile*",
            "{tilt_config.json,Kustomization,.wp-env*.json}",
            "{skaffold*,garden,*.garden,okteto,devspace,werf*,helmfile*,kustomization,.lando*}.y*ml",
            "{.okteto,helmfile.d,.ddev,.docksal}/**",
        ],
        source: "https://docs.tilt.dev/api.html",
    },
    PathRule {
        severity: Medium,
        name: "container",
        reason: "runs when a cloud workspace is opened",
        paths: &[
            ".gitpod*",
            "{.ona,.che,.idx,.stackblitz,.codesandbox,.coder}/**",
            "{devfile,.devfile}.y*ml",
            "{.replit,replit.nix,.stackblitzrc,sandbox.config.json}",
        ],
        source: "https://ona.com/docs/ona/configuration/automations/overview",
    },
];

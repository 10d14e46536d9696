//! Compiles the guest as a separate static program, which the library embeds, and finds the version.
#![expect(clippy::disallowed_macros, reason = "cargo reads standard output")]

use std::env;
use std::path::PathBuf;
use std::process::Command;

use sha2::{Digest, Sha256};

fn main() {
    println!("cargo:rustc-env=AIRLOCK_LONG_VERSION={}", long_version());
    compile_guest();
}

/// Returns the version with the commit and its date, if this is a release build in a checkout of this repository.
fn long_version() -> String {
    let version = env::var("CARGO_PKG_VERSION").expect("cargo sets CARGO_PKG_VERSION");
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    if env::var("PROFILE").as_deref() != Ok("release") {
        return format!("{version} (debug build)");
    }
    // In a checkout of another repository that contains this directory, the commit would be that one's.
    let directory = env::var("CARGO_MANIFEST_DIR").ok().and_then(|path| PathBuf::from(path).canonicalize().ok());
    let top = git(&["rev-parse", "--show-toplevel"]).and_then(|top| PathBuf::from(top).canonicalize().ok());
    let is_own = top.is_some() && top == directory;
    let Some(commit) = is_own.then(|| git(&["log", "-1", "--format=%h %cs", "--abbrev=9"])).flatten() else {
        return version;
    };
    // The log of HEAD changes with each commit.
    for file in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", file]).filter(|path| PathBuf::from(path).exists()) {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    format!("{version} ({commit})")
}

fn compile_guest() {
    println!("cargo:rerun-if-changed=src/guest");
    println!("cargo:rerun-if-changed=src/protocol.rs");
    let target = env::var("TARGET").expect("cargo sets TARGET");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("airlock-guest");
    let rustc = env::var_os("RUSTC").expect("cargo sets RUSTC");
    // The guest runs in containers, whatever system Airlock runs on.
    let machine = target.split('-').next().expect("a target begins with a machine");
    let musl = format!("{machine}-unknown-linux-musl");
    let sysroot = Command::new(&rustc).args(["--print", "target-libdir", "--target", &musl]).output();
    let has_musl =
        sysroot.is_ok_and(|o| o.status.success() && PathBuf::from(String::from_utf8_lossy(&o.stdout).trim()).is_dir());
    let target = if has_musl { &musl } else { &target };
    let host = env::var("HOST").unwrap_or_default();
    let is_native = host.split('-').next() == target.split('-').next() && host.contains("linux");
    // The C compiler of this machine links only programs for it. Rust's own linker links the others, with musl.
    let linker: &[&str] = if is_native { &[] } else { &["-C", "linker=rust-lld"] };
    let status = Command::new(&rustc)
        .args(linker)
        .args(["--edition", "2024", "--crate-name", "airlock_guest", "--crate-type", "bin", "--target", target])
        .args(["-C", "opt-level=2", "-C", "panic=abort", "-C", "strip=symbols", "-C", "target-feature=+crt-static"])
        .arg("-o")
        .arg(&out)
        .arg("src/guest/main.rs")
        .status()
        .expect("rustc runs");
    assert!(
        status.success(),
        "failed to compile the guest for {target}; a static C library is needed (Debian: apt-get install libc6-dev), \
         or the musl target (rustup target add {musl})"
    );
    let bytes = std::fs::read(&out).expect("it was just written");
    let hash: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
    println!("cargo:rustc-env=AIRLOCK_GUEST_HASH={hash}");
}

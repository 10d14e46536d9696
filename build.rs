//! Compiles the guest as a separate static program, which the library embeds.
#![expect(clippy::disallowed_macros, reason = "cargo reads standard output")]

use std::env;
use std::path::PathBuf;
use std::process::Command;

use sha2::{Digest, Sha256};

fn main() {
    println!("cargo:rerun-if-changed=src/guest");
    println!("cargo:rerun-if-changed=src/protocol.rs");
    let target = env::var("TARGET").expect("cargo sets TARGET");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("airlock-guest");
    let rustc = env::var_os("RUSTC").expect("cargo sets RUSTC");
    let musl = target.replace("-gnu", "-musl");
    let sysroot = Command::new(&rustc).args(["--print", "target-libdir", "--target", &musl]).output();
    let has_musl =
        sysroot.is_ok_and(|o| o.status.success() && PathBuf::from(String::from_utf8_lossy(&o.stdout).trim()).is_dir());
    let target = if has_musl { &musl } else { &target };
    let status = Command::new(&rustc)
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

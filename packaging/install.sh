#!/bin/sh
# Installs Airlock @VERSION@ for this user, without root: sh install.sh [--to DIRECTORY]
# The default directory is ~/.local: bin/airlock, the manual, and completions for bash, zsh and fish go below it.
# The archive is verified against the checksums below. To remove Airlock: sh install.sh --remove [--to DIRECTORY]
set -eu

version='@VERSION@'
url=${AIRLOCK_RELEASE_URL:-'@URL@'}

fail() {
    echo "error: $1" >&2
    shift
    for line; do echo "hint: $line" >&2; done
    exit 1
}
# The functions come first, so that a script that was downloaded only in part does nothing.
checksum_of() {
    case $1 in
    # @CHECKSUMS@
    esac
}
installed_files() {
    echo bin/airlock
    echo share/bash-completion/completions/airlock
    echo share/zsh/site-functions/_airlock
    echo share/fish/vendor_completions.d/airlock.fish
    (cd "$1" && ls share/man/man1/airlock.1 share/man/man1/airlock-*.1 2>/dev/null) || true
}
main() {
    prefix=${HOME:?}/.local remove=''
    while [ $# -gt 0 ]; do
        case $1 in
        --to) prefix=${2:?--to needs a directory}; shift ;;
        --remove) remove=1 ;;
        *) fail "unknown option $1" "sh install.sh [--to DIRECTORY] [--remove]" ;;
        esac
        shift
    done
    if [ -n "$remove" ]; then
        [ -e "$prefix/bin/airlock" ] || fail "there is no Airlock in $prefix"
        for file in $(installed_files "$prefix"); do rm -f "$prefix/$file"; done
        echo "removed Airlock from $prefix; sandboxes remain in their repositories and in the engine"
        return
    fi
    [ "$(uname -s)" = Linux ] || fail "Airlock runs on Linux, and this is $(uname -s)"
    case $(uname -m) in
    x86_64 | amd64) target=x86_64-unknown-linux-gnu ;;
    aarch64 | arm64) target=aarch64-unknown-linux-gnu ;;
    *) fail "there is no release for $(uname -m)" 'build it with a Rust toolchain: see docs/install.md of Airlock' ;;
    esac
    archive=airlock-$version-$target.tar.gz
    expected=$(checksum_of "$archive")
    [ -n "$expected" ] || fail "release $version has no archive for $target"
    # A glibc older than that of Debian 11 lacks functions that the binary uses. Without glibc, getconf fails.
    glibc=$(getconf GNU_LIBC_VERSION 2>/dev/null | sed 's/[^0-9.]*//') || glibc=''
    case $glibc in
    2.3[1-9]* | 2.[4-9][0-9]* | [3-9].*) ;;
    *) fail "Airlock needs glibc 2.31 or later, and this system has ${glibc:-none}" \
        'build it with a Rust toolchain: see docs/install.md of Airlock' ;;
    esac

    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT INT TERM
    echo "downloading $url/$archive"
    if command -v curl >/dev/null; then
        curl --fail --silent --show-error --location --output "$work/$archive" "$url/$archive" ||
            fail "failed to download $url/$archive"
    elif command -v wget >/dev/null; then
        wget -q -O "$work/$archive" "$url/$archive" || fail "failed to download $url/$archive"
    else
        fail 'neither curl nor wget is installed' 'sudo apt-get install curl'
    fi
    actual=$(sha256sum "$work/$archive" | cut -d' ' -f1)
    [ "$actual" = "$expected" ] || fail "$archive has the checksum $actual instead of $expected; nothing was installed"
    tar -xzf "$work/$archive" -C "$work"
    from=$work/airlock-$version-$target
    mkdir -p "$prefix/bin" "$prefix/share/man/man1" "$prefix/share/bash-completion/completions" \
        "$prefix/share/zsh/site-functions" "$prefix/share/fish/vendor_completions.d"
    # A running binary cannot be overwritten, but replaced.
    cp "$from/airlock" "$prefix/bin/.airlock.new"
    chmod 755 "$prefix/bin/.airlock.new"
    mv "$prefix/bin/.airlock.new" "$prefix/bin/airlock"
    cp "$from"/man/*.1 "$prefix/share/man/man1/"
    cp "$from/completions/airlock.bash" "$prefix/share/bash-completion/completions/airlock"
    cp "$from/completions/_airlock" "$prefix/share/zsh/site-functions/_airlock"
    cp "$from/completions/airlock.fish" "$prefix/share/fish/vendor_completions.d/airlock.fish"
    echo "installed $("$prefix/bin/airlock" --version) in $prefix"
    case :$PATH: in
    *":$prefix/bin:"*) echo 'next: airlock doctor' ;;
    *) echo "next: add $prefix/bin to your PATH, then run airlock doctor" ;;
    esac
}
main "$@"

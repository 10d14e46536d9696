//! Words for commands that a user copies into a shell.

/// Quotes bytes as one word for bash, because names chosen by an agent are printed in commands that a user pastes.
pub(super) fn quote_shell_word(bytes: &[u8]) -> String {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-_./,+@%".contains(b);
    if !bytes.is_empty() && bytes.iter().all(plain) {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    let mut word = String::from("$'");
    for byte in bytes {
        match byte {
            b'\'' | b'\\' => word += &format!("\\{}", char::from(*byte)),
            b' '..=b'~' => word.push(char::from(*byte)),
            _ => word += &format!("\\x{byte:02x}"),
        }
    }
    word + "'"
}

#[cfg(test)]
mod tests {
    #[test]
    fn shell_words_are_quoted() {
        for bytes in [&b"a/b.txt"[..], b"$(touch x)", b"it's", b"a\nb\\", b"\xff", b""] {
            let script = format!("printf %s {}", super::quote_shell_word(bytes));
            let out = std::process::Command::new("bash").args(["-c", &script]).output().expect("bash runs");
            assert_eq!(out.stdout, bytes, "{script}");
        }
    }
}

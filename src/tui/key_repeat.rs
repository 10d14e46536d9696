//! Guards a dialog against the key repeat of the key that opened it.

use std::time::{Duration, Instant};

use crossterm::event::KeyCode;

/// The longest time to the first repeat. Keyboards usually wait less.
const FIRST_REPEAT: Duration = Duration::from_millis(1000);
/// The longest time between later repeats.
const LATER_REPEAT: Duration = Duration::from_millis(300);

/// The key that opened a dialog, when it was last pressed, and how long further presses count as key repeat.
#[derive(Debug, Default)]
pub(super) struct KeyRepeatGuard(Option<(KeyCode, Instant, Duration)>);

impl KeyRepeatGuard {
    /// Records the key that opened a dialog, or the accepting key that led to a risky file. A key that only moves to a risky
    /// file may keep repeating, and is not recorded.
    pub(super) fn record_key(&mut self, guarded_key: Option<KeyCode>, now: Instant) {
        self.0 = guarded_key.map(|key| (key, now, FIRST_REPEAT));
    }

    /// Returns whether a key press is a repeat of the recorded key. Any other press clears the record.
    pub(super) fn is_repeat(&mut self, key: KeyCode, now: Instant) -> bool {
        let is_repeat =
            self.0.is_some_and(|(held, last, pause)| held == key && now.saturating_duration_since(last) < pause);
        self.0 = is_repeat.then_some((key, now, LATER_REPEAT));
        is_repeat
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_key_is_ignored_until_released() {
        let (mut guard, mut now) = (KeyRepeatGuard::default(), Instant::now());
        let y = KeyCode::Char('y');
        assert!(!guard.is_repeat(y, now), "no key was recorded");
        guard.record_key(Some(y), now);
        now += Duration::from_millis(660);
        assert!(guard.is_repeat(y, now), "the first repeat takes longer");
        for _ in 0..100 {
            now += Duration::from_millis(33);
            assert!(guard.is_repeat(y, now), "as long as the key is held");
        }
        now += LATER_REPEAT;
        assert!(!guard.is_repeat(y, now), "the key was released and pressed again");
        guard.record_key(None, now);
        assert!(!guard.is_repeat(KeyCode::Char('j'), now), "no key is recorded");
        guard.record_key(Some(KeyCode::Char('A')), now);
        assert!(!guard.is_repeat(y, now), "another key is not a repeat");
        assert!(!guard.is_repeat(KeyCode::Char('A'), now), "another key ends the repeat");
    }
}

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
    /// Records the key that opened a dialog or a risky file. Keys that accept nothing may keep repeating, and are not recorded.
    pub(super) fn record_key(&mut self, accepting_key: Option<KeyCode>, now: Instant) {
        self.0 = accepting_key.map(|key| (key, now, FIRST_REPEAT));
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
    fn a_held_key_is_no_answer_until_it_was_let_go() {
        let (mut held, mut now) = (KeyRepeatGuard::default(), Instant::now());
        let y = KeyCode::Char('y');
        assert!(!held.is_repeat(y, now), "nothing was called up");
        held.record_key(Some(y), now);
        now += Duration::from_millis(660);
        assert!(held.is_repeat(y, now), "the first one takes longer");
        for _ in 0..100 {
            now += Duration::from_millis(33);
            assert!(held.is_repeat(y, now), "however long it is held");
        }
        now += LATER_REPEAT;
        assert!(!held.is_repeat(y, now), "it was let go, and pressed anew");
        held.record_key(None, now);
        assert!(!held.is_repeat(KeyCode::Char('j'), now), "moving is no answer");
        held.record_key(Some(KeyCode::Char('A')), now);
        assert!(!held.is_repeat(y, now), "another key is an answer at once");
        assert!(!held.is_repeat(KeyCode::Char('A'), now), "and ends it");
    }
}

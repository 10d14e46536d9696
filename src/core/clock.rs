//! The current time, as records have it, and times for people.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Returns the time since the epoch.
#[must_use]
pub(crate) fn time_since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Returns the seconds since the epoch.
#[must_use]
pub(crate) fn seconds_since_epoch() -> u64 {
    time_since_epoch().as_secs()
}

/// Formats a time in seconds since the epoch as `YYYY-MM-DD HH:MM:SSZ`, in UTC.
#[must_use]
pub(crate) fn format_time(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Howard Hinnant's `civil_from_days`, for days since the epoch that are not negative.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02} {:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_formatted_in_utc() {
        assert_eq!(format_time(0), "1970-01-01 00:00:00Z");
        assert_eq!(format_time(951_826_554), "2000-02-29 12:15:54Z");
        assert_eq!(format_time(1_796_083_199), "2026-11-30 23:59:59Z");
    }
}

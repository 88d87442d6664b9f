//! Times that come every week, in a zone.
//!
//! **Invariant:** pure. A weekly time that the clock jumps over is the first instant after the jump; of one that comes
//! twice the first is meant.

use std::str::FromStr;

use jiff::ToSpan as _;
use jiff::civil::Weekday;

use crate::base::time::{Timestamp, Zone};

/// A time of the week, such as `Fri 16:00`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeekTime {
    day: Weekday,
    hour: i8,
    minute: i8,
}

impl FromStr for WeekTime {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<WeekTime, &'static str> {
        const WANTED: &str = "a day and a time, such as Fri 16:00";
        let (day, time) = text.trim().split_once(' ').ok_or(WANTED)?;
        let day = match day.to_ascii_lowercase().as_str() {
            "mon" | "monday" => Weekday::Monday,
            "tue" | "tuesday" => Weekday::Tuesday,
            "wed" | "wednesday" => Weekday::Wednesday,
            "thu" | "thursday" => Weekday::Thursday,
            "fri" | "friday" => Weekday::Friday,
            "sat" | "saturday" => Weekday::Saturday,
            "sun" | "sunday" => Weekday::Sunday,
            _ => return Err(WANTED),
        };
        let (hour, minute) = time.trim().split_once(':').ok_or(WANTED)?;
        let number = |text: &str, end: i8| {
            let digits = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<i8>().ok().filter(|n| digits && *n < end).ok_or(WANTED)
        };
        Ok(WeekTime { day, hour: number(hour, 24)?, minute: number(minute, 60)? })
    }
}

impl WeekTime {
    /// Returns the last time it came, at or before `now`.
    #[must_use]
    pub fn last(self, now: Timestamp, zone: &Zone) -> Option<Timestamp> {
        (0..=7).filter_map(|days| self.on(now, -days, zone)).filter(|at| *at <= now).max()
    }

    /// Returns the next time it comes, after `now`.
    #[must_use]
    pub fn next(self, now: Timestamp, zone: &Zone) -> Option<Timestamp> {
        (0..=8).filter_map(|days| self.on(now, days, zone)).filter(|at| *at > now).min()
    }

    /// Returns the instant it comes `days` days after the day of `now`; `None` when that is another day of the week.
    fn on(self, now: Timestamp, days: i32, zone: &Zone) -> Option<Timestamp> {
        let date = now.civil(zone).date().checked_add(days.days()).ok()?;
        if date.weekday() != self.day {
            return None;
        }
        zone.instant(date.at(self.hour, self.minute, 0, 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::parse_time;

    #[track_caller]
    fn check(now: &str, zone: &str, last: &str, next: &str) {
        let zone = Zone::named(zone).expect("the zone files are installed");
        let now = parse_time(now, &zone).expect("a time");
        let time: WeekTime = "Sun 02:30".parse().expect("a weekly time");
        let shown = |at: Option<Timestamp>| at.map(|at| at.in_zone(&zone)).unwrap_or_default();
        assert_eq!((shown(time.last(now, &zone)), shown(time.next(now, &zone))), (last.to_owned(), next.to_owned()));
    }

    #[test]
    fn weekly_times_come_every_week_also_when_the_clock_jumps() {
        check("2026-11-21 10:00", "UTC", "2026-11-15 02:30:00 +00:00", "2026-11-22 02:30:00 +00:00");
        check("2026-11-22 02:30", "UTC", "2026-11-22 02:30:00 +00:00", "2026-11-29 02:30:00 +00:00");
        // 02:30 does not exist on 2026-03-29 in Berlin, and comes twice on 2026-10-25.
        check("2026-03-28 12:00", "Europe/Berlin", "2026-03-22 02:30:00 +01:00", "2026-03-29 03:30:00 +02:00");
        check("2026-10-25 12:00", "Europe/Berlin", "2026-10-25 02:30:00 +02:00", "2026-11-01 02:30:00 +01:00");
    }

    #[test]
    fn a_weekly_time_has_a_day_and_a_time() {
        for bad in ["", "Fri", "16:00", "Fry 16:00", "Fri 24:00", "Fri 16:60", "Fri 1600", "Fri -1:00", "Fri 016:00"] {
            assert!(bad.parse::<WeekTime>().is_err(), "{bad}");
        }
        assert_eq!("friday 6:05".parse(), Ok(WeekTime { day: Weekday::Friday, hour: 6, minute: 5 }));
    }
}

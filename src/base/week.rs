//! Times that come every week, in a zone.
//!
//! **Invariant:** pure. A weekly time that the clock jumps over is the instant of the jump. A span begins with the first
//! of two equal times and ends with the second, and lasts never longer than it is written, by more than the clock's shift.

use std::str::FromStr;

use jiff::ToSpan as _;
use jiff::civil::{Date, Weekday};

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
    fn minute_of_week(self) -> i32 {
        let day = i32::from(self.day.to_monday_zero_offset());
        day.saturating_mul(MINUTES_A_DAY)
            .saturating_add(i32::from(self.hour).saturating_mul(60))
            .saturating_add(i32::from(self.minute))
    }
}

const MINUTES_A_DAY: i32 = 24 * 60;

/// What lies between two times of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeekSpan {
    /// Its first time.
    pub from: WeekTime,
    /// The time before which it ends.
    pub to: WeekTime,
}

impl WeekSpan {
    /// Returns how long it is on a clock that nobody moves, in minutes.
    fn minutes(self) -> i32 {
        self.to.minute_of_week().saturating_sub(self.from.minute_of_week()).rem_euclid(7 * MINUTES_A_DAY)
    }

    /// Returns when it began and when it ends, while it holds. A span that the clock jumps over does not hold at all.
    #[must_use]
    pub fn at(self, now: Timestamp, zone: &Zone) -> Option<(Timestamp, Timestamp)> {
        let today = now.civil(zone).date();
        // One that begins tomorrow can have begun: the clock may be set back over midnight.
        let spans = (-8..=1).filter_map(|days| self.begun_on(today.checked_add(days.days()).ok()?, zone));
        spans.filter(|(from, to)| *from <= now && now < *to).max_by_key(|(_, to)| *to)
    }

    /// Returns the span that begins on a date, if one does.
    fn begun_on(self, date: Date, zone: &Zone) -> Option<(Timestamp, Timestamp)> {
        if date.weekday() != self.from.day {
            return None;
        }
        let begin = date.at(self.from.hour, self.from.minute, 0, 0);
        let end = begin.checked_add(self.minutes().minutes()).ok()?;
        Some((zone.instant(begin, false)?, zone.instant(end, true)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::parse_time;

    fn span(text: &str) -> WeekSpan {
        let (from, to) = text.split_once(" - ").expect("two times");
        WeekSpan { from: from.parse().expect("a weekly time"), to: to.parse().expect("a weekly time") }
    }

    #[track_caller]
    fn check(written: &str, zone: &str, now: &str, want: Option<(&str, &str)>) {
        let zone = Zone::named(zone).expect("the zone files are installed");
        let now = parse_time(now, &zone).expect("a time");
        let found = span(written).at(now, &zone).map(|(from, to)| (from.in_zone(&zone), to.in_zone(&zone)));
        let found = found.as_ref().map(|(from, to)| (from.as_str(), to.as_str()));
        assert_eq!(found, want, "{written} at {}", now.in_zone(&zone));
    }

    #[test]
    fn a_span_comes_every_week() {
        let want = Some(("2026-11-20 16:00:00 +00:00", "2026-11-23 08:00:00 +00:00"));
        check("Fri 16:00 - Mon 08:00", "UTC", "2026-11-20 15:59:59", None);
        check("Fri 16:00 - Mon 08:00", "UTC", "2026-11-20 16:00", want);
        check("Fri 16:00 - Mon 08:00", "UTC", "2026-11-23 07:59:59", want);
        check("Fri 16:00 - Mon 08:00", "UTC", "2026-11-23 08:00", None);
        let year = Some(("2026-12-31 22:00:00 +00:00", "2027-01-01 02:00:00 +00:00"));
        check("Thu 22:00 - Fri 02:00", "UTC", "2027-01-01 01:00", year);
        let all_but_a_minute = Some(("2026-12-28 00:00:00 +00:00", "2027-01-03 23:59:00 +00:00"));
        check("Mon 00:00 - Sun 23:59", "UTC", "2027-01-02 12:00", all_but_a_minute);
    }

    #[test]
    fn a_span_at_the_change_of_the_clock_lasts_no_longer_than_written_and_the_shift() {
        let zone = "Europe/Berlin";
        // On 2026-03-29 the clock goes from 02:00 to 03:00.
        for written in ["Sun 02:00 - Sun 03:00", "Sun 02:15 - Sun 02:45", "Sun 02:30 - Sun 03:00"] {
            for now in ["2026-03-29 01:59", "2026-03-29 03:00", "2026-03-29 03:30", "2026-03-31 12:00"] {
                check(written, zone, now, None);
            }
        }
        let rest = Some(("2026-03-29 03:00:00 +02:00", "2026-03-29 03:15:00 +02:00"));
        check("Sun 02:30 - Sun 03:15", zone, "2026-03-29 03:10", rest);
        check("Sun 02:30 - Sun 03:15", zone, "2026-03-29 03:15", None);
        check("Sun 02:30 - Sun 03:15", zone, "2026-03-31 12:00", None);
        let first = Some(("2026-03-29 01:30:00 +01:00", "2026-03-29 03:00:00 +02:00"));
        check("Sun 01:30 - Sun 02:30", zone, "2026-03-29 01:45", first);
        // On 2026-10-25 it goes from 03:00 back to 02:00.
        let both = Some(("2026-10-25 02:30:00 +02:00", "2026-10-25 02:45:00 +01:00"));
        check("Sun 02:30 - Sun 02:45", zone, "2026-10-25 02:30", both);
        check("Sun 02:30 - Sun 02:45", zone, "2026-10-25T02:44:59+01:00", both);
        check("Sun 02:30 - Sun 02:45", zone, "2026-10-25T02:45:00+01:00", None);
        // Half an hour, on 2026-10-04 from 02:00 to 02:30.
        check("Sun 02:00 - Sun 02:30", "Australia/Lord_Howe", "2026-10-06 12:00", None);
        // A day that nobody there ever saw.
        check("Fri 00:00 - Sat 00:00", "Pacific/Apia", "2011-12-31 00:00", None);
        check("Fri 00:00 - Sat 00:00", "Pacific/Apia", "2012-01-02 12:00", None);
    }

    /// Every zone of the system that changes its clock, around each change of some years; another slice every time.
    #[test]
    fn no_span_of_any_zone_and_year_is_longer_than_written_and_the_shift() {
        let begin = std::env::var("WEEK_SLICE").ok().and_then(|n| n.parse().ok());
        let slice: usize = begin.unwrap_or(std::process::id() as usize % 23);
        let (mut zones, mut tried) = (0, 0);
        for name in jiff::tz::db().available().skip(slice).step_by(23) {
            let Ok(zone) = Zone::named(name.as_str()) else { continue };
            zones += 1;
            let first = parse_time("1985-06-01 00:00", &Zone::utc()).expect("a time");
            let last = parse_time("2040-01-01 00:00", &Zone::utc()).expect("a time");
            for (jump, shift) in zone.changes(first, last).into_iter().step_by(9) {
                for (begin, length) in [(-90, 60), (-60, 90), (-30, 15), (-15, 45), (0, 30), (-45, 7 * 24 * 60 - 1)] {
                    for turn in [0, 15, 30] {
                        tried += 1;
                        let at = |minutes: i64| jump.plus_ms(minutes * 60_000).civil(&zone);
                        let from = at(begin + turn);
                        let to = from.checked_add(i64::from(length).minutes()).expect("a time");
                        let of = |civil: jiff::civil::DateTime| WeekTime {
                            day: civil.weekday(),
                            hour: civil.hour(),
                            minute: civil.minute(),
                        };
                        let span = WeekSpan { from: of(from), to: of(to) };
                        assert_eq!(span.minutes(), length);
                        all_hold(span, &zone, jump, shift, slice);
                    }
                }
            }
        }
        assert!(zones > 10 && tried > 500, "{zones} zones, {tried} spans");
    }

    #[track_caller]
    fn all_hold(span: WeekSpan, zone: &Zone, jump: Timestamp, shift_ms: i64, slice: usize) {
        let written_ms = i64::from(span.minutes()) * 60_000;
        for quarter in -20..60 {
            let now = jump.plus_ms(quarter * 15 * 60_000);
            let shown = now.civil(zone);
            let said = || format!("WEEK_SLICE={slice} {} {span:?} at {}", zone.name(), now.in_zone(zone));
            let found = span.at(now, zone);
            if let Some((from, to)) = found {
                assert!(to.0 - from.0 <= written_ms + shift_ms, "{}: {from} to {to}", said());
            }
            // While the clock shows a time of the span, it holds.
            let minute = i32::from(shown.weekday().to_monday_zero_offset()) * MINUTES_A_DAY
                + i32::from(shown.hour()) * 60
                + i32::from(shown.minute());
            let inside = (minute - span.from.minute_of_week()).rem_euclid(7 * MINUTES_A_DAY) < span.minutes();
            assert!(found.is_some() || !inside, "{}", said());
            // And otherwise only until a clock that was set back shows its beginning, or its end, the second time.
            let again = |(from, to): (Timestamp, Timestamp)| now.0 - from.0 < shift_ms || to.0 - now.0 <= shift_ms;
            assert!(inside || found.is_none_or(again), "{}", said());
        }
    }

    #[test]
    fn a_weekly_time_has_a_day_and_a_time() {
        for bad in ["", "Fri", "16:00", "Fry 16:00", "Fri 24:00", "Fri 16:60", "Fri 1600", "Fri -1:00", "Fri 016:00"] {
            assert!(bad.parse::<WeekTime>().is_err(), "{bad}");
        }
        assert_eq!("friday 6:05".parse(), Ok(WeekTime { day: Weekday::Friday, hour: 6, minute: 5 }));
    }
}

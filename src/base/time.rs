//! Points in time, and wall-clock times as people write them.
//!
//! **Invariant:** nothing here asks for the current time; it comes in as a value. A time without a zone is
//! never guessed at: the caller hands in the zone.

use std::fmt;
use std::str::FromStr;

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time, in milliseconds since 1970 UTC; written as RFC 3339 with milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Returns the time `ms` milliseconds later, stopping at the end of representable time.
    #[must_use]
    pub fn plus_ms(self, ms: i64) -> Timestamp {
        Timestamp(self.0.saturating_add(ms))
    }

    /// Writes the time in `zone` with its offset, as `2026-11-22 09:09:50 +08:00`.
    #[must_use]
    pub fn in_zone(self, zone: &Zone) -> String {
        self.to_jiff().to_zoned(zone.0.clone()).strftime("%Y-%m-%d %H:%M:%S %:z").to_string()
    }

    /// Returns what clocks in `zone` show then.
    pub(super) fn civil(self, zone: &Zone) -> DateTime {
        self.to_jiff().to_zoned(zone.0.clone()).datetime()
    }

    fn to_jiff(self) -> jiff::Timestamp {
        let ms = self.0.clamp(jiff::Timestamp::MIN.as_millisecond(), jiff::Timestamp::MAX.as_millisecond());
        jiff::Timestamp::from_millisecond(ms).expect("clamped to what jiff can hold")
    }
}

/// An instant on two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// What the clock on the wall shows, which people and time servers set.
    pub wall: Timestamp,
    /// What a clock shows that nobody sets, in milliseconds since some time.
    pub steady_ms: i64,
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.to_jiff())
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = jiff::Timestamp::from_str(&text).map_err(serde::de::Error::custom)?;
        Ok(Timestamp(time.as_millisecond()))
    }
}

/// The zone that times without an offset are meant in.
#[derive(Clone, Debug, PartialEq)]
pub struct Zone(TimeZone);

impl Zone {
    /// Looks up a zone by its IANA name, such as `Asia/Shanghai`.
    ///
    /// # Errors
    /// When the system's zone files hold no such name.
    pub fn named(name: &str) -> Result<Zone, BadTime> {
        TimeZone::get(name).map(Zone).map_err(|_| BadTime::NoSuchZone(name.to_owned()))
    }

    /// Returns UTC.
    #[must_use]
    pub fn utc() -> Zone {
        Zone(TimeZone::UTC)
    }

    /// Returns the system's zone, and UTC where the system names none.
    #[must_use]
    pub fn system() -> Zone {
        Zone(TimeZone::try_system().unwrap_or(TimeZone::UTC))
    }

    /// Returns the instant at which clocks show `civil`: of a time that comes twice the first or the `second`, of one that
    /// is jumped over the instant of the jump.
    pub(super) fn instant(&self, civil: DateTime, second: bool) -> Option<Timestamp> {
        let ambiguous = self.0.to_ambiguous_zoned(civil);
        if matches!(ambiguous.offset(), AmbiguousOffset::Gap { .. }) {
            // What a jump leaves out is read with the offset of afterwards: that lies before the jump.
            let before = ambiguous.earlier().ok()?.timestamp();
            return self.0.following(before).next().map(|jump| Timestamp(jump.timestamp().as_millisecond()));
        }
        let zoned = if second { ambiguous.later() } else { ambiguous.earlier() }.ok()?;
        Some(Timestamp(zoned.timestamp().as_millisecond()))
    }

    /// Returns the changes of the clock between two instants, with how far each moves it, in milliseconds.
    #[cfg(test)]
    pub(super) fn changes(&self, from: Timestamp, to: Timestamp) -> Vec<(Timestamp, i64)> {
        let offset = |at: jiff::Timestamp| i64::from(self.0.to_offset(at).seconds()) * 1000;
        let jumps = self.0.following(from.to_jiff()).map(|jump| jump.timestamp());
        let change = |at: jiff::Timestamp| {
            let before = jiff::Timestamp::from_millisecond(at.as_millisecond() - 1).expect("it is in range");
            (Timestamp(at.as_millisecond()), (offset(at) - offset(before)).abs())
        };
        jumps.map(change).take_while(|(at, _)| *at < to).collect()
    }

    /// Returns the zone's IANA name, `UTC` where it has none.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }
}

/// Why a text is not a time; its text says what was wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTime {
    /// Neither of the two forms, or a date that no calendar has.
    #[error("a time: YYYY-MM-DD HH:MM:SS or RFC 3339")]
    Malformed,
    /// The clock jumps over this time when summer time begins.
    #[error("a time that exists in {0}: the clock jumps over this one; name an offset (RFC 3339) or another time")]
    Gap(String),
    /// The system does not know the zone.
    #[error("a time zone of this system, by its IANA name such as Asia/Shanghai; it has no {0}")]
    NoSuchZone(String),
}

/// Reads a time as tasks write it: RFC 3339 with an offset, or `2019-5-24 09:09:50` in `zone`.
///
/// The wall-clock form takes unpadded numbers (seed 000 writes `2019-5-24`), `T` or one space between date and
/// time, and may leave out the seconds. Of a time that comes twice when summer time ends, the first is meant.
///
/// # Errors
/// [`BadTime::Malformed`], or [`BadTime::Gap`] for a time that the clock jumps over.
pub fn parse_time(text: &str, zone: &Zone) -> Result<Timestamp, BadTime> {
    parse(text, zone, false)
}

/// Reads a time at which something ends, as [`parse_time`] does; of a time that comes twice the second is meant, so that
/// nothing ends too early.
///
/// # Errors
/// As [`parse_time`].
pub fn parse_end(text: &str, zone: &Zone) -> Result<Timestamp, BadTime> {
    parse(text, zone, true)
}

fn parse(text: &str, zone: &Zone, second: bool) -> Result<Timestamp, BadTime> {
    if let Ok(time) = jiff::Timestamp::from_str(text) {
        return Ok(Timestamp(time.as_millisecond()));
    }
    let civil = parse_wall_clock(text).ok_or(BadTime::Malformed)?;
    let ambiguous = zone.0.to_ambiguous_zoned(civil);
    if matches!(ambiguous.offset(), AmbiguousOffset::Gap { .. }) {
        return Err(BadTime::Gap(zone.name().to_owned()));
    }
    let zoned = if second { ambiguous.later() } else { ambiguous.earlier() }.map_err(|_| BadTime::Malformed)?;
    Ok(Timestamp(zoned.timestamp().as_millisecond()))
}

fn parse_wall_clock(text: &str) -> Option<DateTime> {
    let (date, time) = text.trim().split_once(['T', ' '])?;
    let date = numbers(date, '-')?;
    let time = numbers(time, ':')?;
    let &[year, month, day] = date.as_slice() else { return None };
    let (&[hour, minute], second) = time.split_at_checked(2).and_then(|(hm, rest)| {
        let hm: &[i16; 2] = hm.try_into().ok()?;
        match rest {
            [] => Some((hm, 0)),
            [second] => Some((hm, *second)),
            _ => None,
        }
    })?;
    let small = |n: i16| i8::try_from(n).ok();
    DateTime::new(year, small(month)?, small(day)?, small(hour)?, small(minute)?, small(second)?, 0).ok()
}

fn numbers(text: &str, separator: char) -> Option<Vec<i16>> {
    text.split(separator)
        .map(|part| {
            let digits = !part.is_empty() && part.len() <= 4 && part.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| part.parse().ok()).flatten()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, zone: &str, want: Result<&str, BadTime>) {
        let zone = Zone::named(zone).expect("the zone files are installed");
        assert_eq!(parse_time(text, &zone).map(|t| t.to_string()), want.map(str::to_owned), "{text}");
    }

    #[test]
    fn times_are_read_as_the_seeds_write_them() {
        check("2019-5-24 09:09:50", "Asia/Shanghai", Ok("2019-05-24T01:09:50.000Z"));
        check("2018-11-27 14:09:50", "Asia/Shanghai", Ok("2018-11-27T06:09:50.000Z"));
        check("2026-11-21 9:9", "UTC", Ok("2026-11-21T09:09:00.000Z"));
        check("2026-11-21T09:09:50+08:00", "UTC", Ok("2026-11-21T01:09:50.000Z"));
        for bad in [
            "",
            "tomorrow",
            "2026-02-30 00:00:00",
            "2026-11-21",
            "2026-11-21 25:00:00",
            "2026-11-21 1:2:3:4",
            "2026-+1-21 1:2",
        ] {
            check(bad, "UTC", Err(BadTime::Malformed));
        }
    }

    #[test]
    fn a_skipped_time_is_refused_and_of_a_repeated_time_the_first_counts() {
        check("2026-03-29 02:30:00", "Europe/Berlin", Err(BadTime::Gap("Europe/Berlin".to_owned())));
        check("2026-10-25 02:30:00", "Europe/Berlin", Ok("2026-10-25T00:30:00.000Z"));
        let zone = Zone::named("Europe/Berlin").expect("the zone files are installed");
        let end = parse_end("2026-10-25 02:30:00", &zone).map(|at| at.to_string());
        assert_eq!(end.as_deref(), Ok("2026-10-25T01:30:00.000Z"), "what ends then ends the second time");
    }

    #[test]
    fn timestamps_survive_json() {
        let time = Timestamp(1_795_226_990_123);
        let text = serde_json::to_string(&time).expect("serialises");
        assert_eq!(serde_json::from_str::<Timestamp>(&text).expect("parses"), time);
        assert_eq!(time.in_zone(&Zone::named("Asia/Shanghai").expect("known")), "2026-11-21 10:09:50 +08:00");
    }
}

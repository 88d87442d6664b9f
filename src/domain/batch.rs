//! Batches: a group's hosts one slice after the other.
//!
//! **Invariant:** pure. Every host is in exactly one batch, in the order the task names them; no batch is empty.

use std::str::FromStr;

/// A part of a group's hosts: so many, or so many of a hundred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// So many hosts.
    Count(u32),
    /// So many of a hundred.
    Percent(u32),
}

impl FromStr for Share {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Share, &'static str> {
        const WANTED: &str = "a number of hosts, or of percent such as 10%, 1 or more";
        let (digits, percent) = text.trim().strip_suffix('%').map_or((text.trim(), false), |digits| (digits, true));
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let number: u32 = digits.parse().ok().filter(|_| plain).ok_or(WANTED)?;
        match percent {
            true if number <= 100 => Ok(Share::Percent(number)),
            false => Ok(Share::Count(number)),
            true => Err(WANTED),
        }
    }
}

impl Share {
    /// Returns how many of `hosts` may fail: of a percentage, what is surely not more than it.
    #[must_use]
    pub fn of_failures(self, hosts: usize) -> u32 {
        let hosts = u32::try_from(hosts).unwrap_or(u32::MAX);
        match self {
            Share::Count(count) => count,
            Share::Percent(percent) => {
                u32::try_from(u64::from(hosts).saturating_mul(u64::from(percent)) / 100).unwrap_or(u32::MAX)
            }
        }
    }
}

/// How a task wants its groups cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batching {
    /// The batches; one of all hosts when empty.
    pub shares: Vec<Share>,
    /// How long to wait between two of them, in seconds.
    pub interval_s: u64,
    /// Whether somebody must let each next one begin.
    pub gate: bool,
    /// How many hosts of a group may fail; any number when `None`.
    pub max_fail: Option<Share>,
    /// How many hosts of one batch may fail; any number when `None`.
    pub batch_max_fail: Option<Share>,
}

/// Cuts `hosts` hosts into batches and returns their sizes. A percentage ends its batch at `ceil(hosts × cumulative % / 100)`; what
/// the shares leave over is a batch of its own, and a batch of nobody is none.
#[must_use]
pub fn cut(shares: &[Share], hosts: usize) -> Vec<u32> {
    let all = u32::try_from(hosts).unwrap_or(u32::MAX);
    let (mut sizes, mut done, mut percent) = (Vec::new(), 0_u32, 0_u64);
    for share in shares {
        let end = match share {
            Share::Count(count) => done.saturating_add(*count),
            Share::Percent(part) => {
                percent = percent.saturating_add(u64::from(*part));
                u32::try_from(u64::from(all).saturating_mul(percent).div_ceil(100)).unwrap_or(u32::MAX)
            }
        };
        let end = end.clamp(done, all);
        sizes.push(end.saturating_sub(done));
        done = end;
    }
    sizes.push(all.saturating_sub(done));
    sizes.retain(|size| *size > 0);
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(shares: &str, hosts: usize, want: &[u32]) {
        let shares: Vec<Share> = shares.split_whitespace().map(|share| share.parse().expect("a share")).collect();
        assert_eq!(cut(&shares, hosts), want, "{shares:?} of {hosts}");
    }

    #[test]
    fn batches_are_cut_as_codo_cuts_them() {
        check("10% 20% 30% 40%", 7, &[1, 2, 2, 2]);
        check("10% 20% 30% 40%", 2, &[1, 1]);
        check("10% 20% 30% 40%", 1, &[1]);
        check("10% 20% 30% 40%", 37, &[4, 8, 11, 14]);
        check("50%", 3, &[2, 1]);
        check("1 5", 10, &[1, 5, 4]);
        check("1 5", 4, &[1, 3]);
        check("1 50%", 10, &[1, 4, 5]);
        check("", 5, &[5]);
        check("0% 100%", 5, &[5]);
        check("10%", 0, &[]);
    }

    #[test]
    fn every_host_is_in_one_batch() {
        for hosts in 0..200 {
            for shares in ["10% 20% 30% 40%", "1 2 3", "33% 33% 33%", "1 10% 100%", "90% 90%"] {
                let shares: Vec<Share> =
                    shares.split_whitespace().map(|share| share.parse().expect("a share")).collect();
                let sizes = cut(&shares, hosts);
                assert_eq!(sizes.iter().sum::<u32>() as usize, hosts, "{shares:?} of {hosts}: {sizes:?}");
                assert!(!sizes.contains(&0));
            }
        }
    }

    #[test]
    fn a_share_is_a_number_or_a_percentage() {
        for bad in ["", "%", "-1", "1.5", "101%", "10 %", "+3"] {
            assert!(bad.parse::<Share>().is_err(), "{bad}");
        }
        assert_eq!("100%".parse(), Ok(Share::Percent(100)));
        assert_eq!(Share::Percent(10).of_failures(19), 1);
        assert_eq!(Share::Count(3).of_failures(1), 3);
    }
}

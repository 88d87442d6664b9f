//! A slice of `make fuzz`: every reader of bytes from outside, with seeds that were changed at random, and with the greatest
//! numbers in the place of each of theirs. What is changed follows from a number that a failure prints.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use spoolgate::fuzzing::{TARGETS, Target};

/// Numbers at the edge of what fits, and beyond.
const NUMBERS: [&str; 10] = [
    "0",
    "-1",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775809",
    "1e400",
    "99999999999999999999999999999999999999999999999999999999999999999999999999999999999999999",
];

/// Words that mean something to one reader or another.
const WORDS: [&[u8]; 20] = [
    b"\0",
    b"\n",
    b"\r\n",
    b"\"",
    b"'",
    b"\\",
    b"{",
    b"[",
    b"(",
    b"]",
    b"}",
    b"*",
    b"&a ",
    b"%",
    b":",
    b",",
    b"\x1b[",
    b"\x9b",
    b"\xe2\x80\xae",
    b"\xff",
];

/// How long one input may take, in a debug build on a busy machine: many times what the slowest takes.
const LIMIT: Duration = Duration::from_secs(20);

/// The seeds of a target, by name.
fn seeds(target: &Target) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target.name);
    let mut paths: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// Random numbers (splitmix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `end`, and 0 when that is 0.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % (end as u64).max(1)).unwrap()
    }

    fn range(&mut self, bytes: &[u8], most: usize) -> std::ops::Range<usize> {
        let from = self.below(bytes.len() + 1);
        from..from + self.below(most.min(bytes.len() - from) + 1)
    }
}

/// Where numbers stand in a text.
fn numbers(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut found: Vec<std::ops::Range<usize>> = Vec::new();
    for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| byte.is_ascii_digit()) {
        match found.last_mut().filter(|range| range.end == at) {
            Some(range) => range.end += 1,
            None => found.push(at..at + 1),
        }
    }
    found
}

/// Returns one of the seeds, changed.
fn changed(seeds: &[Vec<u8>], number: u64) -> Vec<u8> {
    let mut chance = Chance(number);
    let mut bytes = seeds[chance.below(seeds.len())].clone();
    for _ in 0..=chance.below(6) {
        match chance.below(7) {
            0 => {
                let at = chance.below(bytes.len());
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << chance.below(8);
                }
            }
            1 => drop(bytes.drain(chance.range(&bytes, 40))),
            2 => {
                let (at, word) = (chance.below(bytes.len() + 1), WORDS[chance.below(WORDS.len())]);
                bytes.splice(at..at, word.iter().copied());
            }
            3 => {
                let ranges = numbers(&bytes);
                if !ranges.is_empty() {
                    let word = NUMBERS[chance.below(NUMBERS.len())];
                    bytes.splice(ranges[chance.below(ranges.len())].clone(), word.bytes());
                }
            }
            4 => {
                let other = &seeds[chance.below(seeds.len())];
                let (part, at) = (other[chance.range(other, 400)].to_vec(), chance.below(bytes.len() + 1));
                bytes.splice(at..at, part);
            }
            // Ten thousand times the same is what costs the square.
            5 => {
                let part = bytes[chance.range(&bytes, 30)].to_vec();
                let at = chance.below(bytes.len() + 1);
                let times = [2, 50, 10_000][chance.below(3)];
                bytes.splice(at..at, part.repeat(times).into_iter().take(1 << 16));
            }
            _ => bytes.truncate(chance.below(bytes.len() + 1)),
        }
    }
    bytes
}

/// Feeds one input; what fails says how it is made again.
fn feed(target: &Target, bytes: &[u8], what: &str) {
    struct Told<'a>(&'a str, &'a str);
    impl Drop for Told<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("{} of {}; again: FUZZ_TARGETS={} cargo test --test it fuzz::", self.1, self.0, self.0);
            }
        }
    }
    let _told = Told(target.name, what);
    let begun = Instant::now();
    (target.read)(bytes);
    assert!(begun.elapsed() < LIMIT, "it took {:?}", begun.elapsed());
}

/// The targets that `FUZZ_TARGETS` names, or all.
fn targets() -> impl Iterator<Item = &'static Target> {
    let named = std::env::var("FUZZ_TARGETS").unwrap_or_default();
    TARGETS.iter().filter(move |target| named.is_empty() || named.split(' ').any(|name| name == target.name))
}

#[test]
fn every_reader_lives_with_every_number() {
    for target in targets() {
        for (n, seed) in seeds(target).iter().enumerate() {
            feed(target, seed, &format!("seed {n}"));
            for (at, range) in numbers(seed).into_iter().take(60).enumerate() {
                for number in NUMBERS {
                    let mut bytes = seed.clone();
                    bytes.splice(range.clone(), number.bytes());
                    feed(target, &bytes, &format!("seed {n} with {number} as its number {at}"));
                }
            }
        }
    }
}

#[test]
fn every_reader_lives_with_anything() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (from, count) = (number("FUZZ_SEED").unwrap_or(1), number("FUZZ_CASES").unwrap_or(150));
    let mut said = String::new();
    for target in targets() {
        let seeds = seeds(target);
        for case in from..from.saturating_add(count) {
            feed(target, &changed(&seeds, case), &format!("FUZZ_SEED={case} FUZZ_CASES=1"));
        }
        write!(said, " {}", target.name).unwrap();
    }
    println!("{count} inputs from FUZZ_SEED={from} on for each of{said}");
}

#[test]
fn seeds_are_there_and_small() {
    let mut bytes = 0;
    for target in TARGETS {
        let seeds = seeds(target);
        assert!(!seeds.is_empty(), "{} has no seeds in fuzz/seeds", target.name);
        bytes += seeds.iter().map(Vec::len).sum::<usize>();
    }
    assert!(bytes < 200_000, "{bytes} bytes of seeds");
    let dirs = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds")).unwrap();
    assert_eq!(dirs.count(), TARGETS.len(), "a directory of seeds for each target and no other");
}

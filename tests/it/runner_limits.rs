//! The runner's limits in real time: never early, and hardly late.

use std::process::{Command, Stdio};
use std::time::Duration;

use spoolgate::base::limits;
use spoolgate::domain::runner::answer::Verdict;

use crate::patience::end_of;
use crate::remote::from_env;
use crate::runner::{Account, each_shell, plan};

/// How late a limit may be on a machine that has time for it, in seconds.
const LATE_S: f64 = 1.1;

/// What a script says of the time: a word, and the host's clock.
const CLOCK: &str =
    "at() { read -r now rest </proc/uptime; echo \"$1 $now\"; }; trap 'at term; exit 0' TERM; at begin; ";

/// Measures how late this machine itself is meanwhile, in seconds: other work is done on it too. A shell does again and again
/// what lies between a limit and what a script says of its end: it sleeps for a tick of the runner's, looks for processes, and
/// sleeps as the script does.
fn lateness_during<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let script = "while read -r a b </proc/uptime; sleep 0.2; grep -ls 'nobody' /proc/[0-9]*/stat; sleep 0.05; \
        read -r c b </proc/uptime; do echo \"$a $c\" || exit; done";
    let mut shell = Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    let result = work();
    shell.kill().unwrap();
    let said = String::from_utf8(end_of(shell, "a shell that was killed").stdout).unwrap();
    let naps = said.lines().filter_map(|line| {
        let (begin, end) = line.split_once(' ')?;
        Some(end.parse::<f64>().ok()? - begin.parse::<f64>().ok()? - 0.25)
    });
    (result, naps.fold(0.0, f64::max))
}

/// Returns when a script said a word last.
#[track_caller]
fn said(out: &[u8], word: &str) -> f64 {
    let text = String::from_utf8_lossy(out);
    let line = text.lines().rev().find_map(|line| line.strip_prefix(word)).unwrap_or_else(|| panic!("{word}: {text}"));
    line.trim().parse().unwrap()
}

/// One step of the campaign and how far apart its limit and its end were, in seconds.
fn one(account: &Account, n: u64) -> (String, f64) {
    let limit = 1 + n % 3;
    // Limits begin anywhere within a second.
    std::thread::park_timeout(Duration::from_millis(n * 137 % 1000));
    let of_time = n.is_multiple_of(2);
    let (step, verdict) = if of_time {
        let step = plan(&format!("{CLOCK}while :; do sleep 0.05; done # {n}"), limit);
        (step, Verdict::TimedOut { left: false })
    } else {
        // It speaks in time for a while; this machine may be late, because all shells are busy at once.
        let talk = format!("for n in 1 2 3; do sleep {}.4; at begin; done; ", limit - 1);
        let mut step = plan(&format!("{CLOCK}{talk}while :; do sleep 0.05; done # {n}"), 0);
        step.limit_silence(limit);
        (step, Verdict::Idle { left: false })
    };
    let heard = account.run(&step);
    let what = format!("{limit} s, number {n}, {:?}", account.shell);
    assert_eq!(heard.ended.map(|ended| ended.0), Some(verdict), "{what}: {}", String::from_utf8_lossy(&heard.out));
    // On a machine that is late it may be silent for its limit before it has said all; it is never ended before that.
    let limit = Duration::from_secs(limit).as_secs_f64();
    (what, said(&heard.out, "term ") - said(&heard.out, "begin ") - limit)
}

/// `SHORT_LIMITS=200` for the long campaign.
#[test]
fn short_limits_are_never_early_and_hardly_late() {
    let count = from_env("SHORT_LIMITS", 24);
    let (ends, machine) = lateness_during(|| {
        let ends = std::sync::Mutex::new(Vec::new());
        each_shell(|account| {
            let numbers: Vec<u64> = (0..count.div_ceil(4)).collect();
            for numbers in numbers.chunks(3) {
                std::thread::scope(|scope| {
                    let all: Vec<_> = numbers.iter().map(|n| scope.spawn(|| one(account, *n))).collect();
                    let all: Vec<_> = all.into_iter().map(|one| one.join().unwrap()).collect();
                    ends.lock().unwrap().extend(all);
                });
            }
        });
        ends.into_inner().unwrap()
    });
    let (earliest, latest) =
        ends.iter().fold((f64::MAX, f64::MIN), |(low, high), (_, late)| (low.min(*late), high.max(*late)));
    eprintln!("{} limits: {earliest:.2} to {latest:.2} s late; this machine: {machine:.2} s", ends.len());
    for (what, late) in &ends {
        assert!(*late >= 0.0, "{what}: {late:.2} s early");
        assert!(*late <= LATE_S + 3.0 * machine, "{what}: {late:.2} s late on a machine that is {machine:.2} s late");
    }
}

/// Times of files are whole seconds to some shells.
#[test]
fn what_is_printed_in_the_second_of_what_was_heard_last_is_heard_too() {
    each_shell(|account| {
        let begin = "sleep \"$(awk \"BEGIN { print 1.1 - 0.$(date +%N) }\")\"; at begin; sleep 0.75; at begin";
        let mut step = plan(&format!("{CLOCK}{begin}; while :; do sleep 0.05; done"), 0);
        step.limit_silence(1);
        let heard = account.run(&step);
        let late = said(&heard.out, "term ") - said(&heard.out, "begin ") - 1.0;
        assert!(late >= 0.0, "{:?}: {late:.2} s early", account.shell);
    });
}

#[test]
fn the_grace_between_term_and_kill_is_no_shorter_than_it_is_said_to_be() {
    let (late, machine) = lateness_during(|| {
        let late = std::sync::Mutex::new(Vec::new());
        each_shell(|account| {
            // The file says when it lived last.
            let beat = account.home.path().join("beat");
            let script = format!(
                "at() {{ read -r now rest </proc/uptime; echo \"$now\"; }}; trap 'at' TERM; while :; do at >>{}; sleep 0.02; done",
                beat.display()
            );
            let heard = account.run(&plan(&script, 1));
            assert_eq!(heard.ended.map(|ended| ended.0), Some(Verdict::TimedOut { left: false }));
            let term: f64 = String::from_utf8_lossy(&heard.out).trim().parse().unwrap();
            let beats = std::fs::read_to_string(beat).unwrap();
            let last: f64 = beats.lines().rev().find_map(|line| line.parse().ok()).unwrap();
            late.lock().unwrap().push(last - term - Duration::from_secs(limits::KILL_GRACE_S).as_secs_f64());
        });
        late.into_inner().unwrap()
    });
    for late in late {
        // It lived on for a moment after it was seen last.
        assert!(late > -0.1 - machine && late < LATE_S + 3.0 * machine, "{late:.2} s late");
    }
}

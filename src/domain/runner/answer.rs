//! Reads what a host's runner says, and tells it from what the script prints.
//!
//! **Invariant:** every byte of the script goes through, in order, and nothing else; memory is bounded. What comes before
//! the runner's first line is a login shell's noise and is not the script's.

use crate::domain::output::Stream;

/// How much is kept of what came before the runner's first line: it may say why there is none.
const NOISE_BYTES_MAX: usize = 4 << 10;
/// The longest line of the runner's own.
const LINE_BYTES_MAX: usize = 512;

/// How the runner says that a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It exited with this code.
    Exit(i32),
    /// A signal of this number ended it.
    Signal(i32),
    /// It ran too long; `left` says that some of it lives on.
    TimedOut {
        /// Whether some of it lives on.
        left: bool,
    },
    /// It was silent for too long.
    Idle {
        /// Whether some of it lives on.
        left: bool,
    },
    /// It was ended on somebody's wish.
    Cancelled {
        /// Whether some of it lives on.
        left: bool,
    },
    /// Its runner was killed; what was left of it was ended.
    Died {
        /// Whether some of it lives on.
        left: bool,
    },
    /// The host was started again while it ran.
    Rebooted,
    /// It ran, and the host does not know of it any more.
    Forgotten,
    /// It never started, and never will under this name.
    Never,
}

/// How much the script printed on one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// All bytes; where nobody counted, all that was shown.
    pub total: Option<u64>,
    /// How many of them, after the head, are kept nowhere.
    pub cut: u64,
}

/// What the runner said so far.
#[derive(Debug, Default)]
pub struct Answer {
    begin: String,
    end: String,
    /// Bytes of standard output that may belong to a line of the runner's.
    held: Vec<u8>,
    noise: Vec<u8>,
    /// Whether the runner said that the step runs.
    pub running: bool,
    /// Why it does not let the step run.
    pub refused: Option<String>,
    /// How the step ended, and what it printed on standard output and on standard error.
    pub ended: Option<(Verdict, Shown, Shown)>,
}

impl Answer {
    /// Reads a conversation whose own lines are marked by `nonce`.
    #[must_use]
    pub fn new(nonce: &str) -> Answer {
        Answer {
            begin: format!("spoolgate-running {nonce} "),
            end: format!("spoolgate-end {nonce} "),
            ..Answer::default()
        }
    }

    /// Returns what came instead of an answer, such as a complaint of `sudo`.
    #[must_use]
    pub fn noise(&self) -> String {
        String::from_utf8_lossy(&self.noise).trim().to_owned()
    }

    /// Takes the next bytes of a stream and hands on what is the script's.
    pub fn take(&mut self, stream: Stream, bytes: &[u8], mut pass: impl FnMut(&[u8])) {
        match stream {
            Stream::Err if self.running => pass(bytes),
            Stream::Err => self.keep_noise(bytes),
            Stream::Out => {
                self.held.extend_from_slice(bytes);
                if !self.running && self.ended.is_none() {
                    self.look_for_begin();
                }
                if self.running {
                    self.look_for_end(&mut pass);
                }
            }
        }
    }

    /// Ends the conversation. What was held back may be the beginning of the runner's last word; if it is the script's, it
    /// comes again, because nobody counted it.
    pub fn finish(&mut self) {
        let held = std::mem::take(&mut self.held);
        if !self.running {
            self.keep_noise(&held);
        }
    }

    fn keep_noise(&mut self, bytes: &[u8]) {
        let room = NOISE_BYTES_MAX.saturating_sub(self.noise.len());
        self.noise.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// Drops lines until one is the runner's.
    fn look_for_begin(&mut self) {
        let refusal = self.begin.replace("-running ", "-refused ");
        while let Some(end) = self.held.iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&self.held[..end]).into_owned();
            let whole: Vec<u8> = self.held.drain(..=end).collect();
            // A login shell may print its last words without a line feed.
            if line.contains(&self.begin) {
                self.running = true;
                return;
            } else if let Some(at) = line.find(&refusal) {
                self.refused = Some(line[at + refusal.len()..].to_owned());
            } else if let Some(at) = line.find(&self.end) {
                self.ended = read_end(&line[at + self.end.len()..]);
            } else {
                self.keep_noise(&whole);
            }
        }
        if self.held.len() > LINE_BYTES_MAX.max(NOISE_BYTES_MAX) {
            let held = std::mem::take(&mut self.held);
            self.keep_noise(&held);
        }
    }

    /// Hands on everything up to the runner's last line.
    fn look_for_end(&mut self, pass: &mut dyn FnMut(&[u8])) {
        if self.ended.is_some() {
            self.held.clear();
            return;
        }
        let mark = self.end.as_bytes();
        if let Some(at) = find(&self.held, mark) {
            let rest = &self.held[at + mark.len()..];
            if let Some(length) = rest.iter().position(|byte| *byte == b'\n') {
                let ended = read_end(&String::from_utf8_lossy(&rest[..length]));
                let passed = if ended.is_some() { at } else { at + mark.len() };
                if passed > 0 {
                    pass(&self.held[..passed]);
                }
                if ended.is_some() {
                    self.ended = ended;
                    self.held.clear();
                } else {
                    self.held.drain(..passed);
                    self.look_for_end(pass);
                }
                return;
            }
            if rest.len() < LINE_BYTES_MAX {
                if at > 0 {
                    pass(&self.held[..at]);
                    self.held.drain(..at);
                }
                return;
            }
        }
        // What could be the beginning of the mark waits for the next bytes.
        let most = self.held.len().min(mark.len() - 1);
        let kept = (1..=most).rev().find(|length| self.held.ends_with(&mark[..*length])).unwrap_or(0);
        let ready = self.held.len() - kept;
        if ready > 0 {
            pass(&self.held[..ready]);
            self.held.drain(..ready);
        }
    }
}

fn find(bytes: &[u8], mark: &[u8]) -> Option<usize> {
    bytes.windows(mark.len()).position(|window| window == mark)
}

/// Reads `VERDICT ARGUMENT OUT_TOTAL OUT_CUT ERR_TOTAL ERR_CUT`.
fn read_end(line: &str) -> Option<(Verdict, Shown, Shown)> {
    let words: Vec<&str> = line.trim_end().split(' ').collect();
    let &[word, argument, out_total, out_cut, err_total, err_cut] = words.as_slice() else { return None };
    let left = argument == "left";
    let verdict = match word {
        "exit" => Verdict::Exit(argument.parse().ok()?),
        "signal" => Verdict::Signal(argument.parse().ok()?),
        "timed_out" => Verdict::TimedOut { left },
        "idle" => Verdict::Idle { left },
        "cancelled" => Verdict::Cancelled { left },
        "died" => Verdict::Died { left },
        "rebooted" => Verdict::Rebooted,
        "forgotten" => Verdict::Forgotten,
        "never" => Verdict::Never,
        _ => return None,
    };
    let shown = |total: &str, cut: &str| {
        let total = if total == "-" { None } else { Some(total.parse().ok()?) };
        Some(Shown { total, cut: cut.parse().ok()? })
    };
    Some((verdict, shown(out_total, out_cut)?, shown(err_total, err_cut)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds standard output in every way of cutting it in two, and byte by byte.
    #[track_caller]
    fn check(text: &str, want: &str, ended: Option<Verdict>) {
        let cuts = (0..=text.len()).map(|at| vec![&text.as_bytes()[..at], &text.as_bytes()[at..]]);
        for pieces in cuts.chain([text.as_bytes().chunks(1).collect()]) {
            let mut answer = Answer::new("ab12");
            let mut passed = Vec::new();
            for piece in &pieces {
                answer.take(Stream::Out, piece, |bytes| passed.extend_from_slice(bytes));
            }
            answer.finish();
            assert_eq!(String::from_utf8_lossy(&passed), want, "{pieces:?}");
            assert_eq!(answer.ended.map(|(verdict, ..)| verdict), ended, "{pieces:?}");
        }
    }

    #[test]
    fn only_the_runners_lines_are_taken_out() {
        check(
            "spoolgate-running ab12 7\nhello\nspoolgate-end ab12 exit 0 6 0 0 0\n",
            "hello\n",
            Some(Verdict::Exit(0)),
        );
        check("motd\nspoolgate-running ab12 7\nno end", "no end", None);
        check("spoolgate-running ab12 7\nxspoolgate-end ab12 signal 9 1 0 0 0\n", "x", Some(Verdict::Signal(9)));
        check(
            "spoolgate-running ab12 7\nspoolgate-end cd34 exit 0 0 0 0 0\nspoolgate-end ab12 cancelled left 1 0 0 0\n",
            "spoolgate-end cd34 exit 0 0 0 0 0\n",
            Some(Verdict::Cancelled { left: true }),
        );
        check("spoolgate-end ab12 never - 0 0 0 0\n", "", Some(Verdict::Never));
        check("spoolgate-running ab12 7\nspoolgate-end ab12 exit 0 6", "", None);
    }

    #[test]
    fn a_refusal_and_noise_are_kept_to_be_told() {
        let mut answer = Answer::new("ab12");
        answer.take(Stream::Err, b"sudo: a password is required\n", |_| panic!("not the script's"));
        answer.take(Stream::Out, b"spoolgate-refused ab12 no setsid\n", |_| panic!("not the script's"));
        answer.finish();
        assert_eq!((answer.refused.as_deref(), answer.running), (Some("no setsid"), false));
        assert_eq!(answer.noise(), "sudo: a password is required");
    }

    #[test]
    fn totals_are_read() {
        let (verdict, out, err) = read_end("timed_out - 20 3 7 0").unwrap();
        assert_eq!(
            (verdict, out, err),
            (Verdict::TimedOut { left: false }, Shown { total: Some(20), cut: 3 }, Shown { total: Some(7), cut: 0 })
        );
        assert_eq!(read_end("exit 0 - 0 0 0").unwrap().1, Shown { total: None, cut: 0 });
        assert!(read_end("exit x 0 0 0 0").is_none() && read_end("exit 0 0 0").is_none());
    }
}

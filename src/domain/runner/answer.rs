//! Reads what a host's runner says, and tells it from what the script prints.
//!
//! **Invariant:** every byte of the script goes through, in order, and nothing else; memory is bounded. What comes before
//! the runner's first line is a login shell's noise and is not the script's.

use crate::domain::output::Stream;
use crate::domain::runner::{Offsets, RunnerId, frame};

/// How much is kept of what came before the runner's first line: it may say why there is none.
const NOISE_BYTES_MAX: usize = 4 << 10;
/// From how many characters on a word is taken for a part of what was sent.
const PACKED_WORD_CHARS: usize = 60;
/// What it means that a program did not arrive as it was sent.
const TORN: &str = "the host's login files, or a command that its sshd forces, read the input: what was sent did not arrive whole, and \
     nothing was started; let them leave standard input alone (a first line of `case $- in *i*) ;; *) return ;; esac` in \
     ~/.bashrc, `< /dev/null` behind what reads), then retry";
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
    /// The host knows nothing of it, though it ran or may have run.
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
    /// The same for a script that ended at once, whose streams come one behind the other.
    begin_both: String,
    end: String,
    /// The line between the two streams of such a script.
    between: Vec<u8>,
    /// How much of each stream is known already; of a script that ended at once everything comes again.
    known: Offsets,
    /// Which stream the bytes of standard output belong to, where both come there.
    both: Option<Stream>,
    /// Bytes of standard output that may belong to a line of the runner's.
    held: Vec<u8>,
    /// The same of standard error.
    held_err: Vec<u8>,
    /// Whether standard error is at its end.
    err_ended: bool,
    noise: Vec<u8>,
    /// Whether the runner is there: it says so before it does anything that could let the step begin.
    pub here: bool,
    /// Whether the runner said that the step runs.
    pub running: bool,
    /// Why it does not let the step run.
    pub refused: Option<String>,
    /// How the step ended, and what it printed on standard output and on standard error.
    pub ended: Option<(Verdict, Shown, Shown)>,
}

impl Answer {
    /// Reads a conversation whose own lines are marked by `nonce`, about a step of which `known` has been heard.
    #[must_use]
    pub fn new(nonce: &str, id: &RunnerId, known: Offsets) -> Answer {
        Answer {
            begin: format!("spoolgate-running {nonce} "),
            begin_both: format!("spoolgate-both {nonce} "),
            end: format!("spoolgate-end {nonce} "),
            between: format!("spoolgate-err {}\n", id.as_str()).into_bytes(),
            known,
            ..Answer::default()
        }
    }

    /// Returns what came instead of an answer, such as a complaint of `sudo`. What was sent may be among it, if something echoes;
    /// it is left out, because secrets may be in it.
    #[must_use]
    pub fn noise(&self) -> String {
        let text = String::from_utf8_lossy(&self.noise);
        let packed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
        let mut shown = String::new();
        for word in text.split_inclusive(|c: char| !packed(c)) {
            if word.trim_end_matches(|c| !packed(c)).len() < PACKED_WORD_CHARS {
                shown.push_str(word);
            } else {
                shown.push('…');
            }
        }
        shown.trim().to_owned()
    }

    /// Whether anything of ours has said a word.
    #[must_use]
    pub fn spoke(&self) -> bool {
        self.here || self.running || self.refused.is_some() || self.ended.is_some()
    }

    /// Whether nothing more comes, and the shell that said it waits for what is sent next.
    #[must_use]
    pub fn shell_waits(&self) -> bool {
        self.ended.is_some() && (self.both.is_some() || self.err_ended)
    }

    /// Takes the next bytes of a stream and hands on what is the script's.
    pub fn take(&mut self, stream: Stream, bytes: &[u8], mut pass: impl FnMut(Stream, &[u8])) {
        match stream {
            Stream::Err if self.running => self.look_for_end_of_err(bytes, &mut pass),
            Stream::Err => self.keep_noise(bytes),
            Stream::Out => {
                self.held.extend_from_slice(bytes);
                if !self.running && self.ended.is_none() {
                    self.look_for_begin();
                }
                if self.running {
                    self.look_for_between(&mut pass);
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
        let here = self.begin.replace("-running ", "-here ");
        while let Some(end) = self.held.iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&self.held[..end]).into_owned();
            let whole: Vec<u8> = self.held.drain(..=end).collect();
            // A login shell may print its last words without a line feed.
            if line.contains(&self.begin) {
                self.running = true;
                return;
            } else if line.contains(&self.begin_both) {
                self.running = true;
                self.both = Some(Stream::Out);
                return;
            } else if line.contains(&here) {
                self.here = true;
            } else if let Some(at) = line.find(&refusal) {
                self.refused = Some(line[at + refusal.len()..].to_owned());
            } else if let Some(why) = of_loader(&line) {
                self.refused = Some(why);
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

    /// Hands on standard error up to the runner's line.
    fn look_for_end_of_err(&mut self, bytes: &[u8], pass: &mut dyn FnMut(Stream, &[u8])) {
        if self.err_ended {
            return;
        }
        self.held_err.extend_from_slice(bytes);
        let mark = format!("{}.\n", self.end).into_bytes();
        let found = find(&self.held_err, &mark);
        let ready = found.unwrap_or_else(|| self.held_err.len() - held_back(&self.held_err, &mark));
        if ready > 0 {
            pass(Stream::Err, &self.held_err[..ready]);
            self.held_err.drain(..ready);
        }
        if found.is_some() {
            self.err_ended = true;
            self.held_err.clear();
        }
    }

    /// Of both streams one behind the other, hands on the first and goes over to the second.
    fn look_for_between(&mut self, pass: &mut dyn FnMut(Stream, &[u8])) {
        if self.both != Some(Stream::Out) {
            return;
        }
        let ready = match find(&self.held, &self.between) {
            Some(at) => at,
            None => self.held.len() - held_back(&self.held, &self.between),
        };
        let passed: Vec<u8> = self.held.drain(..ready).collect();
        self.pass_new(Stream::Out, &passed, pass);
        if self.held.starts_with(&self.between) {
            self.held.drain(..self.between.len());
            self.both = Some(Stream::Err);
        }
    }

    /// Hands on everything up to the runner's last line.
    fn look_for_end(&mut self, pass: &mut dyn FnMut(Stream, &[u8])) {
        if self.ended.is_some() {
            self.held.clear();
            return;
        }
        let stream = match self.both {
            // The line between comes first.
            Some(Stream::Out) => return,
            Some(Stream::Err) => Stream::Err,
            None => Stream::Out,
        };
        let mark = self.end.clone().into_bytes();
        if let Some(at) = find(&self.held, &mark) {
            let rest = &self.held[at + mark.len()..];
            if let Some(length) = rest.iter().position(|byte| *byte == b'\n') {
                let ended = read_end(&String::from_utf8_lossy(&rest[..length]));
                // Where somebody put both streams into one, the end of standard error comes here too.
                let of_err = &rest[..length] == b".";
                let passed = if ended.is_some() || of_err { at } else { at + mark.len() };
                let text: Vec<u8> = self.held.drain(..passed).collect();
                self.pass_new(stream, &text, pass);
                if of_err {
                    self.err_ended = true;
                    self.held.drain(..mark.len() + 2);
                    self.look_for_end(pass);
                } else if ended.is_some() {
                    self.ended = ended;
                    self.held.clear();
                } else {
                    self.look_for_end(pass);
                }
                return;
            }
            if rest.len() < LINE_BYTES_MAX {
                let text: Vec<u8> = self.held.drain(..at).collect();
                self.pass_new(stream, &text, pass);
                return;
            }
        }
        // What could be the beginning of the mark waits for the next bytes.
        let ready = self.held.len() - held_back(&self.held, &mark);
        let text: Vec<u8> = self.held.drain(..ready).collect();
        self.pass_new(stream, &text, pass);
    }

    /// Hands on what is not known yet.
    fn pass_new(&mut self, stream: Stream, bytes: &[u8], pass: &mut dyn FnMut(Stream, &[u8])) {
        let mut skipped = 0;
        if self.both.is_some() {
            let known = if stream == Stream::Out { &mut self.known.out } else { &mut self.known.err };
            skipped = bytes.len().min(usize::try_from(*known).unwrap_or(usize::MAX));
            *known -= skipped as u64;
        }
        if skipped < bytes.len() {
            pass(stream, &bytes[skipped..]);
        }
    }
}

/// Returns what the loader's words mean, if they are its words: it has no program yet, and knows no nonce but its own.
fn of_loader(line: &str) -> Option<String> {
    let of = |word: &str| {
        let (_, rest) = line.split_once(word)?;
        let (nonce, rest) = rest.split_at_checked(32)?;
        nonce.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(rest.trim())
    };
    if of(frame::TORN).is_some_and(str::is_empty) {
        return Some(TORN.to_owned());
    }
    let program = of(frame::LACKS).filter(|program| program.bytes().all(|byte| byte.is_ascii_alphanumeric()))?;
    Some(format!("this host has no {program}, without which nothing can be sent to it; install it there, then retry"))
}

/// Returns how many of the last bytes may be the beginning of a mark.
fn held_back(bytes: &[u8], mark: &[u8]) -> usize {
    let most = bytes.len().min(mark.len() - 1);
    (1..=most).rev().find(|length| bytes.ends_with(&mark[..*length])).unwrap_or(0)
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
            let mut answer = Answer::new("ab12", &RunnerId::for_tests("7-x"), Offsets { out: 1, err: 2 });
            let mut passed = Vec::new();
            for piece in &pieces {
                answer.take(Stream::Out, piece, |stream, bytes| {
                    // Bytes of standard error are seen by their case.
                    let bytes = if stream == Stream::Err { bytes.to_ascii_uppercase() } else { bytes.to_vec() };
                    passed.extend_from_slice(&bytes);
                });
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
        check(
            "spoolgate-both ab12 7\nout\nspoolgate-err 7-xspoolgate-err 7-x\nnone\nspoolgate-end ab12 exit 1 - 0 - 0\n",
            "ut\nspoolgate-err 7-xNE\n",
            Some(Verdict::Exit(1)),
        );
        check(
            "motd\nspoolgate-both ab12 7\nospoolgate-err 7-x\nspoolgate-end ab12 exit 0 - 0 - 0\n",
            "",
            Some(Verdict::Exit(0)),
        );
    }

    #[test]
    fn standard_error_has_an_end_of_its_own() {
        let said = b"bad\nspoolgate-end cd34 .\nspoolgate-end ab12 .\n";
        for cut in 0..=said.len() {
            let mut answer = Answer::new("ab12", &RunnerId::for_tests("7-x"), Offsets::default());
            let mut heard = Vec::new();
            answer.take(Stream::Out, b"spoolgate-running ab12 7\nspoolgate-end ab12 exit 0 0 0 4 0\n", |_, _| {});
            assert!(answer.ended.is_some() && !answer.shell_waits());
            for piece in [&said[..cut], &said[cut..]] {
                answer.take(Stream::Err, piece, |_, bytes| heard.extend_from_slice(bytes));
            }
            assert_eq!(heard, b"bad\nspoolgate-end cd34 .\n", "cut at {cut}");
            assert!(answer.shell_waits());
        }
    }

    #[test]
    fn a_runner_that_is_there_is_heard_and_its_word_is_no_noise() {
        let mut answer = Answer::new("ab12", &RunnerId::for_tests("7-x"), Offsets::default());
        answer.take(Stream::Out, b"welcome\n", |_, _| panic!("not the script's"));
        assert!(!answer.here);
        answer.take(Stream::Out, b"spoolgate-here ab12 7\n", |_, _| panic!("not the script's"));
        answer.finish();
        assert!(answer.here && !answer.running && answer.noise() == "welcome", "{answer:?}");
    }

    #[test]
    fn what_the_loader_says_is_understood_and_what_was_sent_is_not_repeated() {
        let heard = |text: &str| {
            let mut answer = Answer::new("ab12", &RunnerId::for_tests("7-x"), Offsets::default());
            answer.take(Stream::Out, text.as_bytes(), |_, _| panic!("not the script's"));
            answer.finish();
            (answer.spoke(), answer.refused.clone().unwrap_or_default(), answer.noise())
        };
        let nonce = "0123456789abcdef0123456789abcdef";
        let (spoke, why, _) = heard(&format!("motd spoolgate-torn {nonce}\n"));
        assert!(spoke && why.contains("login files") && why.contains("nothing was started"), "{why}");
        let (spoke, why, _) = heard(&format!("spoolgate-lacks {nonce} gzip\n"));
        assert!(spoke && why.starts_with("this host has no gzip"), "{why}");
        for no_word in [
            format!("spoolgate-torn {nonce}0\n"),
            "spoolgate-torn ab12\n".to_owned(),
            format!("spoolgate-lacks {nonce} $(x)\n"),
        ] {
            assert!(!heard(&no_word).0, "{no_word}");
        }
        let frame = String::from_utf8(frame::framed(nonce, &"secret".repeat(999), &frame::Ending::new("}"))).unwrap();
        assert_eq!(
            heard(&format!("hello there\n{frame}bye\n")),
            (false, String::new(), format!("hello there\n#{nonce} {}\n…bye", frame.lines().nth(1).unwrap().len() + 1))
        );
    }

    #[test]
    fn a_refusal_and_noise_are_kept_to_be_told() {
        let mut answer = Answer::new("ab12", &RunnerId::for_tests("7-x"), Offsets::default());
        answer.take(Stream::Err, b"sudo: a password is required\n", |_, _| panic!("not the script's"));
        answer.take(Stream::Out, b"spoolgate-refused ab12 no setsid\n", |_, _| panic!("not the script's"));
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

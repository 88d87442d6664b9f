//! Reads what a host's runner says, and tells it from what the script prints.
//!
//! The runner says everything on standard output, in lines that hold a nonce which nobody knew before. What the script printed
//! comes in pieces behind such a line: `spoolgate-out NONCE FROM LENGTH` or `spoolgate-err …`, then LENGTH bytes of that stream
//! from its byte FROM on.
//!
//! **Invariant:** every byte of the script goes through once, in order, and nothing else; memory is bounded. What stands between
//! the pieces, and everything on standard error, is noise: a login shell's, a login file's, `sudo`'s.

use crate::base::count::Count;
use crate::domain::outcome::ProvedBy;
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
    pub total: Option<Count>,
    /// How many of them, after the head, are kept nowhere.
    pub cut: Count,
}

/// What the runner said so far.
#[derive(Debug, Default)]
pub struct Answer {
    nonce: String,
    /// How much of each stream is known already.
    known: Offsets,
    /// What an earlier version's runner wrote between the two streams of a script that ended at once.
    between: Vec<u8>,
    /// Bytes that are no whole line yet.
    held: Vec<u8>,
    /// Where in a piece of the script's output we are.
    piece: Option<Piece>,
    noise: Vec<u8>,
    /// Whether the runner is there: it says so before it does anything that could let the step begin.
    pub here: bool,
    /// Whether the runner said that the step runs.
    pub running: bool,
    /// Why it does not let the step run.
    pub refused: Option<String>,
    /// Where the host had no room for some of what the script printed.
    pub full: Option<String>,
    /// Who could write what it says of the end.
    pub proved_by: Option<ProvedBy>,
    /// How the step ended, and what it printed on standard output and on standard error.
    pub ended: Option<(Verdict, Shown, Shown)>,
    /// How long ago that was, in milliseconds, as far as the host knows.
    pub ended_ms_ago: Count,
}

/// A part of what a script printed.
#[derive(Clone, Copy, Debug)]
struct Piece {
    of: Of,
    /// From which byte of its stream on.
    from: u64,
    /// How many bytes are to come.
    left: u64,
}

/// Whose bytes a piece holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Stream(Stream),
    /// Standard output, and standard error behind a line between them.
    Both,
}

impl Answer {
    /// Reads a conversation whose own lines are marked by `nonce`, about a step of which `known` has been heard.
    #[must_use]
    pub fn new(nonce: &str, id: &RunnerId, known: Offsets) -> Answer {
        let between = format!("spoolgate-err {}\n", id.as_str()).into_bytes();
        Answer { nonce: nonce.to_owned(), known, between, ..Answer::default() }
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

    /// Takes what a channel brought, and hands on what the script printed and is not known yet.
    pub fn take(&mut self, stream: Stream, bytes: &[u8], mut pass: impl FnMut(Stream, &[u8])) {
        // The runner says everything on standard output: whatever is on standard error is somebody else's.
        if stream == Stream::Err {
            if !self.running {
                self.keep_noise(bytes);
            }
            return;
        }
        let mut rest = bytes;
        while !rest.is_empty() && self.ended.is_none() {
            rest = match self.piece {
                Some(piece) => self.take_piece(piece, rest, &mut pass),
                None => self.take_line(rest),
            };
        }
    }

    /// Ends the conversation. What was held back is no line of the runner's.
    pub fn finish(&mut self) {
        let held = std::mem::take(&mut self.held);
        if self.piece.is_none() && !self.running {
            self.keep_noise(&held);
        }
    }

    fn keep_noise(&mut self, bytes: &[u8]) {
        let room = NOISE_BYTES_MAX.saturating_sub(self.noise.len());
        self.noise.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// Takes a line, or a part of one; returns what is behind it.
    fn take_line<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let (line, rest) = match bytes.iter().position(|byte| *byte == b'\n') {
            Some(end) => bytes.split_at(end.saturating_add(1)),
            None => (bytes, &[][..]),
        };
        self.held.extend_from_slice(line);
        if line.ends_with(b"\n") {
            let line = std::mem::take(&mut self.held);
            self.read_line(&line);
        } else if self.held.len() > LINE_BYTES_MAX.max(NOISE_BYTES_MAX) {
            // No line of ours is that long, but one of ours may come behind what has no line feed.
            let gone = self.held.len().saturating_sub(LINE_BYTES_MAX);
            let held: Vec<u8> = self.held.drain(..gone).collect();
            if !self.running {
                self.keep_noise(&held);
            }
        }
        rest
    }

    fn read_line(&mut self, whole: &[u8]) {
        let line = String::from_utf8_lossy(whole);
        let line = line.trim_end_matches('\n');
        // A login shell may print its last words without a line feed, and a place in what is said may hold the word, too.
        let said = line.match_indices(WORD).find_map(|(at, word)| {
            let (word, rest) = line[at.saturating_add(word.len())..].split_once(' ')?;
            Some((word, rest.strip_prefix(&*self.nonce)?.strip_prefix(' ')?))
        });
        match said {
            Some(("here", _)) => self.here = true,
            Some(("running", _)) => self.running = true,
            Some(("refused", why)) => self.refused = Some(why.to_owned()),
            Some(("full", place)) => self.full = Some(place.to_owned()),
            Some(("proved", by)) => self.proved_by = ProvedBy::ALL.into_iter().find(|known| known.word() == by),
            Some(("end", end)) => {
                let (end, ms_ago) = end.split_once(" ago ").map_or((end, None), |(end, ago)| (end, Count::read(ago)));
                self.ended = read_end(end);
                self.ended_ms_ago = ms_ago.unwrap_or_default();
            }
            Some(("out", piece)) => self.piece = read_piece(Of::Stream(Stream::Out), piece),
            Some(("err", piece)) => self.piece = read_piece(Of::Stream(Stream::Err), piece),
            Some(("both", piece)) => self.piece = read_piece(Of::Both, piece),
            _ => match of_loader(line) {
                Some(why) => self.refused = Some(why),
                None if !self.running => self.keep_noise(whole),
                None => {}
            },
        }
    }

    /// Takes what belongs to a piece; returns what is behind it.
    fn take_piece<'b>(&mut self, piece: Piece, bytes: &'b [u8], pass: &mut dyn FnMut(Stream, &[u8])) -> &'b [u8] {
        let length = usize::try_from(piece.left).map_or(bytes.len(), |left| left.min(bytes.len()));
        let (of_piece, rest) = bytes.split_at(length);
        let left = piece.left.saturating_sub(length as u64);
        let from = piece.from.saturating_add(length as u64);
        let next = match piece.of {
            Of::Stream(stream) => {
                self.pass_new(stream, piece.from, of_piece, pass);
                Piece { from, left, ..piece }
            }
            Of::Both => match self.pass_both(piece.from, of_piece, left == 0, pass) {
                Some(from) => Piece { of: Of::Stream(Stream::Err), from, left },
                None => Piece { from, left, ..piece },
            },
        };
        self.piece = (left > 0).then_some(next);
        rest
    }

    /// Hands on bytes that begin at `from`, but for those that are known.
    fn pass_new(&mut self, stream: Stream, from: u64, bytes: &[u8], pass: &mut dyn FnMut(Stream, &[u8])) {
        let known = if stream == Stream::Out { &mut self.known.out } else { &mut self.known.err };
        let skipped = usize::try_from(known.saturating_sub(from)).unwrap_or(usize::MAX);
        if skipped < bytes.len() {
            pass(stream, &bytes[skipped..]);
            *known = from.saturating_add(bytes.len() as u64);
        }
    }

    /// Hands on both streams, one behind the other, of which `bytes` begin at `from`. Returns how far standard error is, once the
    /// line between them has come.
    fn pass_both(&mut self, from: u64, bytes: &[u8], last: bool, pass: &mut dyn FnMut(Stream, &[u8])) -> Option<u64> {
        let begin = from.saturating_sub(self.held.len() as u64);
        self.held.extend_from_slice(bytes);
        let between = self.held.windows(self.between.len()).position(|window| window == self.between);
        let ready = match between {
            Some(at) => at,
            None if last => self.held.len(),
            None => self.held.len().saturating_sub(held_back(&self.held, &self.between)),
        };
        let out: Vec<u8> = self.held.drain(..ready).collect();
        self.pass_new(Stream::Out, begin, &out, pass);
        between?;
        let err = std::mem::take(&mut self.held).split_off(self.between.len());
        self.pass_new(Stream::Err, 0, &err, pass);
        Some(err.len() as u64)
    }
}

/// How every line of the runner's begins.
const WORD: &str = "spoolgate-";

/// Reads `FROM LENGTH`.
fn read_piece(of: Of, words: &str) -> Option<Piece> {
    let (from, left) = words.split_once(' ')?;
    let piece = Piece { of, from: from.parse().ok()?, left: left.parse().ok()? };
    (piece.left > 0 && piece.from.checked_add(piece.left).is_some()).then_some(piece)
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
    let most = bytes.len().min(mark.len().saturating_sub(1));
    (1..=most).rev().find(|length| bytes.ends_with(&mark[..*length])).unwrap_or(0)
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
    // The step has ended, whatever stands where its counts should be.
    let shown = |total, cut| Shown { total: Count::read(total), cut: Count::read(cut).unwrap_or_default() };
    Some((verdict, shown(out_total, out_cut), shown(err_total, err_cut)))
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
    fn only_what_stands_in_a_piece_is_the_scripts() {
        check(
            "motd\nspoolgate-running ab12 7\nKilled\nspoolgate-out ab12 1 6\nhello\nnoise\nspoolgate-end ab12 exit 0 7 0 0 0\n",
            "hello\n",
            Some(Verdict::Exit(0)),
        );
        check("motd\nspoolgate-running ab12 7\nno end", "", None);
        check("motd spoolgate-out ab12 1 2\nxyspoolgate-end ab12 signal 9 1 0 0 0\n", "xy", Some(Verdict::Signal(9)));
        // Lines of the runner's in a piece are the script's, and with another nonce somebody's.
        check(
            "spoolgate-out ab12 1 37\nspoolgate-end ab12 exit 1 0 0 0 0\nxy\nspoolgate-out cd34 1 2\nspoolgate-end ab12 exit 0 0 0 0 0\n",
            "spoolgate-end ab12 exit 1 0 0 0 0\nxy\n",
            Some(Verdict::Exit(0)),
        );
        check("spoolgate-running ab12 7\nspoolgate-end ab12 exit 0 6", "", None);
        check("spoolgate-out ab12 1 -3\nspoolgate-out ab12 1 x\nspoolgate-out ab12 18446744073709551615 9\n", "", None);
    }

    #[test]
    fn what_is_known_is_not_handed_on_again() {
        check(
            "spoolgate-out ab12 0 3\nabcspoolgate-err ab12 1 3\nxyzspoolgate-out ab12 0 5\nabcdespoolgate-end ab12 exit 0 5 0 4 0\n",
            "bcYZde",
            Some(Verdict::Exit(0)),
        );
    }

    #[test]
    fn both_streams_of_an_earlier_runner_are_told_apart() {
        let piece =
            |text: &str| format!("spoolgate-both ab12 0 {}\n{text}spoolgate-end ab12 exit 1 - 0 - 0\n", text.len());
        let ended = Some(Verdict::Exit(1));
        check(&piece("out\nspoolgate-err 7-xspoolgate-err 7-x\nnone\n"), "ut\nspoolgate-err 7-xNE\n", ended);
        check(&piece("ospoolgate-err 7-x\n"), "", ended);
        check(&piece("nothing between"), "othing between", ended);
    }

    #[test]
    fn nothing_on_standard_error_is_the_scripts() {
        let mut answer = Answer::new("ab12", &RunnerId::for_tests("7-x"), Offsets::default());
        answer.take(Stream::Out, b"spoolgate-running ab12 7\n", |_, _| {});
        answer.take(Stream::Err, b"spoolgate-out ab12 0 3\nbad\nKilled\n", |_, _| panic!("not the script's"));
        answer.finish();
        assert!(answer.running && answer.noise().is_empty());
    }

    #[test]
    fn how_long_ago_it_ended_and_that_there_was_no_room_is_heard() {
        let mut answer = Answer::new("ab12", &RunnerId::for_tests("7-x"), Offsets::default());
        let said = b"spoolgate-full ab12 /home/a/.spoolgate\nspoolgate-end ab12 exit 0 105 105 - 0 ago 20140\n";
        answer.take(Stream::Out, said, |_, _| {});
        assert_eq!(answer.ended, Some((Verdict::Exit(0), shown(Some(105), 105), Shown::default())));
        assert_eq!((answer.ended_ms_ago, answer.full.as_deref()), (20_140.into(), Some("/home/a/.spoolgate")));
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
        answer.take(Stream::Out, b"hi spoolgate-refused ab12 no room in /tmp/.spoolgate-0 (full)\n", |_, _| {
            panic!("not the script's")
        });
        answer.finish();
        assert_eq!((answer.refused.as_deref(), answer.running), (Some("no room in /tmp/.spoolgate-0 (full)"), false));
        assert_eq!(answer.noise(), "sudo: a password is required");
    }

    #[test]
    fn by_what_an_end_is_proved_is_said_before_it() {
        for (word, want) in [
            ("same-account", Some(ProvedBy::SameAccount)),
            ("other-account", Some(ProvedBy::OtherAccount)),
            ("root", Some(ProvedBy::Root)),
            ("a-later-word", None),
        ] {
            let mut answer = Answer::new("ab12", &RunnerId::for_tests("7-x"), Offsets::default());
            let said = format!(
                "spoolgate-proved cd34 root\nspoolgate-proved ab12 {word}\nspoolgate-end ab12 exit 7 - 0 - 0\n"
            );
            answer.take(Stream::Out, said.as_bytes(), |_, _| panic!("not the script's"));
            assert_eq!((answer.proved_by, answer.ended.unwrap().0), (want, Verdict::Exit(7)), "{word}");
        }
    }

    fn shown(total: Option<u64>, cut: u64) -> Shown {
        Shown { total: total.map(Count::from), cut: cut.into() }
    }

    #[test]
    fn totals_are_read() {
        let (verdict, out, err) = read_end("timed_out - 20 3 7 0").unwrap();
        assert_eq!((verdict, out, err), (Verdict::TimedOut { left: false }, shown(Some(20), 3), shown(Some(7), 0)));
        assert_eq!(read_end("exit 0 - 0 0 0").unwrap().1, shown(None, 0));
        assert!(read_end("exit x 0 0 0 0").is_none() && read_end("exit 0 0 0").is_none());
        let greatest = "18446744073709551615";
        let said = format!("exit 0 {greatest} {greatest}0 -1 1e400");
        assert_eq!(read_end(&said).unwrap(), (Verdict::Exit(0), shown(Some(u64::MAX), u64::MAX), shown(None, 0)));
    }
}

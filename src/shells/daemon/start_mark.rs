//! Takes the envelope's first line out of a step's output. Floor 4.
//!
//! **Invariant:** every byte but that line goes through, in order; memory is bounded.

use crate::domain::envelope::START_MARK;

/// How many bytes a login shell may print before the envelope's first line; more than that is not waited for.
const NOISE_BYTES_MAX: usize = 64 << 10;

/// Watches stdout for the line that names the process group.
#[derive(Debug, Default)]
pub(super) struct StartMark {
    held: Vec<u8>,
    passed: bool,
    group: Option<u32>,
}

impl StartMark {
    /// Returns the process group, once the line has come.
    pub(super) fn process_group(&self) -> Option<u32> {
        self.group
    }

    /// Takes the next bytes of stdout and hands on what is the script's.
    pub(super) fn filter(&mut self, bytes: &[u8], mut pass: impl FnMut(&[u8])) {
        if self.passed {
            return pass(bytes);
        }
        self.held.extend_from_slice(bytes);
        if let Some((before, group, after)) = find_line(&self.held) {
            self.group = Some(group);
            self.passed = true;
            for piece in [&self.held[..before], &self.held[after..]] {
                if !piece.is_empty() {
                    pass(piece);
                }
            }
            self.held = Vec::new();
        } else if self.held.len() > NOISE_BYTES_MAX {
            self.passed = true;
            pass(&std::mem::take(&mut self.held));
        }
    }

    /// Hands on what was held back for a line that never came.
    pub(super) fn finish(&mut self, mut pass: impl FnMut(&[u8])) {
        if !self.held.is_empty() {
            pass(&std::mem::take(&mut self.held));
        }
    }
}

/// Finds the line; returns where it begins, the number it holds and where it ends.
fn find_line(bytes: &[u8]) -> Option<(usize, u32, usize)> {
    let mark = START_MARK.as_bytes();
    let begin = bytes.windows(mark.len()).position(|window| window == mark)?;
    let rest = &bytes[begin + mark.len()..];
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let group = std::str::from_utf8(&rest[..end]).ok()?.parse().ok().filter(|group| *group > 1)?;
    Some((begin, group, begin + mark.len() + end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(chunks: &[&str], want: &str, group: Option<u32>) {
        let mut mark = StartMark::default();
        let mut passed = Vec::new();
        for chunk in chunks {
            mark.filter(chunk.as_bytes(), |bytes| passed.extend_from_slice(bytes));
        }
        mark.finish(|bytes| passed.extend_from_slice(bytes));
        assert_eq!(String::from_utf8(passed).unwrap(), want);
        assert_eq!(mark.process_group(), group);
    }

    #[test]
    fn only_the_line_is_taken_out() {
        check(&["spoolgate-start 42\nhello\n"], "hello\n", Some(42));
        check(&["spool", "gate-start 4", "2\nhel", "lo"], "hello", Some(42));
        check(&["motd\n", "spoolgate-start 42\n"], "motd\n", Some(42));
        check(&["nothing of the kind"], "nothing of the kind", None);
        check(&["spoolgate-start 42\nspoolgate-start 43\n"], "spoolgate-start 43\n", Some(42));
        let noise = "x".repeat(NOISE_BYTES_MAX + 1);
        check(&[&noise, "spoolgate-start 42\n"], &(noise.clone() + "spoolgate-start 42\n"), None);
    }
}

//! How a program travels to the shell that is to run it: whole, or not at all. Floor 1.
//!
//! A login shell reads files of its own before the command that sshd gave it, and what they run shares its standard input: a
//! `read`, a `cat` or another shell there takes a part of whatever is sent. So nothing on standard input is shell text. The
//! command line holds the [`LOADER`] and a nonce; standard input holds, for each program, the line `#NONCE LENGTH` and LENGTH
//! bytes of base64 with a line feed: the gzip of the program's text. The loader takes the line only if it begins with its nonce,
//! and runs the text only when gzip has found all of it to be there (CRC-32 and length, RFC 1952). To any shell that reads it as
//! commands, interactive or not, it is a comment (or an unknown command, where comments are off) and one long unknown word.
//!
//! **Invariant:** pure. No prefix, no suffix and no part of a frame makes a shell do anything.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::{Compress, Compression, Crc, FlushCompress, Status};

/// What the shell runs that takes programs: one line that every login shell passes on as it is, without quotes, backslashes and
/// exclamation marks. `$0` is its nonce. When a line is not the one that must come, or what follows is not whole, it says
/// `spoolgate-torn NONCE` and ends.
pub const LOADER: &str = concat!(
    "for sg_t in head base64 gzip; do command -v $sg_t >/dev/null || { echo \"spoolgate-lacks $0 $sg_t\"; exit; }; done; ",
    "sg_n=; while IFS= read -r sg_h && case $sg_h in \"#$0 \"*) ;; *) false;; esac && ",
    "sg_p=$(head -c \"${sg_h##* }\" | base64 -d 2>/dev/null | gzip -dc 2>/dev/null) && [ \"$sg_p\" ]; ",
    "do sg_n=y; eval \"$sg_p\"; done; ",
    "[ \"$sg_n\" ] && [ -z \"$sg_h\" ] || echo \"spoolgate-torn $0\"",
);
/// How the loader says that what it read is not what was sent.
pub(super) const TORN: &str = "spoolgate-torn ";
/// How it says that the host lacks a program that it needs.
pub(super) const LACKS: &str = "spoolgate-lacks ";

/// The fixed part of a gzip header: deflate, no name, no time, any system (RFC 1952 section 2.3).
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// How much room is made at once for what comes out of the compressor.
const ROOM_BYTES: usize = 16 << 10;

/// A text that ends many programs, compressed once.
#[derive(Debug)]
pub(super) struct Ending {
    deflated: Vec<u8>,
    crc: Crc,
}

impl Ending {
    /// Compresses `text`, the end of a program.
    pub(super) fn new(text: &str) -> Ending {
        Ending {
            deflated: deflate(text.as_bytes(), Compression::best(), FlushCompress::Finish),
            crc: crc_of(text.as_bytes()),
        }
    }
}

/// Returns what a loader with this nonce reads to run the program that `text` begins and `ending` ends.
#[must_use]
pub(super) fn framed(nonce: &str, text: &str, ending: &Ending) -> Vec<u8> {
    let mut packed = HEADER.to_vec();
    // A sync flush ends on a byte, so that other blocks may follow (RFC 1951 section 3.2.4).
    packed.extend(deflate(text.as_bytes(), Compression::fast(), FlushCompress::Sync));
    packed.extend_from_slice(&ending.deflated);
    let mut crc = crc_of(text.as_bytes());
    crc.combine(&ending.crc);
    packed.extend_from_slice(&crc.sum().to_le_bytes());
    packed.extend_from_slice(&crc.amount().to_le_bytes());
    let body = STANDARD.encode(packed);
    format!("#{nonce} {}\n{body}\n", body.len().saturating_add(1)).into_bytes()
}

fn crc_of(bytes: &[u8]) -> Crc {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc
}

/// Compresses without a header and a trailer.
fn deflate(bytes: &[u8], level: Compression, flush: FlushCompress) -> Vec<u8> {
    let mut compress = Compress::new(level, false);
    let mut out = Vec::with_capacity((bytes.len() / 2).saturating_add(ROOM_BYTES));
    loop {
        let taken = usize::try_from(compress.total_in()).unwrap_or(usize::MAX);
        let before = out.len();
        let status = compress.compress_vec(&bytes[taken..], &mut out, flush).expect("deflate takes any bytes");
        let all_taken = compress.total_in() == bytes.len() as u64;
        match status {
            Status::StreamEnd => return out,
            // With room left over, everything that was taken is out.
            _ if flush == FlushCompress::Sync && all_taken && (out.len() < out.capacity() || out.len() == before) => {
                return out;
            }
            _ => out.reserve(ROOM_BYTES),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    /// Reads a frame as the loader does.
    fn unframed(nonce: &str, frame: &[u8]) -> String {
        let text = std::str::from_utf8(frame).unwrap();
        let (head, body) = text.split_once('\n').unwrap();
        let length: usize = head.strip_prefix(&format!("#{nonce} ")).unwrap().parse().unwrap();
        assert_eq!(body.len(), length);
        let packed = STANDARD.decode(body.trim_end()).unwrap();
        let mut out = String::new();
        flate2::read::GzDecoder::new(packed.as_slice()).read_to_string(&mut out).unwrap();
        out
    }

    #[test]
    fn a_frame_holds_the_text_and_its_ending() {
        let end = Ending::new("the end\n}\n");
        let long: String = (0..400_000_u64).map(|n| char::from(b' ' + (n * n % 89) as u8)).collect();
        for text in ["", "{\n", "sg_script='it'\\''s; $(id)'\n", &"x".repeat(100_000), &long] {
            let frame = framed("ab12", text, &end);
            assert_eq!(unframed("ab12", &frame), format!("{text}the end\n}}\n"));
        }
    }

    #[test]
    fn the_loader_passes_through_every_login_shell() {
        assert!(!LOADER.contains(['\'', '\\', '!', '\n']), "{LOADER}");
    }
}

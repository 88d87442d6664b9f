//! Programs that tests run: none of them is waited for without a limit.

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long a program may take that a test waits for; shorter than a test may take.
const LIMIT: Duration = Duration::from_mins(2);

/// Runs a program to its end, or fails and says which one did not come to it.
pub(crate) trait InTime {
    /// Like [`Command::output`], with a limit.
    fn output_in_time(&mut self) -> std::io::Result<Output>;
    /// Like [`Command::status`], with a limit.
    fn status_in_time(&mut self) -> std::io::Result<ExitStatus>;
}

impl InTime for Command {
    #[track_caller]
    fn output_in_time(&mut self) -> std::io::Result<Output> {
        let child = self.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        Ok(end_of(child, &format!("{self:?}")))
    }

    #[track_caller]
    fn status_in_time(&mut self) -> std::io::Result<ExitStatus> {
        let child = self.spawn()?;
        Ok(end_of(child, &format!("{self:?}")).status)
    }
}

/// Waits until a program has ended and its streams too, and returns what it printed into pipes.
#[track_caller]
pub(crate) fn end_of(child: Child, what: &str) -> Output {
    end_within(LIMIT, child, what)
}

#[track_caller]
fn end_within(limit: Duration, mut child: Child, what: &str) -> Output {
    let end = Instant::now() + limit;
    drop(child.stdin.take());
    let (out, err) = (child.stdout.take().map(Stream::hear), child.stderr.take().map(Stream::hear));
    let ended = [&out, &err].into_iter().flatten().all(|stream| stream.ends_by(end));
    let status = loop {
        let status = child.try_wait().unwrap();
        if status.is_some() || Instant::now() >= end {
            break status;
        }
        std::thread::park_timeout(Duration::from_millis(2));
    };
    let said = |stream: Option<Stream>| stream.map_or_else(Vec::new, |stream| stream.said());
    let (stdout, stderr) = (said(out), said(err));
    if let (Some(status), true) = (status, ended) {
        return Output { status, stdout, stderr };
    }
    let _ = child.kill();
    let _ = child.wait();
    let [out, err] = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    panic!("waited {limit:?} for the end of {what} (it had ended: {status:?})\nstdout: {out}\nstderr: {err}");
}

/// What a program prints, as far as it has.
struct Stream {
    bytes: Arc<Mutex<Vec<u8>>>,
    /// Is closed when the stream ends.
    open: Receiver<()>,
}

impl Stream {
    fn hear(mut from: impl Read + Send + 'static) -> Stream {
        let (bytes, (held, open)) = (Arc::new(Mutex::new(Vec::new())), channel());
        let all = Arc::clone(&bytes);
        std::thread::spawn(move || {
            let mut part = vec![0; 1 << 16];
            while let Ok(count @ 1..) = from.read(&mut part) {
                all.lock().unwrap().extend_from_slice(&part[..count]);
            }
            drop(held);
        });
        Stream { bytes, open }
    }

    fn ends_by(&self, end: Instant) -> bool {
        let left = end.saturating_duration_since(Instant::now());
        self.open.recv_timeout(left) == Err(RecvTimeoutError::Disconnected)
    }

    fn said(&self) -> Vec<u8> {
        std::mem::take(&mut *self.bytes.lock().unwrap())
    }
}

#[test]
fn a_program_that_does_not_end_is_ended_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let stays = dir.path().join("stays");
    std::fs::write(&stays, "").unwrap();
    let lasts = format!("while [ -e {} ]; do sleep 0.02; done", stays.display());
    let spawn = |script: &str| Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    // One that goes on, and one that leaves a child behind that holds its output.
    for script in [format!("echo on; {lasts}"), format!("echo on; ({lasts}) &")] {
        let child = spawn(&script);
        let failed = std::panic::catch_unwind(|| end_within(Duration::from_millis(500), child, "a shell"));
        let said = *failed.unwrap_err().downcast::<String>().unwrap();
        assert!(said.contains("for the end of a shell") && said.contains("stdout: on\n"), "{said}");
    }
    let output = end_within(LIMIT, spawn("echo on; exit 3"), "a shell");
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(3), &b"on\n"[..]));
}

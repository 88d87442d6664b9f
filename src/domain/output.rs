//! What goes into a process and what comes back, whatever carries it.
//!
//! **Invariant:** exit code and exit signal are never folded into one number.

use std::io;

/// What a process reads on standard input, piece by piece.
pub trait Feed: Send {
    /// Returns the next piece; an empty one is the end.
    ///
    /// # Errors
    /// When what is to be sent cannot be read.
    fn next_piece(&mut self) -> io::Result<&[u8]>;
}

impl Feed for &[u8] {
    fn next_piece(&mut self) -> io::Result<&[u8]> {
        Ok(std::mem::take(self))
    }
}

impl<T: Feed + ?Sized> Feed for &mut T {
    fn next_piece(&mut self) -> io::Result<&[u8]> {
        (**self).next_piece()
    }
}

/// One of a process's two output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecEnd {
    /// It exited with this code.
    Exit(i32),
    /// This signal ended it, without `SIG` in front.
    Signal(String),
}

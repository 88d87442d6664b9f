//! One connection to a host on the way, and any number of ways through it. Floor 3.
//!
//! **Invariant:** every way is a socket pair of which the worker has one end and anybody may hold the other. The worker closes the
//! connection when nothing has gone through it for a while.

use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::error::SshError;
use crate::adapters::ssh::Session;
use crate::adapters::ssh::frame::{Frame, Order, Report};
use crate::base::text::visible;

/// How long somebody waits for a way, behind others that are opened before.
const REACH_LIMIT: Duration = Duration::from_mins(1);

/// A wish for a way.
#[derive(Debug)]
struct Request {
    address: String,
    port: u16,
    answer: oneshot::Sender<Result<UnixStream, String>>,
}

/// A connection that others go through.
#[derive(Clone, Debug)]
pub struct Tunnel {
    host: String,
    requests: mpsc::Sender<Request>,
}

impl Tunnel {
    /// Takes a connection over and leads through it from now on.
    #[must_use]
    pub fn start(session: Session) -> Tunnel {
        let (requests, wishes) = mpsc::channel(64);
        let host = session.host.clone();
        tokio::spawn(lead(session, wishes));
        Tunnel { host, requests }
    }

    /// Whether the connection is still there to be asked.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.requests.is_closed()
    }

    /// Opens a way to a place as the host sees it.
    ///
    /// # Errors
    /// [`SshError::Way`] when the host is gone, refuses, or does not reach the place in time, whoever else waits.
    pub async fn reach(&self, address: &str, port: u16) -> Result<UnixStream, SshError> {
        let to = format!("{address}:{port}");
        let failed =
            |why, gone| SshError::Way { host: self.host.clone(), to: to.clone(), why, gone, unreachable: true };
        let (answer, answered) = oneshot::channel();
        let request = Request { address: address.to_owned(), port, answer };
        let gone = || "the connection to it was lost".to_owned();
        let asked = async {
            self.requests.send(request).await.map_err(|_| failed(gone(), true))?;
            answered.await.map_err(|_| failed(gone(), true))?.map_err(|why| failed(why, false))
        };
        let late = || failed(format!("no answer within {REACH_LIMIT:?}"), false);
        timeout(REACH_LIMIT, asked).await.unwrap_or_else(|_| Err(late()))
    }
}

/// Who waits for a way, and the end that is theirs.
type Waiting = (oneshot::Sender<Result<UnixStream, String>>, UnixStream);

/// Hands wishes on, and answers to those who wished.
async fn lead(mut session: Session, mut wishes: mpsc::Receiver<Request>) {
    session.wire.say(&Order::Lead);
    let mut waiting: HashMap<u64, Waiting> = HashMap::new();
    let mut number = 0_u64;
    loop {
        tokio::select! {
            wish = wishes.recv() => {
                // Nobody can wish any more; those who have a way keep it, since the worker holds its other end.
                let Some(Request { address, port, answer }) = wish else { return };
                number = number.saturating_add(1);
                let pair = UnixStream::pair();
                let given = match pair {
                    Ok((near, far)) => session.slot.lead(number, &address, port, &far).await.map(|()| near),
                    Err(error) => Err(error),
                };
                match given {
                    Ok(near) => {
                        waiting.retain(|_, (answer, _)| !answer.is_closed());
                        waiting.insert(number, (answer, near));
                    }
                    // Nobody waits for it any more, or is told.
                    Err(error) => drop(answer.send(Err(error.to_string()))),
                }
            }
            frame = session.wire.next() => match frame {
                Ok(Some(Frame::Said(Report::Way { number, why }))) => {
                    let Some((answer, near)) = waiting.remove(&number) else { continue };
                    let answered = why.map_or(Ok(near), |why| Err(visible(&why)));
                    // Nobody waits for it any more: the way ends at once by itself.
                    drop(answer.send(answered));
                }
                // The worker closed it, or is gone: whoever waits finds that nobody answers.
                _ => return,
            },
        }
    }
}

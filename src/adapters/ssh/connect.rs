//! Connecting: the way to a host, its key, the login. Floor 3.
//!
//! **Invariant:** nothing of any command was sent while an error of this file is possible; every wait has a limit.

use std::io;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use super::descriptors::is_short;
use super::dial::{NotDialed, dial, prepare};
use super::error::{LibraryError, SshError};
use super::frame::{Frame, Order, Report, Wire};
use super::login::log_in;
use super::proxy::Proxy;
use super::session::Session;
use super::target::Target;
use super::workers::{Destination, Slot};
use crate::base::text::visible;

/// How much longer than it may take a worker is waited for.
const SLACK: Duration = Duration::from_secs(1);

/// How long a host may take to say what it offers.
const EXPLAIN_LIMIT: Duration = Duration::from_secs(8);

impl Session {
    /// Connects, compares the host's key and logs in, all within the target's limit.
    ///
    /// # Errors
    /// Nothing of any command was sent then: every error of this function is [`SshError::never_sent`].
    pub async fn connect(target: &Target) -> Result<Session, SshError> {
        match Session::connect_over(target, None).await {
            Err(error) if error.is_disagreement() => Err(Session::explain(error, target, None).await),
            other => other,
        }
    }

    /// Like [`Session::connect`], through `way`: the end of a [`Tunnel`](super::Tunnel) to the target.
    ///
    /// # Errors
    /// As [`Session::connect`]; what [`Session::explain`] can say more of is left to the caller.
    pub async fn connect_over(target: &Target, way: Option<UnixStream>) -> Result<Session, SshError> {
        let host = place(target);
        if target.host_keys.is_empty() {
            return Err(SshError::UnknownHostKey { host });
        }
        let (way, mut proxy) = lead(target, way, &host)?;
        let limit = target.connect_timeout;
        let begin = Instant::now();
        let mut session = match (greet(target, &host, way, begin + limit).await, &mut proxy) {
            (Ok(session), _) => session,
            (Err(error), Some(proxy)) => return Err(of_proxy(error, limit, &proxy.last_words().await)),
            (Err(error), None) => return Err(error),
        };
        session.proxy = proxy;
        let left = limit.saturating_sub(begin.elapsed());
        match log_in(target, &mut session, left).await {
            Ok(()) => Ok(session),
            Err(_) if session.broken => Err(SshError::Ended { host: session.host.clone() }),
            Err(error) => Err(error),
        }
    }

    /// Finds out why a host and we do not agree: the library does not say. Asks the host what it offers, over one more
    /// connection; `way` leads there where it is not reached directly.
    pub async fn explain(error: SshError, target: &Target, way: Option<UnixStream>) -> SshError {
        let SshError::Disagreement { host, source } = error else { return error };
        match timeout(EXPLAIN_LIMIT, explained(target, way, &host)).await {
            Ok(Some(why)) => SshError::Methods { host, why },
            // They do agree: it was cut off, and may be tried again.
            _ => SshError::Handshake { host, source, said: String::new() },
        }
    }
}

/// Makes what a worker has to know of a target.
fn destination(target: &Target, place: &str, left: Duration, tcp: bool) -> Destination {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Destination {
        place: place.to_owned(),
        address: target.address.clone(),
        port: target.port,
        host_keys: target.host_keys.clone(),
        left_ms: ms(left),
        limit_ms: ms(target.connect_timeout),
        keepalive_ms: ms(target.keepalive),
        tcp,
    }
}

/// Returns how a target is called in what people read.
fn place(target: &Target) -> String {
    format!("{}:{}", target.address, target.port)
}

/// Starts the command that leads to a target, where there is one and no other way.
fn lead(target: &Target, way: Option<UnixStream>, host: &str) -> Result<(Option<UnixStream>, Option<Proxy>), SshError> {
    let (None, Some(command)) = (&way, &target.proxy_command) else { return Ok((way, None)) };
    let (way, proxy) = Proxy::start(command).map_err(|source| failed(host, &source))?;
    Ok((Some(way), Some(proxy)))
}

/// Makes an error of what the system said before there was a connection.
fn failed(host: &str, error: &io::Error) -> SshError {
    let (host, why) = (host.to_owned(), error.to_string());
    if is_short(error) { SshError::Short { host, why } } else { SshError::Connect { host, why } }
}

/// Makes the error of a connection that did not come about the command's, as far as it may be.
fn of_proxy(error: SshError, limit: Duration, said: &str) -> SshError {
    let (host, why) = match error {
        SshError::Connect { host, why } => (host, why),
        SshError::Handshake { host, source: LibraryError { message, .. }, .. } => (host, message),
        SshError::ConnectTimeout { host, .. } => (host, format!("no answer within {limit:?}")),
        // The host itself answered.
        other => return other,
    };
    SshError::Proxy { host, why, said: said.to_owned() }
}

/// Connects to a target, and gives the connection to a worker.
async fn connected(
    target: &Target,
    host: &str,
    way: Option<UnixStream>,
    deadline: Instant,
    explain: bool,
) -> Result<(Slot, Wire<Report, Order>), SshError> {
    let left = || deadline.saturating_duration_since(Instant::now());
    if let Some(way) = way {
        return target.workers.slot(destination(target, host, left(), false), way, explain).await;
    }
    let stream = match dial(&target.address, target.port, target.connect_timeout).await {
        Ok(stream) => stream.into_std().map_err(|error| failed(host, &error))?,
        Err(NotDialed::Late(why)) => return Err(SshError::ConnectTimeout { host: host.to_owned(), why }),
        Err(NotDialed::Failed(why)) => return Err(SshError::Connect { host: host.to_owned(), why }),
        Err(NotDialed::Short(source)) => return Err(failed(host, &source)),
    };
    prepare(&stream, target.keepalive).map_err(|error| failed(host, &error))?;
    target.workers.slot(destination(target, host, left(), true), stream, explain).await
}

/// Connects and has the host's key compared.
async fn greet(target: &Target, host: &str, way: Option<UnixStream>, deadline: Instant) -> Result<Session, SshError> {
    let (slot, mut wire) = connected(target, host, way, deadline, false).await?;
    match timeout_at(deadline + SLACK, wire.next()).await {
        Ok(Ok(Some(Frame::Said(Report::Greeted { key_exchange })))) => {
            Ok(Session::new(wire, host.to_owned(), slot, key_exchange))
        }
        Ok(Ok(Some(Frame::Said(Report::Failed(error))))) => Err(error.of_host(host)),
        Ok(_) => {
            slot.suspect();
            Err(SshError::Ended { host: host.to_owned() })
        }
        // It has limits of its own for everything that hosts may do.
        Err(_) => {
            slot.retire();
            Err(SshError::Ended { host: host.to_owned() })
        }
    }
}

/// Asks a host what it offers; returns what we have not in common.
async fn explained(target: &Target, way: Option<UnixStream>, host: &str) -> Option<String> {
    // It lives as long as the connection through it.
    let (way, _proxy) = lead(target, way, host).ok()?;
    let deadline = Instant::now() + target.connect_timeout;
    let (_seat, mut wire) = connected(target, host, way, deadline, true).await.ok()?;
    match wire.next().await {
        Ok(Some(Frame::Said(Report::Explained(why)))) => why.map(|why| visible(&why)),
        _ => None,
    }
}

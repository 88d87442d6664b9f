//! Answers HTTP/1.1 with hyper, over TCP, TLS or a UNIX socket. Floor 3.
//!
//! **Invariant:** whoever is slow waits for nobody but themselves: every head, body and unread answer has a time limit,
//! and when there are too many connections those go first that have not asked for anything yet, the oldest before the
//! others. Secrets in requests are shown by no `Debug`.

mod connections;
mod error;
pub mod names;
mod patient;
mod tls;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{AUTHORIZATION, COOKIE, HOST, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;

use crate::base::limits;

use connections::{Connections, Slot};
pub use error::HttpError;
use patient::Patient;
use tls::Tls;

/// The largest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// The most header lines a request may have.
const HEADERS_MAX: usize = 64;
/// How long requests that are being answered may go on when the daemon stops.
const GRACE: Duration = Duration::from_secs(5);

/// One request, whole.
pub struct Request {
    /// `GET`, `POST` and so on.
    pub method: String,
    /// The path, as it was sent.
    pub path: String,
    /// The arguments after the `?`, decoded.
    pub query: Vec<(String, String)>,
    /// The cookies.
    pub cookies: Vec<(String, String)>,
    /// The token of `Authorization: Bearer`.
    pub bearer: Option<String>,
    /// Whether there is a header `Sdk-Method`.
    pub sdk_method: bool,
    /// The body.
    pub body: Vec<u8>,
    /// For which host it is, where it says so.
    pub host: Option<String>,
    /// From where it came; `None` for a UNIX socket.
    pub peer: Option<SocketAddr>,
}

impl Request {
    /// Returns an argument.
    #[must_use]
    pub fn argument(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Returns a cookie.
    #[must_use]
    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.cookies.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// What kind of text it is.
    pub content_type: &'static str,
    /// More header lines.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// Where and how to listen.
#[derive(Clone, Debug)]
pub struct Listen {
    /// The addresses.
    pub addresses: Vec<SocketAddr>,
    /// A UNIX socket and the group that may use it.
    pub socket: Option<(PathBuf, Option<u32>)>,
    /// The certificate chain and its key.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// How many connections at once.
    pub connections: usize,
    /// How many of them from one address.
    pub connections_per_peer: usize,
}

/// What answers requests; refusals of the transport itself are answered through `refuse`.
pub trait Answers: Send + Sync + 'static {
    /// Answers a request.
    fn answer(&self, request: Request) -> impl Future<Output = Answer> + Send;

    /// Answers what was no request that can be read.
    fn refuse(&self, status: u16, why: &str) -> Answer;
}

/// What listens. Serving ends when this is dropped; requests that are being answered are answered first.
#[derive(Debug)]
pub struct Server {
    stop: watch::Sender<bool>,
    /// Where it listens, with the ports that the system chose.
    pub addresses: Vec<SocketAddr>,
    open: Arc<Connections>,
    socket: Option<PathBuf>,
}

impl Server {
    /// Begins to listen.
    ///
    /// # Errors
    /// When an address is taken or the certificate cannot be used.
    pub async fn start<A: Answers>(listen: Listen, answers: Arc<A>) -> Result<Server, HttpError> {
        let tls = match &listen.tls {
            Some((certificate, key)) => Some(Arc::new(Tls::load(certificate.clone(), key.clone())?)),
            None => None,
        };
        let open = Arc::new(Connections::new(listen.connections, listen.connections_per_peer));
        let (stop, stopped) = watch::channel(false);
        let mut addresses = Vec::new();
        for address in &listen.addresses {
            let failed = |source| HttpError::Listen { address: address.to_string(), source };
            let listener = TcpListener::bind(address).await.map_err(failed)?;
            addresses.push(listener.local_addr().map_err(failed)?);
            tokio::spawn(accept_tcp(listener, tls.clone(), Arc::clone(&open), Arc::clone(&answers), stopped.clone()));
        }
        let socket = listen.socket.clone().map(|(path, _)| path);
        if let Some((path, group)) = listen.socket {
            let failed = |source| HttpError::Listen { address: path.display().to_string(), source };
            let listener = bind_socket(&path, group).map_err(failed)?;
            tokio::spawn(accept_unix(listener, Arc::clone(&open), Arc::clone(&answers), stopped));
        }
        Ok(Server { stop, addresses, open, socket })
    }

    /// Stops listening and waits until what is being answered is answered, for a while.
    pub async fn finish(self) {
        // The receivers may all be gone.
        let _ = self.stop.send(true);
        let _ = tokio::time::timeout(GRACE, self.open.is_empty()).await;
        if let Some(path) = &self.socket {
            // Nobody listens behind it any more; a new start would remove it, too.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Makes the socket anew, for the daemon and its group.
fn bind_socket(path: &PathBuf, group: Option<u32>) -> io::Result<UnixListener> {
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt};
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.file_type().is_socket() => {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            std::fs::remove_file(path)?;
        }
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something else than a socket is there")),
        Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    // Nobody connects between the two: the directory is the daemon's.
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o660))?;
    // A service that is locked up may give nothing away; its own group is the right one then.
    if let Some(group) = group.filter(|group| std::fs::metadata(path).is_ok_and(|meta| meta.gid() != *group)) {
        std::os::unix::fs::chown(path, None, Some(group))?;
    }
    Ok(listener)
}

async fn accept_tcp<A: Answers>(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    open: Arc<Connections>,
    answers: Arc<A>,
    mut stopped: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.changed() => return,
        };
        let Ok((stream, peer)) = accepted else {
            // Out of files, mostly: those that are open come first.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Some(slot) = open.admit(Some(peer.ip())) else { continue };
        // Answers are small and wait for nothing that follows.
        let _ = stream.set_nodelay(true);
        let (tls, answers, stopped) = (tls.clone(), Arc::clone(&answers), stopped.clone());
        tokio::spawn(async move {
            match tls {
                None => converse(stream, Some(peer), slot, answers, stopped).await,
                Some(tls) => {
                    let head = Duration::from_secs(limits::HTTP_HEAD_S);
                    let shaken = tokio::select! {
                        shaken = tokio::time::timeout(head, tls.acceptor().accept(stream)) => shaken,
                        () = slot.closed_for_another() => return,
                    };
                    if let Ok(Ok(stream)) = shaken {
                        converse(stream, Some(peer), slot, answers, stopped).await;
                    }
                }
            }
        });
    }
}

async fn accept_unix<A: Answers>(
    listener: UnixListener,
    open: Arc<Connections>,
    answers: Arc<A>,
    mut stopped: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.changed() => return,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Some(slot) = open.admit(None) else { continue };
        tokio::spawn(converse(stream, None, slot, Arc::clone(&answers), stopped.clone()));
    }
}

/// Answers the requests of one connection, one after the other.
async fn converse<A: Answers, S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    peer: Option<SocketAddr>,
    slot: Slot,
    answers: Arc<A>,
    mut stopped: watch::Receiver<bool>,
) {
    let slot = Arc::new(slot);
    let service = service_fn(|request| {
        let (answers, slot) = (Arc::clone(&answers), Arc::clone(&slot));
        async move { Ok::<_, Infallible>(serve(&*answers, &slot, request, peer).await) }
    });
    let stream = TokioIo::new(Patient::new(stream, Duration::from_secs(limits::HTTP_BODY_S)));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(limits::HTTP_HEAD_S))
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(stream, service);
    let mut connection = pin!(connection);
    tokio::select! {
        // A client that breaks off has said all it wanted.
        _ = connection.as_mut() => return,
        () = slot.closed_for_another() => return,
        _ = stopped.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ = tokio::time::timeout(GRACE, connection).await;
}

async fn serve<A: Answers>(
    answers: &A,
    slot: &Slot,
    request: hyper::Request<Incoming>,
    peer: Option<SocketAddr>,
) -> hyper::Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let limit = usize::try_from(limits::HTTP_BODY_BYTES_MAX).unwrap_or(usize::MAX);
    if body.size_hint().lower() > limits::HTTP_BODY_BYTES_MAX {
        return response(answers.refuse(413, &format!("the body has more than {limit} bytes")), false);
    }
    let body = Limited::new(body, limit).collect();
    let answer = match tokio::time::timeout(Duration::from_secs(limits::HTTP_BODY_S), body).await {
        Err(_) => answers.refuse(408, "the body did not come in time"),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            answers.refuse(413, &format!("the body has more than {limit} bytes"))
        }
        Ok(Err(error)) => answers.refuse(400, &format!("the body cannot be read: {error}")),
        Ok(Ok(body)) => {
            // From here on it is our work that takes time.
            let Some(_working) = slot.works() else {
                let why = "there are too many connections, and this one has waited longest; try again";
                return response(answers.refuse(503, why), false);
            };
            answers.answer(request_of(&head, body.to_bytes().to_vec(), peer)).await
        }
    };
    response(answer, head.method == Method::HEAD)
}

fn request_of(head: &hyper::http::request::Parts, body: Vec<u8>, peer: Option<SocketAddr>) -> Request {
    let texts = |name: HeaderName| head.headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    let cookies = texts(COOKIE)
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned()))
        .collect();
    let bearer = texts(AUTHORIZATION).find_map(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
    });
    Request {
        method: head.method.as_str().to_owned(),
        path: head.uri.path().to_owned(),
        query: pairs(head.uri.query().unwrap_or_default()),
        cookies,
        bearer,
        host: head.uri.authority().map(ToString::to_string).or_else(|| {
            let said = head.headers.get(HOST)?;
            Some(String::from_utf8_lossy(said.as_bytes()).into_owned())
        }),
        sdk_method: head.headers.contains_key("sdk-method"),
        body,
        peer,
    }
}

/// Reads the pairs of a query.
pub(crate) fn pairs(query: &str) -> Vec<(String, String)> {
    let pair = |part: &str| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        (decoded(name), decoded(value))
    };
    query.split('&').filter(|part| !part.is_empty()).map(pair).collect()
}

/// Undoes the percent signs and plus signs of a query; what is none stays as it is.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = bytes.get(at.saturating_add(1)..at.saturating_add(3)).and_then(|hex| std::str::from_utf8(hex).ok());
        match (bytes[at], code.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                plain.push(byte);
                at = at.saturating_add(3);
            }
            (b'+', _) => {
                plain.push(b' ');
                at = at.saturating_add(1);
            }
            (byte, _) => {
                plain.push(byte);
                at = at.saturating_add(1);
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

fn response(answer: Answer, head_only: bool) -> hyper::Response<Full<Bytes>> {
    let body = if head_only { Bytes::new() } else { Bytes::from(answer.body) };
    let mut response = hyper::Response::new(Full::new(body));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static(answer.content_type));
    headers.insert("cache-control", HeaderValue::from_static("no-store"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    for (name, value) in answer.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.append(name, value);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded_and_nothing_breaks_on_odd_ones() {
        let found = pairs("a=1&b=%E5%8F%91+x&&c&d=%zz%4&e=1=2&%61=x");
        let want = [("a", "1"), ("b", "发 x"), ("c", ""), ("d", "%zz%4"), ("e", "1=2"), ("a", "x")];
        assert_eq!(found, want.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}

//! A TCP connection to one of a name's addresses. Floor 3.
//!
//! **Invariant:** all of it, the look-up too, ends within the limit. The addresses share it (RFC 8305 in small): one that is
//! silent takes nothing from the others, and whatever fails is named with its address.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::adapters::ssh::descriptors::is_short;

/// After how long the next address is tried beside one that has not answered (RFC 8305, section 5).
const STAGGER: Duration = Duration::from_millis(250);
/// How long one that took the connection may say nothing before others are tried: an sshd greets at once, and what stands in
/// front of one may wait for us a little.
const SILENT: Duration = Duration::from_secs(2);
/// How many addresses of a name are tried.
const ADDRESSES_MAX: usize = 16;
/// How many names are looked up at once: each that no name server answers holds a thread for long.
static LOOKING_UP: Semaphore = Semaphore::const_new(64);

/// How much the kernel holds of what it cannot send yet.
const UNSENT_BYTES_MAX: u32 = 128 << 10;

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum NotDialed {
    /// Nobody answered in time.
    Late(String),
    /// Somebody answered, and no connection came about.
    Failed(String),
    /// This process may open no more files.
    Short(io::Error),
}

/// Connects to a name or address.
///
/// # Errors
/// When none of its addresses takes the connection within `limit`; all of them are named.
pub(super) async fn dial(name: &str, port: u16, limit: Duration) -> Result<TcpStream, NotDialed> {
    let deadline = Instant::now() + limit;
    let mut addresses = look_up(name, port, limit).await?;
    let left_out = addresses.len().saturating_sub(ADDRESSES_MAX);
    addresses.truncate(ADDRESSES_MAX);
    let literal = name.parse::<IpAddr>().is_ok();
    Race::new(addresses, limit).run(deadline).await.map_err(|lost| lost.told(literal, left_out))
}

/// Prepares a fresh connection: no waiting for full segments, the kernel asks after silent peers, and takes what can soon be
/// sent: what waits there nobody can take back, and it passes for sent.
pub(super) fn prepare(stream: &std::net::TcpStream, keepalive: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
    let probes = TcpKeepalive::new().with_time(keepalive).with_interval(keepalive).with_retries(3);
    SockRef::from(stream).set_tcp_keepalive(&probes)
}

/// Returns the addresses of a name, each once, the kinds of addresses in turn.
async fn look_up(name: &str, port: u16, limit: Duration) -> Result<Vec<SocketAddr>, NotDialed> {
    if let Ok(address) = name.parse() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let looked = timeout(limit, async {
        let _turn = LOOKING_UP.acquire().await;
        tokio::net::lookup_host((name, port)).await.map(Iterator::collect::<Vec<_>>)
    });
    match looked.await {
        Err(_) => {
            Err(NotDialed::Late(format!("its name was not looked up within {limit:?}; does a name server answer?")))
        }
        Ok(Err(error)) if is_short(&error) => Err(NotDialed::Short(error)),
        Ok(Err(error)) => Err(NotDialed::Failed(format!("its name is not known: {error}"))),
        Ok(Ok(found)) if found.is_empty() => Err(NotDialed::Failed("its name has no address".to_owned())),
        Ok(Ok(found)) => Ok(in_turn(found)),
    }
}

/// Takes turns between the two kinds of addresses, beginning with the first one's: a whole kind may lead nowhere.
fn in_turn(found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let mut all: Vec<SocketAddr> = Vec::new();
    for address in found {
        if !all.contains(&address) {
            all.push(address);
        }
    }
    let first_kind = all.first().is_some_and(SocketAddr::is_ipv6);
    let (first, other): (Vec<_>, Vec<_>) = all.into_iter().partition(|address| address.is_ipv6() == first_kind);
    let (mut first, mut other) = (first.into_iter(), other.into_iter());
    let mut mixed = Vec::new();
    loop {
        let pair = [first.next(), other.next()];
        if pair == [None, None] {
            return mixed;
        }
        mixed.extend(pair.into_iter().flatten());
    }
}

/// What became of a try, and of which address.
type Tried = (usize, io::Result<Got>);

/// How far a try has come.
enum Got {
    /// The address took the connection.
    Taken(TcpStream),
    /// It said something.
    Spoke(TcpStream),
    /// It said nothing for a while.
    Silent(TcpStream),
}

/// The tries for all addresses of a name.
struct Race {
    addresses: Vec<SocketAddr>,
    /// What became of each, where it failed.
    failed: Vec<Option<io::Error>>,
    /// How many were begun.
    begun: usize,
    tries: JoinSet<Tried>,
    /// When the next one begins.
    next_at: Instant,
    stagger: Duration,
    silent: Duration,
    limit: Duration,
    /// The first one that took the connection and said nothing.
    mute: Option<TcpStream>,
}

/// A race that nobody won.
struct Lost {
    addresses: Vec<SocketAddr>,
    failed: Vec<Option<io::Error>>,
    limit: Duration,
}

impl Race {
    fn new(addresses: Vec<SocketAddr>, limit: Duration) -> Race {
        let count = u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
        // However short the limit is, each address gets a part of it.
        let share = limit / count.saturating_mul(2);
        Race {
            failed: addresses.iter().map(|_| None).collect(),
            addresses,
            begun: 0,
            tries: JoinSet::new(),
            next_at: Instant::now(),
            stagger: STAGGER.min(share),
            silent: SILENT.min(share),
            limit,
            mute: None,
        }
    }

    async fn run(mut self, deadline: Instant) -> Result<TcpStream, Lost> {
        loop {
            let more = self.begun < self.addresses.len();
            if more && (self.tries.is_empty() || self.next_at <= Instant::now()) {
                self.begin();
                continue;
            }
            // Nobody is left that could be better.
            if !more && (self.tries.is_empty() || self.next_at <= Instant::now()) && self.mute.is_some() {
                return self.mute.take().ok_or_else(|| self.lost());
            }
            if self.tries.is_empty() {
                return Err(self.lost());
            }
            let waits = more || self.mute.is_some();
            tokio::select! {
                tried = self.tries.join_next() => if let Some(won) = tried.and_then(|tried| self.heard(tried.ok()?)) {
                    return Ok(won);
                },
                () = sleep_until(self.next_at), if waits => {}
                () = sleep_until(deadline) => return self.mute.take().ok_or_else(|| self.lost()),
            }
        }
    }

    /// Begins the next try.
    fn begin(&mut self) {
        let (n, address) = (self.begun, self.addresses[self.begun]);
        self.begun = self.begun.saturating_add(1);
        self.next_at = Instant::now() + self.stagger;
        self.tries.spawn(async move { (n, TcpStream::connect(address).await.map(Got::Taken)) });
    }

    /// Takes in what became of a try; returns the connection that wins.
    fn heard(&mut self, (n, tried): Tried) -> Option<TcpStream> {
        match tried {
            Err(error) => {
                self.failed[n] = Some(error);
                self.next_at = self.next_at.min(Instant::now());
            }
            Ok(Got::Spoke(stream)) => return Some(stream),
            // The only one left is taken as it is.
            Ok(Got::Taken(stream))
                if self.begun == self.addresses.len() && self.tries.is_empty() && self.mute.is_none() =>
            {
                return Some(stream);
            }
            Ok(Got::Taken(stream)) => {
                self.next_at = Instant::now() + self.silent;
                self.tries.spawn(listen(n, stream, self.next_at));
            }
            Ok(Got::Silent(stream)) => {
                self.mute.get_or_insert(stream);
                // Those that are begun get a moment more.
                let moment = if self.begun < self.addresses.len() { Duration::ZERO } else { self.stagger };
                self.next_at = Instant::now() + moment;
            }
        }
        None
    }

    fn lost(&mut self) -> Lost {
        Lost {
            addresses: std::mem::take(&mut self.addresses),
            failed: std::mem::take(&mut self.failed),
            limit: self.limit,
        }
    }
}

/// Waits until a host says something, or has said nothing for too long.
async fn listen(n: usize, stream: TcpStream, until: Instant) -> Tried {
    let mut byte = [0];
    let heard = timeout_at(until, stream.peek(&mut byte)).await;
    let got = match heard {
        Ok(Ok(0)) => Err(io::Error::new(io::ErrorKind::ConnectionReset, "it hung up at once")),
        Ok(Ok(_)) => Ok(Got::Spoke(stream)),
        Ok(Err(error)) => Err(error),
        Err(_) => Ok(Got::Silent(stream)),
    };
    (n, got)
}

impl Lost {
    /// Says what became of each address. One that is the name itself needs no naming.
    fn told(self, literal: bool, left_out: usize) -> NotDialed {
        let Lost { addresses, mut failed, limit } = self;
        if let Some(short) = failed.iter_mut().find(|error| error.as_ref().is_some_and(is_short)) {
            return NotDialed::Short(short.take().unwrap_or_else(|| io::ErrorKind::Other.into()));
        }
        let late = failed.iter().all(Option::is_none);
        let mut whys: Vec<String> = Vec::new();
        for (address, error) in addresses.iter().zip(failed) {
            let why = error.map_or_else(|| format!("no answer within {limit:?}"), |error| error.to_string());
            whys.push(if literal { why } else { format!("{}: {why}", address.ip()) });
        }
        if left_out > 0 {
            whys.push(format!("{left_out} more addresses were not tried"));
        }
        let why = whys.join("; ");
        if late { NotDialed::Late(why) } else { NotDialed::Failed(why) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(words: &[&str]) -> Vec<SocketAddr> {
        words.iter().map(|word| SocketAddr::new(word.parse().unwrap(), 22)).collect()
    }

    #[test]
    fn the_kinds_of_addresses_take_turns_and_none_comes_twice() {
        for (found, want) in [
            (&[][..], &[][..]),
            (&["::1", "::2", "10.0.0.1", "::1"], &["::1", "10.0.0.1", "::2"]),
            (&["10.0.0.1", "10.0.0.2", "10.0.0.3", "::1"], &["10.0.0.1", "::1", "10.0.0.2", "10.0.0.3"]),
        ] {
            assert_eq!(in_turn(addresses(found)), addresses(want), "{found:?}");
        }
    }

    /// What stands at a loopback address.
    enum Place {
        /// An SSH server's greeting.
        Greets,
        /// Takes connections and says nothing.
        Mute,
        /// Takes connections and hangs up.
        HangsUp,
        /// Lets no connection in, without a word: its queue is full.
        Swallows,
        /// Nobody.
        Refuses,
    }

    /// Sets up places on one port, and returns their addresses with what keeps them there.
    fn places(kinds: &[Place]) -> (Vec<SocketAddr>, Vec<Box<dyn std::any::Any>>) {
        use std::io::Write as _;
        let (mut all, mut kept): (Vec<SocketAddr>, Vec<Box<dyn std::any::Any>>) = (Vec::new(), Vec::new());
        for (n, kind) in kinds.iter().enumerate() {
            let ip: IpAddr = format!("127.8.0.{}", n + 1).parse().unwrap();
            let listener = std::net::TcpListener::bind((ip, 0)).unwrap();
            let address = listener.local_addr().unwrap();
            all.push(address);
            match kind {
                Place::Greets | Place::HangsUp => {
                    let greets = matches!(kind, Place::Greets);
                    std::thread::spawn(move || {
                        let mut kept = Vec::new();
                        for mut stream in listener.incoming().map_while(Result::ok) {
                            if greets {
                                stream.write_all(b"SSH-2.0-x\r\n").unwrap();
                                kept.push(stream);
                            }
                        }
                    });
                }
                Place::Mute => kept.push(Box::new(listener)),
                Place::Refuses => drop(listener),
                Place::Swallows => {
                    drop(listener);
                    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
                    socket.bind(&address.into()).unwrap();
                    socket.listen(0).unwrap();
                    // What does not fit into the queue is dropped without an answer.
                    for _ in 0..3 {
                        let filler = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
                        filler.set_nonblocking(true).unwrap();
                        let _ = filler.connect(&address.into());
                        kept.push(Box::new(filler));
                    }
                    kept.push(Box::new(socket));
                }
            }
        }
        (all, kept)
    }

    /// Runs a race between places; returns which one won, or what was said, and after how long.
    fn race(kinds: &[Place], limit_ms: u64) -> (Result<usize, String>, Duration) {
        let (addresses, _kept) = places(kinds);
        let limit = Duration::from_millis(limit_ms);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let begin = std::time::Instant::now();
        let won = runtime.block_on(async {
            let race = Race::new(addresses.clone(), limit).run(Instant::now() + limit).await;
            race.map(|stream| stream.peer_addr().unwrap()).map_err(|lost| match lost.told(false, 0) {
                NotDialed::Late(why) => format!("late: {why}"),
                NotDialed::Failed(why) => format!("failed: {why}"),
                NotDialed::Short(error) => error.to_string(),
            })
        });
        let place = |address| addresses.iter().position(|known| *known == address).unwrap();
        (won.map(place), begin.elapsed())
    }

    #[test]
    fn one_bad_address_takes_nothing_from_the_good_one() {
        use Place::{Greets, HangsUp, Mute, Refuses, Swallows};
        for (kinds, want, most_ms) in [
            (&[Greets, Greets][..], 0, 200),
            (&[Swallows, Greets], 1, 900),
            (&[Refuses, Greets], 1, 200),
            (&[HangsUp, Greets], 1, 200),
            (&[Swallows, Swallows, Refuses, Greets], 3, 1500),
            (&[Mute, Greets], 1, 2800),
            // One that waits for us to speak first is better than none.
            (&[Mute, Refuses], 0, 2200),
            (&[Refuses, Mute], 1, 200),
            (&[Mute], 0, 200),
            (&[Mute, Swallows], 0, 2500),
            (&[Mute, Mute], 0, 5500),
        ] {
            let (won, took) = race(kinds, 10_000);
            assert_eq!(won, Ok(want));
            // Others may have the processors now and then.
            assert!(took < Duration::from_millis(most_ms + 1000), "{took:?} for {want}, at most {most_ms} ms");
        }
    }

    #[test]
    fn every_address_is_named_with_its_reason() {
        use Place::{HangsUp, Refuses, Swallows};
        for (kinds, want) in [
            (&[Refuses][..], "failed: 127.8.0.1: Connection refused (os error 111)"),
            (
                &[Swallows, Refuses],
                "failed: 127.8.0.1: no answer within 1s; 127.8.0.2: Connection refused (os error 111)",
            ),
            (&[Swallows, Swallows], "late: 127.8.0.1: no answer within 1s; 127.8.0.2: no answer within 1s"),
            (
                &[HangsUp, Refuses],
                "failed: 127.8.0.1: it hung up at once; 127.8.0.2: Connection refused (os error 111)",
            ),
        ] {
            let (won, took) = race(kinds, 1000);
            assert_eq!(won, Err(want.to_owned()));
            assert!(took < Duration::from_secs(3), "{took:?}");
        }
    }
}

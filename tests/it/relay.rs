//! A TCP relay in front of an sshd: links that are slow, narrow, cut into small pieces, silent or half dead, and links that
//! break where a test wants them to. Benchmarks and the demo use it too.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::Scope;
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

/// How much is read at once.
const BUFFER_BYTES: usize = 64 << 10;
/// How much is under way at once, where nothing limits the bandwidth: as much as one connection of Linux has in flight.
const IN_FLIGHT_BYTES: usize = 4 << 20;
/// What a narrow link's devices hold back beside what is under way.
const BUFFERED_BYTES: usize = 128 << 10;
/// The fewest bytes of a segment that the kernel can be told of; smaller ones are sent far enough apart.
const SEGMENT_BYTES_MIN: usize = 88;
/// What a segment holds beside its bytes, as the kernel counts them.
const TIMESTAMP_BYTES: usize = 12;
/// How far apart.
const APART: Duration = Duration::from_micros(50);
/// How often a narrow link passes something on in a second.
const BEATS: u64 = 100;
/// How much stack each of a link's threads has: thousands of links come and go.
const STACK_BYTES: usize = 128 << 10;

/// A direction of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From whoever connects to the server.
    Up,
    /// Back.
    Down,
}

/// What links are like; unless told otherwise as the machine has them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shape {
    /// How long a byte is under way, each way. Connecting takes a round trip too.
    pub(crate) latency: Duration,
    /// How many bytes a second pass, each way; 0: as many as can.
    pub(crate) bandwidth: u64,
    /// How many bytes a segment has at most; 0: as many as it came with.
    pub(crate) segment: usize,
    /// Passes bytes on for the first time, and none for the second, again and again.
    pub(crate) pulse: Option<(Duration, Duration)>,
    /// Cuts the first link after so many bytes from the client; 0: never.
    pub(crate) cut_at: u64,
    /// Whether to note what passed when.
    pub(crate) traced: bool,
}

impl Shape {
    /// A link whose round trips take so long.
    pub(crate) fn round_trip(time: Duration) -> Shape {
        Shape { latency: time / 2, ..Shape::default() }
    }

    /// Tells a socket how long its segments are to be, in both directions.
    fn tell(&self, socket: &Socket) -> std::io::Result<()> {
        if self.segment == 0 {
            return Ok(());
        }
        socket.set_tcp_mss(u32::try_from(self.segment.max(SEGMENT_BYTES_MIN) + TIMESTAMP_BYTES).unwrap())
    }

    fn connect(&self, to: IpAddr, port: u16) -> std::io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address((to, port).into()), Type::STREAM, None)?;
        self.tell(&socket)?;
        socket.connect(&SocketAddr::new(to, port).into())?;
        Ok(socket.into())
    }
}

/// Bytes that passed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passed {
    /// The number of its link, from 0.
    pub(crate) link: usize,
    pub(crate) way: Way,
    /// When the client sent or got them, from its connecting on.
    pub(crate) at: Duration,
    pub(crate) bytes: usize,
}

/// What a relay does, changed while it runs.
#[derive(Default)]
struct State {
    /// Forwards nothing in this direction; open links stay open and silent.
    silent: [bool; 2],
    /// Whether the end of the stream was sent in this direction, whatever the sender says.
    finished: [bool; 2],
    /// Whether nobody needs it any more.
    over: bool,
    links: usize,
    open: BTreeMap<usize, Vec<TcpStream>>,
    trace: Vec<Passed>,
}

struct Plan {
    shape: Shape,
    begin: Instant,
    state: Mutex<State>,
    changed: Condvar,
}

impl Plan {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Waits until bytes may pass; returns whether they ever will.
    fn may_pass(&self, way: Way) -> bool {
        if let Some((go, stop)) = self.shape.pulse {
            let period = (go + stop).as_micros().max(1);
            let into = self.begin.elapsed().as_micros() % period;
            if into >= go.as_micros() {
                wait_until(Instant::now() + Duration::from_micros(u64::try_from(period - into).unwrap()));
            }
        }
        let silent = |state: &mut State| state.silent[way as usize] && !state.over;
        let state = self.changed.wait_while(self.state(), silent).unwrap();
        !state.over
    }

    fn note(&self, link: usize, way: Way, since: Instant, bytes: usize) {
        if self.shape.traced {
            let at = since.elapsed();
            self.state().trace.push(Passed { link, way, at, bytes });
        }
    }
}

pub(crate) struct Relay {
    port: u16,
    listener: TcpListener,
    plan: Arc<Plan>,
}

impl Relay {
    /// Relays from a port of its own to `to` on loopback; cuts the first link after so many bytes from the client, unless 0.
    pub(crate) fn start(to: u16, cut_at: u64) -> Relay {
        Relay::shaped(to, Shape { cut_at, ..Shape::default() })
    }

    /// Like [`Relay::start`], over links of a shape.
    pub(crate) fn shaped(to: u16, shape: Shape) -> Relay {
        Relay::listen(TcpListener::bind("127.0.0.1:0").unwrap(), to, shape)
    }

    /// Relays every address that the listener answers for, each to `to` of the same address.
    ///
    /// Its connections are made in the network namespace of the thread that calls this.
    pub(crate) fn listen(listener: TcpListener, to: u16, shape: Shape) -> Relay {
        let port = listener.local_addr().unwrap().port();
        if shape.bandwidth > 0 {
            // Or the kernel would take in much more than the link holds.
            SockRef::from(&listener).set_recv_buffer_size(BUFFERED_BYTES).unwrap();
        }
        shape.tell(&SockRef::from(&listener)).unwrap();
        let plan = Plan { shape, begin: Instant::now(), state: Mutex::default(), changed: Condvar::new() };
        let (plan, accepting) = (Arc::new(plan), listener.try_clone().unwrap());
        let shared = Arc::clone(&plan);
        std::thread::spawn(move || {
            while let Ok((client, _)) = accepting.accept() {
                let mut state = shared.state();
                if state.over {
                    return;
                }
                let number = state.links;
                state.links += 1;
                state.open.insert(number, vec![client.try_clone().unwrap()]);
                drop(state);
                let link = Link { plan: Arc::clone(&shared), number, since: Instant::now() };
                std::thread::Builder::new().stack_size(STACK_BYTES).spawn(move || link.carry(&client, to)).unwrap();
            }
        });
        Relay { port, listener, plan }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// How many links there were.
    pub(crate) fn links(&self) -> usize {
        self.plan.state().links
    }

    /// Lets nothing through any more, in either direction, without closing anything; or lets it through again.
    pub(crate) fn silence(&self, silent: bool) {
        self.plan.state().silent = [silent; 2];
        self.plan.changed.notify_all();
    }

    /// As [`Relay::silence`], in one direction.
    pub(crate) fn silence_one(&self, way: Way, silent: bool) {
        self.plan.state().silent[way as usize] = silent;
        self.plan.changed.notify_all();
    }

    /// Ends the streams of one direction, though their senders do not; the other direction goes on.
    pub(crate) fn finish(&self, way: Way) {
        let mut state = self.plan.state();
        state.finished[way as usize] = true;
        let of = usize::from(way == Way::Up);
        for stream in state.open.values().filter_map(|ends| ends.get(of)) {
            let _ = stream.shutdown(Shutdown::Write);
        }
    }

    /// Cuts every open link.
    pub(crate) fn cut(&self) {
        for stream in std::mem::take(&mut self.plan.state().open).into_values().flatten() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Takes what was noted so far.
    pub(crate) fn trace(&self) -> Vec<Passed> {
        std::mem::take(&mut self.plan.state().trace)
    }
}

impl Drop for Relay {
    /// Ends the listener, so that thousands of relays can come and go.
    fn drop(&mut self) {
        self.plan.state().over = true;
        self.plan.changed.notify_all();
        self.cut();
        let _ = SockRef::from(&self.listener).shutdown(Shutdown::Both);
    }
}

/// Starts a thread of a link.
fn start<'scope>(scope: &'scope Scope<'scope, '_>, work: impl FnOnce() + Send + 'scope) {
    std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work).unwrap();
}

/// One connection through a relay.
struct Link {
    plan: Arc<Plan>,
    number: usize,
    since: Instant,
}

impl Link {
    /// Connects on and carries bytes until both directions have ended.
    fn carry(&self, client: &TcpStream, to: u16) {
        let (up, down) = (Pipe::new(&self.plan.shape), Pipe::new(&self.plan.shape));
        let latency = self.plan.shape.latency;
        std::thread::scope(|scope| {
            // A client's first bytes follow the server's answer to its connecting.
            start(scope, || self.read(client, &up, Way::Up, self.since + 2 * latency));
            wait_until(self.since + 3 * latency);
            let server = client.local_addr().and_then(|address| self.plan.shape.connect(address.ip(), to));
            let Ok(server) = server.inspect_err(|_| drop(client.shutdown(Shutdown::Both))) else {
                up.give_up();
                return;
            };
            if self.plan.shape.bandwidth > 0 {
                let _ = SockRef::from(&server).set_send_buffer_size(BUFFERED_BYTES);
                let _ = SockRef::from(client).set_send_buffer_size(BUFFERED_BYTES);
            }
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            self.opened(&server);
            let (server, up, down) = (Arc::new(server), &up, &down);
            let (read, write) = (Arc::clone(&server), Arc::clone(&server));
            start(scope, move || self.read(&read, down, Way::Down, self.since));
            start(scope, move || self.write(up, &write, client, Way::Up));
            self.write(down, client, &server, Way::Down);
        });
        self.plan.state().open.remove(&self.number);
    }

    /// Keeps the server's end where [`Relay::cut`] finds it, unless the link was cut meanwhile.
    fn opened(&self, server: &TcpStream) {
        match self.plan.state().open.get_mut(&self.number) {
            Some(ends) => ends.push(server.try_clone().unwrap()),
            None => drop(server.shutdown(Shutdown::Both)),
        }
    }

    /// Puts what comes under way; it counts as sent at `earliest` at the earliest.
    fn read(&self, mut from: &TcpStream, pipe: &Pipe, way: Way, earliest: Instant) {
        let mut buffer = vec![0; BUFFER_BYTES];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if way == Way::Up {
                self.plan.note(self.number, way, self.since, count);
            }
            let due = Instant::now().max(earliest) + self.plan.shape.latency;
            if !pipe.push(due, buffer[..count].to_vec()) {
                return;
            }
        }
        pipe.end();
    }

    /// Hands on what has been under way for long enough.
    fn write(&self, pipe: &Pipe, into: &TcpStream, from: &TcpStream, way: Way) {
        let cut_at = if self.number == 0 && way == Way::Up { self.plan.shape.cut_at } else { 0 };
        let (mut room, mut free_at) = (usize::try_from(cut_at).unwrap(), Instant::now());
        while let Some((due, bytes)) = pipe.pop() {
            wait_until(due);
            let cut = cut_at > 0 && bytes.len() >= room;
            let bytes = if cut { &bytes[..room] } else { &bytes };
            room = room.saturating_sub(bytes.len());
            if !self.pass(bytes, into, way, &mut free_at) {
                // Whoever sends on is not heard; the other direction may go on.
                let _ = from.shutdown(Shutdown::Read);
                pipe.give_up();
                break;
            }
            if cut {
                let _ = (from.shutdown(Shutdown::Both), into.shutdown(Shutdown::Both));
                pipe.give_up();
                return;
            }
        }
        let _ = into.shutdown(Shutdown::Write);
    }

    /// Hands bytes on in segments, as fast as the link is; returns whether there is anybody to take them.
    fn pass(&self, bytes: &[u8], mut into: &TcpStream, way: Way, free_at: &mut Instant) -> bool {
        let shape = &self.plan.shape;
        let beat = usize::try_from(shape.bandwidth.div_ceil(BEATS)).unwrap();
        let piece = [shape.segment, beat].into_iter().filter(|size| *size > 0).min().unwrap_or(bytes.len());
        for piece in bytes.chunks(piece.max(1)) {
            if !self.plan.may_pass(way) {
                return false;
            }
            if self.plan.state().finished[way as usize] {
                continue;
            }
            if let Some(micros) = (piece.len() as u64 * 1_000_000).checked_div(shape.bandwidth) {
                *free_at = (*free_at).max(Instant::now()) + Duration::from_micros(micros);
                wait_until(*free_at);
            }
            if into.write_all(piece).is_err() {
                return false;
            }
            if piece.len() < SEGMENT_BYTES_MIN && bytes.len() > piece.len() {
                wait_until(Instant::now() + APART);
            }
            if way == Way::Down {
                self.plan.note(self.number, way, self.since, piece.len());
            }
        }
        true
    }
}

/// Bytes under way, each with its time of arrival.
struct Pipe {
    most: usize,
    inside: Mutex<Inside>,
    changed: Condvar,
}

#[derive(Default)]
struct Inside {
    queue: VecDeque<(Instant, Vec<u8>)>,
    held: usize,
    /// Whether nothing more comes.
    ended: bool,
    /// Whether nobody takes anything any more.
    given_up: bool,
}

impl Pipe {
    fn new(shape: &Shape) -> Pipe {
        let under_way = usize::try_from(u128::from(shape.bandwidth) * shape.latency.as_micros() / 1_000_000).unwrap();
        // Not more than a real one: what a sender gets rid of is not there yet.
        let most = if shape.bandwidth > 0 { BUFFERED_BYTES + under_way } else { IN_FLIGHT_BYTES };
        Pipe { most, inside: Mutex::default(), changed: Condvar::new() }
    }

    /// Puts bytes in when there is room; returns whether anybody takes them.
    fn push(&self, due: Instant, bytes: Vec<u8>) -> bool {
        let full = |inside: &mut Inside| inside.held >= self.most && !inside.given_up;
        let mut inside = self.changed.wait_while(self.inside.lock().unwrap(), full).unwrap();
        inside.held += bytes.len();
        inside.queue.push_back((due, bytes));
        self.changed.notify_all();
        !inside.given_up
    }

    fn pop(&self) -> Option<(Instant, Vec<u8>)> {
        let empty = |inside: &mut Inside| inside.queue.is_empty() && !inside.ended && !inside.given_up;
        let mut inside = self.changed.wait_while(self.inside.lock().unwrap(), empty).unwrap();
        let (due, bytes) = inside.queue.pop_front()?;
        inside.held -= bytes.len();
        self.changed.notify_all();
        Some((due, bytes))
    }

    fn end(&self) {
        self.inside.lock().unwrap().ended = true;
        self.changed.notify_all();
    }

    fn give_up(&self) {
        self.inside.lock().unwrap().given_up = true;
        self.changed.notify_all();
    }
}

/// Waits for a time.
pub(crate) fn wait_until(time: Instant) {
    while let Some(left) = time.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}

//! What the links of the tests are like: a test over a link that is not as it says would show nothing.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::link::Link;
use crate::relay::{Relay, Shape, Way, wait_until};
use crate::remote::{log, task};
use crate::sshd::{Account, Setup, Sshd};
use crate::world::{World, wait_for};

/// Answers every byte with the same one, at a port of loopback, until the client sends no more; then says a last word.
fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || serve(&listener));
    port
}

fn serve(listener: &TcpListener) {
    for mut stream in listener.incoming().map_while(Result::ok) {
        std::thread::spawn(move || {
            let _ = stream.set_nodelay(true);
            let mut from = stream.try_clone().unwrap();
            let _ = std::io::copy(&mut from, &mut stream).and_then(|_| stream.write_all(b"end"));
        });
    }
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

fn noise(length: usize) -> Vec<u8> {
    (0..length).map(|n| u8::try_from(n.wrapping_mul(2_654_435_761) >> 13 & 0xff).unwrap()).collect()
}

/// Sends bytes and takes them back at the same time; how long that took.
fn there_and_back(stream: &TcpStream, bytes: &[u8]) -> Duration {
    let begin = Instant::now();
    let mut back = vec![0; bytes.len()];
    let (mut to, mut from) = (stream, stream);
    std::thread::scope(|scope| {
        scope.spawn(move || to.write_all(bytes).unwrap());
        from.read_exact(&mut back).unwrap();
    });
    assert!(back == bytes, "other bytes came back");
    begin.elapsed()
}

#[test]
fn latency_takes_its_time_and_none_of_the_throughput() {
    let latency = Duration::from_millis(100);
    let relay = Relay::shaped(echo(), Shape { latency, traced: true, ..Shape::default() });
    let begin = Instant::now();
    let stream = connect(relay.port());
    there_and_back(&stream, b"x");
    // A round trip of the connecting, and one of the byte.
    assert!(begin.elapsed() >= 4 * latency, "{:?}", begin.elapsed());
    assert!(there_and_back(&stream, b"x") >= 2 * latency);
    let time = there_and_back(&stream, &noise(20_000_000));
    assert!(time < Duration::from_secs(10), "20 MB took {time:?}");
    let trace = relay.trace();
    let passed = |way| trace.iter().filter(|passed| passed.way == way).map(|passed| passed.bytes).sum::<usize>();
    assert_eq!((passed(Way::Up), passed(Way::Down)), (20_000_002, 20_000_002));
    let first = trace.iter().find(|passed| passed.way == Way::Down).unwrap();
    assert!(first.link == 0 && first.at >= 4 * latency, "{first:?}");
}

#[test]
fn bandwidth_is_what_it_says_and_holds_the_sender_up() {
    let relay = Relay::shaped(echo(), Shape { bandwidth: 1_000_000, ..Shape::default() });
    let stream = connect(relay.port());
    let time = there_and_back(&stream, &noise(1_500_000));
    assert!(time >= Duration::from_millis(1_400) && time < Duration::from_secs(10), "{time:?}");
    // A sender is rid of what the socket, the link and its devices hold, and of no more.
    let (mut to, bytes) = (&stream, noise(64 << 10));
    relay.silence_one(Way::Up, true);
    stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let sent = (0..10_000).find(|_| to.write_all(&bytes).is_err()).expect("the sender is held up");
    assert!(sent < 160, "{} kB went into a link that takes nothing", sent * 64);
}

#[test]
fn segments_are_as_small_as_they_are_to_be() {
    let link = Link::lan();
    let port = link.free_port();
    let listener = link.far(|| TcpListener::bind(("0.0.0.0", port)).unwrap());
    std::thread::spawn(move || serve(&listener));
    // Whole packets of the cable, of which 1448 bytes are ours; and ones that a relay at the far end cuts.
    for (segment, least, most) in [(0, 70, 300), (1_000, 100, 400), (100, 1_000, 4_000), (1, 10_000, 80_000)] {
        let relay = link.relay(port, Shape { segment, ..Shape::default() });
        let before = segments_in(&link);
        let bytes = noise(if segment == 1 { 20_000 } else { 100_000 });
        link.near(|| there_and_back(&TcpStream::connect(("10.77.3.9", relay.port())).unwrap(), &bytes));
        let came = segments_in(&link) - before;
        assert!((least..most).contains(&came), "{} bytes in segments of {segment} came as {came}", bytes.len());
    }
}

/// How many segments have come to the near end.
fn segments_in(link: &Link) -> u64 {
    let text = link.near(|| std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap());
    let mut tcp = text.lines().filter_map(|line| line.strip_prefix("Tcp: ")).map(str::split_whitespace);
    let (names, values) = (tcp.next().unwrap(), tcp.next().unwrap());
    names.zip(values).find(|(name, _)| *name == "InSegs").unwrap().1.parse().unwrap()
}

#[test]
fn one_direction_can_be_silent_and_loses_nothing() {
    for way in [Way::Up, Way::Down] {
        let relay = Relay::shaped(echo(), Shape::default());
        let stream = connect(relay.port());
        there_and_back(&stream, b"before");
        relay.silence_one(way, true);
        (&stream).write_all(b"silent").unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        assert!((&stream).read(&mut [0; 9]).is_err(), "{way:?}: something came through");
        relay.silence_one(way, false);
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut back = [0; 6];
        (&stream).read_exact(&mut back).unwrap();
        assert_eq!(&back, b"silent", "{way:?}");
    }
}

#[test]
fn an_end_of_one_direction_leaves_the_other_one_open() {
    // The client's own end.
    let relay = Relay::shaped(echo(), Shape::default());
    let stream = connect(relay.port());
    (&stream).write_all(b"all ").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut back = String::new();
    (&stream).read_to_string(&mut back).unwrap();
    assert_eq!(back, "all end");
    // One that the server is told of alone: what it says then still comes.
    let stream = connect(relay.port());
    there_and_back(&stream, b"x");
    relay.finish(Way::Up);
    (&stream).read_to_string(&mut back).unwrap();
    assert_eq!(back, "all endend");
    // One that the client is told of alone: it can go on sending.
    let relay = Relay::shaped(echo(), Shape::default());
    let stream = connect(relay.port());
    there_and_back(&stream, b"x");
    relay.finish(Way::Down);
    assert_eq!((&stream).read(&mut [0; 9]).unwrap(), 0);
    (&stream).write_all(b"into the dark").unwrap();
}

#[test]
fn stop_and_go_stops_and_goes() {
    let pulse = Some((Duration::from_millis(20), Duration::from_millis(200)));
    let relay = Relay::shaped(echo(), Shape { pulse, segment: 1000, ..Shape::default() });
    let stream = connect(relay.port());
    let begin = Instant::now();
    for _ in 0..10 {
        there_and_back(&stream, &noise(1000));
        // The next byte comes when it must wait.
        wait_until(Instant::now() + Duration::from_millis(25));
    }
    assert!(begin.elapsed() > Duration::from_millis(800), "{:?}", begin.elapsed());
}

#[test]
fn a_relay_that_is_dropped_leaves_nobody_waiting() {
    let relay = Relay::shaped(echo(), Shape { latency: Duration::from_millis(50), ..Shape::default() });
    let stream = connect(relay.port());
    there_and_back(&stream, b"x");
    relay.silence(true);
    (&stream).write_all(b"x").unwrap();
    let port = relay.port();
    drop(relay);
    assert_eq!((&stream).read(&mut [0; 9]).unwrap_or(0), 0);
    wait_for("its port to be free", || TcpListener::bind(("127.0.0.1", port)).ok());
}

#[test]
fn what_ran_on_a_link_of_a_test_that_was_killed_is_ended() {
    let link = Link::lan();
    let words = link.far_words();
    // Of a process that has ended.
    let mut dead = std::process::Command::new("true").spawn().unwrap();
    dead.wait().unwrap();
    let made_by = words.last().unwrap().replace(&std::process::id().to_string(), &dead.id().to_string());
    let start = |made_by: &str| {
        let mut command = std::process::Command::new(&words[0]);
        command.args(&words[1..words.len() - 1]).args([made_by, "sleep", "1000"]).spawn().unwrap()
    };
    let (mut orphan, mut kept) = (start(&made_by), start(words.last().unwrap()));
    wait_for("both to run", || {
        let runs = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap() == "sleep\n";
        (runs(orphan.id()) && runs(kept.id())).then_some(())
    });
    let _other = Link::lan();
    wait_for("the orphan's end", || orphan.try_wait().unwrap());
    assert!(kept.try_wait().unwrap().is_none(), "what belongs to a living test was ended");
    kept.kill().unwrap();
    kept.wait().unwrap();
}

/// The daemon and its hosts are in namespaces of their own, and each account has its own shell and login files.
#[test]
fn hosts_behind_a_link_run_steps_in_the_shells_of_their_accounts() {
    let link = Link::lan();
    let account = |name: &str, shell: &str| Account { name: name.to_owned(), shell: shell.into() };
    let accounts = [account("on-bash", "/bin/bash"), account("on-dash", "/bin/dash")];
    let sshd = Sshd::set_up(&Setup { link: Some(&link), accounts: &accounts, ..Setup::default() });
    std::fs::write(sshd.home_of(&accounts[0]).join(".bashrc"), "export SEEN=bashrc\n").unwrap();
    let sshd = sshd.behind(Shape { traced: true, ..Shape::round_trip(Duration::from_millis(20)) });
    let mut world = World::new(&[], Some(&sshd));
    let host = |(n, account): (usize, &Account)| {
        let (name, address, port) = (&account.name, sshd.address(n), sshd.port());
        format!("[host.{name}]\naddress = \"{address}\"\nport = {port}\nuser = \"{name}\"\n")
    };
    world.write_etc("inventory/hosts.toml", &accounts.iter().enumerate().map(host).collect::<String>());
    world.start();
    let script = "echo \"$HOME $SEEN ${SSH_CONNECTION#* * }\"";
    let names = accounts.each_ref().map(|account| account.name.clone());
    world.drop_file("ready", "all.json", &task("all", script, &names, 60), 0);
    let id = world.task_of("all");
    assert_eq!(world.record(id)["outcome"], "ok");
    for (n, (account, seen)) in accounts.iter().zip(["bashrc", ""]).enumerate() {
        let want = format!("{} {seen} {} {}\n", sshd.home_of(account).display(), sshd.address(n), sshd.inner_port());
        assert_eq!(log(&world, id, &account.name), want);
    }
    let took = world.end_daemon(Duration::from_secs(10));
    assert!(sshd.relay().trace().iter().any(|passed| passed.way == Way::Down), "ended after {took:?}");
    wait_for("what the accounts started to end", || sshd.processes().is_empty().then_some(()));
}

#[test]
fn a_server_on_a_link_is_as_good_as_one_on_loopback() {
    let link = Link::lan();
    let sshd = Sshd::start_on(&link);
    let mut world = World::new(&[("web1", "10.77.1.1")], Some(&sshd));
    world.start();
    world.drop_file("ready", "one.json", &task("one", "echo hi", &["web1".to_owned()], 60), 0);
    let id = world.task_of("one");
    assert_eq!(world.record(id)["outcome"], "ok");
    assert_eq!(log(&world, id, "web1"), "hi\n");
}

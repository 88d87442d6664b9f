//! HTTP: the scripts of the seeds as they were printed, CODO's table of answers, tokens, results, and clients that mean ill.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::patience::InTime as _;
use crate::sshd::Sshd;
use crate::world::{World, wait_for};

const TOKEN_RULES: &str = r#"
[[submit]]
who = ["token:ci", "token:new"]
templates = ["hello", "git-publish", "gated", "script"]
into = ["new", "ready"]
[[submit]]
who = ["token:slow"]
templates = ["hello"]
into = ["new"]
"#;

/// A world that answers HTTP, and what to say to it.
pub(crate) struct Web {
    pub(crate) world: World,
    pub(crate) port: u16,
    /// The secret of the token `ci`, which may do everything that a token can.
    pub(crate) token: String,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Heard {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Web {
    /// Starts a world whose inventory knows the hosts of the seeds, all of them this machine.
    pub(crate) fn start(sshd: Option<&Sshd>) -> Web {
        let hosts = [("172.16.0.101", "127.0.0.1"), ("118.25.xx.xx", "127.0.0.1"), ("10.0.0.1", "127.0.0.2")];
        let mut world = World::new(&hosts, sshd);
        let here = "[host.here]\nconnection = \"local\"\n[host.\"192.168.3.200\"]\nconnection = \"local\"\n\
                    [host.\"192.168.3.201\"]\nconnection = \"local\"\n";
        world.write_etc("inventory/local.toml", here);
        append(&world.etc().join("policy.toml"), TOKEN_RULES);
        append(&world.etc().join("spoolgate.toml"), "[http]\nlisten = [\"127.0.0.1:0\"]\nsocket = \"http.sock\"\n");
        let path = world.etc().join("spoolgate.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let socket = world.etc().join("http.sock");
        std::fs::write(&path, text.replace("http.sock", socket.to_str().unwrap())).unwrap();
        let token = create_token(&world, "ci", &["--for", "submit,read,cancel", "--templates", "*", "--ready"]);
        world.start();
        let port = port_of(&world);
        Web { world, port, token }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Asks with the token as bearer.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> Heard {
        ask(self.port, method, path, &[("Authorization", &format!("Bearer {}", self.token))], body.as_bytes())
    }

    /// Posts as CODO's clients do: asks for a key, and posts with it.
    pub(crate) fn accept(&self, token: &str, body: &str) -> Heard {
        let key = ask(self.port, "GET", ACCEPT, &[("Cookie", &format!("auth_key={token}"))], b"");
        let key = key.json()["csrf_key"].as_str().unwrap_or_default().to_owned();
        let cookies = format!("auth_key={token}; csrf_key={key}");
        ask(self.port, "POST", ACCEPT, &[("Cookie", &cookies)], body.as_bytes())
    }
}

pub(crate) const ACCEPT: &str = "/api/task/v2/task/accept/";

pub(crate) fn append(path: &Path, text: &str) {
    std::fs::OpenOptions::new().append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

/// Makes a token and returns its secret.
pub(crate) fn create_token(world: &World, name: &str, words: &[&str]) -> String {
    let args: Vec<&str> = ["token", "create", name].into_iter().chain(words.iter().copied()).collect();
    world.run(0, &args).ok().trim().to_owned()
}

pub(crate) fn port_of(world: &World) -> u16 {
    let log = world.daemon_log();
    let line = log.lines().rev().find(|line| line.contains("HTTP address=127.0.0.1:")).unwrap();
    line.split("address=127.0.0.1:").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap()
}

/// Asks over a connection of its own.
pub(crate) fn ask(port: u16, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Heard {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut text = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        write!(text, "{name}: {value}\r\n").unwrap();
    }
    text += "\r\n";
    // An answer may come before the body was read.
    let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.write_all(body));
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    Heard { status, head: head.to_owned(), body: body.to_owned() }
}

pub(crate) fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// CODO's body with some fields changed; null takes one out.
fn body(change: &Value) -> String {
    let mut body = json!({
        "task_name": "t", "temp_id": "1", "hosts": "{1: '172.16.0.101'}", "submitter": "zhang",
        "args": "{'VERSION': 'v1'}", "schedule": "new", "exec_time": "2019-5-24 09:09:50",
    });
    for (name, value) in change.as_object().unwrap() {
        if value.is_null() {
            body.as_object_mut().unwrap().remove(name)
        } else {
            body.as_object_mut().unwrap().insert(name.clone(), value.clone())
        };
    }
    body.to_string()
}

#[test]
fn every_row_of_codos_table_is_answered_in_its_words() {
    let web = Web::start(None);
    let many = |count: usize| {
        let hosts = vec!["172.16.0.101"; count].join(",");
        json!({"hosts": format!("{{1: '{hosts}'}}")})
    };
    let too_many = "Too many hosts, please execute in groups";
    let mismatch = "Host groupings and template groupings mismatch";
    // (what is changed, HTTP status, code, the beginning of the message)
    let table: Vec<(Value, u16, i64, &str)> = vec![
        (json!({}), 200, 0, "Task creation success, ID：1"),
        (json!({"nickname": "x", "more": 1}), 200, 0, "Task creation success, ID：2"),
        (json!({"schedule": "ready"}), 200, 0, "Task creation success, ID：3"),
        (json!({"temp_id": 1, "hosts": {"1": ["172.16.0.101"]}}), 200, 0, "Task creation success, ID：4"),
        (
            json!({"hosts": "{'1': '172.16.0.101'}", "associated_user": "{'group-1': ['杨红飞']}"}),
            200,
            0,
            "Task creation success, ID：5",
        ),
        (json!({"task_name": null}), 200, 6, "必要参数缺失"),
        (json!({"temp_id": null}), 200, 6, "必要参数缺失"),
        (json!({"hosts": null}), 200, 6, "必要参数缺失"),
        (json!({"submitter": ""}), 200, 6, "必要参数缺失"),
        (json!({"hosts": "{}"}), 200, -4, "The exec host cannot be empty"),
        (json!({"hosts": "{1: ''}"}), 200, -4, "The exec host cannot be empty"),
        (json!({"hosts": "{2: '172.16.0.101'}"}), 200, -4, "The exec host cannot be empty"),
        (many(101), 200, -4, too_many),
        (json!({"hosts": "{1: 'nobody'}"}), 200, 5, "ip格式有误"),
        (json!({"hosts": "{1: '10.0.0.1;id'}"}), 200, 5, "ip格式有误"),
        (json!({"hosts": "{1: '999.999.999.999'}"}), 200, 5, "ip格式有误"),
        (json!({"hosts": "{1: '172.16.0.101', 2: '172.16.0.101'}"}), 200, -3, mismatch),
        (json!({"hosts": "{1: '10.9.9.9'}"}), 400, 400, "/hosts"),
        (json!({"hosts": "open('/etc/passwd')"}), 400, 400, "/hosts"),
        (json!({"temp_id": "77"}), 400, 400, "/temp_id"),
        (json!({"exec_time": "soon"}), 400, 400, "/exec_time"),
        (json!({"schedule": "now"}), 400, 400, "/schedule"),
        (json!({"temp_id": "40"}), 403, 403, "Sorry, you have no permission. Please contact the administrator"),
    ];
    for (change, status, code, message) in table {
        let heard = web.accept(&web.token, &body(&change));
        let said = heard.json();
        assert_eq!((heard.status, said["code"].as_i64()), (status, Some(code)), "{change}: {said}");
        assert!(said["msg"].as_str().unwrap().contains(message), "{change}: {said}");
        if code == 0 {
            assert_eq!(said["msg"], format!("Task creation success, ID：{}", said["list_id"]));
        }
    }
    let exactly = web.accept(&web.token, &body(&many(100))).json();
    assert_ne!(exactly["msg"], too_many, "a hundred are not too many: {exactly}");
    let ignored = web.accept(&web.token, &body(&json!({"nickname": "x"}))).json();
    assert_eq!(ignored["ignored"], json!(["nickname"]));
}

#[test]
fn bad_bodies_keys_and_paths_are_answered_in_json() {
    let web = Web::start(None);
    for bad in ["", "[]", "{\"task_name\": ", "not json", "{\"a\": 1, \"a\": 2}", "\u{feff}{}"] {
        let heard = web.accept(&web.token, bad);
        assert_eq!((heard.status, heard.json()["code"].as_i64()), (400, Some(400)), "{bad:?}: {heard:?}");
    }
    let cookie = |cookies: &str, body: &str| ask(web.port, "POST", ACCEPT, &[("Cookie", cookies)], body.as_bytes());
    let good = body(&json!({}));
    assert_eq!(cookie(&format!("auth_key={}", web.token), &good).json()["code"], 402);
    assert_eq!(cookie("auth_key=sgt_wrong", &good).json()["code"], 401);
    assert_eq!(ask(web.port, "GET", ACCEPT, &[], b"").json()["code"], 401);
    let key = ask(web.port, "GET", &format!("{ACCEPT}?auth_key={}", web.token), &[], b"");
    let key = key.json()["csrf_key"].as_str().unwrap().to_owned();
    let both = format!("auth_key={}; csrf_key={key}", web.token);
    assert_eq!(cookie(&both, &good).json()["code"], 0);
    let again = cookie(&both, &good);
    assert_eq!((again.status, again.json()["code"].as_i64()), (402, Some(402)), "a key is good once");
    let sdk = ask(
        web.port,
        "POST",
        &format!("{ACCEPT}?auth_key={}", web.token),
        &[("Sdk-Method", "zQtY4sw7sqYspVLrqV")],
        good.as_bytes(),
    );
    assert_eq!(sdk.json()["code"], 0);
    let login = web.ask("POST", "/api/accounts/login/", "{}");
    assert_eq!((login.status, login.json()["code"].as_i64()), (410, Some(410)));
    let nowhere = web.ask("GET", "/nowhere", "");
    assert_eq!((nowhere.status, nowhere.json()["code"].as_i64()), (404, Some(404)));
    let method = web.ask("DELETE", "/api/v1/task", "");
    assert!(method.status == 405 && method.head.to_lowercase().contains("allow: get, post"), "{method:?}");
}

#[test]
fn a_token_is_good_for_what_it_was_made_for_and_no_longer() {
    let web = Web::start(None);
    let script = |name: &str| json!({"title": name, "script": "true", "hosts": "[\"here\"]"}).to_string();
    let ask_as = |token: &str, method: &str, path: &str, body: &str| {
        ask(web.port, method, path, &[("Authorization", &format!("Bearer {token}"))], body.as_bytes())
    };
    let new = create_token(&web.world, "new", &["--templates", "hello"]);
    let slow = create_token(&web.world, "slow", &["--templates", "hello", "--per-minute", "3"]);
    let stranger = create_token(&web.world, "stranger", &["--templates", "*", "--ready"]);
    let brief = create_token(&web.world, "brief", &["--templates", "*", "--expires", "1"]);
    let began = Instant::now();
    assert_eq!(ask_as(&new, "GET", "/api/v1/task", "").status, 200, "what was made is known at once");
    assert_eq!(ask_as(&new, "POST", "/api/v1/task", &script("t")).json()["code"], 403, "another work");
    assert_eq!(ask_as(&new, "POST", "/api/v1/kill-task?task_id=1", "").json()["code"], 403, "another use");
    let hello = body(&json!({"schedule": "ready", "hosts": {"1": ["here"]}}));
    let id = ask_as(&new, "POST", "/api/v1/task", &hello).json().as_u64().unwrap();
    web.world.stands(id, "new");
    assert_eq!(web.world.events(id)[0]["admission"]["state"], "new", "the token was not made for ready");
    let refused = ask_as(&stranger, "POST", "/api/v1/task", &hello);
    assert_eq!(refused.status, 403, "no rule names it: {refused:?}");
    assert!(refused.body.contains("token:stranger"), "{refused:?}");
    let answers: Vec<u16> = (0..6).map(|_| ask_as(&slow, "GET", "/api/v1/task", "").status).collect();
    assert_eq!((&answers[..3], answers.contains(&429)), (&[200, 200, 200][..], true), "{answers:?}");
    wait_for("a second", || (began.elapsed() > Duration::from_secs(2)).then_some(()));
    assert_eq!(ask_as(&brief, "GET", "/api/v1/task", "").status, 401, "expired");
    web.world.run(0, &["token", "revoke", "new"]).ok();
    assert_eq!(ask_as(&new, "GET", "/api/v1/task", "").status, 401, "what is revoked is good for nothing at once");
    // The audit knows who had one, and from when on not.
    let audit = || web.world.run(0, &["audit", "tail"]).ok();
    wait_for("the audit", || {
        let _ = ask_as(&web.token, "POST", "/api/v1/task", &script("t"));
        let tail = audit();
        (tail.contains("good tokens: ci new slow") && tail.contains("good tokens: ci slow")).then_some(())
    });
    let list = web.world.run(0, &["token", "list"]).ok();
    assert!(list.contains("\tnew\t") && list.contains("revoked"), "{list}");
    let other = web.world.run(crate::world::ALICE, &["token", "list"]);
    assert_eq!(other.code, 7, "{other:?}");
    // No secret stands anywhere, and none was logged.
    let secrets = [&web.token, &new, &slow, &stranger, &brief];
    for _ in 0..3 {
        let _ = ask(web.port, "GET", "/api/v1/task?auth_key=sgt_a_guess_of_mine", &[], b"");
    }
    for secret in secrets.into_iter().map(String::as_str).chain(["sgt_a_guess"]) {
        assert!(!web.world.daemon_log().contains(secret));
        for dir in [web.world.etc(), web.world.state()] {
            let found = Command::new("grep").args(["-r", "-l", "--", secret]).arg(dir).output_in_time().unwrap();
            assert!(found.stdout.is_empty(), "{}", String::from_utf8_lossy(&found.stdout));
        }
    }
}

#[test]
fn guessing_is_made_slow_and_good_tokens_go_on() {
    let web = Web::start(None);
    let mut answers: BTreeMap<u16, usize> = BTreeMap::new();
    for n in 0..1_000 {
        let heard = ask(web.port, "GET", ACCEPT, &[("Cookie", &format!("auth_key=sgt_{n}"))], b"");
        *answers.entry(heard.status).or_default() += 1;
        if n % 100 == 0 {
            assert_eq!(web.ask("GET", "/api/v1/task", "").status, 200);
        }
    }
    assert!(answers[&429] > 800 && answers[&401] >= 60, "{answers:?}");
    assert_eq!(answers.len(), 2, "{answers:?}");
    assert!(!web.world.daemon_log().contains("sgt_"));
    let metrics = ask(web.port, "GET", "/metrics", &[], b"").body;
    assert!(metrics.contains("spoolgate_http_unauthorized_total 1000\n"), "{metrics}");
}

#[test]
fn results_are_told_by_host_and_a_task_can_be_ended() {
    let web = Web::start(None);
    let script = "echo out $SPOOLGATE_HOST; echo err >&2; head -c 3000000 /dev/zero | tr '\\0' x; exit 3";
    let task = json!({"title": "t", "script": script, "hosts": "[\"192.168.3.200\", \"192.168.3.201\"]"});
    let id = web.ask("POST", "/api/v1/task", &task.to_string()).json().as_u64().unwrap();
    web.world.record(id);
    let get = |path: &str| web.ask("GET", &format!("/api/v1/task/{id}{path}"), "");
    assert_eq!(get("").json()["outcome"], "failed");
    let state = get("/state").json();
    assert_eq!((state["done"].as_u64(), state["hosts"][0]["status"].as_str()), (Some(1), Some("failed")), "{state}");
    let page = get("/result?limit=1").json();
    assert_eq!((page["count"].as_u64(), page["next"].as_u64()), (Some(2), Some(1)), "{page}");
    assert_eq!(page["hosts"][0]["steps"][0]["exit_code"], 3, "{page}");
    assert_eq!(get("/result?limit=1&from=1").json()["hosts"][0]["host"], "192.168.3.201");
    assert_eq!(get("/stderr?host=192.168.3.200&offset=0").json()["hosts"][0]["stderr"], "err\n");
    let first = get("/stdout?host=192.168.3.200&offset=0&bytes=100").json()["hosts"][0].clone();
    assert!(first["stdout"].as_str().unwrap().starts_with("out 192.168.3.200\n"), "{first}");
    // The whole comes page by page.
    let (mut offset, mut whole) = (0, String::new());
    loop {
        let row = get(&format!("/stdout?host=192.168.3.200&offset={offset}")).json()["hosts"][0].clone();
        whole += row["stdout"].as_str().unwrap();
        offset = row["next"].as_u64().unwrap();
        if offset == row["length"].as_u64().unwrap() {
            break;
        }
    }
    assert_eq!(whole.len(), "out 192.168.3.200\n".len() + 3_000_000);
    for (path, status) in
        [("/stdout?host=no", 404), ("/state?step=no", 404), ("/nothing", 404), ("/state?limit=x", 400)]
    {
        assert_eq!(get(path).status, status, "{path}");
    }
    assert_eq!(web.ask("GET", "/api/v1/task/77/state", "").status, 404);

    let task = json!({"title": "t", "script": "echo begun; sleep 67", "hosts": "[\"192.168.3.200\"]"});
    let id = web.ask("POST", "/api/v1/task", &task.to_string()).json().as_u64().unwrap();
    let stdout = format!("/api/v1/task/{id}/stdout?host=192.168.3.200&offset=0");
    wait_for("the step to print", || {
        (web.ask("GET", &stdout, "").json()["hosts"][0]["stdout"] == "begun\n").then_some(())
    });
    let kill = web.ask("POST", &format!("/api/v1/kill-task?task_id={id}"), "");
    assert_eq!((kill.status, kill.json()["code"].as_u64()), (200, Some(0)), "{kill:?}");
    assert_eq!(web.world.record(id)["outcome"], "cancelled");
    assert_eq!(web.ask("GET", &format!("/api/v1/task/{id}/state"), "").json()["hosts"][0]["status"], "killed");
    let late = web.ask("POST", &format!("/api/v1/kill-task?task_id={id}"), "");
    assert_eq!(late.status, 409, "{late:?}");
    assert_eq!(web.ask("POST", "/api/v1/kill-task?task_id=9999", "").status, 404);
    let list = web.ask("GET", "/api/v1/task?limit=1", "").json();
    assert_eq!((list.as_array().unwrap().len(), list[0]["id"].as_u64()), (1, Some(id)));
    let older = web.ask("GET", &format!("/api/v1/task?before={id}"), "").json();
    assert_eq!(older[0]["id"].as_u64(), Some(id - 1));
}

#[test]
fn a_repeated_post_with_a_key_is_one_task_and_answers_outlive_a_restart() {
    let mut web = Web::start(None);
    let task = |script: &str| {
        json!({"task_name": "t", "script": script, "hosts": {"1": ["here"]}, "idempotency_key": "once"}).to_string()
    };
    let first = web.ask("POST", "/api/v1/task", &task("true")).json();
    assert_eq!(web.ask("POST", "/api/v1/task", &task("true")).json(), first);
    web.world.record(first.as_u64().unwrap());
    web.world.kill_daemon();
    web.world.start();
    web.port = port_of(&web.world);
    assert_eq!(web.ask("POST", "/api/v1/task", &task("true")).json(), first);
    let other = web.ask("POST", "/api/v1/task", &task("false"));
    assert!(other.status == 400 && other.body.contains("idempotency_key"), "{other:?}");
    let socket = web.world.etc().join("http.sock");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o660);
    let curl = Command::new("/usr/bin/curl")
        .args(["-s", "--unix-socket"])
        .arg(&socket)
        .arg("http://localhost/healthz")
        .output_in_time()
        .unwrap();
    assert!(said(&curl).contains("\"status\":\"ok\""), "{}", said(&curl));
}

#[test]
fn a_certificate_makes_it_https_and_a_plain_open_door_is_refused() {
    let mut world = World::new(&[], None);
    world.write_etc("inventory/hosts.toml", "[host.here]\nconnection = \"local\"\n");
    let base = std::fs::read_to_string(world.etc().join("spoolgate.toml")).unwrap();
    world.write_etc("spoolgate.toml", &format!("{base}[http]\nlisten = [\"0.0.0.0:0\"]\n"));
    let refused = world.run(0, &["template", "ls"]);
    assert!(refused.code == 7 && refused.err.contains("certificate"), "{refused:?}");
    let (certificate, key) = (world.etc().join("cert.pem"), world.etc().join("key.pem"));
    let made = Command::new("/usr/bin/openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output_in_time()
        .unwrap();
    assert!(made.status.success(), "{}", said(&made));
    let http = format!("[http]\nlisten = [\"127.0.0.1:0\"]\ncertificate = {certificate:?}\nkey = {key:?}\n");
    world.write_etc("spoolgate.toml", &(base + &http));
    world.start();
    let port = port_of(&world);
    let curl = |scheme: &str| {
        Command::new("/usr/bin/curl")
            .args(["-s", "--max-time", "10", "--cacert"])
            .arg(&certificate)
            .arg(format!("{scheme}://localhost:{port}/healthz"))
            .output_in_time()
            .unwrap()
    };
    assert!(said(&curl("https")).contains("\"status\":\"ok\""), "{}", said(&curl("https")));
    assert!(!curl("http").status.success(), "plain words are no handshake");
}

/// Opens many connections that never finish what they begin, in three ways.
fn besiege(port: u16, way: usize, count: usize) -> Vec<TcpStream> {
    let head = format!("POST {ACCEPT} HTTP/1.1\r\nHost: x\r\n");
    let begin = |n: usize| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        let text = match way {
            0 => format!("{head}X-{n}: "),
            1 => format!("{head}Content-Length: 8192\r\n\r\nx"),
            // Asks for much and reads nothing of it.
            _ => "GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n".repeat(50),
        };
        // Some are sent away at once.
        let _ = stream.write_all(text.as_bytes());
        Some(stream)
    };
    (0..count).filter_map(begin).collect()
}

#[test]
fn who_is_slow_keeps_nobody_else_waiting() {
    let web = Web::start(None);
    for way in 0..3 {
        let streams = besiege(web.port, way, 500);
        let mut slowest = Duration::ZERO;
        for _ in 0..20 {
            let begin = Instant::now();
            let heard = web.ask(
                "POST",
                "/api/v1/task",
                &json!({"task_name": "t", "temp_id": 1, "hosts": {"1": ["here"]}}).to_string(),
            );
            assert_eq!(heard.status, 200, "way {way}: {heard:?}");
            slowest = slowest.max(begin.elapsed());
        }
        // Far less than a slow one is waited for, with room for a busy machine.
        assert!(slowest < Duration::from_secs(4), "way {way}: {slowest:?}");
        drop(streams);
    }
    let large = vec![b'x'; (1 << 20) + 1];
    let heard = ask(web.port, "POST", "/api/v1/task", &[], &large);
    assert!(heard.status == 413 || heard.status == 0, "{heard:?}");
    let long = format!("/{}", "x".repeat(40_000));
    assert!(matches!(ask(web.port, "GET", &long, &[], b"").status, 400 | 414 | 431 | 0));
    assert_eq!(web.ask("GET", "/healthz", "").status, 200);
}

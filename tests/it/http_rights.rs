//! Who may do what over HTTP: scripts that run, tokens with a scope, people behind tokens, browsers, and keys.

use std::process::Command;

use serde_json::{Value, json};

use crate::http::{ACCEPT, Web, append, ask, create_token, port_of};
use crate::patience::InTime as _;
use crate::world::wait_for;

#[test]
fn a_script_says_how_far_it_is_and_only_for_itself() {
    let mut web = Web::start(None);
    web.world.kill_daemon();
    let socket = web.world.etc().join("http.sock");
    // The address must be known before the start, as it would be on a real machine.
    let port = crate::sshd::free_port();
    let config = std::fs::read_to_string(web.world.etc().join("spoolgate.toml")).unwrap();
    let config = config.replace("127.0.0.1:0", &format!("127.0.0.1:{port}"));
    web.world.write_etc("spoolgate.toml", &format!("{config}callback = \"http://127.0.0.1:{port}/\"\n"));
    web.world.start();
    web.port = port_of(&web.world);
    assert!(socket.exists());
    let script = "curl -s -H \"Authorization: Bearer $SPOOLGATE_TOKEN\" -d '{\"Status\": \"copying\", \"Result\": \"3 of 7\"}' \"$SPOOLGATE_CALLBACK\"\n\
                  printf '%s' \"$SPOOLGATE_TOKEN\" >\"$KEEP\"; until [ -e \"$KEEP.go\" ]; do sleep 0.1; done";
    let keep = web.world.etc().join("kept");
    let task = json!({"task_name": "t", "script": script, "hosts": {"1": ["here"]}, "env": {"KEEP": keep}});
    let id = web.ask("POST", "/api/v1/task", &task.to_string()).json().as_u64().unwrap();
    let state = wait_for("the progress", || {
        let state = web.ask("GET", &format!("/api/v1/task/{id}/state"), "").json();
        (state["hosts"][0]["progress"] == "copying 3 of 7").then_some(state)
    });
    assert_eq!(state["hosts"][0]["status"], "running");
    let token = wait_for("the token", || std::fs::read_to_string(&keep).ok().filter(|text| text.contains('.')));
    let say = |token: &str, text: &str| {
        let bearer = format!("Bearer {token}");
        ask(web.port, "POST", "/api/v1/progress", &[("Authorization", &bearer)], text.as_bytes())
    };
    // A restart in between forgets no key, and the same token is good for nothing else.
    wait_for("a second", || (say(&token, "\"half\"").status == 200).then_some(()));
    assert_eq!(say(&token, "\"too soon\"").status, 409);
    assert_eq!(say(&web.token, "\"not mine\"").status, 401);
    assert_eq!(say(&format!("{token}A"), "\"forged\"").status, 401);
    assert_eq!(ask(web.port, "GET", "/api/v1/task", &[("Authorization", &format!("Bearer {token}"))], b"").status, 401);
    std::fs::write(keep.with_extension("go"), "").unwrap();
    assert_eq!(web.world.record(id)["outcome"], "ok");
    assert_eq!(say(&token, "\"late\"").status, 409, "it does not run any more");
    let said: Vec<Value> = web.world.events(id).into_iter().filter(|event| event["event"] == "step_said").collect();
    assert_eq!(said.len(), 2, "{said:?}");
    let found =
        Command::new("grep").args(["-r", "-l", "--", token.trim()]).arg(web.world.state()).output_in_time().unwrap();
    assert!(found.stdout.is_empty(), "{}", String::from_utf8_lossy(&found.stdout));
}

/// A page may give a name of its own this machine's address, and then speak to it as to itself.
#[test]
fn a_name_that_is_not_this_servers_is_not_answered() {
    use std::io::{Read as _, Write as _};
    let mut web = Web::start(None);
    web.world.kill_daemon();
    append(&web.world.etc().join("spoolgate.toml"), "names = [\"ops.example.com\"]\n");
    web.world.start();
    web.port = port_of(&web.world);
    let status = |address: &str, head: &str| {
        let mut stream = std::net::TcpStream::connect((address, web.port)).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
        write!(stream, "GET {head}Connection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        (text.split(' ').nth(1).unwrap_or_default().parse::<u16>().unwrap(), text)
    };
    for (head, want) in [
        ("/healthz HTTP/1.1\r\nHost: evil.example\r\n", 421),
        ("/healthz HTTP/1.1\r\nHost: ops.example.com:8443\r\n", 200),
        ("/healthz HTTP/1.1\r\nHost: 127.0.0.1:1\r\n", 200),
        ("http://evil.example/healthz HTTP/1.1\r\nHost: localhost\r\n", 421),
        ("/healthz HTTP/1.0\r\n", 200),
    ] {
        let (is, text) = status("127.0.0.1", head);
        assert_eq!(is, want, "{head}{text}");
        assert!(want == 200 || text.contains("[http] names in spoolgate.toml"), "{text}");
    }
    let socket = web.world.etc().join("http.sock");
    let words = ["-s", "--unix-socket", socket.to_str().unwrap(), "http://any.example/healthz"];
    let said = Command::new("curl").args(words).output_in_time().unwrap();
    assert!(String::from_utf8_lossy(&said.stdout).contains("\"status\":\"ok\""), "{said:?}");
}

#[test]
fn what_a_token_is_for_is_asked_of_what_would_run() {
    let web = Web::start(None);
    let as_token = |token: &str, method: &str, path: &str, body: &str| {
        ask(web.port, method, path, &[("Authorization", &format!("Bearer {token}"))], body.as_bytes())
    };
    let template = |id: u32, name: &str| {
        let text = format!("id = {id}\nname = \"{name}\"\ntitle = \"t\"\n[[step]]\nname = \"s\"\nscript = \"true\"\n");
        web.world.write_etc(&format!("templates/{name}.toml"), &text);
    };
    append(
        &web.world.etc().join("policy.toml"),
        "[[submit]]\nwho = [\"token:new\"]\ntemplates = [\"*\"]\ninto = [\"new\"]\n",
    );
    template(700, "harmless");
    template(701, "danger");
    let new = create_token(&web.world, "new", &["--templates", "harmless"]);
    let body = json!({"task_name": "t", "temp_id": 700, "hosts": {"1": ["here"]}}).to_string();
    assert_eq!(as_token(&new, "POST", "/api/v1/task", &body).status, 200);
    // The numbers change hands; whoever asks first afterwards is judged by what would run now.
    template(702, "harmless");
    template(700, "danger");
    assert_eq!(as_token(&new, "POST", "/api/v1/task", &body).status, 403);
    assert_eq!(web.world.tasks().len(), 1);
    // A word that stands for scripts of tasks names no template.
    template(703, "script");
    let refused = web.world.run(0, &["template", "ls"]);
    assert!(refused.code == 7 && refused.err.contains("script"), "{refused:?}");
}

#[test]
fn who_stands_behind_a_task_is_no_second_person() {
    let web = Web::start(None);
    let owned = create_token(&web.world, "new", &["--templates", "*", "--owner", "uid-61002"]);
    // The token's owner, and whom the task says it comes from.
    for (token, submitter, refused, other) in
        [(&owned, "zhang", crate::world::BOB, crate::world::ALICE), (&owned, "uid-61001", crate::world::ALICE, 0)]
    {
        let said = json!({"task_name": "t", "temp_id": 1, "hosts": {"1": ["10.0.0.1"]}, "submitter": submitter});
        let bearer = format!("Bearer {token}");
        let made = ask(web.port, "POST", ACCEPT, &[("Authorization", &bearer)], said.to_string().as_bytes()).json();
        let id = made["list_id"].as_u64().unwrap_or_else(|| panic!("{made}"));
        let own = web.world.approve(refused, id);
        assert!(own.code == 6 && own.err.contains("two-person rule"), "{submitter}: {own:?}");
        web.world.approve(other, id).ok();
    }
}

#[test]
fn a_browser_that_was_made_to_post_needs_a_key_everywhere() {
    let web = Web::start(None);
    let task = json!({"title": "t", "script": "true", "hosts": "[\"here\"]"}).to_string();
    let cookie = format!("auth_key={}", web.token);
    for path in
        ["/api/v1/task", "/api/v1/kill-task?task_id=1", "/api/task/other/v1/git/hooks/", "/api/tools/v1/zabbix/hooks/"]
    {
        let heard = ask(web.port, "POST", path, &[("Cookie", &cookie)], task.as_bytes());
        assert_eq!((heard.status, heard.json()["code"].as_i64()), (402, Some(402)), "{path}: {heard:?}");
    }
    assert_eq!(web.world.tasks().len(), 0);
    let key = ask(web.port, "GET", ACCEPT, &[("Cookie", &cookie)], b"").json()["csrf_key"].as_str().unwrap().to_owned();
    let both = format!("{cookie}; csrf_key={key}");
    assert_eq!(ask(web.port, "POST", "/api/v1/task", &[("Cookie", &both)], task.as_bytes()).status, 200);
    let large = ask(web.port, "POST", "/api/v1/task", &[("Content-Length", "3000000")], b"");
    assert!(matches!(large.status, 400 | 413), "{large:?}");
}

#[test]
fn keys_are_their_owners_and_pushes_have_their_own() {
    let web = Web::start(None);
    web.world.write_etc(
        "hooks.toml",
        "[[git]]\nrepository = \"ops/web\"\ntag = \".*\"\ntemplate = \"hello\"\nhosts = { 1 = \"here\" }\n[[zabbix]]\nhost = \"web1\"\n\
         trigger = \"disk full\"\ntemplate = \"hello\"\ninto = \"ready\"\nhosts = { 1 = \"here\" }\nargs = { WHY = \"{severity}\" }\n",
    );
    let new = create_token(&web.world, "new", &["--templates", "*"]);
    let body = json!({"task_name": "t", "temp_id": 1, "hosts": {"1": ["here"]}, "idempotency_key": "k"}).to_string();
    let first = web.ask("POST", "/api/v1/task", &body).json();
    let bearer = format!("Bearer {new}");
    let other = ask(web.port, "POST", "/api/v1/task", &[("Authorization", &bearer)], body.as_bytes()).json();
    assert_ne!(first, other, "another's key is another key");
    let squat = body.replace("\"k\"", "\"git:0123\"");
    let refused = web.ask("POST", "/api/v1/task", &squat);
    assert!(refused.status == 400 && refused.body.contains("git:"), "{refused:?}");
    // CODO's hooks; its Git hook does not say which object, so that each report is a push.
    let git = |tag: &str, path: &str| {
        let body = json!({"git_url": "http://git.example.com", "relative_path": path, "tag_name": tag}).to_string();
        web.ask("POST", "/api/task/other/v1/git/hooks/", &body).json()
    };
    assert_eq!(
        (git("v1", "ops/web")["code"].as_i64(), git("v1", "ops/other")["msg"].as_str()),
        (Some(0), Some("No related items were found"))
    );
    assert_eq!(git("", "ops/web")["code"], -1);
    let list = git("v2", "ops/web.git")["list_id"].as_u64().unwrap();
    assert_eq!(web.world.events(list)[0]["by"]["user"], "token:ci");
    let zabbix = |message: &str| {
        web.ask("POST", "/api/tools/v1/zabbix/hooks/", &json!({"messages": message}).to_string()).json()
    };
    let id = zabbix("web1___10.0.0.1___disk full___PROBLEM___High")["list_id"].as_u64().unwrap();
    assert!(web.world.events(id)[0]["submission"].as_str().unwrap().contains("\"WHY\":\"High\""));
    assert_eq!(zabbix("web1___10.0.0.1___cpu___PROBLEM___High")["msg"], "No hooks, ignore");
    assert_eq!(zabbix("nothing")["code"], -1);
}

//! What is too long for a program to begin with, and scripts that would run as something else than they look like: said by
//! `check`, and never found out on a host.

use serde_json::{Value, json};

use crate::sshd::Sshd;
use crate::world::{World, wait_for};

/// The longest argument, and the longest variable with its name (Linux: 32 pages less the zero byte).
const ONE: usize = (128 << 10) - 1;

/// Checks a task file; returns the exit code and what was said.
fn check(world: &World, task: &Value) -> (i32, String) {
    let file = world.etc().join("task.json");
    std::fs::write(&file, task.to_string()).unwrap();
    let said = world.run(0, &["check", file.to_str().unwrap()]);
    (said.code, said.err)
}

/// Runs a task and returns what its host printed.
fn run(world: &World, name: &str, task: &Value, log: &str) -> (Value, String) {
    world.drop_file("ready", &format!("{name}.json"), task.to_string().as_bytes(), 0);
    let id = world.task_of(name);
    let record = world.record(id);
    let log = world.state().join(format!("runs/{id}/output/h1/{log}.log"));
    let text = wait_for("its log", || std::fs::read_to_string(&log).ok());
    (record, text)
}

fn params(count: usize, bytes: usize) -> Value {
    (1..=count).map(|n| (format!("P{n}"), Value::from("x".repeat(bytes)))).collect::<serde_json::Map<_, _>>().into()
}

fn wide(name: &str, id: u32, count: usize, repeats: usize, prefix: &str) -> String {
    let declared: String = (1..=count).map(|n| format!("[[param]]\nname = \"P{n}\"\nrequired = true\n")).collect();
    let args: Vec<String> = (0..repeats).map(|n| format!("\"${{P{}}}\"", n % count + 1)).collect();
    format!(
        "id = {id}\nname = \"{name}\"\ntitle = \"t\"\n{prefix}{declared}[[step]]\nname = \"wide\"\nargs = [{}]\n\
         script = 'echo $# ${{#P1}}'\n",
        args.join(", ")
    )
}

#[test]
fn what_fits_runs_and_what_is_a_byte_longer_is_refused_with_the_limit() {
    let sshd = Sshd::start();
    let mut world = World::new(&[("h1", "127.0.1.1")], Some(&sshd));
    world.write_etc("templates/wide8.toml", &wide("wide8", 901, 7, 8, ""));
    world.write_etc("templates/wide9.toml", &wide("wide9", 902, 7, 9, ""));
    world.write_etc("templates/ported.toml", &wide("ported", 903, 1, 0, "env_prefix = \"ZDOPS\"\n"));
    let script = |arg: usize, variable: usize| {
        json!({"task_name": "t", "script": "echo ${#1} ${#V}", "hosts": {"1": ["h1"]}, "args": ["x".repeat(arg)],
            "env": {"V": "x".repeat(variable)}})
    };
    let template =
        |name: &str, params: Value| json!({"task_name": "t", "temp_id": name, "args": params, "hosts": {"1": ["h1"]}});
    for (task, want) in [
        (
            script(ONE + 1, 1),
            "/args/0: found 131072 bytes; wanted at most 131071 bytes: Linux takes no longer argument",
        ),
        (
            script(1, ONE - 1),
            "/env/V: found 131072 bytes in the variable V, with its name; wanted at most 131071 bytes",
        ),
        (template("wide8", params(7, ONE)), "/args/P1: found 131074 bytes in the variable P1, with its name"),
        (
            template("wide9", params(7, 131_000)),
            "bytes of arguments and variables for the step wide; wanted at most 1966080 bytes together",
        ),
        (
            template("ported", params(1, ONE - 3)),
            "/args/P1: found 131077 bytes in the variable ZDOPS_P1, with its name",
        ),
    ] {
        let (code, said) = check(&world, &task);
        assert!(code == 5 && said.contains(want), "{said}; wanted {want}");
    }
    // All that passes begins.
    world.start();
    let (longest, nearly_all) = (script(ONE, ONE - 2), template("wide8", params(7, 131_000)));
    for (name, task, log, want) in
        [("longest", longest, "script", "131071 131069\n"), ("all", nearly_all, "wide", "8 131000\n")]
    {
        assert_eq!(check(&world, &task).0, 0, "{name}");
        let (record, printed) = run(&world, name, &task, log);
        assert!(record["outcome"] == "ok" && printed == want, "{printed} {}", record["results"]["h1"][0]["reason"]);
    }
}

#[test]
fn no_step_fails_for_a_variable_that_spoolgate_adds() {
    let sshd = Sshd::start();
    let mut world = World::new(&[("h1", "127.0.1.1")], Some(&sshd));
    let step = |name: &str, more: &str| format!("[[step]]\nname = \"{name}\"\n{more}\n");
    let say =
        r#"script = 'echo "[${SPOOLGATE_PREVIOUS_STEP}] [${#SPOOLGATE_PREVIOUS_ARGV}] [${SPOOLGATE_LEFT_OUT-}]"'"#;
    let first = "args = [\"${VERSION}\", \"${LONG}\"]\nscript = 'true'";
    world.write_etc(
        "templates/after.toml",
        &format!(
            "id = 904\nname = \"after\"\ntitle = \"t\"\nenv_prefix = \"ZDOPS\"\n[[param]]\nname = \"VERSION\"\nrequired = true\n[[param]]\nname = \"LONG\"\nrequired = true\n{}{}{}",
            step("first", first),
            step("second", say),
            step("third", say)
        ),
    );
    world.start();
    let long = "x".repeat(131_055);
    // VERSION is said again under a longer name, which does not fit any more.
    let task = |version: &str| json!({"task_name": "t", "temp_id": "after", "args": {"VERSION": version, "LONG": long}, "hosts": {"1": ["h1"]}});
    let (record, printed) = run(&world, "after", &task("1"), "second");
    assert_eq!(record["outcome"], "ok", "{record:#}");
    assert_eq!(printed, "[first] [0] [ZDOPS_PrevJobArgv SPOOLGATE_PREVIOUS_ARGV]\n");
    let third = std::fs::read_to_string(world.state().join("runs/1/output/h1/third.log")).unwrap();
    assert_eq!(third, "[second] [2] []\n");
    let (record, printed) = run(&world, "version", &task(&"1".repeat(131_057)), "third");
    assert_eq!(record["outcome"], "ok", "{record:#}");
    assert_eq!(printed, "[second] [2] [SPOOLGATE_VERSION]\n");
}

#[test]
fn a_script_that_would_run_as_something_else_is_refused() {
    let world = World::new(&[("h1", "127.0.1.1")], None);
    let task = |script: &str| json!({"task_name": "t", "script": script, "hosts": {"1": ["h1"]}});
    for (script, want) in [
        ("\u{feff}#!/bin/bash\ntrue\n", "/script: found a byte order mark (BOM) before the script"),
        ("\u{feff}true\n", "/script: found a byte order mark (BOM) before the script"),
        ("#!/bin/bash\r\ntrue\r\n", "/script: found a script with lines that end in CR LF, line 1 first"),
        ("\n#!/bin/bash\ntrue\n", "/script: found a #! line that is not the beginning of the script"),
    ] {
        let (code, said) = check(&world, &task(script));
        assert!(code == 5 && said.contains(want), "{said}");
    }
    assert_eq!(check(&world, &task("#!/bin/bash\ntrue\n")).0, 0);
    // The same of a template's script, and of one in a file.
    let template = |step: &str| format!("id = 905\nname = \"marked\"\ntitle = \"t\"\n[[step]]\nname = \"s\"\n{step}\n");
    let utf16: Vec<u8> = "\u{feff}#!/bin/sh\ntrue\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (bytes, want) in [
        (&b"\xef\xbb\xbf#!/bin/sh\ntrue\n"[..], "found a byte order mark (BOM) before the script"),
        (b"#!/bin/sh\r\ntrue\r\n", "found a script with lines that end in CR LF, line 1 first"),
        (&utf16, "run.sh: it is text in UTF-16; save it as UTF-8"),
        (b"#!/bin/sh\n\xff\n", "run.sh: it is no text in UTF-8"),
    ] {
        std::fs::write(world.etc().join("templates/run.sh"), bytes).unwrap();
        world.write_etc("templates/marked.toml", &template("file = \"run.sh\""));
        let (code, said) = check(&world, &task("true"));
        assert!(code != 0 && said.contains(want), "{code} {said}");
    }
}

/// A script of so many bytes, each of which JSON escapes, that says how long it is.
fn long_script(bytes: usize) -> String {
    let head = "wc -c <\"$0\"; sha256sum <\"$0\"; exit\n";
    format!("{head}{}", "'\\\n\"\t".chars().cycle().take(bytes - head.len()).collect::<String>())
}

#[test]
fn the_longest_script_runs_whole_and_a_byte_more_is_refused() {
    let (sshd, longest) = (Sshd::start(), 1 << 20);
    let mut world = World::new(&[("h1", "127.0.1.1")], Some(&sshd));
    let own = |bytes| json!({"task_name": "t", "script": long_script(bytes), "hosts": {"1": ["h1"]}});
    let named = json!({"task_name": "t", "temp_id": 906, "hosts": {"1": ["h1"]}});
    let (code, said) = check(&world, &own(longest + 1));
    assert!(code == 5 && said.contains("1048577 bytes; wanted at most 1048576 bytes"), "{said}");
    world.write_etc(
        "templates/long.toml",
        "id = 906\nname = \"long\"\ntitle = \"t\"\n[[step]]\nname = \"script\"\nfile = \"long.sh\"\n",
    );
    world.write_etc("templates/long.sh", &long_script(longest + 1));
    let (code, said) = check(&world, &named);
    assert!(code != 0 && said.contains("found 1048577 bytes; wanted at most 1048576 bytes"), "{said}");
    world.write_etc("templates/long.sh", &long_script(longest));
    world.start();
    let sum = spoolgate::base::digest::Digest::of(long_script(longest).as_bytes()).hex();
    for (name, task) in [("own", &own(longest)), ("named", &named)] {
        assert_eq!(check(&world, task).0, 0, "{name}");
        let (record, printed) = run(&world, name, task, "script");
        assert!(record["outcome"] == "ok" && printed == format!("1048576\n{sum}  -\n"), "{name}: {printed} {record:#}");
    }
    // What is longer than a task's file is not read to its end.
    let file = world.etc().join("endless.json");
    std::fs::write(&file, vec![b' '; (4 << 20) + 1]).unwrap();
    let said = world.run(0, &["check", file.to_str().unwrap()]);
    assert!(said.code == 5 && said.err.contains("found more than 4194304 bytes"), "{said:?}");
}

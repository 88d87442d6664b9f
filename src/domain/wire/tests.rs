//! The forms, as the seeds and careless people write them.

use super::*;
use crate::base::ids::GroupNo;
use crate::domain::submission::{Hosts, Schedule, TemplateRef, Work};

const SEED_000: &[u8] = include_bytes!("../../../tests/data/seeds/000_example3.json");
const SEED_000_POST: &[u8] = include_bytes!("../../../tests/data/seeds/000_example4_post.json");
const SEED_002: &[u8] = include_bytes!("../../../tests/data/seeds/002_custom.json");
const SEED_004: &[u8] = include_bytes!("../../../tests/data/seeds/004_task_add.json");

fn shanghai() -> Zone {
    Zone::named("Asia/Shanghai").unwrap()
}

fn read(bytes: &[u8]) -> Submission {
    read_task(bytes, &shanghai()).unwrap_or_else(|bad| panic!("{:#?}", bad.problems))
}

fn hosts(submission: &Submission, group: u32) -> Vec<&str> {
    match &submission.hosts[&GroupNo(group)] {
        Hosts::Named(names) => names.iter().map(crate::base::ids::HostName::as_str).collect(),
        Hosts::Chosen(selector) => panic!("a selector: {selector}"),
    }
}

#[test]
fn selectors_are_told_from_names() {
    let hosts_of = |text: &str| {
        let file = serde_json::json!({"task_name": "t", "temp_id": 1, "hosts": {"1": text}});
        read(file.to_string().as_bytes()).hosts[&GroupNo(1)].clone()
    };
    for text in ["tag:web & env:prod, !web9", "web1, !web2", "web*", "all", "group:db", "web1,web2,50%", "web1, all"] {
        assert_eq!(hosts_of(text), Hosts::Chosen(text.to_owned()), "{text}");
    }
    for text in ["web1", "web1, web2", "fe80::1", "10.0.0.1,10.0.0.2", "tagged", "allways", "发布-1"] {
        assert!(matches!(hosts_of(text), Hosts::Named(_)), "{text}");
    }
}

#[test]
fn seed_000_is_read() {
    let task = read(SEED_000);
    assert_eq!(task.task_name, "这是通过JSON提交的任务");
    assert_eq!(task.schedule, Some(Schedule::Ready));
    assert_eq!(task.exec_time.unwrap().to_string(), "2019-05-24T01:09:50.000Z");
    assert_eq!(hosts(&task, 1), ["172.16.0.101"]);
    assert_eq!(task.claims.submitter.as_deref(), Some("yanghongfei"));
    assert_eq!(task.claims.associated_user["group-1"], ["杨红飞"]);
    let Work::Template { template, params } = task.work else { panic!("a template") };
    assert_eq!(template, TemplateRef::Id(1));
    assert!(params[&"VERSION".parse().unwrap()].starts_with("你可以看到"));
}

#[test]
fn what_the_seeds_scripts_post_is_read() {
    let task = read(SEED_000_POST);
    assert_eq!(task.claims.executor.as_deref(), Some("yanghongfei"));
    let Work::Template { params, .. } = task.work else { panic!("a template") };
    assert_eq!(params[&"GIT_URL".parse().unwrap()], "git@gitlab.xxxxxxx.com:xxxxx/xxxxx.git");
}

#[test]
fn seeds_002_and_004_are_read() {
    let task = read(SEED_002);
    assert_eq!(hosts(&task, 1), ["127.0.0.1"]);
    let task = read(SEED_004);
    assert_eq!((task.task_name.as_str(), task.timeout_s), ("test01", Some(5)));
    assert_eq!(hosts(&task, 1), ["192.168.3.200", "192.168.3.201"]);
    let Work::Script { script, args, account } = task.work else { panic!("a script") };
    assert_eq!((script.as_str(), args.len()), ("#!/bin/bash\nss -ntlp", 0));
    assert_eq!(account.unwrap().as_str(), "root");
}

#[test]
fn hosts_may_be_written_in_every_way() {
    for written in [
        r#"{"1": ["a", "b"]}"#,
        r#"{"1": "a,b"}"#,
        r#""{1: 'a,b'}""#,
        r#""{'1': 'a, b'}""#,
        r#""{1: ['a', 'b']}""#,
        r#""{\"1\": [\"a\", \"b\"]}""#,
    ] {
        let text = format!(r#"{{"task_name": "t", "temp_id": "x", "hosts": {written}}}"#);
        assert_eq!(hosts(&read(text.as_bytes()), 1), ["a", "b"], "{written}");
    }
}

#[test]
fn scripts_take_whole_arguments() {
    let text =
        br#"{"task_name": "t", "script": "echo", "hosts": {"1": ["a"]}, "args": ["a b", "$(id)"], "timeout": "5m"}"#;
    let task = read(text);
    assert_eq!(task.timeout_s, Some(300));
    assert!(matches!(task.work, Work::Script { args, .. } if args == ["a b", "$(id)"]));
    let task = read(br#"{"title": "t", "script": "echo", "hosts": ["a"], "args": "a,,b c", "timeout": 0}"#);
    assert_eq!(task.timeout_s, None);
    assert!(matches!(task.work, Work::Script { args, .. } if args == ["a", "b c"]));
}

#[track_caller]
fn check(text: &str, pointers: &[&str]) {
    let bad = read_task(text.as_bytes(), &shanghai()).expect_err(text);
    let found: Vec<&str> = bad.problems.iter().map(|problem| problem.pointer.as_str()).collect();
    assert_eq!(found, pointers, "{text}: {:#?}", bad.problems);
}

#[test]
fn every_problem_is_reported_at_once() {
    check("[]", &[""]);
    check("{}", &["/task_name", "/temp_id", "/hosts"]);
    check(
        r#"{"task_nam": "t", "temp_id": [], "hosts": {"0": ["a b"], "1": ["ok", "10.0.0.1;id", "ok"]}, "exec_time": "soon", "schedule": "later", "timeout": -1}"#,
        &[
            "/task_name",
            "/temp_id",
            "/hosts/0",
            "/hosts/1",
            "/hosts/1",
            "/schedule",
            "/exec_time",
            "/timeout",
            "/task_nam",
        ],
    );
    check(r#"{"task_name":"t","temp_id":1,"script":"x","hosts":{"1":["a"]}}"#, &["/temp_id"]);
    check(r#"{"task_name":"t","command":"x","script":"y","hosts":{"1":["a"]}}"#, &["/command"]);
    check(r#"{"task_name":"t","temp_id":1,"hosts":"{1: a}"}"#, &["/hosts", "/hosts"]);
    check(
        r#"{"task_name":"t","temp_id":1,"hosts":{"1":[]},"args":{"A":null,"b c":"x"}}"#,
        &["/args/A", "/args/b c", "/hosts/1"],
    );
    check(r#"{"task_name":"t","temp_id":1,"hosts":{"1":["a"]},"batches":["10%","100%"]}"#, &["/batches"]);
    check(r#"{"task_name":"t","task_name":"u","temp_id":1,"hosts":{"1":["a"]}}"#, &["/task_name"]);
    check(r#"{"title":"t"}"#, &["/script", "/hosts"]);
    let endless = |seconds: &str| {
        format!(r#"{{"title":"t","script":"x","hosts":["a"],"timeout":{seconds},"batch_interval":{seconds}}}"#)
    };
    for seconds in ["31622401", "\"18446744073709551615\"", "\"18446744073709551616\"", "\"9999999999999h\""] {
        check(&endless(seconds), &["/timeout", "/batch_interval"]);
    }
    check(r#"{"title":"t","script":"x","hosts":["a"],"account":"a b"}"#, &["/account"]);
}

#[test]
fn a_slip_of_a_key_is_pointed_out() {
    let bad = read_task(br#"{"task_name":"t","temp_id":1,"host":{"1":["a"]}}"#, &shanghai()).unwrap_err();
    assert!(bad.problems.iter().any(|p| p.wanted.contains("did you mean hosts?")), "{:#?}", bad.problems);
}

/// What a file of the largest size may cost: its problems fit on a few pages, whatever it holds.
#[track_caller]
fn refused_within_bounds(what: &str, text: &str) {
    assert!(u64::try_from(text.len()).unwrap() <= crate::base::limits::DROPPED_FILE_BYTES_MAX, "{what}");
    let problems = read_task(text.as_bytes(), &shanghai()).expect_err(what).problems;
    let shown: usize = problems.iter().map(|problem| problem.to_string().len()).sum();
    assert!((1..=101).contains(&problems.len()) && shown < 100_000, "{what}: {shown} bytes");
}

#[test]
fn no_file_costs_more_than_its_size_allows() {
    let long = "n".repeat(400_000);
    let many = |item: &str, n: usize| vec![item; n].join(",");
    let numbered = |n: usize| (0..n).map(|k| format!("\"k{k}\":1")).collect::<Vec<_>>().join(",");
    refused_within_bounds("one host very often", &format!(r#"{{"hosts":{{"1":"{}"}}}}"#, many("a", 200_000)));
    refused_within_bounds("no host very often", &format!(r#"{{"hosts":{{"1":"{}"}}}}"#, ",".repeat(500_000)));
    refused_within_bounds(
        "wrong hosts in a long name",
        &format!(r#"{{"hosts":{{"{long}":[{}]}}}}"#, many("1", 90_000)),
    );
    refused_within_bounds("a name twice in a long name", &format!(r#"{{"{long}":{{{}}}}}"#, many("\"a\":1", 90_000)));
    refused_within_bounds("unknown fields", &format!("{{{}}}", numbered(60_000)));
    refused_within_bounds("keys of a literal", &format!(r#"{{"args":"{{{}:}}"}}"#, many("'a':1", 50_000)));
    let keys = (0..50_000).map(|k| format!("{k}:1")).collect::<Vec<_>>().join(",");
    refused_within_bounds("different keys of a literal", &format!(r#"{{"args":"{{{keys}}}"}}"#));
    refused_within_bounds("a long key of a literal", &format!(r#"{{"hosts":"{{'{long}':[{}]}}"}}"#, many("1", 50_000)));
    refused_within_bounds("people", &format!(r#"{{"associated_user":{{"a":[{}]}}}}"#, many("1", 90_000)));
    let groups = (1..40_000).map(|k| format!("\"{k}\":\"a\"")).collect::<Vec<_>>().join(",");
    let args = "x".repeat(400_000);
    let many_groups = format!(r#"{{"task_name":"x","script":"true","args":["{args}"],"hosts":{{{groups}}}}}"#);
    refused_within_bounds("groups", &many_groups);
    refused_within_bounds("depth", &"[".repeat(1_000_000));
    refused_within_bounds("depth of a literal", &format!(r#"{{"args":"{}"}}"#, "(".repeat(500_000)));
    refused_within_bounds("strings side by side", &format!(r#"{{"args":"{}"}}"#, "''".repeat(250_000)));
    refused_within_bounds("control characters", &format!("{{\"task_name\":\"{}\"}}", "\t".repeat(500_000)));
}

#[test]
fn mutated_seeds_never_panic_and_every_refusal_has_a_reason() {
    let seed = 7_u64;
    let mut state = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut roll = |sides: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % u64::try_from(sides).unwrap()).unwrap()
    };
    let words: [&[u8]; 24] = [
        b"\\ud83d",
        b"\\u",
        b"\xff",
        "发".as_bytes(),
        b"'",
        b"\"",
        b"{",
        b"}",
        b"[",
        b"]",
        b"(",
        b")",
        b"\\",
        b"0x",
        b"1e",
        b"-",
        b"_",
        b",",
        b":",
        b"99999999999999999999",
        b"2026-13-45 99:99:99",
        b"r'",
        b"\0",
        b"\\'",
    ];
    let order = br#"{"order":"approve","task":"nightly","digest":"sha256:00","start":"2026-11-21 09:09:50"}"#;
    let texts = [SEED_000, SEED_000_POST, SEED_002, SEED_004, order];
    for _ in 0..20_000 {
        let mut bytes = texts[roll(texts.len())].to_vec();
        for _ in 0..=roll(4) {
            let at = roll(bytes.len() + 1);
            match roll(4) {
                0 => bytes.truncate(at),
                1 => bytes.splice(at..at, words[roll(words.len())].iter().copied()).for_each(drop),
                2 if at < bytes.len() => bytes[at] = u8::try_from(roll(256)).unwrap(),
                _ => {
                    let other = texts[roll(texts.len())];
                    let from = roll(other.len());
                    bytes
                        .splice(at..at, other[from..(from + roll(40)).min(other.len())].iter().copied())
                        .for_each(drop);
                }
            }
        }
        if let Err(bad) = read_task(&bytes, &shanghai()) {
            assert!(!bad.problems.is_empty(), "refused without a reason");
        }
        if let Err(problems) = read_order(&bytes, &shanghai()).map_err(|bad| bad.problems) {
            assert!(!problems.is_empty(), "refused without a reason");
        }
    }
}

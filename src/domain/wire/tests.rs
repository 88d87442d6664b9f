//! The forms, as the seeds and careless people write them.

use super::*;
use crate::base::ids::GroupNo;
use crate::domain::submission::{Schedule, TemplateRef, Work};

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
    submission.hosts[&GroupNo(group)].iter().map(crate::base::ids::HostName::as_str).collect()
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
    check(r#"{"task_name":"t","temp_id":1,"hosts":"{1: a}"}"#, &["/hosts", "/hosts"]);
    check(
        r#"{"task_name":"t","temp_id":1,"hosts":{"1":[]},"args":{"A":null,"b c":"x"}}"#,
        &["/args/A", "/args/b c", "/hosts/1"],
    );
    check(r#"{"task_name":"t","temp_id":1,"hosts":{"1":["a"]},"batches":["10%","90%"]}"#, &["/batches"]);
    check(r#"{"task_name":"t","task_name":"u","temp_id":1,"hosts":{"1":["a"]}}"#, &["/task_name"]);
    check(r#"{"title":"t"}"#, &["/script", "/hosts"]);
    check(r#"{"title":"t","script":"x","hosts":["a"],"account":"a b"}"#, &["/account"]);
}

#[test]
fn a_slip_of_a_key_is_pointed_out() {
    let bad = read_task(br#"{"task_name":"t","temp_id":1,"host":{"1":["a"]}}"#, &shanghai()).unwrap_err();
    assert!(bad.problems.iter().any(|p| p.wanted.contains("did you mean hosts?")), "{:#?}", bad.problems);
}

#[test]
fn mutated_seeds_never_panic_and_every_refusal_has_a_reason() {
    let seed = 7_u64;
    let mut state = seed;
    let mut roll = |sides: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % sides
    };
    for round in 0..20_000 {
        let mut bytes = [SEED_000, SEED_000_POST, SEED_002, SEED_004][roll(4)].to_vec();
        for _ in 0..=roll(3) {
            let at = roll(bytes.len().max(1));
            match roll(4) {
                _ if bytes.is_empty() => bytes.push(b'{'),
                0 => bytes[at] = u8::try_from(roll(256)).unwrap(),
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, b"{}[]\"':,\\0\n"[roll(11)]),
                _ => bytes.truncate(at.max(1)),
            }
        }
        if let Err(bad) = read_task(&bytes, &shanghai()) {
            assert!(!bad.problems.is_empty(), "seed {seed}, round {round}: refused without a reason");
        }
    }
}

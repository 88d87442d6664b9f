//! The transition table, written out: what may happen in which stage.

use crate::domain::outcome::{Ending, OutputFacts, ProvedBy, StepResult};
use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::base::ids::GroupNo;
use crate::domain::plan::PlannedHost;
use crate::domain::policy::Frozen;

fn actor() -> Actor {
    Actor { uid: 1, user: "a".to_owned() }
}

fn drop_key() -> DropKey {
    DropKey {
        name: "t.json".into(),
        uid: 1,
        dev: 1,
        ino: 1,
        born_ns: "1".to_owned(),
        mtime_ns: "1".to_owned(),
        digest: Digest::of(b""),
    }
}

fn ordered() -> Ordered {
    Ordered { by: actor(), reason: None, rule: String::new(), order: drop_key() }
}

/// Two hosts, two batches, one step.
fn plan() -> Plan {
    let mut plan = Plan::empty_for_tests();
    let mut group = PlannedGroup::one_step_for_tests("true");
    for host in ["h", "later"] {
        let name: HostName = host.parse().unwrap();
        group.hosts.push(name.clone());
        plan.hosts.insert(name, PlannedHost::local_for_tests());
    }
    group.batches = vec![1, 1];
    plan.groups.push(group);
    plan
}

fn accepted(admission: Admission) -> Event {
    Event::Accepted(Box::new(Accepted {
        name: "t".to_owned(),
        by: actor(),
        claims: crate::domain::submission::Claims::default(),
        drop: drop_key(),
        unproved: false,
        admission,
        digest: plan().digest(),
        idempotency_key: None,
        hook: None,
        details: String::new(),
        task_type: String::new(),
        submission: String::new(),
    }))
}

fn result() -> StepResult {
    let at = Timestamp(1);
    StepResult {
        attempt: 1,
        ending: Ending::Exit(0),
        started: at,
        ended: at,
        output: OutputFacts::default(),
        proved_by: None,
    }
}

/// Every event, with what makes it possible where it is.
fn events() -> Vec<Event> {
    let (group, host, step): (GroupNo, HostName, StepName) = (GroupNo(1), "h".parse().unwrap(), "a".parse().unwrap());
    let place = || Place { group, host: host.clone(), step: step.clone() };
    let approval = Approval { by: actor(), groups: BTreeSet::new(), digest: plan().digest(), start: None, until: None };
    let mut other = plan();
    other.task_name = "other".to_owned();
    let at = || (group, host.clone(), step.clone());
    let started =
        |(group, host, step): (GroupNo, HostName, StepName)| Event::StepStarted { group, host, step, attempt: 1 };
    let frozen = Frozen { freeze: "f".to_owned(), until: Timestamp(9) };
    vec![
        accepted(Admission::Ready { rule: String::new() }),
        Event::Approved { approval, rule: String::new(), reason: None, order: drop_key() },
        Event::Withdrawn(ordered()),
        Event::Lapsed { by: actor(), why: String::new() },
        Event::Readmitted { needs: Vec::new(), why: String::new() },
        Event::Stale { differences: Vec::new(), needs: Vec::new(), digest: other.digest(), plan: Box::new(other) },
        Event::Unresolvable { problems: Vec::new() },
        Event::Rejected(ordered()),
        Event::Cancelled(ordered()),
        Event::HostsStopped { ordered: ordered(), lanes: vec![LaneName { group, host: host.clone() }] },
        Event::Held { ordered: Some(ordered()), why: String::new() },
        Event::Released(ordered()),
        Event::HoldReleased(ordered()),
        Event::StepsReleased { ordered: ordered(), steps: vec![place()] },
        Event::Retried { ordered: ordered(), steps: vec![place()] },
        Event::StepsSkipped { ordered: ordered(), steps: vec![place()] },
        Event::BatchWaits { group, batch: 2, until: None, gate: true },
        Event::Continued { ordered: ordered(), group, batch: 2 },
        Event::BatchStarted { group, batch: 2 },
        Event::Frozen(frozen),
        Event::OrderRefused {
            by: actor(),
            act: String::new(),
            kind: RefusalKind::OtherPlan,
            why: String::new(),
            order: drop_key(),
        },
        Event::Started,
        started(at()),
        Event::KillUnconfirmed { group, host: host.clone(), step: step.clone(), why: String::new() },
        Event::HostUnreachable { group, host: host.clone(), step: step.clone(), why: String::new() },
        Event::HostReachable { group, host: host.clone(), step: step.clone() },
        Event::StepSaid { group, host: host.clone(), step: step.clone(), text: String::new() },
        Event::TargetsReported { group, host: host.clone(), step: step.clone(), reports: Vec::new() },
        Event::StepPassedOver { group, host: host.clone(), step: step.clone() },
        Event::StepEnded { group, host, step, result: result() },
        Event::Closed { outcome: Outcome::Ok },
    ]
}

/// Folds the words of events, from the first on.
fn run(admission: Admission, words: &[&str]) -> Run {
    let first = Recorded { at: Timestamp(1), event: accepted(admission) };
    let mut run = Run::begin(TaskId(1), Arc::new(plan()), &first).unwrap();
    for word in words {
        let event = events().into_iter().find(|event| event.word() == *word).unwrap();
        run.apply(&Recorded { at: Timestamp(2), event }).unwrap();
    }
    run
}

#[test]
fn what_may_happen_in_which_stage_is_this_table() {
    let ready = || Admission::Ready { rule: String::new() };
    let new = || Admission::New { needs: vec![Need { approvals: 2, of: Vec::new(), rule: String::new() }], note: None };
    let always = ["order_refused"];
    let waits = ["readmitted", "stale", "unresolvable", "rejected", "cancelled", "held", "closed"];
    let runs = [
        "cancelled",
        "hosts_stopped",
        "held",
        "steps_released",
        "retried",
        "steps_skipped",
        "batch_waits",
        "batch_started",
        "step_started",
        "step_passed_over",
        "closed",
    ];
    let open = [
        "cancelled",
        "hosts_stopped",
        "held",
        "steps_released",
        "batch_waits",
        "batch_started",
        "kill_unconfirmed",
        "host_unreachable",
        "host_reachable",
        "step_said",
        "targets_reported",
        "step_ended",
    ];
    let rows: [(&str, Run, Vec<&str>); 8] = [
        ("new", run(new(), &[]), [&waits[..], &["approved"]].concat()),
        ("new, approved once", run(new(), &["approved"]), [&waits[..], &["approved", "withdrawn", "lapsed"]].concat()),
        ("ready", run(ready(), &[]), [&waits[..], &["frozen", "started"]].concat()),
        ("ready, held", run(ready(), &["held"]), [&waits[..], &["frozen", "released", "hold_released"]].concat()),
        ("running", run(ready(), &["started"]), runs.to_vec()),
        ("running, a step open", run(ready(), &["started", "step_started"]), open.to_vec()),
        ("running, a batch waits", run(ready(), &["started", "batch_waits"]), [&runs[..], &["continued"]].concat()),
        ("done", run(ready(), &["started", "closed"]), vec!["retried"]),
    ];
    for (stage, run, allowed) in rows {
        let want: BTreeSet<&str> = allowed.into_iter().chain(always).collect();
        let mut got = BTreeMap::new();
        for event in events() {
            let mut next = run.clone();
            let word = event.word();
            let applied = next.apply(&Recorded { at: Timestamp(3), event }).is_ok();
            // What cannot happen changes nothing.
            assert!(applied || next == run, "{word} in {stage} was refused and changed the run");
            got.insert(word, applied);
        }
        let got: BTreeSet<&str> = got.into_iter().filter(|(_, applied)| *applied).map(|(word, _)| word).collect();
        assert_eq!(got, want, "{stage}");
    }
}

#[test]
fn a_refusal_of_an_older_journal_has_the_kind_that_claims_nothing() {
    let event = Event::OrderRefused {
        by: actor(),
        act: String::new(),
        kind: RefusalKind::OtherPlan,
        why: String::new(),
        order: drop_key(),
    };
    let mut line = serde_json::to_value(event).unwrap();
    assert_eq!(line["kind"], "other_plan");
    line.as_object_mut().unwrap().remove("kind");
    let read: Event = serde_json::from_value(line).unwrap();
    assert!(matches!(read, Event::OrderRefused { kind: RefusalKind::NotNow, .. }), "{read:?}");
}

#[test]
fn a_result_of_an_earlier_version_is_read_and_a_proof_is_kept() {
    let old = serde_json::to_value(result()).unwrap();
    assert!(old.get("proved_by").is_none());
    assert_eq!(serde_json::from_value::<StepResult>(old).unwrap(), result());
    for proof in ProvedBy::ALL {
        let proved = StepResult { proved_by: Some(proof), ..result() };
        let text = serde_json::to_value(&proved).unwrap();
        assert_eq!(text["proved_by"], proof.word());
        assert_eq!(serde_json::from_value::<StepResult>(text).unwrap(), proved);
    }
}

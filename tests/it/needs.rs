//! What waits for whom, in a state with tasks of every kind.

use std::path::Path;

use spoolgate::adapters::spool::layout::Layout;
use spoolgate::adapters::spool::reader::{Follower, task_ids};
use spoolgate::domain::needs::needs_of;
use spoolgate::domain::right::Right;

/// Returns what waits for somebody with this uid who may do what `may` says, as `TASK: what`, by number.
fn needs(uid: u32, may: impl Fn(Right) -> bool) -> Vec<String> {
    let layout = Layout::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/state-v1/state"));
    let mut ids = task_ids(&layout).unwrap();
    ids.sort();
    let mut found = Vec::new();
    for id in ids {
        let (follower, _) = Follower::open(&layout, id).unwrap();
        let needs = needs_of(follower.run().unwrap(), uid, &may);
        assert!(needs.windows(2).all(|pair| pair[0].since <= pair[1].since), "the oldest comes first");
        found.extend(needs.into_iter().map(|need| format!("{id}: {:?}", need.what)));
    }
    found
}

#[test]
fn what_waits_for_somebody_is_what_they_may_do() {
    let all = [
        "19: Unknown { hosts: 1 }",
        "20: Unknown { hosts: 1 }",
        "40: Approval",
        "41: Approval",
        "42: Approval",
        "48: Gate { group: GroupNo(1), batch: 2 }",
        "49: Step { step: \"switch\", hosts: 1 }",
    ];
    assert_eq!(needs(4711, |_| true), all);
    assert_eq!(needs(4711, |_| false), [""; 0]);
    let approvals = needs(4711, |right| right == Right::Approve);
    assert!(!approvals.is_empty() && approvals.iter().all(|need| need.ends_with("Approval")), "{approvals:?}");
}

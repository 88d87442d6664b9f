//! The rules against an independent reading of them.

use super::*;
use crate::base::time::Zone;
use crate::base::time::parse_time;

const RULES: &str = r#"
    [role.release]
    members = ["@lead", "olga"]
    [[submit]]
    who = ["@dev"]
    templates = ["*"]
    into = ["new"]
    [[submit]]
    who = ["cron"]
    templates = ["backup"]
    into = ["new", "ready"]
    [[approve]]
    who = ["role:release"]
    templates = ["*"]
    [[approve]]
    who = ["@dba"]
    templates = ["sql"]
    approvals = 2
    named = true
    [[approve]]
    who = ["root"]
    templates = ["hello"]
    self = true
    [[require]]
    environments = ["prod"]
    of = ["@lead"]
    [[require]]
    risk = ["high"]
    approvals = 2
    [[control]]
    who = ["@lead"]
    templates = ["*"]
    [[control]]
    who = ["@dev"]
    templates = ["*"]
    acts = ["retry", "release"]
    environments = ["test"]
    own = true
    [[audit]]
    who = ["@security"]
    [[freeze]]
    name = "weekend"
    environments = ["prod"]
    from = "Fri 16:00"
    to = "Mon 08:00"
    except = ["@oncall"]
    [[freeze]]
    name = "new year"
    from = "2026-12-31 12:00"
    to = "2027-01-02 06:00"
"#;

fn person(uid: u32, user: &str, groups: &[&str]) -> Person {
    Person { actor: Actor { uid, user: user.to_owned() }, groups: groups.iter().map(|g| (*g).to_owned()).collect() }
}

fn rules() -> Policy {
    Policy::parse("policy.toml", RULES, &Zone::utc()).expect("parses")
}

fn subject(work: &str, environments: &[&str], submitter: &Person) -> Subject {
    Subject {
        behind: BTreeSet::new(),
        work: work.to_owned(),
        places: environments.iter().map(|e| ((*e).to_owned(), BTreeSet::new())).collect(),
        level: if environments.contains(&"prod") { Level::High } else { Level::Low },
        submitter: submitter.actor.clone(),
        named: BTreeSet::new(),
        unproved: false,
    }
}

#[test]
fn submitting_follows_the_rules() {
    let (dev, cron, guest) = (person(1, "dev1", &["dev"]), person(2, "cron", &[]), person(3, "guest", &[]));
    let policy = rules();
    let admit = |who: &Person, work: &str, wish| policy.admit(who, &subject(work, &["test"], who), wish);
    let needs = |admission: Result<Admission, Refusal>| match admission {
        Ok(Admission::New { needs, note }) => (needs.iter().map(|need| need.approvals).max(), note.is_some()),
        other => panic!("{other:?}"),
    };
    assert_eq!(needs(admit(&dev, "hello", Schedule::New)), (Some(1), false));
    assert_eq!(needs(admit(&dev, "sql", Schedule::New)), (Some(2), false));
    assert_eq!(needs(admit(&dev, "hello", Schedule::Ready)), (Some(1), true));
    assert!(matches!(admit(&cron, "backup", Schedule::Ready), Ok(Admission::Ready { .. })));
    assert!(admit(&cron, "hello", Schedule::New).is_err());
    assert!(admit(&guest, "hello", Schedule::New).is_err());
}

#[test]
fn nobody_approves_their_own_task_unless_a_rule_says_so() {
    let (lead, root, dev) =
        (person(5, "lead", &["lead", "dev"]), person(0, "root", &["root"]), person(1, "dev1", &["dev"]));
    let policy = rules();
    let may = |who: &Person, right, work: &str, by: &Person| policy.allows(who, right, &subject(work, &["test"], by));
    assert!(may(&lead, Right::Approve, "hello", &dev).is_ok());
    assert!(may(&lead, Right::Approve, "hello", &lead).unwrap_err().why.contains("two-person rule"));
    assert!(may(&lead, Right::Reject, "hello", &lead).is_ok());
    assert!(!may(&dev, Right::Approve, "hello", &dev).unwrap_err().why.contains("two-person"), "dev may not anyway");
    assert!(may(&dev, Right::Approve, "hello", &lead).is_err());
    assert!(may(&root, Right::Approve, "hello", &root).is_ok());
    assert!(may(&root, Right::Approve, "sql", &root).is_err());
    assert!(may(&dev, Right::Cancel, "hello", &dev).is_ok());
    assert!(may(&dev, Right::Cancel, "hello", &lead).is_err());
    assert!(may(&lead, Right::Cancel, "hello", &dev).is_ok());
    assert!(may(&dev, Right::Retry, "hello", &dev).is_ok());
    assert!(may(&dev, Right::Skip, "hello", &dev).is_err());
    assert!(policy.allows(&dev, Right::Retry, &subject("hello", &["test", "prod"], &dev)).is_err(), "prod is not test");
}

#[test]
fn a_task_names_approvers_only_where_a_rule_lets_it() {
    let (ada, ben, dev) = (person(7, "ada", &["dba"]), person(8, "ben", &["dba"]), person(1, "dev1", &["dev"]));
    let named = |names: &[&str]| Subject {
        named: names.iter().map(|n| (*n).to_owned()).collect(),
        ..subject("sql", &["test"], &dev)
    };
    let policy = rules();
    assert!(policy.allows(&ada, Right::Approve, &named(&["ada"])).is_ok(), "a chosen approver");
    assert!(policy.allows(&ben, Right::Approve, &named(&["ada"])).is_err(), "not chosen");
    let mallory = person(9, "mallory", &["dev"]);
    assert!(
        policy.allows(&mallory, Right::Approve, &named(&["mallory"])).is_err(),
        "naming somebody makes nobody a dba"
    );
    assert!(policy.allows(&dev, Right::Approve, &named(&["dev1"])).is_err(), "nor the submitter an approver");
}

#[test]
fn demands_hold_as_soon_as_one_host_is_touched() {
    let dev = person(1, "dev1", &["dev"]);
    let needs = |environments: &[&str]| {
        let needs = rules().needs(&subject("hello", environments, &dev));
        needs.iter().map(|need| format!("{}{}", need.approvals, need.of.concat())).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(needs(&["test"]), "1");
    assert_eq!(needs(&["test", "prod"]), "1 1@lead 2");
    assert_eq!(needs(&[""]), "1");
}

#[test]
fn personal_mode_allows_only_the_owner() {
    let policy = Policy::Personal { owner: 1000 };
    let (owner, other) = (person(1000, "me", &[]), person(1001, "you", &[]));
    let task = subject("x", &["prod"], &owner);
    assert!(matches!(policy.admit(&owner, &task, Schedule::Ready), Ok(Admission::Ready { .. })));
    assert!(policy.admit(&other, &task, Schedule::New).is_err());
    for right in Right::ALL.into_iter().filter(|right| *right != Right::Withdraw) {
        assert!(policy.allows(&owner, right, &task).is_ok(), "{right:?}");
        assert!(policy.allows(&other, right, &task).is_err(), "{right:?}");
    }
}

#[test]
fn who_has_the_number_or_the_name_of_the_submitter_is_no_second_person() {
    let policy = rules();
    let submitter = person(1, "dev1", &["dev"]);
    let task = subject("hello", &["test"], &submitter);
    let second = person(7, "lead7", &["lead", "dev"]);
    assert!(policy.allows(&second, Right::Approve, &task).is_ok());
    for other in [person(1, "lead7", &["lead", "dev"]), person(7, "dev1", &["lead", "dev"])] {
        let refused = policy.allows(&other, Right::Approve, &task).map_err(|refusal| refusal.to_string());
        assert!(refused.is_err_and(|why| why.contains("two-person rule")), "{other:?}");
        // Nor is it their task, where rules let people act on their own.
        assert!(policy.allows(&person(1, "other", &["dev"]), Right::Cancel, &task).is_err());
    }
}

#[test]
fn freezes_hold_where_and_when_they_say() {
    let dev = person(1, "dev1", &["dev"]);
    let policy = rules();
    let vote = |groups: &[&str]| Approval {
        by: Actor { uid: 4, user: "olga".to_owned() },
        groups: groups.iter().map(|g| (*g).to_owned()).collect(),
        digest: crate::base::digest::Digest::of(b""),
        start: None,
        until: None,
    };
    let check = |now: &str, environment: &str, groups: &[&str], want: Option<(&str, &str)>| {
        let now = parse_time(now, &Zone::utc()).expect("a time");
        let frozen = policy.frozen(&subject("hello", &[environment], &dev), &[&vote(groups)], now);
        let found = frozen.map(|frozen| (frozen.freeze, frozen.until));
        let want = want.map(|(name, until)| (name.to_owned(), parse_time(until, &Zone::utc()).expect("a time")));
        assert_eq!(found, want, "{now} {environment}");
    };
    let weekend = Some(("weekend", "2026-11-23 08:00"));
    check("2026-11-20 15:59:59", "prod", &[], None);
    check("2026-11-20 16:00", "prod", &[], weekend);
    check("2026-11-22 12:00", "prod", &[], weekend);
    check("2026-11-23 07:59:59", "prod", &[], weekend);
    check("2026-11-23 08:00", "prod", &[], None);
    check("2026-11-22 12:00", "test", &[], None);
    check("2026-11-22 12:00", "prod", &["oncall"], None);
    check("2027-01-01 00:00", "test", &[], Some(("new year", "2027-01-02 06:00")));
    check("2027-01-01 18:00", "prod", &[], Some(("weekend", "2027-01-04 08:00")));
    check("2027-01-01 18:00", "prod", &["oncall"], Some(("new year", "2027-01-02 06:00")));
}

#[test]
fn mistyped_rules_are_refused_with_their_lines() {
    let problems = |text: &str| -> String {
        let problems = Policy::parse("p", text, &Zone::utc()).expect_err(text);
        problems.iter().map(|problem| format!("{} {}", problem.pointer, problem.found)).collect::<Vec<_>>().join("; ")
    };
    assert!(problems("[[submit]]\nwho = [\"*\"]\ntemplate = [\"*\"]\n").contains("p:1"));
    assert!(problems("[[approve]]\nwho=[]\ntemplates=[]\napprovals=0\n").contains("p:4"));
    assert!(problems("[[approve]]\nwho=[\"role:x\"]\ntemplates=[\"*\"]\n").contains("p:2 role:x"));
    assert!(problems("[[control]]\nwho=[\"a\"]\ntemplates=[\"*\"]\nacts=[\"approve\"]\n").contains("p:4 approve"));
    assert!(problems("[[freeze]]\nname=\"x\"\nfrom=\"Fri\"\nto=\"Mon 8:00\"\n").contains("p:3 Fri"));
    assert!(problems("[[freeze]]\nname=\"x\"\nfrom=\"2026-01-02 00:00\"\nto=\"2026-01-01 00:00\"\n").contains("p:4"));
    assert!(problems("[[require]]\nrisk=[\"huge\"]\nof=[\"@\"]\n").contains("huge"));
}

/// A task of the matrix.
struct Case<'a> {
    work: &'a str,
    environments: &'a [&'a str],
    submitter: usize,
    named: &'a [&'a str],
}

/// Who may do what, read from [`RULES`] by hand and not by the code under test.
fn by_hand(who: &Person, right: Right, case: &Case<'_>, people: &[Person]) -> bool {
    let (in_group, own) = (|group: &str| who.groups.contains(group), people[case.submitter].actor.uid == who.actor.uid);
    let release = in_group("lead") || who.actor.user == "olga";
    let chosen_dba = case.work == "sql" && in_group("dba") && case.named.contains(&who.actor.user.as_str());
    let root_hello = case.work == "hello" && who.actor.user == "root";
    match right {
        Right::Withdraw => true,
        Right::Approve => ((release || chosen_dba) && !own) || root_hello,
        Right::Reject => release || chosen_dba || root_hello,
        Right::Cancel | Right::Hold => own || in_group("lead"),
        Right::Retry | Right::Release => {
            in_group("lead") || (own && in_group("dev") && case.environments.iter().all(|e| *e == "test"))
        }
        Right::Skip | Right::Continue => in_group("lead"),
        Right::Acknowledge => in_group("security"),
    }
}

#[test]
fn five_hundred_rows_of_who_may_do_what_agree_with_a_reading_by_hand() {
    let people = [
        person(0, "root", &["root"]),
        person(1, "dev1", &["dev"]),
        person(2, "dev2", &["dev", "lead"]),
        person(3, "olga", &[]),
        person(4, "ada", &["dba", "dev"]),
        person(5, "guest", &["users", "security"]),
    ];
    let policy = rules();
    let (mut rows, mut allowed) = (0, 0);
    for work in ["hello", "sql"] {
        for environments in [&["test"][..], &["prod"], &["test", "prod"]] {
            for submitter in [0, 1, 2, 4] {
                for named in [&[][..], &["ada", "guest"]] {
                    let case = Case { work, environments, submitter, named };
                    let named = named.iter().map(|n| (*n).to_owned()).collect();
                    let task = Subject { named, ..subject(work, environments, &people[submitter]) };
                    for who in &people {
                        for right in Right::ALL {
                            let want = by_hand(who, right, &case, &people);
                            let found = policy.allows(who, right, &task);
                            assert_eq!(found.is_ok(), want, "{} {right:?} {task:?}: {found:?}", who.actor.user);
                            rows += 1;
                            allowed += usize::from(want);
                        }
                    }
                }
            }
        }
    }
    assert!(rows >= 500 && allowed > rows / 10 && allowed < rows * 9 / 10, "{allowed} of {rows}");
}

#[test]
fn everybody_who_may_approve_has_an_account() {
    let policy =
        Policy::parse("p", "[[approve]]\nwho = [\"*\", \"uid-9\"]\ntemplates = [\"*\"]\n", &Zone::utc()).unwrap();
    let dev = person(1, "dev1", &[]);
    let task = subject("hello", &["test"], &dev);
    let may = |uid: u32, user: &str| policy.allows(&person(uid, user, &[]), Right::Approve, &task).is_ok();
    assert!(may(2, "ops") && may(9, "uid-9") && may(3, "uid-4"));
    assert!(!may(100_001, "uid-100001") && !may(100_002, "uid-100002"));
}

const SEE: &str = r#"
    [role.watch]
    members = ["@ops", "wanda"]
    [[submit]]
    who = ["*"]
    templates = ["*"]
    into = ["new"]
    [[approve]]
    who = ["@lead"]
    templates = ["deploy", "payroll"]
    [[approve]]
    who = ["@dba"]
    templates = ["deploy"]
    named = true
    [[see]]
    who = ["role:watch"]
    templates = ["deploy"]
    [[see]]
    who = ["@dev", "token:board"]
    templates = ["*"]
    submitters = ["@dev", "cron"]
    parts = ["plan", "output"]
    [[see]]
    who = ["@lead"]
    templates = ["deploy"]
    environments = ["test"]
    parts = ["output"]
    [[see]]
    who = ["*"]
    templates = ["hello"]
"#;

fn groups(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// What is seen, by the first letters of the parts.
fn letters(sight: Sight) -> String {
    Part::ALL.into_iter().filter(|part| sight.has(*part)).map(|part| &part.word()[..1]).collect()
}

#[test]
fn what_somebody_sees_follows_the_rules() {
    let policy = Policy::parse("policy.toml", SEE, &Zone::utc()).expect("parses");
    let (dev, cron, guest) = (person(1, "dev1", &["dev"]), person(2, "cron", &[]), person(3, "guest", &[]));
    let (lead, dba, ops) = (person(4, "li", &["lead"]), person(5, "dora", &["dba"]), person(6, "otto", &["ops"]));
    let (wanda, dev2) = (person(7, "wanda", &[]), person(8, "dev2", &["dev"]));
    let (token, other) = (person(1 << 31, "token:board", &[]), person(9, "token:other", &[]));
    let nameless = person(61_009, "uid-61009", &[]);
    for (who, work, environments, submitter, sees) in [
        // One's own, whatever the rules.
        (&guest, "payroll", &["prod"][..], &guest, "poe"),
        (&guest, "payroll", &["prod"], &dev, ""),
        // Approvers see the whole plan, and of the output what rules say; also of what they submitted in part.
        (&lead, "payroll", &["prod"], &guest, "pe"),
        (&lead, "deploy", &["test"], &guest, "poe"),
        (&lead, "deploy", &["test", "prod"], &guest, "pe"),
        (&lead, "backup", &["test"], &guest, ""),
        // Who may approve only where the task names them sees it there.
        (&dba, "deploy", &["test"], &guest, ""),
        // By template, by role.
        (&ops, "deploy", &["prod"], &guest, "poe"),
        (&wanda, "deploy", &["prod"], &guest, "poe"),
        (&wanda, "payroll", &["prod"], &guest, ""),
        // By submitter: a user, a group that the submitter is in, and nobody else's.
        (&dev, "payroll", &["prod"], &cron, "po"),
        (&dev2, "payroll", &["prod"], &dev, "po"),
        (&dev, "payroll", &["prod"], &guest, ""),
        (&token, "payroll", &["prod"], &cron, "po"),
        (&other, "payroll", &["prod"], &cron, ""),
        // Everybody with an account.
        (&guest, "hello", &["prod"], &dev, "poe"),
        (&nameless, "hello", &["prod"], &dev, ""),
    ] {
        let subject = subject(work, environments, submitter);
        let sight = policy.sees(who, &submitter.groups, &subject);
        let said = format!("{} of {work} on {environments:?} by {}", who.actor.user, submitter.actor.user);
        assert_eq!(letters(sight), sees, "{said}");
        for part in Part::ALL {
            let answer = policy.may_see(who, &submitter.groups, &subject, part);
            assert_eq!(answer.is_ok(), sight.has(part), "{said}: {answer:?}");
        }
    }
    let mut named = subject("deploy", &["test"], &guest);
    named.named.insert("dora".to_owned());
    assert_eq!(letters(policy.sees(&dba, &guest.groups, &named)), "pe");
    let refusal = policy.may_see(&guest, &dev.groups, &subject("payroll", &[], &dev), Part::Output).unwrap_err();
    assert_eq!(refusal.more("7").unwrap(), "spoolgate policy explain guest see-output 7");
    // Who has the number and another name, or the name and another number, is somebody else.
    let (renamed, reused) = (person(3, "gast", &[]), person(33, "guest", &[]));
    let own = subject("payroll", &[], &guest);
    assert_eq!([&renamed, &reused].map(|who| letters(policy.sees(who, &guest.groups, &own))), ["", ""]);
}

#[test]
fn without_see_rules_the_files_decide() {
    let (guest, dev) = (person(3, "guest", &[]), person(1, "dev1", &["dev"]));
    for policy in [rules(), Policy::Personal { owner: 0 }] {
        let subject = subject("sql", &["prod"], &dev);
        assert!(!policy.limits_sight());
        assert_eq!(letters(policy.sees(&guest, &dev.groups, &subject)), "poe");
        let reading = policy.readers(&dev.groups, &subject);
        assert_eq!(reading, Reading { task: Readers::Everybody, output: Readers::Everybody });
        assert_eq!(policy.groups_that_see(), Vec::<&str>::new());
    }
}

#[test]
fn files_go_to_a_group_of_whose_members_everyone_sees_them() {
    let policy = Policy::parse("policy.toml", SEE, &Zone::utc()).expect("parses");
    assert!(policy.limits_sight());
    assert_eq!(policy.groups_that_see(), ["ops", "dev", "lead", "lead", "dba"]);
    let (guest, dev) = (person(3, "guest", &[]), person(1, "dev1", &["dev"]));
    let group = |name: &str| Readers::Group(name.to_owned());
    for (work, environments, submitter, task, output) in [
        ("deploy", &["prod"][..], &guest, group("ops"), group("ops")),
        // Approvers may see the plan, and nobody else what it prints.
        ("payroll", &["prod"], &guest, group("lead"), Readers::Nobody),
        // Without the environment a file can be given to nobody: it is in all of them.
        ("backup", &["prod"], &dev, Readers::Nobody, Readers::Nobody),
        ("hello", &["prod"], &guest, Readers::Everybody, Readers::Everybody),
    ] {
        let reading = policy.readers(&submitter.groups, &subject(work, environments, submitter));
        assert_eq!(reading, Reading { task, output }, "{work} of {}", submitter.actor.user);
    }
    // Two rules together give what each of them gives a part of.
    let halves = "[[see]]\nwho = [\"@a\"]\ntemplates = [\"*\"]\nparts = [\"plan\"]\n\
                  [[see]]\nwho = [\"@a\", \"@b\"]\ntemplates = [\"*\"]\nparts = [\"environment\"]\n\
                  [[see]]\nwho = [\"ann\"]\ntemplates = [\"*\"]\n";
    let policy = Policy::parse("policy.toml", halves, &Zone::utc()).expect("parses");
    let reading = policy.readers(&groups(&[]), &subject("x", &[], &guest));
    assert_eq!(reading, Reading { task: group("a"), output: Readers::Nobody });
}

#[test]
fn every_problem_of_a_see_rule_is_found() {
    let text = "[[see]]\ntemplates = [\"*\"]\n[[see]]\nwho = [\"@ops\"]\n\
                [[see]]\nwho = [\"role:none\"]\ntemplates = [\"*\"]\nparts = [\"logs\"]\nsubmitters = [\"@\"]\nown = true\n";
    let problems = Policy::parse("p", text, &Zone::utc()).unwrap_err();
    let at: Vec<&str> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
    assert_eq!(at, ["p:1", "p:3", "p:6", "p:8", "p:9", "p:10"], "{problems:?}");
    let policy = Policy::parse("p", "[[see]]\nwho = [\"@ops\"]\ntemplates = [\"deploi\"]\n", &Zone::utc()).unwrap();
    assert_eq!(policy.named_in_see(), [("p:1 [[see]]", "@ops")]);
}

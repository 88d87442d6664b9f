//! Everything that reads bytes from outside, one entry each, for `make fuzz` and for the slice of it that `make test` runs.
//!
//! **Invariant:** whatever the bytes are, an entry returns: nothing panics, and nothing takes long. What a reader makes of them is
//! used as the daemon and the screens use it, so that a number which was read is reckoned with too.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use crate::adapters::{http, output_log, spool, ssh};
use crate::base::count::Count;
use crate::base::digest::Digest;
use crate::base::ids::{GroupNo, HostName, TaskId};
use crate::base::text::{Secret, visible, visible_lines};
use crate::base::time::{Timestamp, Zone, parse_time};
use crate::base::week::{WeekSpan, WeekTime};
use crate::domain::audit::{Entry, Head, LastEnd, about_journal};
use crate::domain::callback::CallbackKey;
use crate::domain::delegate::{Delegate, Reports, last_words, not_done, progress};
use crate::domain::file_step::NoFiles;
use crate::domain::hook::Hooks;
use crate::domain::inventory::Inventory;
use crate::domain::inventory::build::Parts;
use crate::domain::inventory::script::{Script, hosts_to_ask};
use crate::domain::inventory::selector::select;
use crate::domain::known_hosts::KnownHosts;
use crate::domain::library::{Defaults, Library};
use crate::domain::mask::{Masked, Masker};
use crate::domain::output::Stream;
use crate::domain::plan::diff::{differences, script_changes};
use crate::domain::plan::{Plan, PlannedStep};
use crate::domain::policy::Policy;
use crate::domain::problem::Problem;
use crate::domain::read::python_literal;
use crate::domain::record::{HistoryLine, record, step_records, view_file};
use crate::domain::resolve::{resolve, unasked};
use crate::domain::run::{Recorded, Run};
use crate::domain::runner::answer::Answer;
use crate::domain::runner::{Offsets, RunnerId};
use crate::domain::share::Shares;
use crate::domain::ssh_config::{self, Query, Source};
use crate::domain::template::{Catalogue, Template};
use crate::domain::token::Tokens;
use crate::domain::wire::codo_template::{Naming, import};
use crate::domain::wire::{Wish, read_codo, read_order, read_task, read_wish};
use crate::shells::dashboard::input::Input;
use crate::shells::text::coloured;

/// A reader of bytes from outside.
#[derive(Clone, Copy)]
pub struct Target {
    /// What it is called, and the directory of its seeds.
    pub name: &'static str,
    /// Reads, and uses what was read.
    pub read: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "task_file", read: task_file },
    Target { name: "python_literal", read: |bytes| text(bytes, |text| drop(python_literal::read(text, 1, 1))) },
    Target { name: "order", read: order },
    Target { name: "codo_body", read: |bytes| drop(read_codo(bytes, &LIBRARY)) },
    Target { name: "codo_template", read: |bytes| drop(import(bytes, Some(bytes), &Naming::default())) },
    Target { name: "selector", read: |bytes| text(bytes, |text| drop(select(&LIBRARY.inventory, text))) },
    Target { name: "inventory_ini", read: |bytes| text(bytes, |text| inventory("a.ini", text)) },
    Target { name: "inventory_yaml", read: |bytes| text(bytes, |text| inventory("a.yml", text)) },
    Target { name: "inventory_json", read: |bytes| text(bytes, |text| inventory("a.json", text)) },
    Target { name: "inventory_toml", read: |bytes| text(bytes, |text| inventory("a.toml", text)) },
    Target { name: "inventory_script", read: inventory_script },
    Target { name: "known_hosts", read: |bytes| text(bytes, known_hosts) },
    Target { name: "ssh_config", read: |bytes| text(bytes, openssh_config) },
    Target { name: "key_file", read: key_file },
    Target { name: "ssh_reports", read: ssh_reports },
    Target { name: "runner_answer", read: runner_answer },
    Target { name: "engine_reports", read: engine_reports },
    Target { name: "host_text", read: host_text },
    Target { name: "masked_output", read: masked_output },
    Target { name: "output_marks", read: |bytes| text(bytes, |text| drop(output_log::read_marks(text))) },
    Target { name: "journal", read: journal },
    Target { name: "history", read: history },
    Target { name: "audit", read: audit },
    Target { name: "http_query", read: |bytes| text(bytes, http_query) },
    Target { name: "template", read: |bytes| text(bytes, template) },
    Target { name: "policy", read: |bytes| text(bytes, |text| drop(Policy::parse("p", text, &Zone::utc()))) },
    Target { name: "hooks", read: |bytes| text(bytes, |text| drop(Hooks::parse("h", text))) },
    Target { name: "tokens", read: |bytes| text(bytes, |text| drop(Tokens::parse("t", text, &Zone::utc()))) },
    Target { name: "times", read: |bytes| text(bytes, times) },
    Target { name: "proc", read: |bytes| text(bytes, proc_texts) },
    Target { name: "terminal", read: terminal },
];

fn text(bytes: &[u8], read: impl FnOnce(&str)) {
    read(&String::from_utf8_lossy(bytes));
}

/// A library as small as one can be in which everything is found.
static LIBRARY: LazyLock<Library> = LazyLock::new(|| {
    let hosts: String = (0..40).map(|n| format!("web{n} ansible_host=10.0.0.{n} env=prod\n")).collect();
    let hosts = format!("[web]\n{hosts}[data]\ndb1 ansible_connection=local\n[all:vars]\nZDOPS_APP=shop\n");
    let template = "id = 7\nname = \"deploy\"\ntitle = \"Deploy\"\nother_params = true\n[[param]]\nname = \"TAG\"\n\
                    pattern = \"v[0-9.]+\"\ndefault = \"v1\"\n[[param]]\nname = \"COUNT\"\ntype = \"int\"\ndefault = \"1\"\n\
                    [[step]]\nname = \"one\"\nscript = \"echo {TAG}\"\nargs = [\"{TAG}\"]\nwhen = \"COUNT > 0\"\n\
                    [[step]]\nname = \"two\"\nscript = \"true\"\ngroup = 2\n";
    let template = Template::parse("deploy.toml", template, &BTreeMap::new()).ok();
    Library {
        catalogue: Catalogue::assemble(template.into_iter().collect()).unwrap_or_default(),
        inventory: Inventory::assemble(vec![("a.ini".to_owned(), hosts)]).unwrap_or_default(),
        known_hosts: KnownHosts::default(),
        ssh: None,
        policy: Policy::Personal { owner: 0 },
        defaults: Defaults {
            user: "ops".to_owned(),
            key: None,
            key_passphrase: None,
            hosts_per_group: 100,
            hosts_in_flight: 10,
            late_after_ms: 0,
        },
        tags: BTreeMap::new(),
        files: Arc::new(NoFiles),
        zone: Zone::utc(),
        hooks: Hooks::default(),
        shares: Shares::default(),
    }
});

fn task_file(bytes: &[u8]) {
    shown(&read_task(bytes, &LIBRARY.zone).err().map(|error| error.problems).unwrap_or_default());
    let Ok(Wish::Task(task)) = read_wish(bytes, &LIBRARY.zone) else { return };
    let _queries = unasked(&task, &LIBRARY);
    match resolve(&task, &LIBRARY) {
        Ok(plan) => {
            let read: Option<Plan> = serde_json::from_slice(&plan.canonical()).ok();
            assert!(read.as_ref() == Some(&plan), "a plan is read as it was written");
            let _warnings = (plan.warnings(), differences(&plan, &plan), script_changes(&plan, &plan));
        }
        Err(problems) => shown(&problems),
    }
}

fn shown(problems: &[Problem]) {
    let length: usize = problems.iter().map(|problem| problem.to_string().len()).sum();
    assert!(length < 1 << 20, "{length} bytes of problems");
}

fn order(bytes: &[u8]) {
    match read_order(bytes, &LIBRARY.zone) {
        Ok(order) => assert!(read_order(&order.write(), &LIBRARY.zone).is_ok_and(|again| again == order), "{order:?}"),
        Err(error) => shown(&error.problems),
    }
}

fn inventory(file: &str, text: &str) {
    match Inventory::assemble(vec![(file.to_owned(), text.to_owned())]) {
        Ok(inventory) => inventory.hosts.values().take(100).for_each(|host| drop(inventory.facts(host))),
        Err(problems) => shown(&problems),
    }
}

fn inventory_script(bytes: &[u8]) {
    let (list, host) = bytes.split_at(bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len()));
    let (list, host) = (String::from_utf8_lossy(list).into_owned(), String::from_utf8_lossy(host).into_owned());
    let asked = hosts_to_ask(&list).into_iter().take(10).map(|name| (name.to_string(), host.clone()));
    let script = Script { file: "hosts.py".to_owned(), hosts: asked.collect(), list };
    shown(&Inventory::build(Parts { scripts: vec![script], ..Parts::default() }).err().unwrap_or_default());
}

fn known_hosts(text: &str) {
    let known = KnownHosts::parse(text);
    let (_here, _there) = (known.keys_for("10.0.0.1", 22), known.keys_for("web.example", 2222));
    let _notes = known.notes().iter().map(ToString::to_string).collect::<Vec<_>>();
}

fn openssh_config(text: &str) {
    let query = Query { name: "web1".to_owned(), address: None, port: None, user: None };
    let _answer = ssh_config::read(text, &query, &Source::default());
}

fn key_file(bytes: &[u8]) {
    if let Ok(text) = ssh::key_file::text_of(bytes.to_vec()) {
        let _judged = ssh::key_file::judge(Path::new("/nowhere/id_ed25519"), &text);
    }
}

fn ssh_reports(bytes: &[u8]) {
    let _count = ssh::read_reports(bytes);
}

/// The first byte says how the rest is cut into pieces.
fn pieces(bytes: &[u8]) -> (usize, &[u8]) {
    let (first, rest) = bytes.split_first().unwrap_or((&1, &[]));
    (usize::from(*first).max(1), rest)
}

fn runner_answer(bytes: &[u8]) {
    let (size, rest) = pieces(bytes);
    let Some(id) = &*RUNNER_ID else { return };
    let mut answer = Answer::new("ab12", id, Offsets { out: 1, err: 3 });
    let mut passed = 0_usize;
    for piece in rest.chunks(size) {
        answer.take(Stream::Out, piece, |_, bytes| passed = passed.saturating_add(bytes.len()));
    }
    answer.finish();
    assert!(passed <= rest.len(), "{passed} bytes of {}", rest.len());
    let _noise = answer.noise();
    if let Some((_, out, err)) = answer.ended {
        let facts = output_log::nothing_kept(out, err);
        assert!(facts.dropped_bytes >= facts.out_bytes && facts.dropped_bytes >= facts.err_bytes, "{facts:?}");
        let ago = i64::try_from(answer.ended_ms_ago.get()).unwrap_or(i64::MAX);
        let _ended = Timestamp(0_i64.saturating_sub(ago)).to_string();
    }
}

static RUNNER_ID: LazyLock<Option<RunnerId>> = LazyLock::new(|| {
    let digest = Digest::of(b"");
    let step = PlannedStep::plain("x".parse().ok()?, digest);
    Some(RunnerId::new(&digest, TaskId(7), GroupNo(1), &"web1".parse().ok()?, &step, 1))
});

fn engine_reports(bytes: &[u8]) {
    let (size, rest) = pieces(bytes);
    let targets: Vec<HostName> = ["web1", "db1"].iter().filter_map(|name| name.parse().ok()).collect();
    for engine in [Delegate::Ansible, Delegate::Salt] {
        let mut reports = Reports::new(engine, size % 2 == 0);
        let said =
            rest.chunks(size).flat_map(|piece| reports.take(piece)).map(|report| (report.target.clone(), report));
        let _progress = progress(&said.collect(), targets.len());
        let _last = (last_words(engine, rest, &targets), not_done(engine, rest, &targets));
    }
}

/// What a host printed, as screens show it.
fn host_text(bytes: &[u8]) {
    let whole = String::from_utf8_lossy(bytes);
    let (one, lines) = (visible(&whole), visible_lines(&whole));
    let hidden = |c: char| c.is_control() && c != '\n' && c != '\t';
    assert!(!one.contains(|c: char| c.is_control()) && !lines.contains(hidden), "{one:?} {lines:?}");
    for line in bytes.split(|byte| *byte == b'\n') {
        let pieces = coloured(line).pieces;
        assert!(pieces.iter().all(|(text, _)| !text.contains(char::is_control)), "{pieces:?}");
    }
}

fn masked_output(bytes: &[u8]) {
    static MASKER: LazyLock<Masker> = LazyLock::new(|| {
        let secrets = ["hunter2hunter2", "ababababab\nab", "密码密码密码"].map(|text| Secret::new(text.to_owned()));
        Masker::new(&secrets)
    });
    let (size, rest) = pieces(bytes);
    let (mut masked, mut shown) = (Masked::default(), Vec::new());
    for piece in rest.chunks(size) {
        masked.push(&MASKER, piece, |bytes| shown.extend_from_slice(bytes));
    }
    masked.finish(|bytes| shown.extend_from_slice(bytes));
    assert!(!String::from_utf8_lossy(&shown).contains("hunter2hunter2"), "it is shown");
}

/// A plan in the first line, and the events of a task.
fn journal(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let Some(plan) = lines.next().and_then(|line| serde_json::from_slice::<Plan>(line).ok()) else { return };
    let events: Vec<Recorded> = lines.filter_map(|line| serde_json::from_slice(line).ok()).collect();
    let _details: Vec<_> = events.iter().map(|recorded| (recorded.event.word(), recorded.event.detail())).collect();
    let Ok(run) = Run::fold(TaskId(7), Arc::new(plan), &events) else { return };
    let _view = (view_file(&run), run.state(), run.begins_at(), run.timed_at(), run.approvals_missing());
    for lane in &run.lanes {
        let _steps: Vec<_> = step_records(&run, lane).collect();
    }
    if let Some(record) = record(&run) {
        let _line = HistoryLine::of(&run, &record).words();
    }
}

fn history(bytes: &[u8]) {
    let lines = bytes.split(|byte| *byte == b'\n');
    for line in lines.filter_map(|line| serde_json::from_slice::<HistoryLine>(line).ok()) {
        let _words = (line.words(), line.hosts_ended());
    }
}

fn audit(bytes: &[u8]) {
    let mut head = Head::default();
    for line in bytes.split(|byte| *byte == b'\n') {
        let _follows = (head.follow(line, Digest::of(line)), about_journal(line));
        head = std::str::from_utf8(line).ok().and_then(|text| text.parse().ok()).unwrap_or(head);
        let _line = head.clone().write(Entry::of_daemon(Timestamp(0), "started", None));
    }
    text(bytes, |text| drop(text.parse::<LastEnd>()));
}

fn http_query(query: &str) {
    let key = CallbackKey([7; 32]);
    for (name, value) in http::pairs(query) {
        let _read = (key.open(&value), Count::read(&value), visible(&name));
    }
}

fn template(text: &str) {
    let Ok(template) = Template::parse("t.toml", text, &BTreeMap::new()) else { return };
    let values = template.params.iter().map(|param| (param.name.clone(), "1".to_owned())).collect();
    let _bound = (template.bind(&values), template.bind(&BTreeMap::new()));
}

fn times(text: &str) {
    for zone in ["UTC", "Europe/Berlin", "Asia/Shanghai"].iter().filter_map(|name| Zone::named(name).ok()) {
        for line in text.lines() {
            let Ok(time) = parse_time(line, &zone) else { continue };
            let _shown = (time.to_string(), time.in_zone(&zone), time.plus_ms(i64::MAX));
        }
    }
    let mut lines = text.lines().filter_map(|line| line.parse::<WeekTime>().ok());
    if let (Some(from), Some(to)) = (lines.next(), lines.next()) {
        let _span = WeekSpan { from, to }.at(Timestamp(0), &Zone::utc());
    }
}

fn proc_texts(text: &str) {
    let _read = (spool::lock::is_alive(text), spool::writers::inode_of(text));
}

fn terminal(bytes: &[u8]) {
    let (size, rest) = pieces(bytes);
    let mut input = Input::default();
    for piece in rest.chunks(size) {
        let _arrived = input.feed(piece);
        if size % 3 == 0 && input.patience().is_some() {
            let _gone = input.give_up();
        }
    }
}

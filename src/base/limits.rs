//! Every bound in the program, each with its reason.
//!
//! **Invariant:** constants only.

/// The largest task or order file that is read, in bytes. Seeds are under 1 kB; the longest script fits, with an escape for each
/// of its bytes.
pub const DROPPED_FILE_BYTES_MAX: u64 = 4 << 20;
/// How deep JSON and Python literals may nest. Task files nest three deep.
pub const NESTING_MAX: usize = 32;
/// How many values one task file may hold; bounds memory for adversarial input.
pub const VALUES_MAX: usize = 100_000;
/// The longest string in a task file, and the longest script, in bytes: installers that bring an archive along are that long.
/// Whatever is longer is a file to copy.
pub const STRING_BYTES_MAX: usize = 1 << 20;
/// The longest title, note or name a person wrote, in bytes. CODO's column held 50 characters; titles in Chinese need more.
pub const TITLE_BYTES_MAX: usize = 400;
/// The longest identifier other than a host name, in bytes.
pub const NAME_BYTES_MAX: usize = 100;
/// The longest host name, in bytes (RFC 1035).
pub const HOST_NAME_BYTES_MAX: usize = 253;
/// How many hosts one group may hold unless configured otherwise (CODO's limit).
pub const HOSTS_PER_GROUP: usize = 100;
/// How many groups a task may name; CODO's screens showed five.
pub const GROUPS_MAX: usize = 100;
/// How many hosts the groups of one task may hold together, unless one group may hold more: each is a lane that is followed.
pub const HOSTS_PER_TASK: usize = 20_000;
/// How many words the selectors of one task may hold that are no names of hosts: each may cost a look at every host.
pub const SELECTOR_WORDS_MAX: usize = 200;
/// How many hosts may be in flight over all tasks unless configured otherwise.
pub const HOSTS_IN_FLIGHT: usize = 100;
/// How many tasks of one person may wait unless configured otherwise: more than anybody reads before they approve them.
pub const WAITING_TASKS: usize = 1000;
/// How many bytes those may have together with their plans unless configured otherwise; they stand on the disk two or three times.
pub const WAITING_BYTES: u64 = 256 << 20;
/// How many files of one person are taken in a minute unless configured otherwise, and how many orders.
pub const FILES_PER_MINUTE: u32 = 1000;
/// The longest file name that may be dropped, in bytes, with its `.json`.
pub const DROP_NAME_BYTES_MAX: usize = 105;
/// The longest a step may run unless its template says otherwise, in seconds (CODO's fixed limit).
pub const STEP_TIMEOUT_S: u64 = 1800;
/// The longest text that a template of a file may become, in bytes; it stands in the plan.
pub const RENDERED_BYTES_MAX: usize = 1 << 20;
/// How many bytes all texts of one plan may have that templates of files became.
pub const RENDERED_BYTES_PER_PLAN: usize = 16 << 20;
/// How many files one step may put on a host.
pub const FILES_PER_STEP: usize = 1000;
/// How many bytes a step may fetch from a host unless its template says otherwise.
pub const FETCH_BYTES: u64 = 1 << 30;
/// How long a connection may take from the first SYN to the end of authentication, in seconds.
pub const CONNECT_TIMEOUT_S: u64 = 10;
/// How long a host may say nothing before the first word of the runner, in seconds, while it takes nothing of what is sent either.
pub const FIRST_WORD_S: u64 = 30;
/// The longest limit of a connection that a configuration may set, in seconds.
pub const SSH_LIMIT_S_MAX: u64 = 24 * 3600;
/// How long a host may be at work on an answer about files (it may compare large ones), in seconds.
pub const ANSWER_S: u64 = 600;
/// How long a step may take to die after TERM before KILL is sent, in seconds.
pub const KILL_GRACE_S: u64 = 10;
/// How long after its time a task counts as late that could not start, in seconds, unless configured otherwise.
pub const LATE_AFTER_S: u32 = 300;
/// The longest time that a task or a template may write, in seconds: a year. Hosts reckon with it in their shells.
pub const SECONDS_MAX: u64 = 366 * 24 * 3600;
/// How often a step may be started again; whoever needs more has another problem.
pub const RETRIES_MAX: u32 = 100;
/// How long a host is asked whether a step that was to be ended is gone, in seconds; then it stays unconfirmed.
pub const KILL_CONFIRM_S: u64 = 3600;
/// How long a host that has a running step may stay out of reach before the step counts as lost, in seconds.
pub const REATTACH_S: u64 = 24 * 3600;
/// How often an idle connection is asked whether it still lives, in seconds.
pub const KEEPALIVE_S: u64 = 15;
/// How many bytes are kept of the beginning of each stream of a step on one host.
pub const OUTPUT_HEAD_BYTES: u64 = 15 << 20;
/// How many bytes are kept of its end when there are more; what lies between is counted and dropped.
pub const OUTPUT_TAIL_BYTES: u64 = 1 << 20;
/// How many problems are listed for one file; a file with more is hopeless anyway.
pub const PROBLEMS_MAX: usize = 100;
/// How much of a problem's pointer is kept, in characters; the names in it are the writer's and may be endless.
pub const POINTER_CHARS_MAX: usize = 200;
/// How much is quoted of what was found, in characters: what fits on a line.
pub const FOUND_CHARS_MAX: usize = 80;
/// How often the spool is read from scratch whatever the watcher says, in seconds.
pub const RESCAN_S: u64 = 30;
/// How long an inventory script may take unless configured otherwise, in seconds; the daemon waits for it.
pub const SCRIPT_TIMEOUT_S: u64 = 10;
/// How long its answer is good unless configured otherwise, in seconds (that of ZDOPS's `hosts.py`).
pub const SCRIPT_CACHE_S: u64 = 60;
/// How much it may print, in bytes: 10,000 hosts with a hundred variables each.
pub const SCRIPT_OUTPUT_BYTES_MAX: u64 = 16 << 20;
/// How long one `ssh -G` may take, in seconds; it looks names up where `CanonicalizeHostname` says so.
pub const SSH_CONFIG_TIMEOUT_S: u64 = 10;
/// How long all hosts of a task may take that are asked about at once, in seconds; what was answered is kept.
pub const SSH_CONFIG_ALL_TIMEOUT_S: u64 = 60;
/// How long answers are good that commands in `ssh_config` had a part in, in seconds.
pub const SSH_CONFIG_CACHE_S: u64 = 60;
/// How many HTTP connections there may be at once unless configured otherwise: enough for clients, little memory.
pub const CONNECTIONS: usize = 512;
/// How many of them from one address.
pub const CONNECTIONS_PER_PEER: usize = 128;
/// The most that can be configured; each is an open file.
pub const CONNECTIONS_MAX: usize = 10_000;
/// How long the head of an HTTP request may take, in seconds.
pub const HTTP_HEAD_S: u64 = 5;
/// How many bytes the body of an HTTP request has at most: it is held before anybody knows who sends it. A longer task is dropped
/// as a file.
pub const HTTP_BODY_BYTES_MAX: u64 = 1 << 20;
/// How long its body may take, and how long a client may leave an answer unread, in seconds.
pub const HTTP_BODY_S: u64 = 10;
/// How many bytes of a step's output one HTTP answer holds at most.
pub const HTTP_OUTPUT_BYTES_MAX: u64 = 1 << 20;
/// How long a one-time key is good, in seconds (CODO's).
pub const CSRF_S: i64 = 1800;
/// How many one-time keys of one token are good at once; the oldest goes first.
pub const CSRF_KEYS_MAX: usize = 1000;

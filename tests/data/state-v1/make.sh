#!/bin/bash
# Makes the state beside this file with an older spoolgate; see README. Usage, as root: make.sh PATH-OF-THE-OLD-BINARY
set -euo pipefail
binary=$(realpath "$1")
here=$(dirname "$(realpath "$0")")
base=/srv/spoolgate-v1
daemon='' sshd=''
trap 'kill $daemon $sshd 2>/dev/null || true' EXIT
alice=61001 bob=61002 eve=61003
fake=/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1

rm -rf "$base" /tmp/spoolgate-v1
mkdir -p "$base"/{home,far,aside} /run/sshd
cp -r "$here/etc" "$base/etc"
rm -f "$base"/etc/{tokens.toml,known_hosts}
mv "$base/etc/policy.toml" "$base/aside/policy.toml"
chmod 700 "$base/etc/secrets"
chmod 600 "$base"/etc/secrets/*

# --- The clock: everybody's runs so many seconds behind. ---------------------------------------------------------------
clock() {
	offset=$(($(date -d "$1" +%s) - $(date +%s)))
}
# The time in so many seconds, as task files have it.
at() {
	date -u -d "@$(($(date +%s) + offset + $1))" +%Y-%m-%dT%H:%M:%SZ
}
# Sets the variables that make it so, for a clock that runs so many times as fast if that is said.
fake_words() {
	words=(LD_PRELOAD="$fake" NO_FAKE_STAT=1)
	if [ "${1-}" ]; then
		words+=(FAKETIME="$(printf %+d "$offset")s x$1")
	else
		words+=(FAKETIME="$(printf %+d "$offset")s" FAKETIME_DONT_FAKE_MONOTONIC=1)
	fi
}
as() {
	local who=$1
	shift
	fake_words
	setpriv --reuid="$who" --regid=100 --clear-groups env "${words[@]}" HOME="$base/home" LC_ALL=C.UTF-8 \
		"$binary" --config "$base/etc" --state "$base/state" "$@"
}
sg() {
	as 0 "$@"
}

# --- The daemon, and a host that is reached by SSH. --------------------------------------------------------------------
start() {
	: >"$base/aside/log"
	fake_words "${1-}"
	env -i "${words[@]}" HOME="$base/home" PATH="$PATH" LC_ALL=C.UTF-8 USER=root LOGNAME=root SHELL=/bin/sh \
		"$binary" --config "$base/etc" --state "$base/state" daemon 2>>"$base/aside/log" &
	daemon=$!
	until grep -q ' ready pid=' "$base/aside/log"; do
		kill -0 $daemon 2>/dev/null || { cat "$base/aside/log" >&2 && exit 1; }
		sleep 0.1
	done
}
stop() {
	kill "-${1:-TERM}" "$daemon"
	wait "$daemon" || true
	daemon=
}
host_on() {
	/usr/sbin/sshd -D -e -f "$base/aside/sshd_config" 2>>"$base/aside/sshd.log" &
	sshd=$!
	until (echo >/dev/tcp/127.0.0.1/922) 2>/dev/null; do sleep 0.1; done
}
# Its connections are processes of their own.
host_off() {
	local children
	children=$(ps -o pid= --ppid "$sshd")
	kill "$sshd" ${children:+$children}
	wait "$sshd" || true
	sshd=
}
ssh-keygen -q -t ed25519 -N '' -f "$base/aside/host"
ssh-keygen -q -t ed25519 -N '' -f "$base/id_ed25519"
cp "$base/id_ed25519.pub" "$base/aside/authorized_keys"
cut -d' ' -f1,2 "$base/aside/host.pub" | sed 's/^/[127.0.0.1]:922,[127.0.0.1]:923 /' >"$base/etc/known_hosts"
cat >"$base/aside/sshd_config" <<END
Port 922
ListenAddress 127.0.0.1
HostKey $base/aside/host
PidFile none
AuthorizedKeysFile $base/aside/authorized_keys
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
SetEnv HOME=$base/far
END

# --- What people do. ---------------------------------------------------------------------------------------------------
# task NAME WHO JSON [--ready]: drops a task, which is then known by its name.
task() {
	local name=$1 who=$2 text=$3
	shift 3
	printf '%s' "$text" >"$base/aside/$name.json"
	chmod 644 "$base/aside/$name.json"
	as "$who" --json submit --name "$name" "$@" "$base/aside/$name.json" | jq -c '[.id, .state]' | sed "s/^/$name /"
}
digest() {
	sg --json show "$1" | jq -r .task.digest
}
approve() {
	local name=$1 who=${2-0}
	shift $(($# > 1 ? 2 : 1))
	as "$who" approve "$name" --digest "$(digest "$name")" "$@"
}
# Waits for an end, whatever it is.
ended() {
	for name; do sg wait "$name" --timeout 2m >/dev/null 2>&1 || echo "$name ended with $?"; done
}
# event NAME WORD [HOW-MANY]
event() {
	local id n=0
	id=$(sg --json show "$1" | jq .task.id)
	until [ "$(grep -c "\"event\":\"$2\"" "$base/state/runs/$id/events.jsonl")" -ge "${3-1}" ]; do
		sleep 0.1
		n=$((n + 1))
		[ $n -lt 600 ] || { echo "no $2 in $1" >&2 && exit 1; }
	done
}
# Ends what a task's only step runs on a host, and lets the host forget it. host_forgets HOME NAME
host_forgets() {
	local id file
	id=$(sg --json show "$2" | jq .task.id)
	for file in "$base/$1/.spoolgate/$id-"*.state; do
		kill -KILL "-$(sed -n 's/^session \([0-9]*\) .*/\1/p' "$file")" "$(sed -n 's/^run \([0-9]*\) .*/\1/p' "$file")"
	done
	rm "$base/$1/.spoolgate/$id-"*
}
fails() {
	! "$@" || { echo "worked: $*" >&2 && exit 1; }
}

# --- January: personal mode. -------------------------------------------------------------------------------------------
clock '2024-01-05 02:00:00 UTC'
# Two configurations that are gone when the month is over.
sed 's/third/first/' -i "$base/etc/templates/moving.toml"
cat >"$base/etc/templates/gone.toml" <<'END'
id = 99
name = "gone"
title = "is taken away after its approval"
[[step]]
name = "run"
script = "true"
END
cat >>"$base/etc/spoolgate.toml" <<'END'
[http]
listen = ["127.0.0.1:8922"]
END
start
host_on

# As CODO writes them, and as open-devops does.
task codo 0 '{"task_name": "发布", "temp_id": "1", "schedule": "new", "exec_time": "2019-5-24 09:09:50",
 "args": "{'"'VERSION'"':'"'eeee'"'}", "hosts": "{1: '"'h1'"'}", "submitter": "yanghongfei", "associated_user": "{1: ['"'lisi'"']}"}'
task open-devops 0 '{"title": "od", "account": "root", "timeout": 60, "hosts": "[\"h1\", \"h2\"]", "script": "echo $1", "args": "a b", "creator": "wang"}'
approve codo
approve open-devops
# In batches with a gate; the last batch is cancelled.
task batches 0 '{"task_name": "in batches", "script": "echo batch $SPOOLGATE_BATCH", "hosts": {"1": ["h1", "h2", "h3", "h4"]}, "batches": ["1", "2", "1"], "batch_gate": true}'
approve batches
event batches batch_waits 1
sg continue batches --reason "the first one is well"
event batches batch_waits 2
sg cancel batches --batch 3 --reason "h4 is being repaired"
task percent 0 '{"task_name": "shares", "script": "true", "hosts": {"1": "tag:web"}, "batches": ["50%", "50%"], "batch_interval": 1}' --ready
task stopped-hosts 0 '{"task_name": "one host is stopped", "script": "sleep 20", "hosts": {"1": ["h5", "h6"]}, "timeout": 3}' --ready
event stopped-hosts step_started 2
sg cancel stopped-hosts --host h5 --reason "not this one"
task one-of-two 0 '{"task_name": "one host was stopped, one is well", "script": "sleep 4", "hosts": {"1": ["h3", "h4"]}}' --ready
event one-of-two step_started 2
sg cancel one-of-two --host h3 --reason "not this one"
ended codo open-devops batches percent stopped-hosts one-of-two

# Failures of every kind.
task flaky 0 '{"task_name": "flaky", "temp_id": "flaky", "hosts": {"1": ["h1"]}}' --ready
task rolled-back 0 '{"task_name": "back", "temp_id": "way-back", "hosts": {"1": ["h2"]}}' --ready
task rollback-failed 0 '{"task_name": "not back", "temp_id": "way-back", "args": {"UNDO": "false"}, "hosts": {"1": ["h3"]}}' --ready
task timed-out 0 '{"task_name": "slow", "script": "sleep 60", "timeout": 1, "hosts": {"1": ["h4"]}}' --ready
task silent 0 '{"task_name": "silent", "temp_id": "silent", "hosts": {"1": ["h5"]}}' --ready
task signalled 0 '{"task_name": "signal", "script": "kill -KILL $$", "hosts": {"1": ["h6"]}}' --ready
task unreachable 0 '{"task_name": "nobody there", "script": "true", "hosts": {"1": ["away"]}}' --ready
ended flaky rolled-back rollback-failed timed-out silent signalled
task max-fail 0 '{"task_name": "stops after a failure", "script": "exit 9", "hosts": {"1": ["h1", "h2", "h3"]}, "batches": ["1", "1", "1"], "max_fail": 0}' --ready
task stops 0 '{"task_name": "stops", "temp_id": "stops", "hosts": {"1": ["h4"]}}' --ready
task goes-on 0 '{"task_name": "goes on", "temp_id": "goes-on", "hosts": {"1": ["h5"]}}' --ready
ended unreachable max-fail stops goes-on
sg retry stops --reason "once more"
event stops closed 2

# Cancelled, lost, and not known to be dead.
task cancelled 0 '{"task_name": "cancelled", "script": "echo begun; sleep 60", "hosts": {"1": ["h1"]}}' --ready
event cancelled step_started
sg cancel cancelled --reason "wrong day"
ended cancelled
task far 0 '{"task_name": "by SSH", "script": "echo here; echo there >&2", "hosts": {"1": ["far"]}}' --ready
ended far
task unconfirmed 0 '{"task_name": "its host goes away", "script": "echo begun; sleep 6", "hosts": {"1": ["far"]}}' --ready
event unconfirmed step_started
sleep 1
host_off
event unconfirmed host_unreachable
stop KILL
# An hour in some seconds: so long a host is asked whether a step is gone.
start 900
sg cancel unconfirmed --reason "takes too long" || true
event unconfirmed closed
stop
offset=$((offset + 7200))
start
task lost 0 '{"task_name": "its host is started again", "script": "sleep 1000", "hosts": {"1": ["h2"]}}' --ready
event lost step_started
sleep 1
stop KILL
host_forgets home lost
offset=$((offset + 20 * 86400))
start
event lost closed

# Files, secrets, people.
task files 0 '{"task_name": "files", "temp_id": "files", "hosts": {"1": ["h1"]}}' --ready
task render 0 '{"task_name": "render", "temp_id": "render", "args": {"PORT": "8080"}, "hosts": {"1": ["h2"]}}' --ready
task by-hand 0 '{"task_name": "by hand", "temp_id": "by-hand", "hosts": {"1": ["h3"]}, "details": "two people at the desk"}' --ready
event by-hand step_ended
sg release by-hand switch --reason "it is time"
task skipped-step 0 '{"task_name": "without its second step", "temp_id": "by-hand", "hosts": {"1": ["h4"]}}' --ready
event skipped-step step_ended
sg skip skipped-step switch --reason "was done yesterday"
task timed 0 '{"task_name": "timed", "temp_id": "timed", "hosts": {"1": ["h5"]}, "exec_time": "'"$(at 4)"'"}' --ready
task held 0 '{"task_name": "held", "script": "true", "hosts": {"1": ["h6"]}}'
sg hold held --reason "wait for me"
approve held
sg release held --reason "go"
task proxy 0 '{"task_name": "for others", "script": "echo $SERVER_HOST $SERVER_IP", "proxy": "h1", "hosts": {"1": ["h2", "h3"]}}' --ready
ended files render by-hand skipped-step timed held proxy
task rejected 0 '{"task_name": "rejected", "script": "true", "hosts": {"1": ["h1"]}}'
sg reject rejected --reason "use the template"
task withdrawn 0 '{"task_name": "withdrawn", "script": "true", "hosts": {"1": ["h1"]}, "exec_time": "'"$(at 3600)"'", "not_after": "'"$(at 8)"'"}'
approve withdrawn
sg withdraw withdrawn --reason "not yet"
task expired 0 '{"task_name": "expired", "script": "true", "hosts": {"1": ["h1"]}, "not_after": "'"$(at 3)"'"}'
ended withdrawn expired
task moving 0 '{"task_name": "moving", "temp_id": "moving", "hosts": {"1": ["h1"]}, "exec_time": "'"$(at 4)"'"}'
approve moving
sed 's/first/second/' -i "$base/etc/templates/moving.toml"
event moving stale
approve moving
task gone 0 '{"task_name": "gone", "temp_id": "gone", "hosts": {"1": ["h1"]}, "exec_time": "'"$(at 4)"'"}'
approve gone
rm "$base/etc/templates/gone.toml"
ended moving gone

# One key, twice the same, once something else.
key='{"task_name": "keyed", "script": "true", "hosts": {"1": ["h1"]}, "idempotency_key": "nightly-7"}'
task keyed 0 "$key" --ready
task keyed-again 0 "$key" --ready
fails task keyed-other 0 "${key/true/false}" --ready
ended keyed
# Over HTTP.
token=$(sg --quiet token create ci --templates hello --ready | tail -1)
sleep 1
curl -sS -H "Authorization: Bearer $token" -H 'Sdk-Method: zQtY4sw7sqYspVLrqV' -d \
	'{"task_name": "posted", "temp_id": "1", "hosts": "{1: '"'h1'"'}", "args": "{'"'VERSION'"':'"'2'"'}", "submitter": "ci", "exec_time": "2019-05-24 09:09:50", "schedule": "ready", "associated_user": ""}' \
	http://127.0.0.1:8922/api/task/v2/task/accept/ && echo
# Refused.
printf '{"task_name": 7, "nonsense": 1' >"$base/state/spool/new/.broken" && mv "$base/state/spool/new/.broken" "$base/state/spool/new/broken.json"
printf '{"task_name": "x", "script": "true", "hosts": {"1": ["nowhere"]}, "colour": "red"}' >"$base/state/spool/new/.unknown" && mv "$base/state/spool/new/.unknown" "$base/state/spool/new/unknown.json"
printf '{"order": "approve", "task": 999, "digest": "sha256:00"}' >"$base/state/spool/orders/.lonely" && mv "$base/state/spool/orders/.lonely" "$base/state/spool/orders/lonely.json"
until [ "$(find "$base/state/spool/bad" -name '*.why' | wc -l)" -ge 4 ]; do sleep 0.1; done
sleep 1
stop

# --- February: a policy. -----------------------------------------------------------------------------------------------
clock '2024-02-20 02:00:00 UTC'
cp "$here/etc/spoolgate.toml" "$base/etc/"
cp "$base/aside/policy.toml" "$base/etc/"
start
task team $alice '{"task_name": "by two people", "temp_id": "hello", "args": {"VERSION": "3"}, "hosts": {"1": ["h1", "h2"]}}'
fails approve team $alice
fails approve team $eve
# The command itself sends no such order.
printf '{"order": "approve", "task": "team", "digest": "sha256:%064d"}' 0 >"$base/state/spool/orders/.other"
chown $bob:100 "$base/state/spool/orders/.other"
mv "$base/state/spool/orders/.other" "$base/state/spool/orders/other.json"
event team order_refused 3
fails as $bob continue team
fails as $bob retry team
approve team $bob --reason "as we said"
task careful $alice '{"task_name": "careful", "temp_id": "careful", "hosts": {"1": ["h1"]}}'
approve careful $bob
approve careful 0
task lapses $alice '{"task_name": "its approval ends", "script": "true", "hosts": {"1": ["h2"]}, "exec_time": "'"$(at 3600)"'"}'
approve lapses $bob --until "$(at 3)"
event lapses lapsed
as $bob reject lapses --reason "too late now"
task thaws $alice '{"task_name": "in a freeze", "temp_id": "frozen", "hosts": {"1": ["h3"]}}'
approve thaws $bob
event thaws frozen
as $alice cancel thaws --reason "next month"
# More approvals are asked for than there were.
task readmitted $alice '{"task_name": "stricter rules", "temp_id": "late-run", "hosts": {"1": ["h4"]}, "exec_time": "'"$(at 20)"'"}'
approve readmitted $bob
sed 's/"careful"/"careful", "late-run"/' -i "$base/etc/policy.toml"
kill -HUP $daemon
event readmitted readmitted
approve readmitted 0
cp "$base/aside/policy.toml" "$base/etc/"
ended team careful lapses thaws readmitted

# What stays as it is when the daemon is killed: in new/ ...
task untouched $alice '{"task_name": "untouched", "temp_id": "hello", "args": {"VERSION": "4"}, "hosts": {"1": ["h1"]}}'
task half-approved $alice '{"task_name": "one approval of two", "temp_id": "careful", "hosts": {"1": ["h2"]}}'
approve half-approved $bob
task new-plan $alice '{"task_name": "another plan than was approved", "temp_id": "moving", "hosts": {"1": ["h3"]}, "exec_time": "'"$(at 86400)"'"}'
approve new-plan $bob
sed 's/second/third/' -i "$base/etc/templates/moving.toml"
kill -HUP $daemon
event new-plan stale
# ... in ready/ ...
for missed in run hold expire; do
	task "late-$missed" $alice '{"task_name": "late", "temp_id": "late-'$missed'", "hosts": {"1": ["h1"]}, "exec_time": "'"$(at 86400)"'"}'
	approve "late-$missed" $bob
done
task in-2099 $alice '{"task_name": "in 2099", "temp_id": "render", "args": {"PORT": "443"}, "hosts": {"1": ["far", "h1"]}, "exec_time": "2099-01-01 00:00:00"}'
approve in-2099 $bob
task held-ready $alice '{"task_name": "held by a person", "script": "echo released", "hosts": {"1": ["h2"]}, "exec_time": "'"$(at 86400)"'"}'
approve held-ready $bob
as $alice hold held-ready --reason "until I am back"
# ... in running/: it waits for a person, ...
task at-gate 0 '{"task_name": "waits at its gate", "script": "echo $SPOOLGATE_BATCH", "hosts": {"1": ["h1", "h2"]}, "batches": ["1", "1"], "batch_gate": true}' --ready
event at-gate batch_waits
task at-hand 0 '{"task_name": "waits for a release", "temp_id": "by-hand", "hosts": {"1": ["h3"]}}' --ready
event at-hand step_ended
# ... its host goes on without a daemon, or forgets it, or is out of reach.
host_on
task ends-alone 0 '{"task_name": "ends while no daemon runs", "temp_id": "one-step", "hosts": {"1": ["h4"]}}' --ready
task goes-on-alone 0 '{"task_name": "has more to do", "temp_id": "two-steps", "hosts": {"1": ["h5"]}}' --ready
task forgotten 0 '{"task_name": "its host forgets it", "script": "sleep 1001", "hosts": {"1": ["h6"]}}' --ready
task out-of-reach 0 '{"task_name": "out of reach", "script": "sleep 1002", "hosts": {"1": ["far"]}}' --ready
for name in ends-alone goes-on-alone forgotten out-of-reach; do event $name step_started; done
sleep 2
host_off
event out-of-reach host_unreachable
sleep 12 # .seen is written every ten seconds
stop KILL
host_forgets home forgotten
host_forgets far out-of-reach
touch "$base/home/go"
id() { sg --json show "$1" | jq .task.id; }
for name in ends-alone goes-on-alone; do
	until grep -q '^exit ' "$base/home/.spoolgate/$(id $name)-"*.state; do sleep 0.1; done
done
rm "$base/home/go"
find "$base/home/.spoolgate" -type f | grep -v "/\($(id ends-alone)\|$(id goes-on-alone)\)-" | xargs rm -f

# --- What the older version says of it. --------------------------------------------------------------------------------
sg audit verify
sg --json ls --done 1000 >"$base/aside/ls.json"
for id in $(jq '.tasks[].id' "$base/aside/ls.json"); do sg --json show "$id"; done | jq -c 'del(.events)' >"$base/aside/show.jsonl"
{
	printf '{"audit_head":%s,\n"ls":[\n' "$(sg --json audit head | jq .head)"
	jq -cS '.tasks[]' "$base/aside/ls.json" | sed '$!s/$/,/'
	printf '],\n"show":[\n'
	jq -cS . "$base/aside/show.jsonl" | sed '$!s/$/,/'
	echo ']}'
} >"$base/aside/expected.json"

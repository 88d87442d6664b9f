# The runner, version 1: starts one step at most once on this host, keeps its output and its end in files, and shows
# them to whoever asks. POSIX sh with setsid(1) and Linux's /proc; dash, bash and busybox ash run it.
#
# shellcheck shell=sh disable=SC2154,SC2031,SC2030,SC3013 # set by what is sent in front; -nt and -ef are in every sh we run in
#
# What is sent in front of this text sets sg_nonce, sg_id, sg_act (run, kill, forget, want, take), sg_account, sg_script, sg_interpreter, sg_head, sg_tail,
# sg_limit, sg_idle, sg_grace, sg_out_at, sg_err_at, sg_clean, sg_audit, sg_begun (the host said
# before that it runs), sg_since (for how many seconds it may have been sent already; nothing when it was not), sg_needs (a program that must be there) and the functions sg_job and sg_files, which hands the
# files that the step puts here to what it is given, by fours: SHA-256, mode, owner, place. Everything happens inside one
# compound command, so a text that was cut off in transit does nothing.
#
# Files of the step, side by side: a directory of its own would cost a process, and each file costs the file system.
#   ID.state   made with O_EXCL: the one gate. What is known of the step, a line each that is only ever appended; of two
#              lines that begin alike the first one holds, and a line without its "end" does not:
#     run PID BOOT STARTTIME | void    the runner that passed the gate; or: never to be run. BOOT is "lost" where this host was
#                                      started after the step was sent and knows nothing of it: it is not started any more
#     audit WORDS                      where the sender's audit ended then
#     session ID STARTTIME             the session that the script runs in; "void 0": it must not begin any more
#     kernel STATUS                    how the script ended, as wait(2) has it: a signal's number, or 256 times the code
#     stop VERDICT                     why its runner began to end it
#     code N MARK                      what the shell that waits for the script made of that
#     scope KIND PATH                  the list of the step's processes that the host's systemd keeps
#     full STREAM                      the disk had no room for some of a stream
#     out TOTAL CUT | err ...          a stream's end; TOTAL is "-" for all that is there
#     exit VERDICT ARGUMENT OUT_TOTAL OUT_CUT ERR_TOTAL ERR_CUT UPTIME   the last in hundredths of seconds
#   ID.PID.script   what runs
#   ID.out, ID.err  the first sg_head bytes         out.tail  the last sg_tail bytes when there were more
#   ID.PID.seen.a, .b  as old as the last look of a runner's at the streams
#   files      a directory: what is to be put in places, by SHA-256, or what was fetched
# A runner of before left "both" instead, a line in the state and a file of a script that ended at once: its standard output, the
# line "spoolgate-err ID", its standard error. Its codes are marked "signal" when its shell said that one ended the script.
#
# Where the script runs as another account (sg_account), the runner, its files and its word about the end stay with the account that was
# logged in to. It starts this program once more as the other account, by sudo and on standard input, with a word behind it that says
# what for (sg_serve). There it keeps files of its own, ID.as.state and ID.as.PID.script, which end the script's processes and nothing
# else: what that account says, or writes into them, can make no failure a success.
#
# Everything that is said goes to standard output, in lines that hold the nonce; what the script printed comes behind a line that
# says which stream's, from which byte on, and how many. Whatever else is there, and on standard error, is somebody's noise.

# Says one line about the step.
sg_say() {
	printf 'spoolgate-%s %s %s\n' "$1" "$sg_nonce" "$2"
}

# Ends with a reason that keeps the step from being run here at all.
sg_refuse() {
	sg_say refused "$1"
	# Who runs the script for another runner ends as the script does: never well.
	[ "$sg_task" != job ] || exit 255
	exit 0
}

# Knows nothing of a step.
sg_blank() {
	sg_part='' sg_of_run='' sg_of_session='' sg_of_kernel='' sg_of_code='' sg_of_full='' sg_of_scope='' sg_of_stop='' sg_of_both='' sg_of_out='' sg_of_err='' sg_of_exit='' sg_released='' sg_was_zero=''
}

# Opens the step's state to be learned from; each process has to for itself. Fails while there is none.
sg_open_state() {
	sg_blank
	# A special builtin that fails would end the shell.
	[ -r "$sg_at.state" ] && exec 9<"$sg_at.state"
}

# Learns what is new in the step's state. Shells read byte by byte: what is known is not read again.
sg_learn() {
	while IFS= read -r sg_line || { sg_part=$sg_part$sg_line && false; }; do
		sg_line=$sg_part$sg_line sg_part=
		case $sg_line in *' end') sg_line=${sg_line% end} ;; *) continue ;; esac
		case $sg_line in
			'run '* | void) : "${sg_of_run:=${sg_line#run }}" ;;
			'session '*) : "${sg_of_session:=${sg_line#* }}" ;;
			'kernel '*) : "${sg_of_kernel:=${sg_line#* }}" ;;
			'code '*) : "${sg_of_code:=${sg_line#* }}" ;;
			'full '*) : "${sg_of_full:=${sg_line#* }}" ;;
			'stop '*) : "${sg_of_stop:=${sg_line#* }}" ;;
			'scope '*) : "${sg_of_scope:=${sg_line#* }}" ;;
			both) sg_of_both=yes ;;
			'out '*) : "${sg_of_out:=${sg_line#* }}" ;;
			'err '*) : "${sg_of_err:=${sg_line#* }}" ;;
			'exit '*) : "${sg_of_exit:=${sg_line#* }}" ;;
		esac
		sg_news=yes
	done <&9
}

# Adds a line to the step's state, behind one that a full disk may have cut off.
sg_note() {
	{ printf '\n%s end\n' "$1" >>"$sg_at.state"; } 2>/dev/null
}

# Sets sg_number, sg_state, sg_parent, sg_session, sg_born and sg_status of a process; fails when there is none.
sg_stat() {
	sg_line=
	{ read -r sg_line <"/proc/$1/stat"; } 2>/dev/null || return 1
	sg_number=${sg_line%% *} sg_line=${sg_line##*) }
	# shellcheck disable=SC2086 # the words are wanted
	set -- $sg_line
	sg_state=$1 sg_parent=$2 sg_session=$4 sg_born=${20} sg_status=${50:-0}
	# What has threads that live has not ended, even when the first of them has.
	case $sg_state in [ZX]) [ "${18}" -le 1 ] || sg_state=R ;; esac
}

# Whether a process that was started then still is one.
sg_is_alive() {
	sg_stat "$1" && [ "$sg_born" = "$2" ] && case $sg_state in [ZX]) false ;; esac
}

# Whether a process is of the runner's own: it has the step's state open.
sg_is_own() {
	[ "/proc/$1/fd/9" -ef /proc/self/fd/9 ]
}

# Sets sg_now: hundredths of a second since this host was started.
sg_clock() {
	read -r sg_now sg_line </proc/uptime
	sg_now=${sg_now%.*}${sg_now#*.}
	# Arithmetic takes a leading zero for another base.
	while :; do
		case $sg_now in 0?*) sg_now=${sg_now#0} ;; *) break ;; esac
	done
}

# Whether more than $2 seconds have passed since $1: both ends were rounded down, so as many hundredths may be one less.
sg_is_over() {
	[ "$((sg_now - $1))" -gt "$(($2 * 100))" ]
}

# Says where the runner's files may be, a directory that only this account can write. The order is always the same, so that a
# later connection finds what an earlier one left.
sg_bases() {
	sg_uid=$(id -u) sg_private=''
	sg_base_1=${HOME:-/nonexistent}/.spoolgate sg_base_2=/var/tmp/.spoolgate-$sg_uid sg_base_3=/tmp/.spoolgate-$sg_uid
}

# Chooses the first directory that there is, or can be made.
sg_find_base() {
	sg_why=
	for sg_base in "$sg_base_1" "$sg_base_2" "$sg_base_3"; do
		if sg_usable; then return 0; fi
	done
	return 1
}

# Chooses the first directory that has room for what runs, where the step's files were brought if they were; says otherwise what
# is wrong with each. Nothing has begun yet, so a disk that is full here is no reason not to run it from elsewhere.
sg_find_room() {
	sg_why=
	for sg_base in "$sg_base_1" "$sg_base_2" "$sg_base_3"; do
		sg_at=$sg_base/$sg_name
		if [ "$sg_brought" ] && [ "$sg_brought" != "$sg_base" ]; then continue; fi
		if ! sg_usable; then continue; fi
		sg_script_at=$sg_at.$$.script
		if { sg_place_script && sg_place_streams; } 2>/dev/null; then return 0; fi
		# A shell's own word may be no more than "I/O error".
		for sg_place in "$sg_script_at" "$sg_at.$$.seen.a" "$sg_at.$$.seen.b" "$sg_at.out" "$sg_at.err"; do
			sg_line=$(printf %s "$sg_script" | LC_ALL=C dd of="$sg_place" 2>&1 >/dev/null) || break
		done
		sg_line=${sg_line%%
*}
		sg_why="$sg_why${sg_why:+, }$sg_base (${sg_line##*: })"
		rm -f "$sg_script_at" "$sg_at.$$".seen.* "$sg_at.out" "$sg_at.err"
	done
	sg_refuse "no room for the runner's files: ${sg_why:-the home, /var/tmp and /tmp belong to others}; make room there, then retry"
}

# Writes down what runs, where this account runs it.
sg_place_script() {
	[ "$sg_as" ] || printf %s "$sg_script" >"$sg_script_at"
}

# Makes the files of the streams, where this account keeps them.
sg_place_streams() {
	[ "$sg_task" ] || { printf '\n' >"$sg_at.$$.seen.a" && true >"$sg_at.$$.seen.b" && true >>"$sg_at.out" && true >>"$sg_at.err"; }
}

# Makes sg_base, or takes it when it is ours alone.
sg_usable() {
	if [ ! -d "$sg_base" ] && mkdir -m 700 "$sg_base" 2>/dev/null; then sg_private="$sg_private $sg_base "; fi
	sg_is_ours "$sg_base" && [ -w "$sg_base" ] && sg_is_private
}

# Whether nobody else can write sg_base: what is in it says what runs and how it ended. It is asked once, since it costs a process.
sg_is_private() {
	case $sg_private in *" $sg_base "*) return 0 ;; esac
	case $(ls -ldn "$sg_base/." 2>/dev/null) in
		d????-??-*) sg_private="$sg_private $sg_base " ;;
		*)
			sg_why="$sg_why${sg_why:+, }$sg_base (others can write it: chmod 700)"
			return 1
			;;
	esac
}

# Whether $1 is a directory of ours and no link. In a directory of everybody the name may be somebody's trap, and change between
# two looks: whoever is inside looks at one directory, and if that has the name, it keeps it, for it is ours.
sg_is_ours() {
	case $1 in
		/var/tmp/.spoolgate-* | /tmp/.spoolgate-*) (CDPATH='' cd -P -- "$1" && [ "$PWD" = "$1" ] && [ -O . ]) >/dev/null 2>&1 ;;
		*) [ -d "$1" ] && [ ! -L "$1" ] && [ -O "$1" ] ;;
	esac
}

# Looks for a step that may have been sent before wherever there may have been room for it then.
sg_recall() {
	if [ -e "$sg_at.state" ]; then return 0; fi
	for sg_line in "$sg_base_1" "$sg_base_2" "$sg_base_3"; do
		if [ -e "$sg_line/$sg_name.state" ] && sg_is_ours "$sg_line"; then
			sg_at=$sg_line/$sg_name
			return 0
		fi
	done
}

# Whether this host was started after the step may have been sent: what it wrote then may be lost.
sg_is_younger() {
	[ "$sg_since" ] || return 1
	sg_clock
	[ "$((sg_now / 100))" -le "$sg_since" ]
}

# Passes the gate; fails when somebody passed it before. With $2 that is the word about a step for which it cannot be passed.
sg_gate() {
	set -C
	# Where a special builtin such as ":" fails, the shell ends.
	{ printf '' >"$sg_at.state"; } 2>/dev/null
	sg_passed=$?
	set +C
	[ "$sg_passed" -eq 0 ] || return 1
	sg_text="$1 end
audit $sg_audit end
"
	sg_passed_as=${1#run }
	# What cannot be written down cannot be run, by nobody else either. It is appended: who waited for it in vain may have said
	# meanwhile that it must not run.
	{ printf %s "$sg_text" >>"$sg_at.state"; } 2>/dev/null || {
		case $1 in "run $$ "*) sg_refuse "cannot write $sg_at.state; is the disk full?" ;; esac
		sg_say end "${2:-never} - 0 0 0 0"
		exit 0
	}
	sg_open_state
}

# Adds the line that says which session the script begins in; fails when somebody wrote first that it must not. While the
# file is as long as it must be, nobody wrote anything.
sg_enter() {
	sg_stat self || return 1
	sg_waits=$sg_parent sg_entered="$sg_number $sg_born"
	sg_line="session $sg_entered"
	sg_place=$((${#sg_text} + ${#sg_line} + 6))
	{ printf '\n%s end\n' "$sg_line" && read -r sg_line sg_size </proc/self/fdinfo/1; } >>"$sg_at.state" || return 1
	[ "$sg_size" != "$sg_place" ] || return 0
	sg_open_state && sg_learn && [ "$sg_of_session" = "$sg_entered" ] && [ "$sg_of_run" = "$sg_passed_as" ]
}

# Stops the shell that waits for this process. While nobody takes its end, the kernel keeps it and shows it: a shell would fold a
# code and a signal into one number.
sg_hold() {
	sg_is_own "$sg_waits" || return 0
	kill -s STOP "$sg_waits"
	sg_naps=0
	while [ "$sg_naps" -lt 9999 ] && sg_stat "$sg_waits" && [ "$sg_state" != T ]; do sg_naps=$((sg_naps + 1)); done
}

# Takes the end of the script from the kernel, if it has ended, and lets go of the shell that waits for it. A status of zero may
# mean that we may not see it (of what runs with other rights): what the waiting shell makes of it decides then, where it can
# write it down.
sg_release() {
	case $sg_of_session in '' | 'void 0') return 0 ;; esac
	if ! sg_stat "${sg_of_session% *}"; then
		# Hidden from us, or gone: whoever waits says how it ended.
		if sg_waits_on && sg_is_own "${sg_waiter% *}"; then kill -s CONT "${sg_waiter% *}"; fi
		return 0
	fi
	[ "$sg_born" = "${sg_of_session#* }" ] && [ "$sg_state" = Z ] || return 0
	sg_released=yes
	if [ "$sg_status" -ne 0 ]; then
		if [ ! "$sg_of_kernel" ]; then
			sg_of_kernel=$sg_status
			sg_note "kernel $sg_status"
		fi
	elif [ -O "/proc/$sg_number" ] && [ -e "/proc/$sg_number/ns/user" ]; then
		sg_was_zero=yes
	fi
	! sg_is_own "$sg_parent" || kill -s CONT "$sg_parent"
}

# Gives the shell that was let go of a moment to say what it made of the script's end.
sg_await_code() {
	sg_naps=0
	while [ "$sg_released" ] && ! sg_is_known && [ "$sg_naps" -lt 25 ]; do
		sg_wait_for_news
		sg_learn
		sg_naps=$((sg_naps + 1))
	done
}

# Whether the script's end is known, now that nobody is left who could write it down.
sg_is_known_after_all() {
	sg_learn
	if ! sg_is_known && [ "$sg_was_zero" ]; then sg_of_kernel=0; fi
	sg_is_known
}

# Makes the pipes of the script's streams without a process: 3 is the end that is written of standard output and 7 the
# one that is read, 4 and 8 are those of standard error. A short here-document is a pipe.
sg_pipes() {
	command exec 7<<- 'END' 8<<- 'END'
		-
	END
		-
	END
	# To some shells it is a file. A pipe with a name waits for writers when it is opened again.
	if [ -p /proc/self/fd/7 ] && [ -p /proc/self/fd/8 ] && [ -w /proc/self/fd/7 ]; then
		exec 3>/proc/self/fd/7 4>/proc/self/fd/8
		read -r sg_line <&7
		read -r sg_line <&8
	else
		mkfifo -m 600 "$sg_at.out.p" "$sg_at.err.p" || return 1
		# Opened both ways a pipe waits for nobody.
		exec 5<>"$sg_at.out.p" 6<>"$sg_at.err.p"
		exec 3>&5 4>&6
		exec 7<"$sg_at.out.p" 8<"$sg_at.err.p"
		exec 3>"$sg_at.out.p" 4>"$sg_at.err.p" 5>&- 6>&-
		rm -f "$sg_at.out.p" "$sg_at.err.p"
	fi
	# The script may open its streams by name, such as /dev/stderr, whoever made them. Only who has them open can.
	[ ! "$sg_as" ] || { chmod 666 /proc/self/fd/3 /proc/self/fd/4 && mkfifo -m 600 "$sg_at.in.p"; }
}

# Opens what the script's starter reads as 6: nothing, or the program for the script's account, which goes through a pipe and is
# in no file.
sg_open_input() {
	if [ ! "$sg_as" ]; then
		exec 6</dev/null
		return 0
	fi
	exec 8<>"$sg_at.in.p"
	# shellcheck disable=SC2094 # it is a pipe
	exec 5>"$sg_at.in.p" 6<"$sg_at.in.p" 8>&-
	rm -f "$sg_at.in.p"
	sg_program >&5 2>/dev/null 3>&- 4>&- 5>&- 6<&- &
	exec 5>&-
}

# Prints what the script's account is to run: this program without the word that marks what this runner says.
sg_program() {
	sg_line="sg_nonce='$sg_nonce'"
	printf '{%s\n#%s' "${sg_p#*"$sg_line"}" "$sg_id.$$"
}

# Has the script's account do something; sets sg_reply to the code that it ends with, or to nothing where that is no answer or takes too
# long: what it says could be anybody's of that account, who could also keep its streams open.
sg_call() {
	sg_reply='' sg_calls=0
	# Who was to answer may have been killed, or bash's "wait" not know any more how it ended. Whatever is asked can be asked again.
	while [ ! "$sg_reply" ] && [ "$sg_calls" -lt 3 ]; do
		sg_calls=$((sg_calls + 1))
		# shellcheck disable=SC2086 # the words are wanted
		{ sg_program 2>/dev/null | $sg_as /bin/sh -c "$sg_loader" "$sg_id.$$" "$@"; } </dev/null >/dev/null 2>&1 3>&- 4>&- &
		sg_caller=$! sg_ticked=$sg_tick sg_tick=0.02
		sg_clock
		sg_called=$sg_now
		while sg_lives "$sg_caller" && ! sg_is_over "$sg_called" "$((sg_grace * 2 + 30))"; do
			sg_nap
			sg_slow_down
			sg_clock
		done
		sg_tick=$sg_ticked
		! sg_lives "$sg_caller" || return 0
		wait "$sg_caller"
		sg_reply=$?
		case $sg_reply in "$sg_gone" | "$sg_stayed" | "$sg_exited" | "$sg_signalled" | "$sg_differs") ;; *) sg_reply='' ;; esac
	done
}

# Reads the streams into files beside whatever else happens.
sg_readers() {
	{ true >>"$sg_at.out" && true >>"$sg_at.err"; } 2>/dev/null
	# shellcheck disable=SC2217 # it reads what it keeps
	{ trap '' HUP && sg_keep out && sg_wake; } <&7 3>&- 4>&- 7<&- 8<&- >/dev/null 2>&1 &
	sg_reader_out=$!
	# shellcheck disable=SC2217 # it reads what it keeps
	{ trap '' HUP && sg_keep err && sg_wake; } <&8 3>&- 4>&- 7<&- 8<&- >/dev/null 2>&1 &
	sg_reader_err=$!
	exec 7<&- 8<&-
}

# Copies standard input to the files of stream $1: the first sg_head bytes, and of the rest the last sg_tail. Every file
# gets exactly its size, however the bytes come. What finds no room is counted.
sg_keep() {
	sg_more=yes sg_unkept=0
	sg_fill "$sg_at.$1" "$sg_head" uncounted
	sg_total=$sg_size sg_cut=0
	if [ "$sg_more" ] && [ "$sg_unkept" -eq 0 ]; then
		true >"$sg_at.$1.old"
		while :; do
			# Where not even this can be made, what is written next is counted.
			true >"$sg_at.$1.new"
			sg_fill "$sg_at.$1.new" "$sg_tail"
			sg_total=$((sg_total + sg_size))
			if [ ! "$sg_more" ] || [ "$sg_unkept" -gt 0 ]; then break; fi
			mv "$sg_at.$1.new" "$sg_at.$1.old"
		done
		cat "$sg_at.$1.old" "$sg_at.$1.new" | tail -c "$sg_tail" >"$sg_at.$1.tail"
		# Of a tail that found no room, as much is missing as is not there.
		sg_cut=$((sg_total - sg_head - $(wc -c <"$sg_at.$1.tail")))
		rm -f "$sg_at.$1.old" "$sg_at.$1.new"
	fi
	if [ "$sg_unkept" -gt 0 ]; then
		sg_total=$((sg_total + sg_unkept)) sg_cut=$((sg_cut + sg_unkept))
		sg_note "full $1"
	fi
	sg_note "$1 $sg_total $sg_cut"
}

# Ends the runner's nap. When the runner is gone its number may be somebody else's, who does not have the state open.
sg_wake() {
	if sg_is_own "$$"; then kill -s USR1 "$$" 2>/dev/null; fi
}

# Appends standard input to file $1 until it holds $2 bytes. Sets sg_size, and sg_more to nothing at the end of input.
# With $3 what came in one piece is not counted, which would cost a process: its size is "-" then.
# When there is no room for more the rest is only counted, in sg_unkept.
sg_fill() {
	sg_size=0
	while [ "$sg_size" -lt "$2" ]; do
		sg_block=$(($2 - sg_size)) sg_count=1
		if [ "$sg_block" -gt 65536 ]; then sg_count=$((sg_block / 65536)) sg_block=65536; fi
		# Its words go through a pipe: they must be read where there is no room.
		sg_records=$(LC_ALL=C dd bs="$sg_block" count="$sg_count" 2>&1 >>"$1") || {
			# One piece was read and found no room, or not all of it; how long it was nobody says.
			sg_more=
			sg_unkept=$(($(wc -c) + 1))
			sg_size=$(($(wc -c <"$1")))
			return 0
		}
		# "A+B records in" is what POSIX promises; GNU's may warn first.
		sg_records=${sg_records%% records in*}
		sg_records=${sg_records##*[!0-9+]}
		# Fewer blocks than wanted: the input is at its end.
		if [ "$((${sg_records%+*} + ${sg_records#*+}))" -lt "$sg_count" ]; then
			sg_more=
			if [ "${3:-}" ] && [ "$((${sg_records%+*} + ${sg_records#*+}))" -le 1 ]; then
				if [ -s "$1" ]; then sg_size=-; fi
				return 0
			fi
		fi
		[ -s "$1" ] && sg_size=$(($(wc -c <"$1")))
		[ "$sg_more" ] || return 0
	done
}

# Says which piece of which stream follows: stream $1, from its byte $2 on, $3 bytes.
sg_announce() {
	sg_say "$1" "$2 $3"
}

# Whether nothing that was printed is on its way into a file: who reads the streams sleeps until there is more.
sg_all_kept() {
	for sg_reader in $sg_reader_out $sg_reader_err; do
		# A stream that has ended has no reader; its number may be somebody else's.
		if ! sg_stat "$sg_reader" || [ "$sg_parent" != "$$" ]; then continue; fi
		sg_line=
		{ read -r sg_line <"/proc/$sg_reader/task/$sg_reader/children"; } 2>/dev/null
		for sg_process in $sg_reader $sg_line; do
			sg_stat "$sg_process" || return 1
			case $sg_state in R | D) return 1 ;; esac
		done
	done
}

# Sets sg_grew when anything was printed since the last look, and sg_out_size and sg_err_size then. The next mark is made before
# anybody looks at the files, so nothing comes between. Times of files may be coarse: some shells compare whole seconds. What is as
# old as the mark is compared by its size.
sg_look_at_streams() {
	sg_grew='' sg_same='' sg_after=a
	[ "$sg_before" != a ] || sg_after=b
	{ true >"$sg_at.$$.seen.$sg_after"; } 2>/dev/null
	for sg_line in out err out.new err.new; do
		if [ "$sg_at.$sg_line" -nt "$sg_at.$$.seen.$sg_before" ]; then
			sg_grew=yes
		elif [ -s "$sg_at.$sg_line" ] && ! [ "$sg_at.$sg_line" -ot "$sg_at.$$.seen.$sg_before" ]; then
			sg_same=yes
		fi
	done
	if [ "$sg_grew" ]; then
		sg_listed=''
	elif [ "$sg_same" ]; then
		# shellcheck disable=SC2012 # the names are ours, and nothing else tells sizes in one process without reading the files
		sg_line=$(LC_ALL=C ls -ln "$sg_at.out" "$sg_at.err" "$sg_at.out.new" "$sg_at.err.new" 2>/dev/null)
		[ "$sg_line" = "$sg_listed" ] || sg_grew=yes
		sg_listed=$sg_line
	else
		return 0
	fi
	sg_before=$sg_after
	[ "$sg_grew" ] || return 0
	sg_out_size=$(($(wc -c <"$sg_at.out"))) sg_err_size=$(($(wc -c <"$sg_at.err")))
}

# Shows what is new of the streams, without ever waiting for whoever reads. One process shows at a time: both streams go the
# same way.
sg_show() {
	sg_look_at_streams
	sg_out_new=$((sg_out_size - sg_out_from)) sg_err_new=$((sg_err_size - sg_err_from))
	if [ "$sg_out_new" -le 0 ] && [ "$sg_err_new" -le 0 ]; then return 0; fi
	! sg_lives "$sg_shower" || return 0
	# A piece that was announced comes whole, so nothing is announced for which there may be no memory.
	if [ "$sg_out_new" -gt 4194304 ]; then sg_out_new=4194304; fi
	if [ "$sg_err_new" -gt 4194304 ]; then sg_err_new=4194304; fi
	{
		[ "$sg_out_new" -le 0 ] || { sg_announce out "$sg_out_from" "$sg_out_new" && sg_copy "$sg_out_new" <&5; }
		[ "$sg_err_new" -le 0 ] || { sg_announce err "$sg_err_from" "$sg_err_new" && sg_copy "$sg_err_new" <&6; }
	} 2>/dev/null &
	sg_shower=$!
	[ "$sg_out_new" -le 0 ] || sg_out_from=$((sg_out_from + sg_out_new))
	[ "$sg_err_new" -le 0 ] || sg_err_from=$((sg_err_from + sg_err_new))
}

# Copies so many bytes of standard input, a file, which goes on where they end.
sg_copy() {
	LC_ALL=C dd bs="$1" count=1 2>/dev/null
}

# Whether a child of this shell still runs.
sg_lives() {
	[ "$1" ] && kill -0 "$1" 2>/dev/null
}

# Opens the streams where the reader wants to go on.
sg_open() {
	sg_shower='' sg_before=b sg_listed='' sg_out_size=0 sg_err_size=0
	# Where they could not be made there is nothing to show.
	{ [ -r "$sg_at.out" ] && [ -r "$sg_at.err" ]; } || return 0
	sg_shown=yes
	exec 5<"$sg_at.out" 6<"$sg_at.err"
	sg_out_from=$sg_out_at sg_err_from=$sg_err_at
	# The tail is another file.
	if [ "$sg_out_from" -gt "$sg_head" ]; then sg_out_from=$sg_head; fi
	if [ "$sg_err_from" -gt "$sg_head" ]; then sg_err_from=$sg_head; fi
	[ "$sg_out_from" -eq 0 ] || sg_copy "$sg_out_from" <&5 >/dev/null
	[ "$sg_err_from" -eq 0 ] || sg_copy "$sg_err_from" <&6 >/dev/null
}

# Shows the rest of the streams and how the step ended.
sg_finish() {
	[ "$sg_said" ] || sg_begin
	if [ "$sg_of_both" ]; then
		sg_announce both 0 "$(($(wc -c <"$sg_at.both")))"
		cat "$sg_at.both"
	elif [ "$sg_shown" ]; then
		# A signal ends a wait early.
		while sg_lives "$sg_shower"; do wait "$sg_shower"; done
		[ ! -s "$sg_at.out" ] || sg_rest out "$sg_out_from" 5 "${sg_of_out%%[0-9]*}"
		[ ! -s "$sg_at.err" ] || sg_rest err "$sg_err_from" 6 "${sg_of_err%%[0-9]*}"
		[ ! -s "$sg_at.out.tail" ] || sg_tail_of out "$sg_out_at"
		[ ! -s "$sg_at.err.tail" ] || sg_tail_of err "$sg_err_at"
	fi
	[ ! "$sg_shown" ] || exec 5<&- 6<&-
	sg_end "${sg_of_exit:-$sg_last}"
}

# Says how the step ended, by the line $1 of the state, and how long ago.
sg_end() {
	[ ! "$sg_of_full" ] || sg_say full "${sg_at%/*}"
	# shellcheck disable=SC2086 # the words are wanted
	set -- $1
	# What lived on then may be gone by now, or can be ended now.
	if [ "$2" = left ] && [ ! "$sg_left" ]; then
		# Nothing outlives a restart of the host.
		case $sg_of_run in *" $sg_boot "*) sg_end_session ;; esac
		[ "$sg_left" ] || set -- "$1" - "$3" "$4" "$5" "$6" "${7:-}"
	fi
	sg_clock
	sg_line=$((sg_now - ${7:-sg_now}))
	# This host may have been started since.
	if [ "$sg_line" -lt 0 ]; then sg_line=0; fi
	sg_say proved "$sg_proof"
	sg_say end "$1 $2 $3 $4 $5 $6 ago ${sg_line}0"
}

# Shows what is left of stream $1 from its byte $2 on, where its file is open as $3; a few short lines ($4) without a process.
# Shells lose zero bytes when they read, so the place in the file counts.
sg_rest() {
	sg_text='' sg_naps=0
	if [ "$4" ]; then
		while [ "$sg_naps" -lt 9 ] && IFS= read -r sg_line <&"$3"; do
			sg_text="$sg_text$sg_line
" sg_line='' sg_naps=$((sg_naps + 1))
		done
		[ "$sg_naps" -eq 9 ] || sg_text=$sg_text$sg_line
		read -r sg_line sg_size <"/proc/self/fdinfo/$3"
		if [ "${#sg_text}" -eq "$((sg_size - $2))" ]; then
			[ -z "$sg_text" ] || { sg_announce "$1" "$2" "${#sg_text}" && printf %s "$sg_text"; }
			[ "$sg_naps" -eq 9 ] || return 0
			set -- "$1" "$sg_size"
		fi
	fi
	sg_size=$(($(wc -c <"$sg_at.$1") - $2))
	if [ "$sg_size" -gt 0 ]; then
		sg_announce "$1" "$2" "$sg_size"
		tail -c "+$(($2 + 1))" "$sg_at.$1" | head -c "$sg_size"
	fi
}

# Says that the step runs, and opens its streams.
sg_begin() {
	# A disk that cannot be written any more is no reason not to show them.
	[ "$sg_of_both" ] || { [ -e "$sg_at.out" ] && [ -e "$sg_at.err" ]; } || { true >>"$sg_at.out" && true >>"$sg_at.err"; } 2>/dev/null
	sg_said=yes
	sg_say running "${sg_runner:-$$}"
	[ "$sg_act" = kill ] || [ "$sg_of_both" ] || sg_open
}

# Shows the tail of stream $1 from its byte $2 on.
sg_tail_of() {
	sg_block=$(($2 - sg_head))
	if [ "$sg_block" -lt 0 ]; then sg_block=0; fi
	sg_size=$(($(wc -c <"$sg_at.$1.tail") - sg_block))
	[ "$sg_size" -gt 0 ] || return 0
	sg_announce "$1" "$((sg_head + sg_block))" "$sg_size"
	tail -c "+$((sg_block + 1))" "$sg_at.$1.tail"
}

# Has signals heard. Caught, not ignored: what is ignored would be ignored by the script, too.
sg_listen() {
	trap : HUP PIPE
	trap sg_woken=yes USR1
	trap 'sg_stop=cancelled' TERM
}

# Has signals ignored, outside of waits: to bash one that comes while it looks for the end of "$(" is a syntax error. Whoever wants
# the step to end says so again and again; whoever wakes the runner has written down why.
sg_ignore() {
	trap '' HUP PIPE USR1 TERM
}

# Sleeps for a tick; a signal ends it early. What sleeps already is not started again.
sg_nap() {
	sg_listen
	if ! sg_lives "$sg_sleep"; then
		# shellcheck disable=SC2217 # whoever asks must not wait for it
		LC_ALL=C sleep "$sg_tick" </dev/null >/dev/null 2>&1 3>&- 4>&- 7<&- 8<&- &
		sg_sleep=$!
	fi
	if [ ! "$sg_woken" ]; then
		wait "$sg_sleep"
		# A sleep that knows no fractions fails at once.
		case $? in 0) ;; 12[7-9] | 1[3-9]?) ;; *) sg_tick=1 ;; esac
	fi
	sg_woken=
	sg_ignore
}

# Sleeps for a tick, if there is no news of the step.
sg_wait_for_news() {
	sg_listen
	sg_news=
	sg_learn
	[ ! "$sg_news" ] || sg_woken=yes
	sg_nap
}

# Sets sg_left to the processes of the step that live: those of its session, those that have its mark in their environment,
# wherever they went, and those that the host's systemd counts to it. One process looks for each kind, because a shell reads
# byte by byte and hosts may run thousands; whatever it finds is looked at again, because a process may have any name.
sg_look() {
	sg_left=' '
	case $sg_of_session in '' | 'void 0') return 0 ;; esac
	sg_wanted=${sg_of_session% *} sg_wanted_born=${sg_of_session#* }
	[ "$sg_as" ] || sg_find_scope
	# The number may be somebody else's by now: while anybody is in the old session, the kernel gives it to nobody.
	if sg_stat "$sg_wanted" && [ "$sg_born" != "$sg_wanted_born" ]; then sg_wanted=none; fi
	# The one that is about to lead the session is not in it yet.
	# shellcheck disable=SC2013 # names in /proc have no spaces
	for sg_process in $(LC_ALL=C grep -lsE "^$sg_wanted \\(|\\) [^ ]+ -?[0-9]+ -?[0-9]+ $sg_wanted " /proc/[0-9]*/stat); do
		sg_process=${sg_process#/proc/} sg_process=${sg_process%/stat}
		if ! sg_stat "$sg_process" || [ "$sg_born" -lt "$sg_wanted_born" ]; then continue; fi
		[ "$sg_session" = "$sg_wanted" ] ||
			{ [ "$sg_process" = "$sg_wanted" ] && [ "$sg_born" = "$sg_wanted_born" ]; } || continue
		sg_count_in "$sg_process"
	done
	# The rest is the other account's: whoever runs as that looks for it.
	[ ! "$sg_as" ] || return 0
	# shellcheck disable=SC2013 # names in /proc have no spaces
	for sg_process in $(LC_ALL=C grep -lszF "SPOOLGATE_ATTEMPT_ID=$sg_id" /proc/[0-9]*/environ); do
		sg_process=${sg_process#/proc/}
		sg_count_in "${sg_process%/environ}"
	done
	[ "$sg_of_scope" ] || return 0
	while read -r sg_process; do
		if ! sg_stat "$sg_process" || [ "$sg_born" -lt "$sg_wanted_born" ] || sg_is_own "$sg_process"; then continue; fi
		# What an earlier step left there is not of this one.
		if [ "${sg_of_scope%% *}" = step ] || ! LC_ALL=C grep -qszF 'SPOOLGATE_ATTEMPT_ID=' "/proc/$sg_process/environ"; then
			sg_count_in "$sg_process"
		fi
	done 2>/dev/null <"${sg_of_scope#* }"
}

# Adds a process to sg_left, once, if it lives.
sg_count_in() {
	sg_stat "$1" || return 0
	case $sg_state in Z | X) return 0 ;; esac
	case $sg_left in *" $1 "*) ;; *) sg_left="$sg_left$1 " ;; esac
}

# Learns which list of processes the host's systemd keeps of the step's login, or of the step alone where it holds that to
# limits. What led the session must be asked while it lives; whoever comes later finds it written down.
sg_find_scope() {
	[ ! "$sg_of_scope" ] || return 0
	sg_process=$sg_wanted
	sg_is_alive "$sg_wanted" "$sg_wanted_born" || { [ "$sg_runner" ] && return 0; sg_process=self; }
	while IFS=: read -r sg_line sg_number sg_place; do
		case $sg_number:$sg_place in
			# Whatever is not a login of our own may hold others' processes.
			:*/session-*.scope | name=systemd:*/session-*.scope) sg_number=${SSH_CONNECTION:+login} ;;
			:*/run-*.scope | name=systemd:*/run-*.scope) sg_number=${sg_needs:+step} ;;
			*) continue ;;
		esac
		[ "$sg_number" ] || continue
		for sg_line in /sys/fs/cgroup /sys/fs/cgroup/unified /sys/fs/cgroup/systemd; do
			[ ! -r "$sg_line$sg_place/cgroup.procs" ] || sg_of_scope="$sg_number $sg_line$sg_place/cgroup.procs"
		done
	done 2>/dev/null <"/proc/$sg_process/cgroup"
	[ ! "$sg_of_scope" ] || sg_note "scope $sg_of_scope"
}

# Whether the process that leads the step's session lives.
sg_is_led() {
	[ "$sg_of_session" ] && sg_is_alive "${sg_of_session% *}" "${sg_of_session#* }"
}

# Ends everything of the step: TERM, the grace, KILL; sets sg_left to what lives on.
sg_end_session() {
	# What has not begun does not begin any more; what begins just now is waited for.
	sg_note 'session void 0'
	[ ! "$sg_stop" ] || sg_note "stop $sg_stop"
	sg_learn
	sg_sure='' sg_stays=''
	# Nobody else may signal an account's processes, or see that they are there. Without its word, they are.
	case $sg_as$sg_of_session in
		"$sg_of_session" | *'void 0' | "$sg_as") ;;
		*)
			sg_call end
			[ "$sg_reply" = "$sg_gone" ] || sg_stays=' '
			;;
	esac
	for sg_signal in TERM KILL; do
		sg_asked=
		while :; do
			sg_release
			sg_look
			if [ "$sg_left" = ' ' ]; then
				# What was there may have had a child while somebody looked elsewhere.
				if [ ! "$sg_asked" ] || [ "$sg_sure" ]; then
					sg_left=$sg_stays
					return 0
				fi
				sg_sure=yes
				continue
			fi
			sg_sure=''
			if [ "$sg_signal" ]; then
				# shellcheck disable=SC2086 # the words are wanted
				kill -s "$sg_signal" $sg_left 2>/dev/null
				# A process that was stopped takes no TERM before it goes on.
				# shellcheck disable=SC2086 # the words are wanted
				[ "$sg_signal" = KILL ] || kill -s CONT $sg_left 2>/dev/null
				[ "$sg_signal" = KILL ] || sg_signal=
			fi
			# The grace begins when they have been asked.
			sg_clock
			: "${sg_asked:=$sg_now}"
			sg_nap
			sg_clock
			! sg_is_over "$sg_asked" "$sg_grace" || break
		done
	done
}

# Writes how the step ended: verdict $1, argument $2.
sg_record() {
	sg_learn
	sg_counts=' - 0 - 0'
	if [ ! "$sg_of_both" ]; then
		# Something may hold a stream open; what it says from here on is not the step's.
		[ "$sg_of_out" ] || sg_of_out=$(sg_count out)
		[ "$sg_of_err" ] || sg_of_err=$(sg_count err)
		sg_counts=" $sg_of_out $sg_of_err"
	fi
	sg_clock
	sg_last="$1 $2$sg_counts $sg_now"
	sg_note "exit $sg_last"
	sg_learn
}

# Prints how much there was of stream $1, at least, and how much of it is not kept; keeps what its reader has of the tail.
sg_count() {
	sg_size=0 sg_block=0 sg_cut=0
	[ ! -e "$sg_at.$1" ] || sg_size=$(($(wc -c <"$sg_at.$1")))
	if [ -e "$sg_at.$1.new" ]; then
		sg_block=$(($(cat "$sg_at.$1.old" "$sg_at.$1.new" | wc -c)))
		cat "$sg_at.$1.old" "$sg_at.$1.new" | tail -c "$sg_tail" >"$sg_at.$1.tail"
		sg_cut=$((sg_block - $(wc -c <"$sg_at.$1.tail")))
	fi 2>/dev/null
	printf '%s %s' "$((sg_size + sg_block))" "$sg_cut"
}

# Returns whether both streams are at their end.
sg_all_said() {
	sg_learn
	[ "$sg_of_both" ] || { [ "$sg_of_out" ] && [ "$sg_of_err" ]; }
}

# Waits for the streams' ends a little: what was left in the background may hold them.
sg_linger() {
	sg_naps=0
	while ! sg_all_said && [ "$sg_naps" -lt 12 ]; do
		[ ! "$sg_shown" ] || sg_show
		sg_wait_for_news
		sg_naps=$((sg_naps + 1))
	done
}

# Starts the script in its own session. What a shell starts behind "&" ignores INT and QUIT for ever, so it is started as a
# foreground command; whoever would have to wait for the one that does so is ended, so that this shell goes on.
sg_start() {
	# What a shell sets aside for the time of a redirection is inherited, and would keep the connection open.
	sg_open_input
	exec 7>&2 2>/dev/null
	sg_waiter=$(
		(sg_wait_for_job) <&6 3>&- 4>&- 6<&- 7>&-
		:
	)
	exec 2>&7 7>&- 6<&-
}

# Opens as 3 and 4 what the script is to print to. Where sudo keeps a record of it, those are pipes of root's, which the script could not
# open by name: then it gets others.
sg_take_streams() {
	sg_reader_out='' sg_reader_err=''
	exec 5>&1 6>&2 >/dev/null 2>&1
	if (true >/proc/self/fd/5 && true >/proc/self/fd/6); then
		exec 3>&5 4>&6
	else
		sg_pipes || exit 255
		cat <&7 >&5 3>&- 4>&- 5>&- 6>&- 7<&- 8<&- &
		sg_reader_out=$!
		cat <&8 >&6 3>&- 4>&- 5>&- 6>&- 7<&- 8<&- &
		sg_reader_err=$!
		exec 7<&- 8<&-
	fi
	exec 5>&- 6>&-
}

# Lets what the script printed through to the end; what it left in the background may hold its streams open.
sg_leave_streams() {
	exec 3>&- 4>&-
	sg_naps=0
	while { sg_lives "$sg_reader_out" || sg_lives "$sg_reader_err"; } && [ "$sg_naps" -lt 12 ]; do
		sg_nap
		sg_naps=$((sg_naps + 1))
	done
}

# Starts the script, waits for it, and ends with its code. Says first who waits, where somebody has to be let go on.
sg_wait_for_job() {
	sg_listen
	sg_stat self && sg_is_own "$sg_parent" || exit 255
	if [ ! "$sg_task" ]; then
		printf %s "$sg_number $sg_born"
		exec >/dev/null
		kill -s KILL "$sg_parent"
	fi
	(
		# The runner alone has the ends that are written: nobody who waits must hold them open.
		# Streams that sudo opened cannot be opened again; but here nobody waits longer than the script runs.
		if [ "$sg_task" ]; then exec >&3 2>&4 3>&- 4>&-; else exec >"/proc/$$/fd/3" 2>"/proc/$$/fd/4"; fi
		sg_enter 2>/dev/null || exit 125
		# The script is not to find a child that it does not know.
		[ ! "$sg_task" ] || (sg_tend </dev/null >/dev/null 2>&1 3>&- 4>&- &)
		sg_hold 2>/dev/null
		sg_wake
		exec 9<&-
		# shellcheck disable=SC2086 # the words are wanted
		[ ! "$sg_as" ] || exec setsid $sg_as /bin/sh -c "$sg_loader" "$sg_id.$$" job
		export SPOOLGATE_ATTEMPT_ID="$sg_id"
		sg_job
	)
	sg_code=$?
	sg_note "code $sg_code exit"
	sg_wake
	exit "$sg_code"
}

# Lets go of the shell that waits for the script which is about to begin here, once the kernel has told how that ended. Whatever is
# written down then may be the script's: which processes they are is known from before.
sg_tend() {
	sg_of_session=$sg_entered
	sg_stat "$sg_waits" || return 0
	sg_waiter="$sg_number $sg_born" sg_tick=0.02
	while sg_waits_on; do
		sg_nap
		sg_learn
		sg_release
		sg_slow_down
	done
}

# Says what the script's end means, by the kernel's word where there is one, and otherwise by its code $1. $2 is "signal" where an
# earlier runner's shell said that one ended it.
sg_verdict() {
	case $sg_of_session in
		'' | 'void 0')
			# It never began.
			if [ "$sg_act" = kill ]; then sg_stop=cancelled; fi
			sg_record "${sg_stop:-died}" -
			return 0
			;;
	esac
	sg_decode "$@"
	# What ended by a signal, or nearly so, may be who waited for the script as its account. That account's word decides between a
	# signal and a code that looks like one, and nothing else.
	if [ "$sg_as" ] && [ "$sg_code" -gt 128 ]; then
		sg_call after "$sg_code"
		case $sg_reply in
			"$sg_exited") sg_how="exit" ;;
			"$sg_signalled") sg_how="signal" ;;
			"$sg_gone") sg_how="died" ;;
			"$sg_stayed" | '') sg_how="died" sg_left=' ' ;;
		esac
	fi
	case $sg_how in
		died) if [ "$sg_left" ]; then sg_record died left; else sg_record died -; fi ;;
		signal) sg_record signal "$((sg_code - 128))" ;;
		*) sg_record exit "$sg_code" ;;
	esac
}

# Sets sg_how (exit, signal) and sg_code, which is 128 more than a signal's number, as they follow from what is known and the code
# $1 with its mark $2.
sg_decode() {
	sg_how=exit sg_code=${1:-255}
	if [ "$sg_of_kernel" ]; then
		sg_code=$((sg_of_kernel >> 8 & 255))
		if [ "$((sg_of_kernel & 127))" -ne 0 ]; then sg_how=signal sg_code=$(((sg_of_kernel & 127) + 128)); fi
	elif [ "$sg_code" -gt 128 ] && [ "${2:-}" = signal ]; then
		sg_how=signal
	fi
}

# Whether the script's end is known.
sg_is_known() {
	[ "$sg_of_kernel" ] || [ "$sg_of_code" ]
}

# Makes the next tick of a script that has begun longer.
sg_slow_down() {
	case $sg_tick in
		0.18) sg_tick=0.02 ;;
		0.02) sg_tick=0.04 ;;
		0.04) sg_tick=0.08 ;;
		0.08) sg_tick=0.2 ;;
	esac
}

# Watches the step that this process started.
sg_watch() {
	# What ends at once costs hardly any processes; what does not is shown soon.
	sg_tick=0.18 sg_began='' sg_held=yes
	while [ ! "$sg_stop" ]; do
		sg_wait_for_news
		sg_learn
		# The script has its streams, or never will: their ends are theirs that have them.
		if [ "$sg_held" ] && { [ "$sg_of_session" ] || [ "$sg_of_code" ] || ! sg_waits_on; }; then
			exec 3>&- 4>&-
			sg_held=
		fi
		sg_release
		if ! sg_is_known && ! sg_is_led && ! sg_waits_on; then
			sg_is_known_after_all || sg_stop=died
			[ ! "$sg_stop" ] || break
		fi
		! sg_is_known || break
		# What has not begun has nothing to show.
		[ "$sg_of_session" ] || continue
		sg_clock
		if [ ! "$sg_began" ]; then
			sg_began=$sg_now sg_quiet=$sg_now
			continue
		fi
		# Its first output is shown soon, however busy the host is.
		sg_slow_down
		[ "$sg_said" ] || sg_begin
		if [ "$sg_shown" ]; then sg_show; else sg_grew=''; fi
		if [ "$sg_limit" -gt 0 ] && sg_is_over "$sg_began" "$sg_limit"; then sg_stop=timed_out; fi
		[ "$sg_idle" -gt 0 ] || continue
		# Where nobody can see whether what was printed last is on its way into the file, it gets a moment for it.
		if [ ! "$sg_grew" ] && sg_is_over "$((sg_quiet + 20))" "$sg_idle" && sg_all_kept; then
			sg_look_at_streams
			[ "$sg_grew" ] || sg_stop=idle
		fi
		if [ "$sg_grew" ]; then
			sg_clock
			sg_quiet=$sg_now
		fi
	done
	exec 3>&- 4>&-
	# What ended by itself before it was stopped ended by itself.
	sg_learn
	sg_release
	sg_await_code
	if sg_is_known; then
		sg_linger
		# shellcheck disable=SC2086 # the words are wanted
		sg_verdict $sg_of_code
	else
		sg_ended=$sg_stop
		sg_end_session
		sg_linger
		if [ "$sg_left" ]; then sg_record "$sg_ended" left; else sg_record "$sg_ended" -; fi
	fi
}

# Whether the shell that waits for the script is there.
sg_waits_on() {
	[ "$sg_waiter" ] && sg_is_alive "${sg_waiter% *}" "${sg_waiter#* }"
}

# Follows the step that another process started, and says what became of it.
sg_follow() {
	# It ran here, and nothing here knows of it: the directory was lost. To start it again would be to run it twice.
	if [ "$sg_begun" ] && [ ! -e "$sg_at.state" ]; then
		sg_say end 'forgotten - 0 0 0 0'
		exit 0
	fi
	sg_naps=0
	until sg_open_state && sg_learn && [ "$sg_of_run" ]; do
		# Between making the file and writing it lies an instant; or this host's power failed in it.
		if [ "$sg_naps" -ge 25 ]; then
			{ [ "$sg_naps" -eq 25 ] && sg_is_younger && sg_note 'run 0 lost 0'; } ||
				sg_refuse 'claimed, and the runner that claimed it never began'
		fi
		sg_nap
		sg_naps=$((sg_naps + 1))
	done
	# shellcheck disable=SC2086 # the words are wanted
	set -- $sg_of_run
	[ "$1" != void ] || { sg_say end 'never - 0 0 0 0'; exit 0; }
	sg_runner=$1 sg_old_boot=$2 sg_old_born=$3 sg_shower=''
	sg_naps=0
	while sg_learn && [ ! "$sg_of_exit" ]; do
		# What ends at once is said to run when it is shown.
		if [ ! "$sg_said" ] && [ -e "$sg_at.out" ] && [ -e "$sg_at.err" ]; then sg_begin; fi
		if [ "$sg_old_boot" != "$sg_boot" ]; then
			# shellcheck disable=SC2086 # the words are wanted
			if sg_is_known; then
				sg_verdict $sg_of_code
			elif [ "$sg_old_boot" = lost ]; then
				sg_record forgotten -
			else
				sg_record rebooted -
			fi
			[ "$sg_of_exit" ] || sg_refuse "cannot write $sg_at.state; is the disk full?"
		elif ! sg_stat "$sg_runner" || [ "$sg_born" != "$sg_old_born" ] || [ "$sg_state" = Z ]; then
			# Nobody watches it any more: what is left of it must not run on unseen. Its end may have come just now.
			sg_learn
			[ ! "$sg_of_exit" ] || continue
			sg_release
			sg_await_code
			if [ ! "$sg_of_stop" ] && sg_is_known_after_all; then
				sg_linger
				# shellcheck disable=SC2086 # the words are wanted
				sg_verdict $sg_of_code
			else
				sg_end_session
				sg_ended=died
				if [ "$sg_act" = kill ]; then sg_ended=cancelled; fi
				sg_ended=${sg_of_stop:-$sg_ended}
				sg_linger
				if [ "$sg_left" ]; then sg_record "$sg_ended" left; else sg_record "$sg_ended" -; fi
			fi
			[ "$sg_of_exit" ] || sg_refuse "cannot write $sg_at.state; is the disk full?"
		elif [ "$sg_act" = kill ]; then
			kill -s TERM "$sg_runner" 2>/dev/null
			# A runner that was stopped, or does not obey, is ended; then its step is ended from here.
			kill -s CONT "$sg_runner" 2>/dev/null
			[ "$sg_naps" -lt "$((sg_grace * 10 + 100))" ] || kill -s KILL "$sg_runner" 2>/dev/null
			sg_naps=$((sg_naps + 1))
			sg_nap
		else
			[ ! "$sg_shown" ] || sg_show
			sg_nap
		fi
	done
}

# Says where files are to be brought, and which of them: those that are neither in their place nor there already.
sg_want() {
	printf %s "$sg_script" >"$sg_at.files/$sg_nonce.sh" || return 1
	printf '%s\n' "$sg_at.files"
	while [ "$#" -ge 4 ]; do
		# One that was compared while it came may have been lost since, with the host's power.
		sg_line=$sg_at.files/$1.whole
		[ ! -f "$sg_line" ] || sg_has "$sg_line" "$1" || rm -f "$sg_at.files/$1.whole"
		[ -f "$sg_at.files/$1.whole" ] || sg_has "$4" "$1" || sg_has "$sg_at.files/$1" "$1" || printf '%s\n' "$1"
		shift 4
	done
}

# Whether file $1 is there and has the SHA-256 $2.
sg_has() {
	[ -f "$1" ] && sg_line=$(sha256sum <"$1" 2>/dev/null) && [ "${sg_line%% *}" = "$2" ]
}

# Shows files one behind the other as if a script had printed them.
sg_hand() {
	sg_size=$(cat "$@" | wc -c) || return 1
	sg_announce out 0 "$((sg_size))"
	cat "$@"
}

# Does what it was sent for. A step leaves the shell to whatever is sent next.
sg_main() {
	sg_tick=0.2 sg_stop='' sg_left='' sg_last='' sg_said='' sg_shown='' sg_waiter='' sg_runner='' sg_woken=''
	sg_as='' sg_proof=same-account
	sg_listen
	sg_blank
	[ ! "$sg_task" ] || sg_serve "$@"
	[ ! "$sg_account" ] || sg_know_account
	sg_name=$sg_id
	sg_at=$sg_base/$sg_name
	sg_recall
	case $sg_act in
		run | kill | want)
			# Whoever comes later, with whatever was sent before, is not to start it either.
			[ -e "$sg_at.state" ] || ! sg_is_younger || sg_gate 'run 0 lost 0' forgotten || :
			;;
	esac
	if [ ! "$sg_begun" ] && [ ! -e "$sg_at.state" ]; then
		if [ ! "$sg_as" ]; then sg_look_for_needs; elif [ "$sg_act" = run ]; then sg_prepare_account; fi
	fi
	# Whoever does not hear this knows that the gate was not passed from here: when nobody listens any more, it is not.
	sg_say here "$$" 2>/dev/null || exit 0
	case $sg_act in
		run)
			[ "$sg_begun" ] || [ -e "$sg_at.state" ] || sg_prepare
			if [ ! "$sg_begun" ] && sg_gate "run $$ $sg_boot $sg_own_born"; then
				sg_run
			elif [ ! "$sg_begun" ] && [ ! -e "$sg_at.state" ]; then
				sg_refuse "cannot make $sg_at.state; is the disk full? Make room there, then retry"
			else
				sg_follow
				sg_finish
			fi
			exec 9<&-
			# A word that was on its way is not to end the wait for the next program.
			sg_ignore
			[ ! "$sg_clean" ] || sg_sweep
			return 0
			;;
		kill)
			# Whoever passes the gate first decides whether it runs at all.
			if [ ! "$sg_begun" ] && sg_gate void; then
				sg_say end 'never - 0 0 0 0'
			else
				sg_follow
				sg_end "$sg_of_exit"
			fi
			;;
		forget)
			# Its log is with whoever asks; what its script printed need not stay here.
			if sg_open_state && sg_learn && { [ "$sg_of_exit" ] || [ "$sg_of_run" = void ]; }; then
				for sg_line in "$sg_at".out "$sg_at".err "$sg_at".out.tail "$sg_at".err.tail "$sg_at".both "$sg_at".*script; do
					[ ! -e "$sg_line" ] || true >"$sg_line"
				done
				rm -rf "$sg_at.files"
				[ ! "$sg_as" ] || sg_call forget
				sg_say end 'forgotten - 0 0 0 0'
			fi
			;;
		want)
			sg_say running "$$"
			# What has begun has had its files.
			if [ -e "$sg_at.state" ] || [ -e "$sg_at.as.state" ] || { sg_make_files && sg_files sg_want >"$sg_at.files/$sg_nonce" && sg_hand "$sg_at.files/$sg_nonce"; }; then
				sg_say end 'exit 0 - 0 - 0'
			else
				sg_say end 'exit 1 - 0 - 0'
			fi
			;;
		take)
			sg_say running "$$"
			if sg_hand "$sg_at.files/fetched.kind" "$sg_at.files/fetched"; then
				sg_say end 'exit 0 - 0 - 0'
			else
				sg_say end 'exit 1 - 0 - 0'
			fi
			;;
	esac
	exit 0
}

# Writes down what runs, where there is room, before the gate: until then another place will do.
sg_prepare() {
	sg_brought=
	for sg_line in "$sg_base_1" "$sg_base_2" "$sg_base_3"; do
		if [ -d "$sg_line/$sg_id.files" ] && sg_is_ours "$sg_line"; then sg_brought=$sg_line; fi
	done
	sg_find_room
	# Somebody may have found room elsewhere before.
	sg_recall
}

# Makes the directory that the step's files are brought to, where there is room for a first one.
sg_make_files() {
	for sg_base in "$sg_base_1" "$sg_base_2" "$sg_base_3"; do
		sg_at=$sg_base/$sg_id
		if sg_usable && mkdir -p "$sg_at.files" && chmod 700 "$sg_at.files" && printf '\n' >"$sg_at.files/room"; then return 0; fi
		rm -rf "$sg_at.files"
	done 2>/dev/null
	return 1
}

# Learns what starts a shell of the script's account, and what a result is worth: whether the script can write what is written of it.
sg_know_account() {
	sg_as="sudo -n -u $sg_account --"
	case $(id -u "$sg_account" 2>/dev/null) in
		"$sg_uid") ;;
		0) sg_proof=root ;;
		*) sg_proof=other-account ;;
	esac
}

# Has the script's account look whether it can run it, before the gate.
sg_prepare_account() {
	command -v sudo >/dev/null ||
		sg_refuse "this host has no sudo, and the step runs as $sg_account; install sudo there, or log in as $sg_account"
	# shellcheck disable=SC2086 # the words are wanted
	sg_line=$(sg_program 2>/dev/null | $sg_as /bin/sh -c "$sg_loader" "$sg_id.$$" prepare "$sg_proof" 2>&1)
	case "
$sg_line" in
		*"
spoolgate-ready $sg_id.$$ "*) return 0 ;;
		*"
spoolgate-refused $sg_id.$$ "*) sg_refuse "as $sg_account: ${sg_line##*"spoolgate-refused $sg_id.$$ "}" ;;
		*"
spoolgate-begun $sg_id.$$ "*)
			sg_say end 'forgotten - 0 0 0 0'
			exit 0
			;;
	esac
	sg_line=${sg_line##*
}
	sg_refuse "$(printf '%.300s' "${sg_line:-sudo started no shell}"); let sudoers(5) allow $(id -un) to run /bin/sh as $sg_account without a password"
}

# Does, as the script's account, what the runner of another asks for, and ends.
#   prepare PROOF   says whether there is room, and what the step needs
#   job             runs the script, and ends with its code
#   end             ends everything of it
#   after CODE      says whether it ended so, or by the signal that looks so; ends what is left of it where nobody knows
#   forget          removes what need not stay
sg_serve() {
	sg_nonce=$0 sg_name=$sg_id
	sg_at=$sg_base/$sg_name
	if [ "$1" = prepare ]; then
		# The runner of an earlier version kept the step's state here.
		[ "$2" = same-account ] || sg_recall
		if [ "$2" != same-account ] && [ -e "$sg_at.state" ]; then
			sg_say begun "$sg_at"
			exit 0
		fi
		sg_look_for_needs
	fi
	sg_name=$sg_id.as
	sg_at=$sg_base/$sg_name
	sg_recall
	case $1 in
		prepare)
			sg_prepare
			rm -f "$sg_script_at"
			[ ! "$sg_clean" ] || sg_sweep
			sg_say ready "$$"
			;;
		job)
			[ -e "$sg_at.state" ] || sg_prepare
			sg_gate "run $$ $sg_boot $sg_own_born" || exit 255
			sg_take_streams
			# What is written down is anybody's of this account: only what the kernel tells who waits counts.
			(sg_wait_for_job) </dev/null
			sg_code=$?
			sg_leave_streams
			sg_note "exit $sg_code"
			exit "$sg_code"
			;;
		end | after)
			if sg_gate void; then
				[ "$1" = after ] || exit "$sg_gone"
				exit "$sg_differs"
			fi
			sg_naps=0
			until sg_open_state && sg_learn && [ "$sg_of_run" ] || [ "$sg_naps" -ge 25 ]; do
				sg_nap
				sg_naps=$((sg_naps + 1))
			done
			sg_runner=${sg_of_run%% *}
			if [ "$1" = after ]; then
				sg_release
				sg_await_code
				if sg_is_known_after_all; then
					# shellcheck disable=SC2086 # the words are wanted
					sg_decode $sg_of_code
					[ "$sg_code" = "$2" ] || exit "$sg_differs"
					[ "$sg_how" = signal ] || exit "$sg_exited"
					exit "$sg_signalled"
				fi
			fi
			case $sg_of_run in
				# Nothing outlives a restart of the host, and what never began leaves nothing.
				'' | *" $sg_boot "*) sg_end_session ;;
			esac
			[ ! "$sg_left" ] || exit "$sg_stayed"
			exit "$sg_gone"
			;;
		forget)
			rm -rf "$sg_at".*script "${sg_at%/*}/$sg_id.files"
			exit "$sg_gone"
			;;
	esac
	exit 0
}

# Refuses a step that this host does not have the programs for.
sg_look_for_needs() {
	for sg_line in $sg_needs; do
		command -v "$sg_line" >/dev/null || sg_refuse "this host has no $sg_line, and the step needs it"
		if [ "$sg_line" = systemd-run ]; then
			sg_scope
			# shellcheck disable=SC2086 # one word or two
			sg_line=$(systemd-run --quiet --scope --collect $sg_user -- true 2>&1 </dev/null) ||
				sg_refuse "its systemd holds nothing to limits: $(printf %s "$sg_line" | head -n 1)"
		fi
	done
}

# Sets which systemd holds a step to its limits: whoever is not root asks their own.
sg_scope() {
	sg_user=--system
	sg_number=$(id -u)
	if [ "$sg_number" -ne 0 ]; then
		sg_user=--user
		export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/run/user/$sg_number}"
	fi
}

# Starts the step and watches it to its end.
sg_run() {
	if ! sg_pipes; then
		sg_say end 'never - 0 0 0 0'
		exit 0
	fi
	# What the script prints has a reader from its first byte on, whatever becomes of this shell.
	sg_readers
	sg_start
	sg_watch
	sg_finish
}

# Removes the files of steps that ended long ago, of which nobody asks any more; of one that has not ended everything stays.
sg_sweep() {
	find "$sg_base/." ! -name . -prune -type f -name '*.state' -mtime +30 2>/dev/null |
		while IFS= read -r sg_line; do
			! grep -qE '^(exit .*|void) end$' "$sg_line" || rm -rf "${sg_line%.state}".*
		done
}

sg_task=${1:-} sg_sleep=''
# What the script's account answers: the codes that it ends with.
sg_gone=10 sg_stayed=11 sg_exited=12 sg_signalled=13 sg_differs=14
# What reads a program as another account, whole or not at all: its last line is a word that is on the command line.
# shellcheck disable=SC2016 # the other shell expands it
sg_loader='sg_p=$(cat); case $sg_p in *"#$0") eval "$sg_p" ;; esac; exit 255'
command -v setsid >/dev/null || sg_refuse 'this host has no setsid; install util-linux or busybox'
sg_stat "$$" || sg_refuse 'this host has no /proc'
sg_own_born=$sg_born
read -r sg_boot </proc/sys/kernel/random/boot_id
sg_bases
sg_find_base || sg_refuse "no directory for the runner: the home, /var/tmp and /tmp are not writable, or belong to others${sg_why:+; $sg_why}"
sg_main "$@"

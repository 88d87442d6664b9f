# The runner, version 1: starts one step at most once on this host, keeps its output and its end in files, and shows
# them to whoever asks. POSIX sh with setsid(1) and Linux's /proc; dash, bash and busybox ash run it.
#
# shellcheck shell=sh disable=SC2154,SC2031,SC2030,SC3013 # set by what is sent in front; -nt and -ef are in every sh we run in
#
# What is sent in front of this text sets sg_id, sg_nonce, sg_act (run, kill, forget, want, take), sg_script, sg_interpreter, sg_head, sg_tail,
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
#     reader NAME                      who reads the streams, where pipes have names
#     code N MARK                      the script's status; MARK is "signal" when the shell said that one ended it
#     both | out TOTAL CUT | err ...   a stream's end; TOTAL is "-" for all that is there
#     exit VERDICT ARGUMENT OUT_TOTAL OUT_CUT ERR_TOTAL ERR_CUT
#   ID.script  what runs
#   ID.out, ID.err   the first sg_head bytes         out.tail  the last sg_tail bytes when there were more
#   both       of a script that ended at once: its standard output, a line with sg_mark, its standard error. Before, what the
#              shell that waits for the script says
#   files      a directory: what is to be put in places, by SHA-256, or what was fetched

# Says one line about the step. Everything else on standard output is the script's.
sg_say() {
	printf 'spoolgate-%s %s %s\n' "$1" "$sg_nonce" "$2"
}

# Ends with a reason that keeps the step from being run here at all.
sg_refuse() {
	sg_say refused "$1"
	exit 0
}

# Knows nothing of a step.
sg_blank() {
	sg_part='' sg_of_run='' sg_of_session='' sg_of_reader='' sg_of_code='' sg_of_both='' sg_of_out='' sg_of_err='' sg_of_exit=''
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
			'reader '*) : "${sg_of_reader:=${sg_line#* }}" ;;
			'code '*) : "${sg_of_code:=${sg_line#* }}" ;;
			both) sg_of_both=yes ;;
			'out '*) : "${sg_of_out:=${sg_line#* }}" ;;
			'err '*) : "${sg_of_err:=${sg_line#* }}" ;;
			'exit '*) : "${sg_of_exit:=${sg_line#* }}" ;;
		esac
	done <&9
}

# Adds a line to the step's state, behind one that a full disk may have cut off.
sg_note() {
	{ printf '\n%s end\n' "$1" >>"$sg_at.state"; } 2>/dev/null
}

# Sets sg_number, sg_state, sg_session and sg_born of a process; fails when there is none.
sg_stat() {
	sg_line=
	{ read -r sg_line <"/proc/$1/stat"; } 2>/dev/null || return 1
	sg_number=${sg_line%% *} sg_line=${sg_line##*) }
	# shellcheck disable=SC2086 # the words are wanted
	set -- $sg_line
	sg_state=$1 sg_session=$4 sg_born=${20}
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

# Finds a directory that only this account can write, and sets sg_base. The order is always the same, so that a later
# connection finds what an earlier one left.
sg_find_base() {
	sg_base=${HOME:-/nonexistent}/.spoolgate
	if sg_usable; then return 0; fi
	sg_uid=$(id -u)
	for sg_base in "/var/tmp/.spoolgate-$sg_uid" "/tmp/.spoolgate-$sg_uid"; do
		if sg_usable; then return 0; fi
	done
	return 1
}

# Makes sg_base, or takes it when it is ours alone.
sg_usable() {
	[ -d "$sg_base" ] || mkdir -m 700 "$sg_base" 2>/dev/null
	sg_is_ours "$sg_base" && [ -w "$sg_base" ]
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
	sg_uid=$(id -u)
	for sg_line in "${HOME:-/nonexistent}/.spoolgate" "/var/tmp/.spoolgate-$sg_uid" "/tmp/.spoolgate-$sg_uid"; do
		if [ -e "$sg_line/$sg_id.state" ] && sg_is_ours "$sg_line"; then
			sg_at=$sg_line/$sg_id
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
	{ printf %s "$sg_text" >>"$sg_at.state"; } 2>/dev/null || { sg_say end "${2:-never} - 0 0 0 0"; exit 0; }
	sg_open_state
}

# Adds the line that says which session the script begins in; fails when somebody wrote first that it must not. While the
# file is as long as it must be, nobody wrote anything.
sg_enter() {
	# Its own name has no space in it, so its words are where they are.
	# shellcheck disable=SC2034 # nobody wants the others
	read -r sg_number sg_line sg_state a a a a a a a a a a a a a a a a a a sg_born a </proc/self/stat
	case $sg_state in ?) ;; *) sg_stat self || return 1 ;; esac
	sg_line="session $sg_number $sg_born"
	sg_place=$((${#sg_text} + ${#sg_line} + 6))
	{ printf '\n%s end\n' "$sg_line" && read -r sg_line sg_size </proc/self/fdinfo/1; } >>"$sg_at.state" || return 1
	[ "$sg_size" != "$sg_place" ] || return 0
	sg_open_state && sg_learn && [ "$sg_of_session" = "$sg_number $sg_born" ] && [ "$sg_of_run" = "$sg_passed_as" ]
}

# Makes the pipes of the script's streams without a process: 3 is the end that is written of standard output and 7 the
# one that is read, 4 and 8 are those of standard error, in which a line with sg_mark comes first. A short here-document is a
# pipe. Whoever reads the line end out of 6 reads the streams.
sg_pipes() {
	exec 6<<- 'END' 7<<- 'END' 8<<- 'END'
		-
	END
		-
	END
		-
	END
	# To some shells it is a file. A pipe with a name waits for writers when it is opened again.
	sg_named=
	if [ -p /proc/self/fd/7 ] && [ -p /proc/self/fd/8 ] && [ -w /proc/self/fd/7 ]; then
		exec 3>/proc/self/fd/7 4>/proc/self/fd/8
		read -r sg_line <&7
		read -r sg_line <&8
	else
		sg_named=yes
		mkfifo -m 600 "$sg_at.out.p" "$sg_at.err.p" || return 1
		# Opened both ways a pipe waits for nobody.
		exec 5<>"$sg_at.out.p" 6<>"$sg_at.err.p"
		exec 3>&5 4>&6
		exec 7<"$sg_at.out.p" 8<"$sg_at.err.p"
		exec 3>"$sg_at.out.p" 4>"$sg_at.err.p" 5>&- 6>&-
		rm -f "$sg_at.out.p" "$sg_at.err.p"
	fi
	printf '%s\n' "$sg_mark" >&4
}

# Takes the streams to be read by $1; fails when somebody else reads them.
sg_claim() {
	if [ "$sg_named" ]; then
		[ "$1" = watcher ] || sg_open_state || return 1
		sg_note "reader $1"
		sg_learn
		[ "$sg_of_reader" = "$1" ]
	else
		read -r sg_line <&6
	fi
}

# Reads the streams into files beside whatever else happens.
sg_readers() {
	: >>"$sg_at.out"
	: >>"$sg_at.err"
	# shellcheck disable=SC2217 # it reads what it keeps
	{ sg_keep out && sg_wake; } <&7 7<&- 8<&- >/dev/null 2>&1 &
	# shellcheck disable=SC2217 # it reads what it keeps
	{ read -r sg_line && sg_keep err && sg_wake; } <&8 7<&- 8<&- >/dev/null 2>&1 &
}

# Reads the streams of a script that ended into one file, which costs one process. When something that was left in the
# background holds them, the watcher ends the wait, and they are read as those of a script that goes on.
sg_gather() {
	LC_ALL=C cat - /proc/self/fd/8 <&7 >"$sg_at.both" 2>/dev/null &
	sg_cat=$!
	wait "$sg_cat"
	sg_passed=$?
	while [ "$sg_enough" ] && sg_lives "$sg_cat"; do
		# Only what waits for more is ended; what is being written is not thrown away.
		if sg_stat "$sg_cat" && [ "$sg_state" = S ]; then kill "$sg_cat"; else sleep 1; fi
		wait "$sg_cat"
		sg_passed=$?
	done
	if [ "$sg_passed" -eq 0 ]; then
		sg_note both
		sg_wake
	elif grep -qF "$sg_mark" "$sg_at.both"; then
		sg_note both
		sg_wake
		# Whoever holds it is not to be ended by its next word.
		exec cat <&8 >/dev/null
	else
		mv "$sg_at.both" "$sg_at.out"
		sg_readers
	fi
}

# Copies standard input to the files of stream $1: the first sg_head bytes, and of the rest the last sg_tail. Every file
# gets exactly its size, however the bytes come.
sg_keep() {
	sg_more=yes
	sg_fill "$sg_at.$1" "$sg_head" uncounted
	sg_total=$sg_size sg_cut=0
	if [ "$sg_more" ]; then
		: >"$sg_at.$1.old"
		while :; do
			: >"$sg_at.$1.new"
			sg_fill "$sg_at.$1.new" "$sg_tail"
			sg_total=$((sg_total + sg_size))
			[ "$sg_more" ] || break
			mv "$sg_at.$1.new" "$sg_at.$1.old"
		done
		sg_cut=$((sg_total - sg_head - sg_tail))
		if [ "$sg_cut" -lt 0 ]; then sg_cut=0; fi
		cat "$sg_at.$1.old" "$sg_at.$1.new" | tail -c "$sg_tail" >"$sg_at.$1.tail"
		rm -f "$sg_at.$1.old" "$sg_at.$1.new"
	fi
	sg_note "$1 $sg_total $sg_cut"
}

# Ends the runner's nap. When the runner is gone its number may be somebody else's, who does not have the state open.
sg_wake() {
	if [ "/proc/$$/fd/9" -ef "$sg_at.state" ]; then kill -USR1 "$$" 2>/dev/null; fi
}

# Appends standard input to file $1 until it holds $2 bytes. Sets sg_size, and sg_more to nothing at the end of input.
# With $3 what is less than the whole is not counted, which would cost a process: its size is "-" then.
sg_fill() {
	sg_size=0
	while [ "$sg_size" -lt "$2" ]; do
		sg_block=$(($2 - sg_size)) sg_count=1
		if [ "$sg_block" -gt 65536 ]; then sg_count=$((sg_block / 65536)) sg_block=65536; fi
		LC_ALL=C dd bs="$sg_block" count="$sg_count" >>"$1" 2>"$1.dd"
		# "A+B records in" is what POSIX promises; GNU's may warn first.
		while IFS= read -r sg_records; do
			case $sg_records in *' records in'*) break ;; esac
		done <"$1.dd"
		sg_records=${sg_records%% *}
		# Fewer blocks than wanted: the input is at its end.
		if [ "$((${sg_records%+*} + ${sg_records#*+}))" -lt "$sg_count" ]; then
			sg_more=
			if [ "${3:-}" ]; then
				if [ -s "$1" ]; then sg_size=-; fi
				return
			fi
		fi
		[ -s "$1" ] && sg_size=$(($(wc -c <"$1")))
		[ "$sg_more" ] || return 0
	done
}

# Shows what is new of the streams, without ever waiting for the reader.
sg_show() {
	if [ -s "$sg_at.out" ] && ! sg_lives "$sg_out_cat"; then
		cat <&5 2>/dev/null &
		sg_out_cat=$!
	fi
	if [ -s "$sg_at.err" ] && ! sg_lives "$sg_err_cat"; then
		cat <&6 >&2 2>/dev/null &
		sg_err_cat=$!
	fi
}

# Whether a child of this shell still runs.
sg_lives() {
	[ "$1" ] && kill -0 "$1" 2>/dev/null
}

# Opens the streams where the reader wants to go on.
sg_open() {
	sg_shown=yes
	exec 5<"$sg_at.out" 6<"$sg_at.err"
	sg_out_cat='' sg_err_cat=''
	sg_skip "$sg_out_at" <&5
	sg_skip "$sg_err_at" <&6
}

# Moves standard input, a file, forward; the tail is another file.
sg_skip() {
	sg_block=$1
	if [ "$sg_block" -gt "$sg_head" ]; then sg_block=$sg_head; fi
	[ "$sg_block" -eq 0 ] || dd bs="$sg_block" count=1 >/dev/null 2>&1
}

# Shows the rest of the streams and how the step ended.
sg_finish() {
	if [ "$sg_of_both" ] && [ ! "$sg_said" ]; then
		sg_say both "$$"
		sg_show_both
	else
		[ "$sg_said" ] || sg_begin
		# A signal ends a wait early; two at once would mix what they show.
		while sg_lives "$sg_out_cat"; do wait "$sg_out_cat"; done
		while sg_lives "$sg_err_cat"; do wait "$sg_err_cat"; done
		if [ -s "$sg_at.out" ]; then cat <&5; fi
		if [ -s "$sg_at.err" ]; then cat <&6 >&2; fi
		sg_rest out "$sg_out_at"
		sg_rest err "$sg_err_at" >&2
		exec 5<&- 6<&-
		# The two streams travel apart: each has its end.
		sg_say end . >&2
	fi
	# On a full disk the word is all there is.
	sg_say end "${sg_of_exit:-$sg_last}"
}

# Shows what a script printed that ended at once; a few lines without a process. Shells lose zero bytes when they read, so
# the place in the file counts.
sg_show_both() {
	exec 5<"$sg_at.both"
	sg_text='' sg_naps=0
	while [ "$sg_naps" -lt 9 ] && IFS= read -r sg_line <&5; do
		sg_text="$sg_text$sg_line
" sg_line='' sg_naps=$((sg_naps + 1))
	done
	[ "$sg_naps" -eq 9 ] || sg_text=$sg_text$sg_line
	read -r sg_line sg_size </proc/self/fdinfo/5
	if [ "${#sg_text}" -ne "$sg_size" ]; then
		cat "$sg_at.both"
	else
		printf %s "$sg_text"
		[ "$sg_naps" -lt 9 ] || cat <&5
	fi
	exec 5<&-
}

# Says that the step runs, and opens its streams.
sg_begin() {
	# A disk that cannot be written any more is no reason not to show them.
	[ -e "$sg_at.out" ] || printf '' >>"$sg_at.out"
	[ -e "$sg_at.err" ] || printf '' >>"$sg_at.err"
	sg_said=yes
	sg_say running "${sg_runner:-$$}"
	[ "$sg_act" = kill ] || sg_open
}

# Shows the tail of stream $1 from its byte $2 on.
sg_rest() {
	[ -s "$sg_at.$1.tail" ] || return 0
	sg_block=$(($2 - sg_head))
	if [ "$sg_block" -lt 0 ]; then sg_block=0; fi
	tail -c "+$((sg_block + 1))" "$sg_at.$1.tail"
}

# Sleeps for a tick; a signal ends it early. What sleeps already is not started again.
sg_nap() {
	if ! sg_lives "$sg_sleep"; then
		# shellcheck disable=SC2217 # whoever asks must not wait for it
		LC_ALL=C sleep "$sg_tick" </dev/null >/dev/null 2>&1 &
		sg_sleep=$!
	fi
	wait "$sg_sleep"
	# A sleep that knows no fractions fails at once.
	case $? in 0) ;; 12[7-9] | 1[3-9]?) ;; *) sg_tick=1 ;; esac
}

# Sets sg_left to the processes of the step's session that live. One process looks for them, because a shell reads byte by byte
# and hosts may run thousands; whatever it finds is looked at again, because a process may have any name.
sg_look() {
	sg_left=
	[ "$sg_of_session" ] || return 0
	sg_wanted=${sg_of_session% *} sg_wanted_born=${sg_of_session#* }
	# The one that is about to lead the session is not in it yet.
	# shellcheck disable=SC2013 # names in /proc have no spaces
	for sg_process in $(LC_ALL=C grep -lsE "^$sg_wanted \\(|\\) [^ ]+ -?[0-9]+ -?[0-9]+ $sg_wanted " /proc/[0-9]*/stat); do
		sg_process=${sg_process#/proc/} sg_process=${sg_process%/stat}
		sg_stat "$sg_process" || continue
		[ "$sg_session" = "$sg_wanted" ] ||
			{ [ "$sg_process" = "$sg_wanted" ] && [ "$sg_born" = "$sg_wanted_born" ]; } || continue
		case $sg_state in Z | X) ;; *) sg_left="$sg_left $sg_process" ;; esac
	done
}

# Whether the process that leads the step's session lives.
sg_is_led() {
	[ "$sg_of_session" ] && sg_stat "${sg_of_session% *}" && [ "$sg_born" = "${sg_of_session#* }" ] && [ "$sg_state" != Z ]
}

# Ends everything in the step's session: TERM, the grace, KILL; sets sg_left to what lives on.
sg_end_session() {
	# What has not begun does not begin any more; what begins just now is waited for.
	sg_note 'session void 0'
	sg_learn
	for sg_signal in TERM KILL; do
		sg_asked=
		while :; do
			sg_look
			[ "$sg_left" ] || return 0
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
		[ "$sg_of_out" ] || sg_of_out="$(sg_count out) 0"
		[ "$sg_of_err" ] || sg_of_err="$(sg_count err) 0"
		sg_counts=" $sg_of_out $sg_of_err"
	fi
	sg_last="$1 $2$sg_counts"
	sg_note "exit $sg_last"
	sg_learn
}

# Prints how much of stream $1 was kept.
sg_count() {
	if [ -e "$sg_at.$1" ]; then printf %s "$(($(wc -c <"$sg_at.$1")))"; else printf 0; fi
}

# Returns whether both streams are at their end.
sg_all_said() {
	sg_learn
	[ "$sg_of_both" ] || { [ "$sg_of_out" ] && [ "$sg_of_err" ]; }
}

# Waits for the streams' ends a little: what was left in the background may hold them.
sg_linger() {
	sg_naps=0
	while ! sg_all_said && { [ "$sg_naps" -lt 10 ] || sg_lives "$sg_waiter"; }; do
		[ "$sg_naps" -lt 2 ] || [ ! "$sg_waiter" ] || kill -s TERM "$sg_waiter" 2>/dev/null
		[ ! "$sg_shown" ] || sg_show
		sg_nap
		sg_naps=$((sg_naps + 1))
	done
}

# Starts the script in its own session. Whoever waits for it reads its streams too, if it ended before anybody began to, and
# ends with its status.
sg_start() {
	# shellcheck disable=SC2094 # what the shell itself says is wanted
	{
		(
			sg_enter 2>/dev/null || exit 125
			exec 9<&-
			sg_job
		) >&3 2>&4 3>&- 4>&- 6<&- 7<&- 8<&-
		sg_code=$? sg_word=exit sg_enough=
		trap sg_enough=yes TERM
		[ ! -s "$sg_at.both" ] || sg_word=signal
		exec 2>/dev/null 3>&- 4>&-
		sg_note "code $sg_code $sg_word"
		if ! sg_claim waiter; then sg_wake; elif [ "$sg_named" ]; then sg_readers; else sg_gather; fi
		exit "$sg_code"
	} </dev/null >/dev/null 2>"$sg_at.both" &
	sg_waiter=$! sg_child=$!
	exec 3>&- 4>&-
}

# Says what the script's status $1 means. A shell folds a signal into the status and says so on standard error ($2 is
# "signal" then): dash and busybox for all signals but INT and PIPE, bash not for TERM either.
sg_verdict() {
	case $sg_of_session in
		'' | 'void 0')
			# It never began.
			if [ "$sg_act" = kill ]; then sg_stop=cancelled; fi
			sg_record "${sg_stop:-died}" -
			return 0
			;;
	esac
	if [ "$1" -gt 128 ] && { [ "$2" = signal ] || [ "$1" -eq 130 ] || [ "$1" -eq 141 ] ||
		{ [ "${BASH_VERSION:-}" ] && [ "$1" -eq 143 ]; }; }; then
		sg_record signal "$(($1 - 128))"
	else
		sg_record exit "$1"
	fi
}

# Takes the status of whoever waited for the script, who is gone and could not write it down, on a full disk. A large one may
# be that of a signal that ended them, and bash has numbers of its own; then nobody knows.
sg_bereave() {
	wait "$sg_child"
	sg_status=$?
	case $sg_status in
		[0-9] | [0-9][0-9] | 1[01][0-9] | 12[0-8]) [ ! "$sg_of_session" ] || sg_of_code="$sg_status exit" ;;
	esac
	[ "$sg_of_code" ] || sg_stop=died
}

# Reads what is left of the streams when whoever was to read them is gone.
sg_inherit() {
	sg_learn
	if [ "$sg_of_both" ] || [ -e "$sg_at.out" ]; then
		# They were read, or somebody reads them.
		return 0
	elif sg_claim watcher; then
		sg_readers
	elif grep -qF "$sg_mark" "$sg_at.both"; then
		sg_of_both=yes
	fi 2>/dev/null
}

# Watches the step that this process started.
sg_watch() {
	# What ends at once costs hardly any processes; what does not is shown soon.
	sg_tick=0.18 sg_began=
	while [ ! "$sg_stop" ]; do
		sg_nap
		sg_learn
		if ! sg_lives "$sg_child" && ! sg_is_led; then
			sg_learn
			[ "$sg_of_code" ] || sg_bereave
			[ ! "$sg_stop" ] || break
		fi
		[ ! "$sg_of_code" ] || break
		# What has not begun has nothing to show.
		[ "$sg_of_session" ] || continue
		sg_clock
		if [ "$sg_began" ]; then
			# Its first output is shown soon, however busy the host is.
			case $sg_tick in
				0.02) sg_tick=0.04 ;;
				0.04) sg_tick=0.08 ;;
				0.08) sg_tick=0.2 ;;
			esac
		else
			[ "$sg_tick" = 1 ] || sg_tick=0.02
			# Who waits for the script reads them already, if it ended just now.
			sg_claim watcher || continue
			sg_readers
			exec 6<&- 7<&- 8<&-
			sg_waiter='' sg_began=$sg_now sg_quiet=$sg_now
			[ "$sg_idle" -eq 0 ] || : >"$sg_at.quiet"
			sg_begin
		fi
		sg_show
		if [ "$sg_idle" -gt 0 ] && { [ "$sg_at.out" -nt "$sg_at.quiet" ] || [ "$sg_at.err" -nt "$sg_at.quiet" ] ||
			[ "$sg_at.out.new" -nt "$sg_at.quiet" ] || [ "$sg_at.err.new" -nt "$sg_at.quiet" ]; }; then
			sg_quiet=$sg_now
			: >"$sg_at.quiet"
		fi
		if [ "$sg_limit" -gt 0 ] && sg_is_over "$sg_began" "$sg_limit"; then sg_stop=timed_out; fi
		# What was printed last may still be on its way into the file.
		if [ "$sg_idle" -gt 0 ] && sg_is_over "$((sg_quiet + 20))" "$sg_idle"; then sg_stop=idle; fi
	done
	if [ ! "$sg_began" ]; then
		sg_lives "$sg_child" || sg_inherit
		exec 6<&- 7<&- 8<&-
	fi
	# What ended by itself before it was stopped ended by itself.
	sg_learn
	if [ "$sg_of_code" ]; then
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
	sg_runner=$1 sg_old_boot=$2 sg_old_born=$3
	sg_naps=0
	while sg_learn && [ ! "$sg_of_exit" ]; do
		# What ends at once is said to run when it is shown.
		if [ ! "$sg_said" ] && [ -e "$sg_at.out" ] && [ -e "$sg_at.err" ]; then sg_begin; fi
		if [ "$sg_old_boot" != "$sg_boot" ]; then
			# shellcheck disable=SC2086 # the words are wanted
			if [ "$sg_of_code" ]; then
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
			if [ "$sg_of_code" ]; then
				sg_linger
				# shellcheck disable=SC2086 # the words are wanted
				sg_verdict $sg_of_code
			else
				sg_end_session
				sg_ended=died
				if [ "$sg_act" = kill ]; then sg_ended=cancelled; fi
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
	mkdir -p "$sg_at.files" && chmod 700 "$sg_at.files" && printf %s "$sg_script" >"$sg_at.files/$sg_nonce.sh" || return 1
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

# Does what it was sent for. A step leaves the shell to whatever is sent next.
sg_main() {
	sg_tick=0.2 sg_stop='' sg_left='' sg_last='' sg_said='' sg_shown='' sg_waiter='' sg_runner=''
	sg_at=$sg_base/$sg_id
	[ ! "$sg_since" ] || sg_recall
	case $sg_act in
		run | kill | want)
			# Whoever comes later, with whatever was sent before, is not to start it either.
			[ -e "$sg_at.state" ] || ! sg_is_younger || sg_gate 'run 0 lost 0' forgotten || :
			;;
	esac
	[ ! "$sg_needs" ] || [ -e "$sg_at.state" ] || sg_look_for_needs
	sg_mark="spoolgate-err $sg_id"
	# Whoever does not hear this knows that the gate was not passed from here: when nobody listens any more, it is not.
	sg_say here "$$" 2>/dev/null || exit 0
	case $sg_act in
		run)
			if [ ! "$sg_begun" ] && sg_gate "run $$ $sg_boot $sg_own_born"; then
				sg_run
			else
				sg_follow
				sg_finish
			fi
			exec 9<&-
			[ ! "$sg_clean" ] || sg_sweep
			return 0
			;;
		kill)
			# Whoever passes the gate first decides whether it runs at all.
			if [ ! "$sg_begun" ] && sg_gate void; then
				sg_say end 'never - 0 0 0 0'
			else
				sg_follow
				sg_say end "$sg_of_exit"
			fi
			;;
		forget)
			# Its log is with whoever asks; what its script printed need not stay here.
			if sg_open_state && sg_learn && { [ "$sg_of_exit" ] || [ "$sg_of_run" = void ]; }; then
				for sg_stream in out err out.tail err.tail both script; do
					[ ! -e "$sg_at.$sg_stream" ] || : >"$sg_at.$sg_stream"
				done
				rm -rf "$sg_at.files"
				sg_say end 'forgotten - 0 0 0 0'
			fi
			;;
		want)
			sg_say running "$$"
			# What has begun has had its files.
			if [ -e "$sg_at.state" ] || sg_files sg_want; then sg_say end 'exit 0 - 0 - 0'; else sg_say end 'exit 1 - 0 - 0'; fi
			;;
		take)
			sg_say running "$$"
			if cat "$sg_at.files/fetched.kind" "$sg_at.files/fetched"; then
				sg_say end 'exit 0 - 0 - 0'
			else
				sg_say end 'exit 1 - 0 - 0'
			fi
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
	if ! printf %s "$sg_script" >"$sg_at.script" || ! sg_pipes; then
		sg_say end 'never - 0 0 0 0'
		exit 0
	fi
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

sg_sleep=''
# Caught, not ignored: what is ignored here would be ignored by the script.
trap : HUP PIPE USR1
trap 'sg_stop=cancelled' TERM
command -v setsid >/dev/null || sg_refuse 'this host has no setsid; install util-linux or busybox'
sg_stat "$$" || sg_refuse 'this host has no /proc'
sg_own_born=$sg_born
read -r sg_boot </proc/sys/kernel/random/boot_id
sg_find_base || sg_refuse 'no directory for the runner: the home, /var/tmp and /tmp are not writable, or belong to others'
sg_main

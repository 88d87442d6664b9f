#!/bin/sh
# Puts files in their places, each whole or not at all. What is there already, with its mode and owner, stays as it is.
# Arguments by fours: SHA-256, mode, owner ("-": whoever this runs as), place.
#
# A file gets its mode and owner in a directory that nobody else can write, and goes to its place by renames: whoever owns the
# folder of the place can hold nothing else out to be changed.
umask 077
failed=0 new=''
trap '[ ! "$new" ] || rm -f "$new"' EXIT
trap 'exit 143' TERM

fail() {
	printf '%s\n' "$1" >&2
	failed=1
}

# Sets sum to the SHA-256 of a file.
digest_of() {
	sum=$(sha256sum <"$1") && sum=${sum%% *}
}

# Whether a place holds a file of its own with this mode and owner already.
is_dressed() {
	set -- "$1" -perm "$mode"
	case $owner in
		-) ;;
		:*) set -- "$@" -group "${owner#:}" ;;
		*:*) set -- "$@" -user "${owner%%:*}" -group "${owner#*:}" ;;
		*) set -- "$@" -user "$owner" ;;
	esac
	path=$1
	shift
	[ "$(find "$path" -prune -type f -links 1 "$@" 2>/dev/null)" ]
}

# Makes a folder, and what leads there; what is made gets the owner.
make_folder() {
	if [ ! -d "$1/" ]; then
		case $1 in */*) make_folder "${1%/*}" || return 1 ;; esac
		mkdir -m 755 -- "$1" || return 1
		[ "$owner" = - ] || chown -h -- "$owner" "$1"
	fi
}

# A "mv" that takes no directory for a folder to put things in, where there is one.
plain=-T
: >"$SPOOLGATE_FILES/.try"
mv -f -T -- "$SPOOLGATE_FILES/.try" "$SPOOLGATE_FILES/.tried" 2>/dev/null || plain=

# Renames; the owner of a folder could make a name that leads elsewhere, where "mv" does not refuse that.
rename() {
	if [ "$plain" ]; then
		mv -f -T -- "$1" "$2"
	else
		[ -O "$folder/" ] && [ ! -L "$2" ] && mv -f -- "$1" "$2"
	fi
}

while [ "$#" -ge 4 ]; do
	digest=$1 mode=$2 owner=$3 place=$4
	shift 4
	arrived=$SPOOLGATE_FILES/$digest whole=
	# A large one was compared while it came.
	if [ -f "$arrived.whole" ]; then arrived=$arrived.whole whole=yes; fi
	if [ -d "$place" ]; then
		fail "$place is a directory; nothing was put there"
		continue
	fi
	if [ -f "$place" ] && digest_of "$place" && [ "$sum" = "$digest" ]; then
		if is_dressed "$place"; then
			printf 'unchanged %s\n' "$place"
			continue
		fi
		[ -f "$arrived" ] || cp -- "$place" "$arrived"
	fi
	if [ ! -f "$arrived" ]; then
		fail "$place: its bytes did not arrive"
		continue
	fi
	folder=${place%/*}
	if ! make_folder "$folder"; then
		fail "$place: its folder cannot be made"
		continue
	fi
	# The same bytes may be wanted in another place too.
	dressed=$arrived.dressed again=
	for other; do
		[ "$other" != "$digest" ] || again=yes
	done
	if [ "$again" ]; then whole= && cp -- "$arrived" "$dressed"; else mv -f -- "$arrived" "$dressed"; fi
	if [ ! "$whole" ] && { ! digest_of "$dressed" || [ "$sum" != "$digest" ]; }; then
		fail "$place: what arrived is not what was approved"
	elif { [ "$owner" != - ] && ! chown -- "$owner" "$dressed"; } || ! chmod -- "$mode" "$dressed"; then
		fail "$place: its mode or owner cannot be set"
	else
		new=$folder/.spoolgate-$SPOOLGATE_TASK-$$
		if rename "$dressed" "$new" && rename "$new" "$place"; then
			# Where there are security contexts, a file has that of its place.
			! command -v restorecon >/dev/null 2>&1 || restorecon "$place" 2>/dev/null
			printf 'changed %s\n' "$place"
		else
			fail "$place: its folder cannot be written"
		fi
		rm -f "$new"
		new=
	fi
	rm -f "$dressed"
done
rm -rf "$SPOOLGATE_FILES"
exit "$failed"

#!/bin/sh
# Puts files in their places, each whole or not at all. What is there already stays as it is, but for mode and owner.
# Arguments by fours: SHA-256, mode, owner ("-": whoever this runs as), place.
umask 077
failed=0 new=
trap 'rm -f "$new"' EXIT
trap 'exit 143' TERM

fail() {
	printf '%s\n' "$1" >&2
	failed=1
}

# Sets sum to the SHA-256 of a file.
digest_of() {
	sum=$(sha256sum <"$1") && sum=${sum%% *}
}

# Gives a file its mode and owner; the owner first, because a change of owner may take bits of the mode away.
dress() {
	[ "$owner" = - ] || chown -- "$owner" "$1" || return 1
	chmod -- "$mode" "$1"
}

while [ "$#" -ge 4 ]; do
	digest=$1 mode=$2 owner=$3 place=$4
	shift 4
	if [ -d "$place" ]; then
		fail "$place is a directory; nothing was put there"
		continue
	fi
	if [ -f "$place" ] && digest_of "$place" && [ "$sum" = "$digest" ]; then
		if dress "$place"; then printf 'unchanged %s\n' "$place"; else fail "$place: its mode or owner cannot be set"; fi
		continue
	fi
	arrived=$SPOOLGATE_FILES/$digest
	if [ ! -f "$arrived" ]; then
		fail "$place: its bytes did not arrive"
		continue
	fi
	again=
	for other; do
		[ "$other" != "$digest" ] || again=yes
	done
	folder=${place%/*}
	[ -d "$folder/" ] || (umask 022 && mkdir -p -- "$folder")
	new=$folder/.spoolgate-$SPOOLGATE_TASK-$$
	if [ "$again" ]; then cp -- "$arrived" "$new"; else mv -- "$arrived" "$new"; fi || {
		fail "$place: its folder cannot be written"
		rm -f "$new"
		continue
	}
	# Where there are security contexts, a file has that of its place.
	! command -v restorecon >/dev/null 2>&1 || restorecon "$new" 2>/dev/null
	if ! digest_of "$new" || [ "$sum" != "$digest" ]; then
		fail "$place: what arrived is not what was approved"
		rm -f "$new"
	elif dress "$new" && mv -f -- "$new" "$place"; then
		printf 'changed %s\n' "$place"
	else
		fail "$place: its mode or owner cannot be set, or it cannot be replaced"
		rm -f "$new"
	fi
done
rm -rf "$SPOOLGATE_FILES"
exit "$failed"

#!/bin/sh
# Takes a copy of a file, or of a directory as a tar archive, to be carried away. Arguments: its path, the most bytes.
umask 077
path=$1 most=$2 copy=$SPOOLGATE_FILES/fetched kind=file
mkdir -p "$SPOOLGATE_FILES" || exit 1
if [ -d "$path" ]; then
	kind=tar
	{
		tar -cf - -C "$path" .
		code=$?
		case $code in
			0) ;;
			# What is written while it is read is read as far as it was.
			1) printf '%s: something in it changed meanwhile\n' "$path" >&2 ;;
			*) printf 'tar: exit code %s\n' "$code" >"$copy.failed" ;;
		esac
	} | head -c "$((most + 1))" >"$copy"
elif [ -f "$path" ]; then
	head -c "$((most + 1))" <"$path" >"$copy" || exit 1
else
	printf '%s: there is no such file or directory\n' "$path" >&2
	exit 1
fi
size=$(wc -c <"$copy")
if [ "$size" -gt "$most" ]; then
	rm -rf "$SPOOLGATE_FILES"
	printf '%s: more than %s bytes; raise "most_bytes" of the step, or fetch less\n' "$path" "$most" >&2
	exit 1
fi
if [ -e "$copy.failed" ]; then
	cat "$copy.failed" >&2
	rm -rf "$SPOOLGATE_FILES"
	exit 1
fi
sum=$(sha256sum <"$copy") || exit 1
printf '%s %s\n' "$kind" "${sum%% *}" >"$copy.kind" || exit 1
printf '%s: %s bytes\n' "$path" "$((size))"

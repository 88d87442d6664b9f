#!/bin/sh
# Packs SOURCE (absolute, with : between) into TARGET/NAME-TIME.tar.gz with its SHA-256 beside it, checks the archive,
# and keeps the newest KEEP of that name (0 keeps all). Never overwrites an archive; an archive that is there under
# its name is whole. A file that changes while it is packed is a failure.
set -eu
umask 077

fail() {
    printf 'backup: %s\n' "$*" >&2
    exit 1
}

case $NAME in
'' | [!A-Za-z0-9]* | *[!A-Za-z0-9._-]*) fail "NAME is $NAME; wanted letters, digits and . _ -" ;;
esac
case $TARGET in /*) ;; *) fail "TARGET is $TARGET; wanted an absolute path" ;; esac
case $KEEP in '' | *[!0-9]* | 0?* | ??????*) fail "KEEP is $KEEP; wanted a whole number from 0 to 99999" ;; esac

mkdir -p -- "$TARGET"
into=$(cd -P -- "$TARGET" && pwd)

# The paths become the positional parameters, each whole; no word is split or taken for a pattern but at the colons.
set -f
old_ifs=$IFS
IFS=:
# shellcheck disable=SC2086 # split at the colons on purpose
set -- $SOURCE
IFS=$old_ifs
set +f
[ "$#" -gt 0 ] || fail "SOURCE is empty; wanted absolute paths with : between"
for path in "$@"; do
    case $path in /*) ;; *) fail "SOURCE holds '$path'; wanted absolute paths" ;; esac
    [ -e "$path" ] || [ -L "$path" ] || fail "$path is not there"
    if [ -d "$path" ]; then
        inside=$(cd -P -- "$path" && pwd)
        case $into/ in "${inside%/}"/*) fail "TARGET $TARGET is inside $path; wanted it outside of what is packed" ;; esac
    fi
done

stamp=$(date -u +%Y%m%dT%H%M%SZ)
file=$into/$NAME-$stamp.tar.gz
[ ! -e "$file" ] || fail "$file is there already; it is left as it is"
part=$(mktemp "$into/.$NAME.XXXXXX")
list=$(mktemp "$into/.$NAME.XXXXXX")
trap 'rm -f -- "$part" "$list"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# From the root and without the first slash, so that unpacking writes where one stands.
for path in "$@"; do
    shift
    relative=${path#/}
    set -- "$@" "./${relative:-.}"
done
tar -czf "$part" -C / -- "$@" || fail "tar could not pack everything; no archive is kept"

# Read it back whole: gzip checks its sums, tar the structure.
gzip -t <"$part" || fail "the archive is broken; it is not kept"
tar -tzf "$part" >"$list" || fail "the archive cannot be listed; it is not kept"
entries=$(wc -l <"$list")
[ "$entries" -gt 0 ] || fail "the archive is empty; it is not kept"
sum=$(sha256sum <"$part")
sum=${sum%% *}

# A hard link never replaces what is there, unlike a rename.
ln -- "$part" "$file" || fail "cannot make $file; when it is there already it is left as it is"
printf '%s  %s\n' "$sum" "$(basename -- "$file")" >"$file.sha256"
(cd -- "$into" && sha256sum -c -- "$(basename -- "$file").sha256" >/dev/null) || fail "$file does not have its SHA-256"
printf 'archive: %s\nentries: %s\nbytes: %s\nsha256: %s\n' "$file" "$((entries))" "$(($(wc -c <"$file")))" "$sum"

[ "$KEEP" -gt 0 ] || exit 0
# The names differ in the time only, so the order of names is the order of time.
set -- "$into/$NAME"-[0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]T[0-9][0-9][0-9][0-9][0-9][0-9]Z.tar.gz
while [ "$#" -gt "$KEEP" ]; do
    rm -f -- "$1" "$1.sha256"
    printf 'removed: %s\n' "$1"
    shift
done

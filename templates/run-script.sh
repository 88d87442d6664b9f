#!/bin/sh
# Runs the script at SCRIPT with ARG1 to ARG5 in the directory DIR; refuses one whose SHA-256 is not SHA256 (when
# that is given), or that others may write to. Exits as the script does.
set -eu

fail() {
    printf 'run-script: %s\n' "$*" >&2
    exit 1
}

case $SCRIPT in
/*) ;;
*) fail "SCRIPT is $SCRIPT; wanted an absolute path" ;;
esac
[ -f "$SCRIPT" ] || fail "$SCRIPT is not a file on this host"
[ -x "$SCRIPT" ] || fail "$SCRIPT is not executable; try: chmod +x"
[ -z "$(find -L "$SCRIPT" -prune -perm -0002)" ] || fail "$SCRIPT may be written by anybody; try: chmod o-w"
cd -- "$DIR" || fail "cannot go to the directory $DIR"

if [ -n "${SHA256:-}" ]; then
    found=$(sha256sum <"$SCRIPT")
    [ "${found%% *}" = "$SHA256" ] || fail "$SCRIPT has the SHA-256 ${found%% *}; wanted $SHA256"
fi

set --
if [ -n "${ARG1+given}" ]; then
    set -- "$@" "$ARG1"
    if [ -n "${ARG2+given}" ]; then
        set -- "$@" "$ARG2"
        if [ -n "${ARG3+given}" ]; then
            set -- "$@" "$ARG3"
            if [ -n "${ARG4+given}" ]; then
                set -- "$@" "$ARG4"
                if [ -n "${ARG5+given}" ]; then
                    set -- "$@" "$ARG5"
                fi
            fi
        fi
    fi
fi
exec "$SCRIPT" "$@"

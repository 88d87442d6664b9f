#!/bin/sh
# Says where and when it runs and which parameters it got. Changes nothing.
#
# SPOOLGATE_PARAMS, when set, holds the names of the task's parameters; without it the usual names are shown.
set -eu

printf 'hello from %s\n' "$(uname -n)"
printf 'host in the inventory: %s\n' "${SPOOLGATE_HOST:-unknown}"
printf 'task: %s\n' "${SPOOLGATE_TASK:-none}"
printf 'time: %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)"
# awk reads a variable by its name without anything being evaluated.
for name in ${SPOOLGATE_PARAMS:-VERSION TAG GIT_URL APP_NAME arg01 arg02 arg03}; do
    awk -v name="$name" 'BEGIN { if (name in ENVIRON) printf "%s: %s\n", name, ENVIRON[name] }'
done

# Sourced by ./run and the scripts beside it: progress lines, logs, who the servers run as.
# shellcheck shell=bash

export LC_ALL=C.UTF-8
LOGS=$PWD/build/logs
mkdir -p "$LOGS"

if [ -t 1 ]; then
  BOLD=$'\e[1m' DIM=$'\e[2m' RED=$'\e[31m' GREEN=$'\e[32m' PLAIN=$'\e[0m'
else
  BOLD='' DIM='' RED='' GREEN='' PLAIN=''
fi

die() {
  echo "${RED}$*${PLAIN}" >&2
  exit 1
}

# step <log name> <text> <command…>: runs the command with its output in build/logs/<log name>.log and
# says how long it took. A failure shows the end of the log; the function then returns 1. STEP_LOG is the log.
step() {
  local log=$LOGS/$1.log text=$2 began=$SECONDS
  STEP_LOG=$log
  shift 2
  printf '%s ' "$text …"
  if "$@" >"$log" 2>&1 </dev/null; then
    echo "${GREEN}done${PLAIN} ${DIM}($((SECONDS - began)) s)${PLAIN}"
  else
    echo "${RED}failed${PLAIN} ($((SECONDS - began)) s); the end of $log:"
    tail -n 30 "$log" | sed 's/^/    /'
    return 1
  fi
}

# PostgreSQL refuses to run as root, and so does holdfast: root's servers run as `postgres`.
SERVER_USER=$(id -un)
[ "$(id -u)" != 0 ] || SERVER_USER=postgres

# as_server <command…>: runs it as the user that owns the servers.
as_server() {
  if [ "$(id -u)" = 0 ]; then
    setpriv --reuid="$SERVER_USER" --regid="$SERVER_USER" --init-groups --reset-env -- \
      env LC_ALL=C.UTF-8 PATH="$PATH" "$@"
  else
    "$@"
  fi
}

# All C++ sources of ours, NUL-terminated. Without git: the demo's machine may have none.
sources() {
  find src tests -name '*.cc' -print0 -o -name '*.h' -print0 | sort -z
}

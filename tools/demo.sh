#!/usr/bin/env bash
# ./run demo: a real PostgreSQL is backed up, destroyed and restored, with the statements that a DBA would type.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."
source tools/shell/common.sh

keep=
for argument in "$@"; do
  case $argument in
    --keep) keep=yes ;;
    *) die "usage: ./run demo [--keep]" ;;
  esac
done

PGBIN=/usr/lib/postgresql/15/bin
PATH=$PGBIN:$PATH
SCALE=${HOLDFAST_DEMO_SCALE:-20}
began=$SECONDS

# A short path for the sockets, owned by the user that runs the servers, wherever the checkout is.
home=$(mktemp -d /tmp/holdfast-demo-XXXXXX)
chmod 755 "$home"
cp build/release/holdfast "$home/holdfast"
chmod 755 "$home/holdfast"
[ "$(id -u)" != 0 ] || chown -R "$SERVER_USER": "$home"
data=$home/data sockets=$home/sockets
as_server mkdir -p "$sockets" "$home/store" "$home/backups"

free_port() { # first free one from $1 on
  local port=$1
  while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done
  echo "$port"
}
pg_port=$(free_port 54320) port=$(free_port 26257) http_port=$(free_port 8080)

daemon_pid=
stop_all() {
  if [ -n "$daemon_pid" ] && kill "$daemon_pid" 2>/dev/null; then
    while kill -0 "$daemon_pid" 2>/dev/null; do sleep 0.1; done
  fi
  [ ! -f "$data/postmaster.pid" ] || as_server pg_ctl -D "$data" -m immediate -w stop >/dev/null 2>&1 || true
}
clean_up() {
  local code=$?
  trap - EXIT
  if [ $code -ne 0 ]; then
    echo "${RED}The demo failed.${PLAIN} The ends of the logs:"
    tail -n 20 "$home"/*.log 2>/dev/null || true
  fi
  if [ $code -ne 0 ] || [ -z "$keep" ]; then
    stop_all
    rm -rf "$home"
  fi
  exit $code
}
trap clean_up EXIT
trap 'exit 130' INT TERM

say() { printf '\n%s\n' "${BOLD}$*${PLAIN}"; }
shell() { # shown as typed, then run
  echo "${DIM}\$${PLAIN} $*"
}

# Every connection below goes to holdfast, through its Unix socket: for everything but its own statements that is PostgreSQL.
query() { as_server psql -X -h "$sockets" -p "$port" -U postgres -v ON_ERROR_STOP=1 "$@"; }
statement() { # database, text
  echo "${DIM}$1=#${PLAIN} ${BOLD}$2;${PLAIN}"
  query -d "$1" -c "$2"
}

# The value of one column of SHOW JOB: PostgreSQL may be down, so nothing but holdfast is asked.
job_field() { # job, column
  query -d postgres -A -F $'\t' -P footer=off -c "SHOW JOB $1" |
    awk -F '\t' -v column="$2" 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == column) n = i } NR == 2 { print $n }'
}

drawn=
draw() { # fraction, text
  if [ ! -t 1 ]; then # a log: one line for each change
    [ "$drawn" = "$1 $2" ] || printf '  %3.0f %%  %s\n' "$(awk -v f="$1" 'BEGIN { print f * 100 }')" "$2"
    drawn="$1 $2"
    return
  fi
  local width=32 filled
  filled=$(awk -v f="$1" -v w=$width 'BEGIN { n = int(f * w + 0.5); if (n < 0) n = 0; if (n > w) n = w; print n }')
  printf '\r  [%s%s] %3.0f %%  %-72.72s' "$(printf '%*s' "$filled" '' | tr ' ' '#')" "$(printf '%*s' $((width - filled)) '' | tr ' ' '.')" \
    "$(awk -v f="$1" 'BEGIN { print f * 100 }')" "$2"
}

# Runs a detached statement and draws its progress until the job has ended.
with_progress() { # database, statement without WITH detached
  local job status line fraction
  echo "${DIM}$1=#${PLAIN} ${BOLD}$2 WITH detached;${PLAIN}"
  job=$(query -d "$1" -Atq -c "$2 WITH detached")
  echo "  job $job; SHOW JOB $job says:"
  while :; do
    line=$(query -d postgres -A -F $'\t' -P footer=off -c "SHOW JOB $job" | awk -F '\t' '
      NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i }
      NR == 2 { print $at["status"] "\t" $at["fraction_completed"] "\t" $at["running_status"] }')
    IFS=$'\t' read -r status fraction text <<<"$line"
    case $status in
      succeeded)
        draw 1 "succeeded"
        [ ! -t 1 ] || echo
        break
        ;;
      failed | canceled | paused) echo && die "job $status: $(job_field "$job" error)" ;;
      *) draw "${fraction:-0}" "${text:-$status}" ;;
    esac
    sleep 0.1
  done
}

# A digest of every row of every table, computed by PostgreSQL.
digest() {
  local database
  for database in bank pgbench; do
    query -d "$database" -Atq <<'SQL'
SELECT format('SELECT %L, count(*), md5(sum(hashtextextended(t::text, 0)::numeric)::text) FROM %I.%I t',
              current_database() || '.' || n.nspname || '.' || c.relname, n.nspname, c.relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema') ORDER BY c.relname
\gexec
SQL
  done
}

start_daemon() {
  as_server "$home/holdfast" start --pgdata "$data" --store "$home/store" --pg-bin "$PGBIN" \
    --pg-url "postgresql://postgres@/postgres?host=$sockets&port=$pg_port" --listen "127.0.0.1:$port" \
    --http "127.0.0.1:$http_port" --socket-dir "$sockets" --external-io-dir "$home/backups" \
    --background --pid-file "$home/holdfast.pid" --log-file "$home/holdfast.log" || die "holdfast did not start"
  daemon_pid=$(cat "$home/holdfast.pid")
}

make_server() {
  as_server initdb -D "$data" -U postgres --auth=trust --data-checksums --no-sync -E UTF8 --locale=C.UTF-8
  as_server tee -a "$data/postgresql.conf" >/dev/null <<CONF
port = $pg_port
listen_addresses = '127.0.0.1'
unix_socket_directories = '$sockets'
shared_buffers = 256MB
max_wal_size = 2GB
CONF
  as_server pg_ctl -D "$data" -l "$home/postgres.log" -w start
}

make_data() {
  local direct=(-h "$sockets" -p "$pg_port" -U postgres)
  as_server psql -X "${direct[@]}" -q -c "CREATE DATABASE pgbench" -c "CREATE DATABASE bank"
  as_server pgbench "${direct[@]}" -q -i -s "$SCALE" pgbench
  as_server psql -X "${direct[@]}" -q -v ON_ERROR_STOP=1 bank <<'SQL'
CREATE TABLE customers (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name text NOT NULL, email text UNIQUE);
CREATE TABLE accounts (id bigint PRIMARY KEY, customer_id uuid NOT NULL REFERENCES customers, balance numeric(12,2) NOT NULL);
INSERT INTO customers (name, email) SELECT 'Customer ' || i, 'customer' || i || '@example.com' FROM generate_series(1, 50000) i;
INSERT INTO accounts SELECT row_number() OVER (), id, round((random() * 10000)::numeric, 2) FROM customers, generate_series(1, 2);
ANALYZE;
SQL
}

say "1. A PostgreSQL 15 with data, and holdfast beside it"
step demo-server "Making a private PostgreSQL on port $pg_port" make_server || exit 1
step demo-data "Filling it: pgbench (scale $SCALE) and the bank database" make_data || exit 1
shell "holdfast start --pgdata $data --background"
start_daemon
statement bank "SELECT count(*) AS accounts, sum(balance) FROM accounts"
statement postgres "SELECT datname, pg_size_pretty(pg_database_size(oid)) AS size FROM pg_database WHERE NOT datistemplate ORDER BY 1"
echo "A digest of every row of every table:"
before=$(digest)
echo "$before" | column -t -s '|' 2>/dev/null || echo "$before"

say "2. Back it up"
from=$(date +%s%N)
with_progress postgres "BACKUP INTO 'nodelocal://self/archive'"
backup_ms=$((($(date +%s%N) - from) / 1000000))
statement postgres "SHOW BACKUPS IN 'nodelocal://self/archive'"
statement postgres "SELECT database_name, object_name, size_bytes, rows FROM [SHOW BACKUP FROM LATEST IN 'nodelocal://self/archive'] WHERE object_type = 'table' AND rows > 0 AND parent_schema_name = 'public'"

say "3. Lose it"
shell "kill -9 \$(head -1 $data/postmaster.pid)"
postmaster=$(head -n 1 "$data/postmaster.pid")
kill -9 "$postmaster"
while kill -0 "$postmaster" 2>/dev/null; do sleep 0.1; done
shell "rm -rf $data"
sleep 0.5
rm -rf "$data"
shell "ls $data"
ls "$data" 2>&1 || true
echo "${DIM}bank=#${PLAIN} ${BOLD}SELECT count(*) FROM accounts;${PLAIN}"
query -d bank -c "SELECT count(*) FROM accounts" 2>&1 || true

say "4. Bring it back"
from=$(date +%s%N)
with_progress postgres "RESTORE FROM LATEST IN 'nodelocal://self/archive'"
restore_ms=$((($(date +%s%N) - from) / 1000000))
statement bank "SELECT count(*) AS accounts, sum(balance) FROM accounts"
after=$(digest)
echo "$after" | column -t -s '|' 2>/dev/null || echo "$after"
[ -n "$before" ] || die "there was nothing to compare"
[ "$before" = "$after" ] || die "The digests differ."

size=$(du -sm "$data" | cut -f 1)
stored=$(du -sm "$home/backups" | cut -f 1)
say "${GREEN}Every row is back: the digests before and after are the same."
printf '  backup   %5d.%01d s   (%d MB of PostgreSQL in %d MB)\n' $((backup_ms / 1000)) $((backup_ms % 1000 / 100)) "$size" "$stored"
printf '  restore  %5d.%01d s   until PostgreSQL answered again\n' $((restore_ms / 1000)) $((restore_ms % 1000 / 100))
printf '  all      %5d   s\n' $((SECONDS - began))

if [ -n "$keep" ]; then
  trap - EXIT
  say "It is still running. Connect as usual; everything that is not holdfast's goes to PostgreSQL:"
  echo "  psql -h 127.0.0.1 -p $port -U postgres bank"
  echo "Then try:"
  echo "  BACKUP INTO 'nodelocal://self/archive' WITH detached;"
  echo "  SHOW JOBS;"
  echo "  SHOW BACKUP FROM LATEST IN 'nodelocal://self/archive' WITH check_files;"
  echo "  SELECT * FROM [SHOW JOBS] WHERE status = 'succeeded';"
  echo "  RESTORE FROM LATEST IN 'nodelocal://self/archive' WITH data_directory = '$home/copy';"
  echo "Stop it and remove everything:"
  echo "  kill $daemon_pid && $PGBIN/pg_ctl -D $data stop; rm -rf $home"
else
  say "To look around yourself:"
  echo "  ./run demo --keep     leaves both running and tells how to connect:"
  echo "                        psql -h 127.0.0.1 -p $port -U postgres bank"
  echo "  docs/install.md       puts holdfast beside your own PostgreSQL"
fi

#!/usr/bin/env bash
# The whole road on a cluster of three nodes: load a real database, see it replicated,
# back it up, lose it and a node with it, bring it back, and prove with fingerprints
# that every row and index entry returned.
# Usage: test/demo.sh path/to/holdfast
set -euo pipefail
bin=$(realpath "${1:?usage: demo.sh path/to/holdfast}")
here=$(dirname "$(realpath "$0")")
dir=$(mktemp -d "${TMPDIR:-/tmp}/holdfast-demo-XXXXXX")

# stop SIGNAL NUMBER...: ends nodes and waits for them.
stop() {
  local signal=$1 pids=() pid i
  shift
  for i in "$@"; do [ -s "$dir/pid$i" ] && pids+=("$(cat "$dir/pid$i")"); done
  for pid in "${pids[@]}"; do kill "-$signal" "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do
    for _ in $(seq 300); do kill -0 "$pid" 2>/dev/null || continue 2; sleep 0.1; done
    kill -KILL "$pid" 2>/dev/null || true
  done
  for i in "$@"; do rm -f "$dir/pid$i"; done
}
cleanup() {
  status=$?
  trap - EXIT
  stop TERM 1 2 3
  if [ $status -ne 0 ]; then
    echo "demo failed; what the nodes said:"
    for i in 1 2 3; do tail -n 20 "$dir/node$i.log" "$dir/store$i/logs/holdfast.log" 2>/dev/null || true; done
  fi
  rm -rf "$dir"
  exit $status
}
trap cleanup EXIT
trap 'exit 130' INT TERM

say() { printf '\n== %s\n' "$*"; }
url() { echo "postgresql://root@127.0.0.1:${port[$1]}/$2?sslmode=disable"; }
# sql NODE DATABASE STATEMENT and value NODE DATABASE STATEMENT: as a table, and bare.
sql() { "$bin" sql --url "$(url "$1" "$2")" --format=table -e "$3"; }
value() { "$bin" sql --url "$(url "$1" "$2")" --format=tsv -e "$3" | tail -n +2; }
# await SECONDS WHAT WANT COMMAND...: until the command prints what is wanted.
await() {
  local seconds=$1 what=$2 want=$3 got='' end=$((SECONDS + $1))
  shift 3
  until got=$("$@" 2>&1) && [ "$got" = "$want" ]; do
    if [ $SECONDS -ge $end ]; then echo "$what: waited for ${seconds} s, got: $got"; return 1; fi
    sleep 0.3
  done
}

# Three ports in a row that nobody uses, below those that the system gives to clients.
free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
for _ in $(seq 100); do
  base=$((20000 + RANDOM % 12000))
  if free $base && free $((base + 1)) && free $((base + 2)); then break; fi
done
port=(0 "$base" $((base + 1)) $((base + 2)))
region=(none us-east eu-west ap-south)
start() {
  "$bin" start --insecure --store="$dir/store$1" --listen-addr="127.0.0.1:${port[$1]}" --http-addr=127.0.0.1:0 \
    --join="127.0.0.1:${port[1]},127.0.0.1:${port[2]},127.0.0.1:${port[3]}" --locality="region=${region[$1]}" \
    --cache=64MiB --max-sql-memory=128MiB --background --pid-file="$dir/pid$1" >>"$dir/node$1.log" 2>&1
}

say "start three nodes in $dir, and make one cluster of them"
start 1
"$bin" init --insecure --host="127.0.0.1:${port[1]}"
start 2
start 3
for i in 1 2 3; do await 60 "node $i" 3 value $i defaultdb "SELECT count(*) FROM crdb_internal.gossip_nodes WHERE is_available"; done
sql 1 defaultdb "SELECT node_id, address, locality, is_available FROM crdb_internal.gossip_nodes ORDER BY 1"
echo "psql '$(url 2 defaultdb)' would connect to the second"

say "load Chinook, a music shop: 11 tables, 15,607 rows"
"$bin" sql --url "$(url 1 defaultdb)" -f "$here/testdata/chinook/Chinook_PostgreSql.sql" >/dev/null
sql 2 chinook "SELECT c.country, count(*), sum(i.total) FROM customer c JOIN invoice i USING (customer_id) GROUP BY 1 ORDER BY 3 DESC, 1 LIMIT 3"
thin="SELECT count(*) FROM [SHOW CLUSTER RANGES] WHERE coalesce(array_length(voting_replicas, 1), 0) <> 3"
await 120 "three replicas of every range" 0 value 1 chinook "$thin"
sql 3 chinook "SELECT range_id, table_name, voting_replicas, lease_holder, lease_holder_locality
               FROM [SHOW RANGES FROM DATABASE chinook WITH TABLES, DETAILS] ORDER BY table_name LIMIT 4"
tables=$(value 2 chinook "SELECT table_name FROM [SHOW TABLES] ORDER BY 1")
fingerprints() { # NODE
  for t in $tables; do
    value "$1" chinook "SHOW EXPERIMENTAL_FINGERPRINTS FROM TABLE $t" | sed "s/^/$t\t/"
  done
}
fingerprints 2 >"$dir/before"
echo "every range is on all three nodes; fingerprints of $(wc -l <"$dir/before") indexes taken"

say "back it up, from the second node to the disk of the first"
sql 2 defaultdb "BACKUP DATABASE chinook INTO 'nodelocal://1/shop' WITH revision_history"
moment=$(value 2 chinook "SELECT cluster_logical_timestamp()")
sql 2 chinook "UPDATE track SET unit_price = unit_price * 2; DELETE FROM playlist_track WHERE playlist_id = 1"
sql 2 defaultdb "BACKUP DATABASE chinook INTO LATEST IN 'nodelocal://1/shop' WITH revision_history"
sql 2 defaultdb "SELECT backup_type, end_time, sum(rows) AS rows, sum(size_bytes) AS bytes
                 FROM [SHOW BACKUP FROM LATEST IN 'nodelocal://1/shop'] GROUP BY 1, 2 ORDER BY 2"

say "disaster: the database is gone, and the third node is killed"
sql 2 defaultdb "DROP DATABASE chinook CASCADE"
stop KILL 3

say "bring it back, on two nodes of three, as it was before the prices were doubled"
job=$(value 2 defaultdb "RESTORE DATABASE chinook FROM LATEST IN 'nodelocal://1/shop' AS OF SYSTEM TIME '$moment' WITH detached")
for _ in $(seq 600); do
  row=$(value 2 defaultdb "SELECT status, round(fraction_completed::numeric * 100)::int, running_status FROM [SHOW JOB $job]")
  if [ "$row" != "${last:-}" ]; then echo "job $job: $row"; fi
  last=$row
  case $row in succeeded*) break ;; failed* | canceled* | paused*) exit 1 ;; esac
  sleep 0.2
done
case $last in succeeded*) ;; *) echo "the restore has not ended in time"; exit 1 ;; esac
fingerprints 2 >"$dir/after"
diff "$dir/before" "$dir/after"
echo "all $(wc -l <"$dir/after") fingerprints are equal: every row and index entry came back"

say "the third node returns and has it all, too"
start 3
await 60 "the third node" 3 value 3 defaultdb "SELECT count(*) FROM crdb_internal.gossip_nodes WHERE is_available"
await 120 "three replicas of every range" 0 value 3 chinook "$thin"
fingerprints 3 >"$dir/third"
diff "$dir/before" "$dir/third"
sql 3 chinook "SELECT round(sum(total), 2) AS total FROM invoice"

say "what the nodes did"
sql 3 defaultdb "SELECT job_type, status, coordinator_id AS node, fraction_completed, description
                 FROM [SHOW JOBS] WHERE job_type IN ('BACKUP', 'RESTORE') ORDER BY created"
echo
echo "demo succeeded"

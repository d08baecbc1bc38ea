#!/usr/bin/env bash
# The whole road on one node: load a real database, back it up, lose it, bring it
# back, and prove with fingerprints that every row and index entry returned.
# Usage: test/demo.sh path/to/holdfast
set -euo pipefail
bin=$(realpath "${1:?usage: demo.sh path/to/holdfast}")
here=$(dirname "$(realpath "$0")")
dir=$(mktemp -d "${TMPDIR:-/tmp}/holdfast-demo-XXXXXX")
cleanup() {
  status=$?
  if [ -s "$dir/pid" ]; then
    pid=$(cat "$dir/pid")
    kill "$pid" 2>/dev/null || true
    for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
  fi
  if [ $status -ne 0 ]; then echo "demo failed; node output:"; tail -n 40 "$dir/node.log" || true; fi
  rm -rf "$dir"
}
trap cleanup EXIT

say() { printf '\n== %s\n' "$*"; }
sql() { "$bin" sql --url "$url" --format=table "$@"; }
value() { "$bin" sql --url "$url" --format=tsv -e "$1" | tail -n +2; }

say "start a node in $dir"
"$bin" start-single-node --insecure --store="$dir/store" --listen-addr=127.0.0.1:0 --http-addr=127.0.0.1:0 \
  --background --pid-file="$dir/pid" --listening-url-file="$dir/url" >"$dir/node.log" 2>&1
url=$(head -n 1 "$dir/url")
echo "psql '$url' would connect to it"

say "load Chinook, a music shop: 11 tables, 15,607 rows"
"$bin" sql --url "$url" -f "$here/testdata/chinook/Chinook_PostgreSql.sql" >/dev/null
url=${url/defaultdb/chinook}
sql -e "SELECT c.country, count(*), sum(i.total) FROM customer c JOIN invoice i USING (customer_id) GROUP BY 1 ORDER BY 3 DESC, 1 LIMIT 3"
tables=$(value "SELECT table_name FROM [SHOW TABLES] ORDER BY 1")
fingerprints() {
  for t in $tables; do
    value "SHOW EXPERIMENTAL_FINGERPRINTS FROM TABLE $t" | sed "s/^/$t\t/"
  done
}
fingerprints >"$dir/before"
echo "fingerprints of $(wc -l <"$dir/before") indexes taken"

say "back it up"
sql -e "BACKUP DATABASE chinook INTO 'nodelocal://1/shop' WITH revision_history"
moment=$(value "SELECT cluster_logical_timestamp()")
sql -e "UPDATE track SET unit_price = unit_price * 2; DELETE FROM playlist_track WHERE playlist_id = 1"
sql -e "BACKUP DATABASE chinook INTO LATEST IN 'nodelocal://1/shop' WITH revision_history"
sql -e "SELECT backup_type, end_time, sum(rows) AS rows, sum(size_bytes) AS bytes
        FROM [SHOW BACKUP FROM LATEST IN 'nodelocal://1/shop'] GROUP BY 1, 2 ORDER BY 2"

say "disaster: the database is gone"
url=${url/chinook/defaultdb}
sql -e "DROP DATABASE chinook CASCADE"

say "bring it back as it was before the prices were doubled"
job=$(value "RESTORE DATABASE chinook FROM LATEST IN 'nodelocal://1/shop' AS OF SYSTEM TIME '$moment' WITH detached")
while :; do
  row=$(value "SELECT status, round(fraction_completed::numeric * 100)::int, running_status FROM [SHOW JOB $job]")
  echo "job $job: $row"
  case $row in succeeded*) break ;; failed* | canceled* | paused*) exit 1 ;; esac
  sleep 0.2
done
url=${url/defaultdb/chinook}
fingerprints >"$dir/after"
diff "$dir/before" "$dir/after"
echo "all $(wc -l <"$dir/after") fingerprints are equal: every row and index entry came back"
sql -e "SELECT round(sum(total), 2) AS total FROM invoice"

say "what the node did"
sql -e "SELECT job_type, status, fraction_completed, description FROM [SHOW JOBS] WHERE job_type IN ('BACKUP', 'RESTORE') ORDER BY created"
echo
echo "demo succeeded"

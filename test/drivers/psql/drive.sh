#!/usr/bin/env bash
# Drives a node through psql: drive.sh HOST PORT. Each check compares what psql
# prints, or only that it prints no error.
set -u
export PGHOST=$1 PGPORT=$2 PGUSER=root PGDATABASE=defaultdb PGCONNECT_TIMEOUT=10 PAGER=cat LC_ALL=C.UTF-8
failed=0
psql=(psql -X -q -v ON_ERROR_STOP=1 -P pager=off)

fine() { # NAME [psql arguments]; standard input is the script
  local name=$1 out
  shift
  if out=$("${psql[@]}" "$@" 2>&1) && ! grep -qE '^(psql:.*)?ERROR' <<<"$out"; then echo "ok   $name"; else
    failed=$((failed + 1))
    echo "FAIL $name: $out" | tail -30
  fi
}

is() { # NAME WANT [psql arguments]
  local name=$1 want=$2 out
  shift 2
  out=$("${psql[@]}" -At "$@" 2>&1)
  if [ "$out" = "$want" ]; then echo "ok   $name"; else
    failed=$((failed + 1))
    echo "FAIL $name: got $out"
    echo "want $want"
  fi
}

fine schema <<'SQL'
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS ps CASCADE;
CREATE SCHEMA ps;
SET search_path = ps;
CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE TABLE p (id SERIAL PRIMARY KEY, name TEXT NOT NULL UNIQUE, m mood DEFAULT 'sad', n NUMERIC(10,2) CHECK (n > 0));
CREATE TABLE c (id INT PRIMARY KEY, p INT REFERENCES p ON DELETE CASCADE, d DATE);
CREATE INDEX by_d ON c (d DESC, p);
CREATE VIEW v AS SELECT id, name FROM p;
COMMENT ON TABLE p IS 'the parents';
COMMENT ON COLUMN p.n IS 'money';
INSERT INTO p (name, n) SELECT 'n' || i, i FROM generate_series(1, 100) AS g(i);
INSERT INTO c SELECT i, i, date '2024-01-01' + i FROM generate_series(1, 100) AS g(i);
SQL

for cmd in '\l' '\l+' '\d' '\d+' '\dt' '\dt+' '\dt ps.*' '\dt *.*' '\d ps.p' '\d+ ps.p' '\d+ ps.c' '\d+ ps.v' '\d ps.by_d' '\d ps.p_id_seq' '\di' '\di+ ps.*' '\dn' '\dn+' '\du' '\du+' '\dg' '\dv ps.*' '\dv+ ps.*' \
  '\ds ps.*' '\ds+ ps.*' '\dm' '\df' '\df lower' '\df+ upper' '\da' '\dT' '\dT+ ps.*' '\dp ps.*' '\z' '\ddp' '\db' '\dc' '\dC' '\dD' '\do' '\dO' '\dL' '\dx' '\dy' '\dF' '\des' '\dew' '\det' '\deu' '\drds' '\dRp' '\dRs' '\dX' '\dconfig' '\dl' '\dd' '\dE' '\dA' '\dAc' '\dP' \
  '\conninfo' '\encoding' '\sv ps.v' '\sv+ ps.v' '\timing on' '\errverbose' '\h SELECT' '\? variables' '\set' '\pset' '\du root' '\dt "no such"' '\dn pub*' '\l def*'; do
  fine "$cmd" -c "$cmd"
done

is 'columns of \d' $'id|nextval(\'ps.p_id_seq\'::regclass)\nm|\'sad\'::ps.mood' -F '|' <<<"SELECT attname, pg_get_expr(adbin, adrelid) FROM pg_attribute JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum WHERE attrelid = 'ps.p'::regclass ORDER BY attnum"

is gexec $'1\n2' <<<"SELECT format('SELECT %s', i) FROM generate_series(1, 2) AS g(i) \\gexec"
is gset 'x=7' <<<$'SELECT 7 AS x \\gset\n\\echo x=:x'
is crosstabview $'1|x|\n2||y' <<<"SELECT * FROM (VALUES (1, 'a', 'x'), (2, 'b', 'y')) AS t (r, c, v) \\crosstabview"
is gdesc $'a|integer\nb|text\nc|numeric(5,2)' <<<"SELECT 1 AS a, 'x'::text AS b, 1::numeric(5,2) AS c \\gdesc"
is FETCH_COUNT 5000 <<<$'\\set FETCH_COUNT 77\n\\o | wc -l\nSELECT i FROM generate_series(1, 5000) AS g(i);\n\\o'
is watch 7 <<<"$(printf '%s\n' "SELECT 7 \\watch 0.1" | timeout 2 "${psql[@]}" -At 2>/dev/null | head -2 | uniq | sed 's/^/\\echo /')"
is 'if and variables' yes <<<$'\\set a 1\nSELECT :a = 1 AS t \\gset\n\\if :t\n\\echo yes\n\\else\n\\echo no\n\\endif'
is 'quoted variables' "it's|it's" <<<$'\\set v "it\'s"\n\\set v \'it\\\'s\'\nSELECT :\'v\', $$it\'s$$;'
is 'several statements' $'1\n2' -c 'SELECT 1; SELECT 2'
is 'one transaction' 0 -1 -c "DELETE FROM ps.c WHERE id < 0" -c "SELECT count(*) FROM ps.c WHERE id < 0"
is 'ON_ERROR_ROLLBACK' 1 -v ON_ERROR_ROLLBACK=on -v ON_ERROR_STOP=0 <<<$'\\set VERBOSITY sqlstate\nBEGIN;\n\\o /dev/null\n\\o\nSELECT 1;\nCOMMIT;'
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
is 'copy' $'100\n100' <<<"\\copy ps.c TO '$tmp/c.csv' WITH (FORMAT csv, HEADER)
CREATE TABLE ps.c2 (LIKE ps.c);
\\copy ps.c2 FROM '$tmp/c.csv' WITH (FORMAT csv, HEADER)
SELECT count(*) FROM ps.c2;
\\copy (SELECT * FROM ps.c2) TO PROGRAM 'wc -l' "
is 'copy from stdin in a script' 2 <<<$'CREATE TABLE ps.st (a INT);\nCOPY ps.st FROM STDIN;\n1\n2\n\\.\nSELECT count(*) FROM ps.st;'
is 'error position' $'ERROR:  column "qqqqqq" does not exist\nLINE 1: SELECT id, qqqqqq FROM ps.p\n                   ^' -v ON_ERROR_STOP=0 -c 'SELECT id, qqqqqq FROM ps.p'
is 'html' '<table border="1">' -H -c 'SELECT 1' -o "$tmp/h" -c "\\! head -1 $tmp/h"
is 'prompt' 'root@defaultdb' <<<"SELECT current_user || '@' || current_database();"

[ $failed = 0 ] || { echo "$failed checks failed"; exit 1; }

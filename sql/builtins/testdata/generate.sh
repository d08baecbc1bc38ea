#!/bin/sh
# Computes the golden files: evaluates each line of *.exprs with PostgreSQL 15 and
# writes *.golden with "expression<TAB>type<TAB>value", or "…<TAB>ERROR<TAB>code: message".
# Usage: PGHOST=… PGPORT=… PGUSER=… ./generate.sh   (an empty database, C locale, UTC)
set -eu
cd "$(dirname "$0")"
for f in *.exprs; do
    {
        printf '%s\n' '\pset tuples_only on' '\pset format unaligned' "\pset fieldsep '\t'" '\pset null NULL' '\set VERBOSITY verbose'
        echo "SET timezone='America/New_York';"
        grep -v -e '^--' -e '^$' "$f" | while IFS= read -r e; do
            printf '%s\n' '\echo @@'
            printf "SELECT pg_typeof(v), v FROM (SELECT %s AS v) q;\n" "$e"
        done
    } | psql -qX -d postgres 2>&1 | awk '
        /^@@$/ { if (n++) print buf; buf = ""; next }
        /^(LINE|LOCATION|HINT|DETAIL|CONTEXT|QUERY)[: ]/ || /^ +\^$/ { next }
        { sub(/^(psql:[^ ]* )?ERROR:  /, "ERROR\t"); buf = buf (buf == "" ? "" : "\\n") $0 }
        END { print buf }' >/tmp/golden.$$
    grep -v -e '^--' -e '^$' "$f" | paste - /tmp/golden.$$ >"${f%.exprs}.golden"
    rm /tmp/golden.$$
done

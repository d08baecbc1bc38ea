#!/bin/sh
# Rewrites data/ from a running PostgreSQL 15 (PGHOST, PGPORT, PGUSER say which):
# the columns of its system catalogs and information schema, and the rows of
# those catalogs that are the same on every server.
set -eu
cd "$(dirname "$0")/data"
q() { psql -X -At -F '	' -d postgres -c "$1"; }
# Domains of information_schema lose their qualifier below.
for s in pg_catalog information_schema; do
	q "select c.relname||'('||string_agg(a.attname||' '||format_type(a.atttypid,null)||case when a.attnotnull then '!' else '' end, ', ' order by a.attnum)||')'
	   from pg_class c join pg_attribute a on a.attrelid=c.oid where c.relnamespace='$s'::regnamespace and c.relkind in ('r','v') and a.attnum>0
	   and c.relname not like '\_pg%' group by c.oid, c.relname order by c.relname" \
		| sed 's/information_schema\.\([a-z_]*\)/\1/g' > $s.txt
done
rows() { # table, columns, condition
	{ echo "$2" | tr ',' '\t'; q "select $2 from $1 where $3 order by oid"; } > $1.tsv
}
rows pg_type "oid,typname,typlen,typbyval,typtype,typcategory,typispreferred,typdelim,typrelid,typsubscript,typelem,typarray,typinput,typoutput,typreceive,typsend,typmodin,typmodout,typanalyze,typalign,typstorage,typnotnull,typbasetype,typtypmod,typndims,typcollation" \
	"typtype in ('b','p') and oid<10000 and typrelid=0 and typnamespace='pg_catalog'::regnamespace"
rows pg_am "oid,amname,amhandler,amtype" "true"
rows pg_collation "oid,collname,collnamespace,collowner,collprovider,collisdeterministic,collencoding,collcollate,collctype,colliculocale,collversion" "collname in ('default','C','POSIX')"
rows pg_language "oid,lanname,lanowner,lanispl,lanpltrusted,lanplcallfoid,laninline,lanvalidator" "lanname<>'plpgsql'"
rows pg_operator "oid,oprname,oprkind,oprcanmerge,oprcanhash,oprleft,oprright,oprresult,oprcom,oprnegate,oprcode,oprrest,oprjoin" "oid<10000"
rows pg_cast "oid,castsource,casttarget,castfunc,castcontext,castmethod" "oid<20000"
rows pg_opclass "oid,opcmethod,opcname,opcfamily,opcintype,opcdefault,opckeytype" "true"
rows pg_opfamily "oid,opfmethod,opfname" "true"
rows pg_proc "oid,proname,prorettype,proargtypes,prokind,proretset,provolatile,proisstrict" "oid<10000 and prorettype not in ('cstring'::regtype,'internal'::regtype)"
q "select name from pg_timezone_names where name !~ '^posix' and name <> 'Factory' order by name" > timezones.txt

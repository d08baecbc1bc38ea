"""Drives a node through psycopg2: psycopg2_drive.py HOST PORT."""
import datetime as dt
import decimal
import io
import select
import sys
import threading
import time
import uuid

import psycopg2
import psycopg2.errorcodes
import psycopg2.errors
import psycopg2.extensions as ext
import psycopg2.extras as extras

from check import check, done, eq

dsn = "host=%s port=%s user=root dbname=defaultdb" % tuple(sys.argv[1:3])


def connect(more="", **kw):
    return psycopg2.connect(dsn + " " + more, **kw)


def rows(c, q, args=None):
    with c.cursor() as cur:
        cur.execute(q, args)
        return cur.fetchall() if cur.description else None


def fails(kind, fn):
    try:
        fn()
    except kind as e:
        return e
    raise AssertionError("no error, want %s" % kind.__name__)


c = connect("sslmode=disable")
c.autocommit = True
rows(c, "DROP SCHEMA IF EXISTS p2 CASCADE")
rows(c, "CREATE SCHEMA p2")
rows(c, "SET search_path = p2, public")
rows(c, "CREATE TYPE p2.mood AS ENUM ('sad', 'happy')")


@check("connect")
def _():
    for mode in ("disable", "allow", "prefer"):
        k = connect("sslmode=" + mode)
        eq(k.server_version >= 130000, True)
        eq(k.encoding, "UTF8")
        eq(k.get_parameter_status("integer_datetimes"), "on")
        eq(k.info.transaction_status, ext.TRANSACTION_STATUS_IDLE)
        k.close()
    fails(psycopg2.OperationalError, lambda: connect("sslmode=require"))
    e = fails(psycopg2.OperationalError, lambda: psycopg2.connect(dsn.replace("defaultdb", "nosuch")))
    eq('database "nosuch" does not exist' in str(e), True)


@check("types")
def _():
    extras.register_uuid()
    at = dt.datetime(2024, 2, 29, 12, 30, 45, 123456, tzinfo=dt.timezone.utc)
    values = [
        ("int2", -7), ("int4", 2**31 - 1), ("int8", 2**63 - 1), ("float8", 3.141592653589793), ("float4", 1.5), ("numeric", decimal.Decimal("-1234567890.12345")),
        ("bool", True), ("text", "grüße \" \\ ' 😀 %"), ("varchar", ""), ("date", dt.date(1999, 12, 31)), ("time", dt.time(23, 59, 59, 999999)), ("timestamp", dt.datetime(2024, 2, 29, 1, 2, 3, 4)),
        ("timestamptz", at), ("interval", dt.timedelta(days=-3, seconds=7, microseconds=5)), ("uuid", uuid.UUID(int=2**100 + 7)), ("int4[]", [1, None, -3]), ("text[]", ["a", "b c", 'q"\\', "", None]), ("float8[]", []),
        ("mood", "happy"), ("bool[]", [True, False]), ("date[]", [dt.date(2024, 1, 1)]), ("numeric[]", [decimal.Decimal("1.50")]),
        ("timetz", dt.time(12, 0, tzinfo=dt.timezone(dt.timedelta(hours=2)))),
    ]
    for typ, v in values:
        eq(rows(c, "SELECT %s::" + typ, (v,)), [(v,)])
        eq(rows(c, "SELECT %s::" + typ, (None,)), [(None,)])
    data = bytes(range(256)) * 10
    eq(bytes(rows(c, "SELECT %s::bytea", (psycopg2.Binary(data),))[0][0]), data)
    eq(rows(c, "SELECT %s::jsonb", (extras.Json({"a": [1, None, "x"]}),)), [({"a": [1, None, "x"]},)])
    eq(rows(c, "SELECT %s::inet::text", ("192.168.1.0/24",)), [("192.168.1.0/24",)])
    eq(rows(c, "SELECT 'NaN'::float8 = 'NaN'::float8, 'infinity'::float8 > 0, %s::float8", (float("-inf"),)), [(True, True, float("-inf"))])
    eq(rows(c, "SELECT 1 = ANY(%s), %s IN %s", ([1, 2], 3, (3, 4))), [(True, True)])
    for b in ("hex", "escape"):
        rows(c, "SET bytea_output = " + b)
        eq(bytes(rows(c, "SELECT %s::bytea", (psycopg2.Binary(data),))[0][0]), data)


@check("description")
def _():
    with c.cursor() as cur:
        cur.execute("SELECT 1::int4 AS a, 'x'::varchar(10) AS b, 1.5::numeric(10,2) AS c, NULL::timestamptz AS d")
        eq([d.name for d in cur.description], ["a", "b", "c", "d"])
        eq([d.type_code for d in cur.description], [23, 1043, 1700, 1184])
        eq((cur.description[2].precision, cur.description[2].scale), (10, 2))
        eq(cur.statusmessage, "SELECT 1")
        cur.execute("CREATE TABLE p2.d (a INT)")
        eq((cur.statusmessage, cur.rowcount), ("CREATE TABLE", -1))
        cur.execute("INSERT INTO p2.d SELECT generate_series(1, 5)")
        eq((cur.statusmessage, cur.rowcount), ("INSERT 0 5", 5))


@check("cursors")
def _():
    rows(c, "CREATE TABLE p2.cu AS SELECT g AS id, 'row ' || g AS s FROM generate_series(1, 5000) AS g")
    k = connect()
    with k:
        with k.cursor("named") as cur:
            cur.itersize = 100
            cur.execute("SELECT * FROM p2.cu WHERE id > %s ORDER BY id", (0,))
            eq(sum(r[0] for r in cur), 5000 * 5001 // 2)
        with k.cursor("back", scrollable=True) as cur:
            cur.execute("SELECT id FROM p2.cu ORDER BY id")
            eq(cur.fetchmany(3), [(1,), (2,), (3,)])
            cur.scroll(-2)
            eq(cur.fetchone(), (2,))
            cur.scroll(4990, mode="absolute")
            eq(len(cur.fetchall()), 10)
    with k.cursor("held", withhold=True) as cur:
        cur.execute("SELECT id FROM p2.cu ORDER BY id")
        k.commit()
        eq(cur.fetchone(), (1,))
    k.rollback()
    with k.cursor(cursor_factory=extras.RealDictCursor) as cur:
        cur.execute("SELECT id, s FROM p2.cu WHERE id = 1")
        eq(dict(cur.fetchone()), {"id": 1, "s": "row 1"})
    k.close()


@check("batches")
def _():
    rows(c, "CREATE TABLE p2.b (id INT PRIMARY KEY, s TEXT)")
    with c.cursor() as cur:
        cur.executemany("INSERT INTO p2.b VALUES (%s, %s)", [(i, "r%d" % i) for i in range(100)])
        extras.execute_batch(cur, "UPDATE p2.b SET s = %s WHERE id = %s", [("x%d" % i, i) for i in range(100)])
        got = extras.execute_values(cur, "INSERT INTO p2.b VALUES %s RETURNING id", [(i, "v") for i in range(100, 1100)], fetch=True, page_size=300)
        eq(len(got), 1000)
        extras.execute_values(cur, "UPDATE p2.b SET s = d.s FROM (VALUES %s) AS d (id, s) WHERE b.id = d.id", [(i, "w") for i in range(50)])
    eq(rows(c, "SELECT count(*), count(*) FILTER (WHERE s = 'w') FROM p2.b"), [(1100, 50)])


@check("transactions")
def _():
    k = connect()
    with k.cursor() as cur:
        cur.execute("CREATE TABLE p2.t (id INT PRIMARY KEY)")
        k.commit()
        cur.execute("INSERT INTO p2.t VALUES (1)")
        cur.execute("SAVEPOINT a")
        fails(psycopg2.errors.UniqueViolation, lambda: cur.execute("INSERT INTO p2.t VALUES (1)"))
        eq(k.info.transaction_status, ext.TRANSACTION_STATUS_INERROR)
        fails(psycopg2.errors.InFailedSqlTransaction, lambda: cur.execute("SELECT 1"))
        cur.execute("ROLLBACK TO SAVEPOINT a")
        cur.execute("INSERT INTO p2.t VALUES (2)")
        k.commit()
    eq(rows(c, "SELECT count(*) FROM p2.t"), [(2,)])
    for level in ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE", "READ UNCOMMITTED"):
        k.set_session(isolation_level=level)
        eq(rows(k, "SELECT 1"), [(1,)])
        k.rollback()
    k.set_session(readonly=True)
    fails(psycopg2.errors.ReadOnlySqlTransaction, lambda: rows(k, "INSERT INTO p2.t VALUES (3)"))
    k.rollback()
    k.close()


@check("serialization failures")
def _():
    rows(c, "CREATE TABLE p2.r (id INT PRIMARY KEY, n INT)")
    rows(c, "INSERT INTO p2.r VALUES (1, 0)")
    errors = []

    def work():
        try:
            k = connect()
            k.set_session(isolation_level="SERIALIZABLE")
            n = 0
            while n < 20:
                try:
                    with k, k.cursor() as cur:
                        cur.execute("SELECT n FROM p2.r WHERE id = 1")
                        cur.execute("UPDATE p2.r SET n = %s WHERE id = 1", (cur.fetchone()[0] + 1,))
                    n += 1
                except (psycopg2.errors.SerializationFailure, psycopg2.errors.DeadlockDetected):
                    pass
            k.close()
        except Exception as e:
            errors.append(e)
    ts = [threading.Thread(target=work) for _ in range(4)]
    [t.start() for t in ts]
    [t.join() for t in ts]
    eq(errors, [])
    eq(rows(c, "SELECT n FROM p2.r"), [(80,)])


@check("copy")
def _():
    rows(c, "CREATE TABLE p2.cp (id INT PRIMARY KEY, s TEXT, at TIMESTAMPTZ)")
    with c.cursor() as cur:
        cur.copy_from(io.StringIO("".join("%d\trow\\t%d\t\\N\n" % (i, i) for i in range(10000))), "cp", null="\\N")
        eq(cur.rowcount, 10000)
        cur.copy_expert("COPY p2.cp (id, s) FROM STDIN WITH (FORMAT csv, HEADER true, DELIMITER ';')", io.StringIO("id;s\n10001;\"a;\"\"b\"\n10002;\n"))
        out = io.StringIO()
        cur.copy_expert("COPY (SELECT id, s FROM p2.cp WHERE id > 9998 ORDER BY id) TO STDOUT WITH CSV", out)
        eq(out.getvalue(), "9999,row\t9999\n10001,\"a;\"\"b\"\n10002,\n")
        out = io.BytesIO()
        cur.copy_expert("COPY p2.cp TO STDOUT (FORMAT binary)", out)
        rows(c, "TRUNCATE p2.cp")
        out.seek(0)
        cur.copy_expert("COPY p2.cp FROM STDIN (FORMAT binary)", out)
        eq(rows(c, "SELECT count(*) FROM p2.cp"), [(10002,)])
        out = io.StringIO()
        cur.copy_to(out, "cp", columns=("id",))
        eq(len(out.getvalue().splitlines()), 10002)
        fails(psycopg2.errors.InvalidTextRepresentation, lambda: cur.copy_from(io.StringIO("x\ty\t\\N\n"), "cp"))

        class Broken:
            def read(self, n):
                raise ValueError("broken source")
        try:
            cur.copy_expert("COPY p2.cp FROM STDIN", Broken())
        except Exception as e:
            eq("broken source" in str(e) or "COPY from stdin failed" in str(e), True)
    eq(rows(c, "SELECT count(*) FROM p2.cp"), [(10002,)])


@check("errors")
def _():
    rows(c, "CREATE TABLE p2.e (id INT PRIMARY KEY, n INT NOT NULL CONSTRAINT pos CHECK (n > 0))")
    e = fails(psycopg2.errors.SyntaxError, lambda: rows(c, "SELEC 1"))
    eq((e.pgcode, e.diag.statement_position), ("42601", "1"))
    e = fails(psycopg2.errors.NotNullViolation, lambda: rows(c, "INSERT INTO p2.e VALUES (1, NULL)"))
    eq((e.diag.table_name, e.diag.column_name, e.diag.schema_name, e.diag.severity), ("e", "n", "p2", "ERROR"))
    eq(e.diag.message_detail, "Failing row contains (1, null).")
    e = fails(psycopg2.errors.CheckViolation, lambda: rows(c, "INSERT INTO p2.e VALUES (1, -1)"))
    eq((e.diag.constraint_name, e.diag.message_primary), ("pos", 'new row for relation "e" violates check constraint "pos"'))
    fails(psycopg2.errors.UndefinedTable, lambda: rows(c, "SELECT * FROM nix"))
    fails(psycopg2.errors.UndefinedFunction, lambda: rows(c, "SELECT nix(1)"))
    fails(psycopg2.errors.DivisionByZero, lambda: rows(c, "SELECT 1/0"))
    fails(psycopg2.errors.NumericValueOutOfRange, lambda: rows(c, "SELECT 99999999999::int4"))
    fails(psycopg2.errors.StringDataRightTruncation, lambda: rows(c, "CREATE TEMP TABLE tt (a VARCHAR(2)); INSERT INTO tt VALUES ('abc')"))
    fails(psycopg2.errors.InvalidDatetimeFormat, lambda: rows(c, "SELECT 'x'::date"))
    fails(psycopg2.errors.DuplicateTable, lambda: rows(c, "CREATE TABLE p2.e (a INT)"))
    eq(rows(c, "SELECT 1"), [(1,)])


@check("cancel")
def _():
    k = connect()
    threading.Timer(0.3, k.cancel).start()
    fails(psycopg2.errors.QueryCanceled, lambda: rows(k, "SELECT pg_sleep(30)"))
    k.rollback()
    rows(k, "SET statement_timeout = '200ms'")
    fails(psycopg2.errors.QueryCanceled, lambda: rows(k, "SELECT pg_sleep(30)"))
    k.close()
    k = connect("options='-c statement_timeout=300 -c application_name=x'")
    fails(psycopg2.errors.QueryCanceled, lambda: rows(k, "SELECT pg_sleep(30)"))
    k.close()
    k = connect()
    rows(k, "SET idle_in_transaction_session_timeout = 200")
    k.commit()
    rows(k, "SELECT 1")
    time.sleep(0.6)
    fails((psycopg2.OperationalError, psycopg2.InterfaceError), lambda: rows(k, "SELECT 1"))


@check("asynchronous")
def _():
    k = connect(async_=True)

    def wait():
        while True:
            s = k.poll()
            if s == ext.POLL_OK:
                return
            select.select([k] if s == ext.POLL_READ else [], [k] if s == ext.POLL_WRITE else [], [], 10)
    wait()
    cur = k.cursor()
    cur.execute("SELECT pg_sleep(0.1), 42")
    wait()
    eq(cur.fetchone()[1], 42)
    k.close()


@check("notices and empty queries")
def _():
    del c.notices[:]
    rows(c, "DROP TABLE IF EXISTS p2.never")
    eq(c.notices, ['NOTICE:  table "never" does not exist, skipping\n'])
    with c.cursor() as cur:
        fails(psycopg2.ProgrammingError, lambda: cur.execute(""))
        cur.execute("SELECT 1; SELECT 2")
        eq(cur.fetchall(), [(2,)])


@check("settings")
def _():
    k = connect()
    k.autocommit = True
    for zone, want in (("Europe/Berlin", "2024-07-01 14:00:00+02"), ("America/St_Johns", "2024-07-01 09:30:00-02:30"), ("UTC", "2024-07-01 12:00:00+00"), ("<+05>-05", "2024-07-01 17:00:00+05")):
        rows(k, "SET TIME ZONE %s", (zone,))
        eq(rows(k, "SELECT '2024-07-01 12:00:00+00'::timestamptz::text"), [(want,)])
        eq(rows(k, "SELECT '2024-07-01 12:00:00+00'::timestamptz")[0][0], dt.datetime(2024, 7, 1, 12, tzinfo=dt.timezone.utc))
    rows(k, "SET DateStyle = 'ISO, DMY'")
    eq(rows(k, "SELECT '02/03/2024'::date, %s::date, '02/03/2024'::text::date", ("02/03/2024",)), [(dt.date(2024, 3, 2),) * 3])
    rows(k, "SET DateStyle = 'ISO, MDY'")
    eq(rows(k, "SELECT '02/03/2024'::date"), [(dt.date(2024, 2, 3),)])
    rows(k, "SET IntervalStyle = 'iso_8601'")
    eq(rows(k, "SELECT interval '1 day 02:00'::text"), [("P1DT2H",)])
    k.set_client_encoding("UTF8")
    k.reset()
    eq(rows(k, "SHOW IntervalStyle"), [("postgres",)])
    k.close()
    k = connect("client_encoding=utf8 application_name='my app'")
    eq(rows(k, "SHOW application_name"), [("my app",)])
    k.close()


@check("big values and many parameters")
def _():
    s = "ü" * (6 << 20)
    rows(c, "CREATE TABLE p2.h (id INT PRIMARY KEY, s TEXT)")
    rows(c, "INSERT INTO p2.h VALUES (1, %s)", (s,))
    eq(rows(c, "SELECT s FROM p2.h")[0][0] == s, True)
    eq(rows(c, "SELECT count(*) FROM p2.cu WHERE id = ANY (%s)", (list(range(20000)),)), [(5000,)])
    eq(rows(c, "SELECT count(*) FROM p2.cu WHERE id IN %s", (tuple(range(10000)),)), [(5000,)])
    fails(ValueError, lambda: rows(c, "SELECT %s", ("a\0b",)))


@check("churn")
def _():
    for i in range(150):
        k = connect()
        if i % 10 == 0:
            eq(rows(k, "SELECT %s", (i,)), [(i,)])
        k.close()


@check("two-phase commit is refused")
def _():
    k = connect()
    k.tpc_begin(k.xid(1, "a", "b"))
    rows(k, "SELECT 1")
    e = fails((psycopg2.errors.FeatureNotSupported, psycopg2.errors.ObjectNotInPrerequisiteState), k.tpc_prepare)
    k.close()


done()

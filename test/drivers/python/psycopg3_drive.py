"""Drives a node through psycopg 3: psycopg3_drive.py HOST PORT."""
import asyncio
import datetime as dt
import decimal
import io
import ipaddress
import sys
import threading
import uuid

import psycopg
from psycopg import errors, sql
from psycopg.rows import dict_row, namedtuple_row
from psycopg.types.enum import EnumInfo, register_enum
from psycopg.types.json import Json, Jsonb
from psycopg.types import TypeInfo

from check import check, done, eq

dsn = "host=%s port=%s user=root dbname=defaultdb" % tuple(sys.argv[1:3])


def connect(**kw):
    kw.setdefault("autocommit", True)
    return psycopg.connect(dsn, **kw)


def fails(kind, fn):
    try:
        fn()
    except kind as e:
        return e
    raise AssertionError("no error, want %s" % kind)


c = connect()
c.execute("DROP SCHEMA IF EXISTS p3 CASCADE")
c.execute("CREATE SCHEMA p3")
c.execute("CREATE TYPE p3.mood AS ENUM ('sad', 'happy')")
c.execute("SET search_path = p3, public")


@check("types in text and binary")
def _():
    at = dt.datetime(2024, 2, 29, 12, 30, 45, 123456, tzinfo=dt.timezone.utc)
    values = [
        ("int2", -7), ("int4", 2**31 - 1), ("int8", -(2**63)), ("float8", 3.141592653589793), ("float4", 1.5), ("numeric", decimal.Decimal("-1234567890.12345")), ("numeric", decimal.Decimal("1e-20")),
        ("numeric", decimal.Decimal("100000")), ("bool", True), ("text", "grüße \" \\ ' 😀 %"), ("varchar", ""), ("bytea", bytes(range(256))), ("date", dt.date(1999, 12, 31)), ("time", dt.time(23, 59, 59, 999999)),
        ("timestamp", dt.datetime(2024, 2, 29, 1, 2, 3, 4)), ("timestamptz", at), ("interval", dt.timedelta(days=-3, seconds=7, microseconds=5)), ("uuid", uuid.UUID(int=2**100 + 7)),
        ("inet", ipaddress.ip_interface("192.168.1.7/24")), ("inet", ipaddress.ip_address("::1")), ("jsonb", {"a": [1, None, "x"]}),
        ("int4[]", [1, None, -3]), ("text[]", ["a", "b c", 'q"\\', "", None]), ("float8[]", []), ("bool[]", [True, False]), ("date[]", [dt.date(2024, 1, 1)]), ("numeric[]", [decimal.Decimal("1.50"), None]),
        ("uuid[]", [uuid.UUID(int=5)]), ("timestamptz[]", [at]), ("bytea[]", [b"\0\xff"]), ("timetz", dt.time(12, 0, tzinfo=dt.timezone(dt.timedelta(hours=2)))), ("mood", "happy"), ("oid", 4294967295),
    ]
    for fmt in ("%s", "%t", "%b"):
        for binary in (False, True):
            for typ, v in values:
                arg = Jsonb(v) if typ == "jsonb" else v
                if fmt == "%b" and typ in ("inet", "mood"):
                    continue
                for prepare in (False, True):
                    try:
                        got = c.execute("SELECT " + fmt + "::" + typ, (arg,), prepare=prepare, binary=binary).fetchone()[0]
                    except Exception as e:
                        raise AssertionError("%s %s binary=%s: %s" % (typ, fmt, binary, e))
                    if typ == "mood" and binary:
                        got = bytes(got).decode()  # a type that the driver does not know
                    if typ == "timestamptz[]":
                        got = [g.astimezone(dt.timezone.utc) for g in got]
                    eq((typ, binary, got), (typ, binary, v))
                eq(c.execute("SELECT %s::" + typ, (None,), binary=binary).fetchone()[0], None)


@check("a table of all types, prepared")
def _():
    c.execute("CREATE TABLE p3.t (id INT8 PRIMARY KEY, a INT2, b NUMERIC(12,3), m p3.mood, ms p3.mood[], j JSONB, v VARBIT, ts TIMESTAMPTZ DEFAULT now())")
    for i in range(12):
        c.execute("INSERT INTO p3.t (id, a, b, m, ms, j, v) VALUES (%s, %s, %s, %s, %s, %s, %s::varbit)", (i, i, decimal.Decimal(i) / 8, "sad", ["sad", "happy"], Json({"i": i}), "101"))
    with connect(row_factory=dict_row, prepare_threshold=0) as k:
        r = k.execute("SELECT * FROM p3.t WHERE id = %s", (3,), binary=True).fetchone()
        eq((r["a"], r["b"], bytes(r["m"]), r["j"]), (3, decimal.Decimal("0.375"), b"sad", {"i": 3}))


@check("enums")
def _():
    import enum
    info = EnumInfo.fetch(c, "p3.mood")
    eq(info.labels, ["sad", "happy"])
    Mood = enum.Enum("Mood", {"sad": 1, "happy": 2})
    with connect() as k:
        register_enum(info, k, Mood)
        for binary in (False, True):
            eq(k.execute("SELECT %s::p3.mood", (Mood.happy,), binary=binary).fetchone()[0], Mood.happy)
            eq(k.execute("SELECT %s::p3.mood[]", ([Mood.happy, Mood.sad],), binary=binary).fetchone()[0], [Mood.happy, Mood.sad])
    eq(TypeInfo.fetch(c, "uuid").oid, 2950)
    eq(TypeInfo.fetch(c, "nothing"), None)


@check("pipeline")
def _():
    c.execute("CREATE TABLE p3.p (id INT PRIMARY KEY, s TEXT)")
    with connect() as k:
        with k.pipeline() as p:
            cur = k.cursor()
            for i in range(100):
                cur.execute("INSERT INTO p3.p VALUES (%s, %s)", (i, "r%d" % i))
            r = k.execute("SELECT count(*) FROM p3.p")
            p.sync()
            eq(r.fetchone()[0], 100)

        def dup():
            with k.pipeline():
                k.execute("INSERT INTO p3.p VALUES (1000, 'x')")
                k.execute("INSERT INTO p3.p VALUES (1, 'x')")
                k.execute("SELECT 1")
        fails(errors.UniqueViolation, dup)
        eq(k.execute("SELECT 1").fetchone()[0], 1)
        # A pipeline within a transaction.
        with k.transaction():
            with k.pipeline():
                with k.transaction():
                    k.execute("INSERT INTO p3.p VALUES (2000, 'x')")
                k.execute("INSERT INTO p3.p VALUES (2001, 'x')")
        eq(k.execute("SELECT count(*) FROM p3.p WHERE id >= 2000").fetchone()[0], 2)
        with k.cursor() as cur:
            cur.executemany("INSERT INTO p3.p VALUES (%s, %s) RETURNING id", [(i, "m") for i in range(3000, 3100)], returning=True)
            n = 0
            while True:
                n += cur.fetchone()[0] - 3000
                if not cur.nextset():
                    break
            eq(n, 99 * 50)


@check("server cursors")
def _():
    c.execute("CREATE TABLE p3.cu AS SELECT g AS id, 'row ' || g AS s FROM generate_series(1, 5000) AS g")
    with connect(autocommit=False) as k:
        with k.cursor("named") as cur:
            cur.itersize = 100
            cur.execute("SELECT * FROM p3.cu WHERE id > %s ORDER BY id", (0,))
            eq(sum(r[0] for r in cur), 5000 * 5001 // 2)
        with k.cursor("b", scrollable=True, binary=True) as cur:
            cur.execute("SELECT id, s FROM p3.cu ORDER BY id", binary=True)
            cur.scroll(10)
            eq(cur.fetchone(), (11, "row 11"))
            cur.scroll(0, mode="absolute")
            eq(cur.fetchone(), (1, "row 1"))
            eq([d.name for d in cur.description], ["id", "s"])
    with connect() as k, k.cursor("held", withhold=True) as cur:
        cur.execute("SELECT id FROM p3.cu ORDER BY id")
        eq(len(cur.fetchall()), 5000)
    with c.cursor() as cur:
        eq(sum(r[0] for r in cur.stream("SELECT id FROM p3.cu")), 5000 * 5001 // 2)


@check("copy")
def _():
    c.execute("CREATE TABLE p3.cp (id INT PRIMARY KEY, s TEXT, at TIMESTAMPTZ, n NUMERIC, u UUID, j JSONB, m p3.mood, a INT[])")
    at = dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc)
    types = ["int4", "text", "timestamptz", "numeric", "uuid", "jsonb", "p3.mood", "int4[]"]
    row = lambda i: (i, "a\tb\\\n%d" % i, at, decimal.Decimal(i) / 4, uuid.UUID(int=i), Jsonb({"i": i}), "sad", [i, None])
    with c.cursor() as cur:
        with cur.copy("COPY p3.cp FROM STDIN") as cp:
            for i in range(1000):
                cp.write_row(row(i))
        with cur.copy("COPY p3.cp (id, s, at, n, u, j) FROM STDIN (FORMAT binary)") as cp:
            cp.set_types(types[:6])
            for i in range(1000, 2000):
                cp.write_row(row(i)[:6])
        eq(cur.rowcount, 1000)
        with cur.copy("COPY (SELECT id, s, n, u FROM p3.cp ORDER BY id) TO STDOUT (FORMAT binary)") as cp:
            cp.set_types(["int4", "text", "numeric", "uuid"])
            got = list(cp.rows())
        eq(got, [(i, row(i)[1], row(i)[3], row(i)[4]) for i in range(2000)])
        with cur.copy("COPY (SELECT id, s FROM p3.cp WHERE id < 3 ORDER BY id) TO STDOUT") as cp:
            eq(b"".join(bytes(b) for b in cp), b"0\ta\\tb\\\\\\n0\n1\ta\\tb\\\\\\n1\n2\ta\\tb\\\\\\n2\n")

        def broken():
            with cur.copy("COPY p3.cp (id) FROM STDIN") as cp:
                cp.write_row((9999,))
                raise ZeroDivisionError
        fails((ZeroDivisionError, errors.QueryCanceled), broken)

        def early():
            with cur.copy("COPY p3.cp TO STDOUT") as cp:
                cp.read()
                raise ZeroDivisionError
        fails(ZeroDivisionError, early)

        def extra():
            with cur.copy("COPY p3.cp (id) FROM STDIN") as cp:
                cp.write("1\t2\n")
        fails(errors.BadCopyFileFormat, extra)
    eq(c.execute("SELECT count(*) FROM p3.cp").fetchone()[0], 2000)


@check("transactions")
def _():
    c.execute("CREATE TABLE p3.x (id INT PRIMARY KEY)")
    with connect(autocommit=False) as k:
        with k.transaction() as tx:
            k.execute("INSERT INTO p3.x VALUES (1)")
            try:
                with k.transaction("inner name"):
                    k.execute("INSERT INTO p3.x VALUES (2)")
                    k.execute("INSERT INTO p3.x VALUES (1)")
            except errors.UniqueViolation:
                pass
            with k.transaction(force_rollback=True):
                k.execute("INSERT INTO p3.x VALUES (3)")
        eq(k.execute("SELECT array_agg(id) FROM p3.x").fetchone()[0], [1])
        k.rollback()
        for level in psycopg.IsolationLevel:
            k.isolation_level = level
            k.execute("SELECT 1")
            k.rollback()
        k.read_only = True
        fails(errors.ReadOnlySqlTransaction, lambda: k.execute("INSERT INTO p3.x VALUES (5)"))
        k.rollback()
        k.read_only, k.deferrable = True, True
        k.execute("SELECT 1")


@check("errors")
def _():
    c.execute("CREATE TABLE p3.e (id INT PRIMARY KEY, n INT NOT NULL CONSTRAINT pos CHECK (n > 0), u TEXT UNIQUE)")
    c.execute("INSERT INTO p3.e VALUES (1, 1, 'a')")
    e = fails(errors.UniqueViolation, lambda: c.execute("INSERT INTO p3.e VALUES (2, 1, 'a')"))
    eq((e.diag.constraint_name, e.diag.table_name, e.diag.schema_name, e.diag.message_detail), ("e_u_key", "e", "p3", "Key (u)=(a) already exists."))
    fails(psycopg.DataError, lambda: c.execute("SELECT %s", ("a\0b",)))
    e = fails(errors.UndefinedColumn, lambda: c.execute("SELECT id, nope FROM p3.e"))
    eq(e.diag.statement_position, "12")
    e = fails(psycopg.OperationalError, lambda: psycopg.connect(dsn.replace("defaultdb", "nosuch")))
    eq("does not exist" in str(e), True)


@check("notices")
def _():
    got = []
    with connect() as k:
        k.add_notice_handler(lambda d: got.append((d.severity, d.message_primary)))
        k.execute("CREATE TABLE IF NOT EXISTS p3.e (id INT)")
        k.execute("ROLLBACK")
    eq(got, [("NOTICE", 'relation "e" already exists, skipping'), ("WARNING", "there is no transaction in progress")])


@check("prepared statements and schema changes")
def _():
    with connect(prepare_threshold=2) as k:
        k.execute("CREATE TABLE p3.d (a INT)")
        for i in range(10):
            k.execute("INSERT INTO p3.d VALUES (%s)", (i,))
            k.execute("SELECT a FROM p3.d WHERE a = %s", (i,)).fetchall()
        eq(k.execute("SELECT count(*) > 0 FROM pg_prepared_statements").fetchone()[0], True)
        k.execute("ALTER TABLE p3.d ADD COLUMN b TEXT DEFAULT 'x'")
        eq(k.execute("SELECT a FROM p3.d WHERE a = %s", (1,)).fetchall(), [(1,)])
        for i in range(200):
            k.execute(sql.SQL("SELECT {}, %s").format(sql.Literal(i)), (1,), prepare=True)
    with connect(prepare_threshold=None) as k:
        k.execute("DISCARD ALL")
        eq(k.execute("SELECT %s", (1,)).fetchone()[0], 1)


@check("cancel")
def _():
    k = connect()
    threading.Timer(0.3, k.cancel).start()
    fails(errors.QueryCanceled, lambda: k.execute("SELECT pg_sleep(30)"))
    eq(k.execute("SELECT 1").fetchone()[0], 1)
    k.close()


@check("asyncio")
def _():
    async def one(i):
        async with await psycopg.AsyncConnection.connect(dsn) as k:
            cur = await k.execute("SELECT %s::int, pg_sleep(0.05)", (i,))
            return (await cur.fetchone())[0]

    async def main():
        return await asyncio.gather(*(one(i) for i in range(20)))
    eq(asyncio.run(main()), list(range(20)))


@check("big values and many parameters")
def _():
    s, b = "ü" * (6 << 20), bytes(12 << 20)
    r = c.execute("SELECT %s::text, %s::bytea", (s, b), binary=True).fetchone()
    eq((r[0] == s, r[1] == b), (True, True))
    ids = list(range(10000))
    eq(c.execute("SELECT count(*) FROM p3.cu WHERE id IN (" + ",".join(["%s"] * 10000) + ")", ids).fetchone()[0], 5000)
    eq(c.execute("INSERT INTO p3.x SELECT * FROM (VALUES " + ",".join(["(%s::int)"] * 5000) + ") v RETURNING id", range(100, 5100)).rowcount, 5000)


@check("client side cursors and composed statements")
def _():
    with psycopg.ClientCursor(c) as cur:
        cur.execute("SELECT %s, %s, %s", ("it's", None, dt.date(2024, 1, 1)))
        eq(cur.fetchone()[0], "it's")
        eq(cur.mogrify("SELECT %s", [b"\0"]), "SELECT '\\x00'::bytea")
    with c.cursor(row_factory=namedtuple_row) as cur:
        eq(cur.execute(sql.SQL("SELECT {} AS {}").format("x", sql.Identifier('odd "name'))).fetchone()[0], "x")
    eq(c.execute("").statusmessage, None)
    cur = c.execute("SELECT 1; SELECT 2, 3")
    eq(cur.fetchall(), [(1,)])
    cur.nextset()
    eq(cur.fetchall(), [(2, 3)])
    eq(c.info.parameter_status("TimeZone"), c.execute("SHOW timezone").fetchone()[0])


done()

"""Drives a node through asyncpg: asyncpg_drive.py HOST PORT."""
import asyncio
import datetime as dt
import decimal
import io
import ipaddress
import sys
import uuid

import asyncpg

from check import check, done, eq

args = dict(host=sys.argv[1], port=int(sys.argv[2]), user="root", database="defaultdb")


async def trial():
    c = await asyncpg.connect(**args)
    await c.execute("DROP SCHEMA IF EXISTS apg CASCADE; CREATE SCHEMA apg; CREATE TYPE apg.mood AS ENUM ('sad', 'happy')")
    await c.execute("CREATE TABLE apg.t (id SERIAL PRIMARY KEY, m apg.mood, ms apg.mood[], n NUMERIC, j JSONB, a INT[], ts TIMESTAMPTZ, i INTERVAL, u UUID, ip INET, b BYTEA)")
    row = ("happy", ["sad", "happy"], decimal.Decimal("1.5"), '{"a": 1}', [1, None], dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc), dt.timedelta(days=1, seconds=3), uuid.UUID(int=7), ipaddress.ip_address("10.0.0.1"), b"\0")
    r = await c.fetchrow("INSERT INTO apg.t (m, ms, n, j, a, ts, i, u, ip, b) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING *", *row)
    eq(tuple(r)[1:], row)
    await c.executemany("INSERT INTO apg.t (n) VALUES ($1)", [(i,) for i in range(100)])
    async with c.transaction():
        eq(len([r async for r in c.cursor("SELECT id FROM apg.t ORDER BY id", prefetch=7)]), 101)
        try:
            async with c.transaction():
                await c.execute("INSERT INTO apg.t (id) VALUES (1)")
        except asyncpg.UniqueViolationError as e:
            eq((e.constraint_name, e.table_name), ("t_pkey", "t"))
    eq(await c.copy_records_to_table("t", schema_name="apg", records=[(1000 + i, decimal.Decimal(i)) for i in range(50)], columns=["id", "n"]), "COPY 50")
    out = io.BytesIO()
    eq(await c.copy_from_query("SELECT id FROM apg.t WHERE id >= $1", 1000, output=out, format="csv"), "COPY 50")
    eq(len(out.getvalue().splitlines()), 50)
    st = await c.prepare("SELECT * FROM apg.t WHERE id = $1")
    eq([a.type.name for a in st.get_attributes()][:4], ["int4", "mood", "mood[]", "numeric"])
    try:
        await c.fetch("SELECT pg_sleep(5)", timeout=0.3)
        raise AssertionError("no timeout")
    except asyncio.TimeoutError:
        pass
    eq(await c.fetchval("SELECT 1"), 1)
    async with asyncpg.create_pool(min_size=2, max_size=5, **args) as p:
        eq(sum(await asyncio.gather(*(p.fetchval("SELECT $1::int", i) for i in range(50)))), 1225)
    await c.close()


check("asyncpg")(lambda: asyncio.run(trial()))
done()

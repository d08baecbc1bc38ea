// Drives a node through node-postgres: node drive.js HOST PORT. NODE_PATH names
// where the packages of package.json are.
const { Client, Pool, types } = require('pg')
const Cursor = require('pg-cursor')
const QueryStream = require('pg-query-stream')
const copy = require('pg-copy-streams')
const { pipeline } = require('stream/promises')
const { Readable, Writable } = require('stream')
const net = require('net')
const assert = require('assert')

const [host, port] = process.argv.slice(2)
const config = { host, port: Number(port), user: 'root', database: 'defaultdb' }
let failed = 0

async function check (name, fn) {
  try {
    await fn()
    console.log('ok  ', name)
  } catch (e) {
    failed++
    console.log('FAIL', name + ':', String(e.message).slice(0, 2000), (String(e.stack).match(/drive\.js:\d+/g) || []).join(' '))
  }
}

const eq = assert.deepStrictEqual

async function fails (code, fn) {
  try {
    await fn()
  } catch (e) {
    eq(e.code, code)
    return e
  }
  throw new Error('no error, want ' + code)
}

async function main () {
  const c = new Client(config)
  await c.connect()
  await c.query('DROP SCHEMA IF EXISTS np CASCADE')
  await c.query('CREATE SCHEMA np')
  await c.query("CREATE TYPE np.mood AS ENUM ('sad', 'happy')")
  await c.query('SET search_path = np, public')

  await check('connect', async () => {
    for (const cs of [`postgresql://root@${host}:${port}/defaultdb`, `postgresql://root@${host}:${port}/defaultdb?application_name=x&options=-c%20statement_timeout%3D5s`]) {
      const k = new Client({ connectionString: cs })
      await k.connect()
      eq((await k.query('SELECT 1 AS one')).rows, [{ one: 1 }])
      await k.end()
    }
    const k = new Client({ ...config, ssl: { rejectUnauthorized: false } })
    await assert.rejects(k.connect(), /does not support SSL/)
    const n = new Client({ ...config, database: 'nosuch' })
    await fails('3D000', () => n.connect())
  })

  await check('types', async () => {
    const at = new Date(Date.UTC(2024, 1, 29, 12, 30, 45, 123))
    const values = [['int2', -7], ['int4', 2147483647], ['int8', '-9223372036854775808'], ['float8', Math.PI], ['float4', 1.5], ['numeric', '-1234567890.12345'], ['bool', true], ['text', 'grüße " \\ \' 😀'],
      ['varchar', ''], ['bytea', Buffer.from([0, 255, 1])], ['timestamptz', at], ['uuid', '01234567-89ab-cdef-0123-456789abcdef'], ['inet', '192.168.1.0/24'], ['jsonb', { a: [1, null, 'x'] }], ['json', { b: 1 }], ['int4[]', [1, null, -3]],
      ['text[]', ['a', 'b c', 'q"\\', '', null]], ['float8[]', []], ['np.mood', 'happy'], ['time', '23:59:59.999999'], ['timetz', '12:00:00+02'], ['varbit', '10110'], ['oid', 4294967295]]
    for (const [typ, v] of values) {
      for (const q of [{ text: `SELECT $1::${typ} AS v` }, { text: `SELECT $1::${typ} AS v`, name: 'q ' + typ }, { text: `SELECT $1::${typ} AS v`, name: 'q ' + typ }]) {
        eq([typ, (await c.query({ ...q, values: [v] })).rows[0].v], [typ, v])
        eq((await c.query({ ...q, values: [null] })).rows[0].v, null)
      }
    }
    eq((await c.query("SELECT date '2024-02-29' AS d, interval '1 day 2 hours' AS i, 'NaN'::float8 AS n, '-infinity'::timestamptz AS inf")).rows[0].i.days, 1)
    const b = await c.query({ text: 'SELECT 42::int4 AS a, $1::text AS b, true AS c, 7::int8 AS d', values: ['x'], binary: true })
    eq(b.rows[0], { a: 42, b: 'x', c: true, d: '7' })
    eq(b.fields.map(f => f.dataTypeID), [23, 25, 16, 20])
  })

  await check('cursor and stream', async () => {
    await c.query("CREATE TABLE np.cu AS SELECT g AS id, 'row ' || g AS s FROM generate_series(1, 5000) AS g")
    const cur = c.query(new Cursor('SELECT * FROM np.cu WHERE id > $1 ORDER BY id', [10]))
    let n = 10
    for (let rows; (rows = await cur.read(99)).length > 0;) for (const r of rows) eq(r.id, ++n)
    eq(n, 5000)
    await cur.close()
    const early = c.query(new Cursor('SELECT * FROM np.cu'))
    await early.read(1)
    await early.close()
    let sum = 0
    for await (const r of c.query(new QueryStream('SELECT id FROM np.cu', [], { batchSize: 50 }))) sum += r.id
    eq(sum, 5000 * 5001 / 2)
  })

  await check('copy', async () => {
    await c.query('CREATE TABLE np.cp (id INT PRIMARY KEY, s TEXT)')
    const lines = function * () { for (let i = 0; i < 20000; i++) yield `${i}\trow ${i}\n` }
    const into = c.query(copy.from('COPY np.cp FROM STDIN'))
    await pipeline(Readable.from(lines()), into)
    eq(into.rowCount, 20000)
    let bytes = 0
    const out = c.query(copy.to('COPY np.cp TO STDOUT (FORMAT csv, HEADER)'))
    await pipeline(out, new Writable({ write (chunk, _, done) { bytes += chunk.length; done() } }))
    eq(bytes > 250000, true)
    eq(out.rowCount, 20000)
    await fails('23505', () => pipeline(Readable.from(['1\tx\n']), c.query(copy.from('COPY np.cp FROM STDIN'))))
    await fails('22P02', () => pipeline(Readable.from(['x\tx\n']), c.query(copy.from('COPY np.cp FROM STDIN'))))
    eq((await c.query('SELECT count(*)::int AS n FROM np.cp')).rows[0].n, 20000)
  })

  await check('errors and notices', async () => {
    await c.query('CREATE TABLE np.e (id INT PRIMARY KEY, n INT NOT NULL)')
    await c.query('INSERT INTO np.e VALUES (1, 1)')
    const e = await fails('23505', () => c.query('INSERT INTO np.e VALUES ($1, $2)', [1, 2]))
    eq([e.constraint, e.table, e.schema, e.detail, e.severity], ['e_pkey', 'e', 'np', 'Key (id)=(1) already exists.', 'ERROR'])
    eq((await fails('42703', () => c.query('SELECT nope FROM np.e'))).position, '8')
    eq((await fails('23502', () => c.query('INSERT INTO np.e VALUES (2, NULL)'))).column, 'n')
    await fails('22021', () => c.query('SELECT $1::text', ['a\0b']))
    const got = []
    c.on('notice', n => got.push(n.message))
    await c.query('DROP TABLE IF EXISTS np.never')
    eq(got, ['table "never" does not exist, skipping'])
    eq((await c.query('')).rows, [])
    eq((await c.query('SELECT 1 AS a; SELECT 2 AS b; ;')).map(r => r.rows[0]), [{ a: 1 }, { b: 2 }])
    await fails('08P01', () => c.query('SELECT $1::int, $2::int', [1]))
    eq((await c.query('SELECT 1 AS a')).rows[0].a, 1)
  })

  await check('transactions and retries', async () => {
    await c.query('CREATE TABLE np.r (id INT PRIMARY KEY, n INT)')
    await c.query('INSERT INTO np.r VALUES (1, 0)')
    const pool = new Pool({ ...config, max: 5 })
    const work = async () => {
      for (let done = 0; done < 20;) {
        const k = await pool.connect()
        try {
          await k.query('BEGIN ISOLATION LEVEL SERIALIZABLE')
          const n = (await k.query('SELECT n FROM np.r WHERE id = 1')).rows[0].n
          await k.query('UPDATE np.r SET n = $1 WHERE id = 1', [n + 1])
          await k.query('COMMIT')
          done++
        } catch (e) {
          await k.query('ROLLBACK')
          if (e.code !== '40001' && e.code !== '40P01') throw e
        } finally { k.release() }
      }
    }
    await Promise.all([work(), work(), work(), work()])
    eq((await c.query('SELECT n FROM np.r')).rows[0].n, 80)
    await Promise.all(Array.from({ length: 100 }, (_, i) => pool.query('SELECT $1::int AS i', [i]).then(r => eq(r.rows[0].i, i))))
    await pool.end()
  })

  await check('cancel and timeouts', async () => {
    const k = new Client({ ...config, statement_timeout: 200 })
    await k.connect()
    await fails('57014', () => k.query('SELECT pg_sleep(30)'))
    await k.query('RESET statement_timeout')
    await k.query('SET statement_timeout = 0')
    const q = k.query('SELECT pg_sleep(30)')
    setTimeout(() => {
      const s = net.connect(Number(port), host, () => {
        const b = Buffer.alloc(16)
        b.writeInt32BE(16, 0); b.writeInt16BE(1234, 4); b.writeInt16BE(5678, 6); b.writeInt32BE(k.processID, 8); b.writeInt32BE(k.secretKey, 12)
        s.end(b)
      })
    }, 200)
    await fails('57014', () => q)
    await k.end()
    const t = new Client({ ...config, query_timeout: 200 })
    t.on('error', () => {})
    await t.connect()
    await assert.rejects(t.query('SELECT pg_sleep(1)'), /timeout/)
    t.connection.stream.destroy()
  })

  await check('big values and many parameters', async () => {
    const s = 'ü'.repeat(6 << 20)
    const b = Buffer.alloc(12 << 20, 7)
    const r = (await c.query('SELECT $1::text AS s, $2::bytea AS b', [s, b])).rows[0]
    eq([r.s === s, b.equals(r.b)], [true, true])
    const ids = Array.from({ length: 10000 }, (_, i) => i)
    eq((await c.query(`SELECT count(*)::int AS n FROM np.cu WHERE id IN (${ids.map(i => '$' + (i + 1)).join()})`, ids)).rows[0].n, 5000)
    eq((await c.query('SELECT count(*)::int AS n FROM np.cu WHERE id = ANY ($1)', [ids])).rows[0].n, 5000)
  })

  await check('churn', async () => {
    for (let i = 0; i < 10; i++) {
      await Promise.all(Array.from({ length: 20 }, async () => {
        const k = new Client(config)
        await k.connect()
        await k.query('SELECT 1')
        await k.end()
      }))
    }
  })

  // Bytes that no client sends: the node answers or hangs up, and lives.
  await check('garbage', async () => {
    let seed = 42
    const random = n => { seed = (seed * 1103515245 + 12345) & 0x7fffffff; return seed % n }
    const start = () => {
      const body = Buffer.from('\0\x03\0\0user\0root\0database\0defaultdb\0\0', 'latin1')
      const head = Buffer.alloc(4)
      head.writeInt32BE(body.length + 4)
      return Buffer.concat([head, body])
    }
    const talk = bytes => new Promise(resolve => {
      const s = net.connect(Number(port), host, () => s.end(bytes))
      s.on('error', () => {}).on('data', () => {}).on('close', resolve)
      setTimeout(() => s.destroy(), 500).unref()
    })
    for (let i = 0; i < 60; i++) {
      const parts = [i % 3 ? start() : Buffer.alloc(0)]
      for (let m = random(6); m >= 0; m--) {
        const body = Buffer.from(Array.from({ length: random(60) }, () => random(256)))
        const head = Buffer.alloc(5)
        head.write('QPBEDCSHXFdcfp'[random(14)] || 'Q', 0, 'latin1')
        head.writeInt32BE([body.length + 4, random(100), -1, 0x7fffffff, 0][random(8)] ?? body.length + 4, 1)
        parts.push(head, body)
      }
      await talk(Buffer.concat(parts))
    }
    eq((await c.query('SELECT 1 AS a')).rows[0].a, 1)
    const k = new Client(config)
    await k.connect()
    await k.end()
  })

  await c.end()
  if (failed) { console.log(failed, 'checks failed'); process.exit(1) }
}

main().catch(e => { console.log(e); process.exit(1) })

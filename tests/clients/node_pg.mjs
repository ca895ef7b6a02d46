// node-postgres: types, parameters, named statements, pools, errors.
import assert from 'node:assert/strict'
import pg from 'pg'
import { check, leave } from './checks.mjs'

const client = new pg.Client()
await client.connect()

await check('a row of every type', async () => {
  const { rows, fields } = await client.query('SELECT id, name, small, whole, ratio, score, spent, active, tags, data, seen FROM clients.people WHERE id = $1', [1])
  const row = rows[0]
  assert.deepEqual([row.id, row.name, row.small, row.whole, row.ratio, row.score, row.spent, row.active, row.tags],
    ['1', 'Ann', 1, 10, 0.5, 1.25, '12.50', true, ['a', 'b']])
  assert.deepEqual([...row.data], [0, 1, 255])
  assert.ok(row.seen instanceof Date)
  assert.deepEqual(fields.slice(0, 2).map(field => field.dataTypeID), [20, 25])
})

await check('parameters of every type', async () => {
  const { rows } = await client.query('SELECT $1::int AS a, $2::text AS b, $3::float8 AS c, $4::bool AS d, $5::int[] AS e, $6::bytea AS f, $7::timestamptz AS g',
    [1, "it's", 1.5, true, [1, 2], Buffer.from([0, 255]), new Date('2024-01-02T03:04:05Z')])
  assert.deepEqual([rows[0].a, rows[0].b, rows[0].c, rows[0].d, rows[0].e, [...rows[0].f], rows[0].g.toISOString()],
    [1, "it's", 1.5, true, [1, 2], [0, 255], '2024-01-02T03:04:05.000Z'])
})

await check('a named statement, twice', async () => {
  for (const id of [1, 2]) {
    const { rows } = await client.query({ name: 'by id', text: 'SELECT name FROM clients.people WHERE id = $1', values: [id] })
    assert.equal(rows[0].name, { 1: 'Ann', 2: 'Bob' }[id])
  }
})

await check('rowCount and command', async () => {
  await client.query('DROP TABLE IF EXISTS clients.node_pg')
  await client.query('CREATE TABLE clients.node_pg (a int)')
  const { rowCount, command } = await client.query('INSERT INTO clients.node_pg VALUES ($1), ($2)', [1, 2])
  assert.deepEqual([rowCount, command], [2, 'INSERT'])
  await client.query('DROP TABLE clients.node_pg')
})

await check('an error has its code, and a place', async () => {
  await assert.rejects(client.query('SELECT * FROM nowhere'), { code: '42P01', message: 'relation "nowhere" does not exist', position: '15' })
})

await check('a pool serves many at once', async () => {
  const pool = new pg.Pool({ max: 4 })
  const answers = await Promise.all([...Array(20).keys()].map(n => pool.query('SELECT $1::int AS n', [n])))
  assert.deepEqual(answers.map(answer => answer.rows[0].n), [...Array(20).keys()])
  await pool.end()
})

await client.end()
leave()

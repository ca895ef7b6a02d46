// postgres.js: it reads pg_type for arrays as soon as it connects, and prepares everything.
import assert from 'node:assert/strict'
import postgres from 'postgres'
import { check, leave } from './checks.mjs'

const sql = postgres({ onnotice: () => {} })

await check('a row of every type', async () => {
  const [row] = await sql`SELECT id, name, score, active, tags, data, seen FROM clients.people WHERE id = ${1}`
  assert.deepEqual([row.id, row.name, row.score, row.active, row.tags, [...row.data]], ['1', 'Ann', 1.25, true, ['a', 'b'], [0, 1, 255]])
  assert.ok(row.seen instanceof Date)
})

await check('arrays as parameters', async () => {
  const rows = await sql`SELECT name FROM clients.people WHERE name = ANY(${['Ann', 'Bob']}) ORDER BY id`
  assert.deepEqual(rows.map(row => row.name), ['Ann', 'Bob'])
  const listed = await sql`SELECT name FROM clients.people WHERE id IN ${sql([1, 2])} ORDER BY id`
  assert.deepEqual(listed.map(row => row.name), ['Ann', 'Bob'])
  const [{ numbers }] = await sql`SELECT ${sql.array([1, 2])}::int[] AS numbers`
  assert.deepEqual(numbers, [1, 2])
})

await check('rows written as objects', async () => {
  await sql`DROP TABLE IF EXISTS clients.postgres_js`
  await sql`CREATE TABLE clients.postgres_js (a int, b text)`
  const { count } = await sql`INSERT INTO clients.postgres_js ${sql([{ a: 1, b: 'x' }, { a: 2, b: null }], 'a', 'b')}`
  assert.equal(count, 2)
  await sql`DROP TABLE clients.postgres_js`
})

await check('a transaction, and one that is taken back', async () => {
  const one = await sql.begin(sql => sql`SELECT 1 AS one`)
  assert.equal(one[0].one, 1)
  await assert.rejects(sql.begin(async sql => { await sql`SELECT 1/0` }), { code: '22012' })
})

await check('unsafe() with several statements', async () => {
  const answers = await sql.unsafe('SELECT 1 AS a; SELECT 2 AS b')
  assert.deepEqual(answers.map(rows => ({ ...rows[0] })), [{ a: 1 }, { b: 2 }])
})

await sql.end()
leave()

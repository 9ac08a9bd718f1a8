// A pool of pg's whose connections break, and clients that give up before they are connected. See ../python/reconnect.py for
// what is said and waited for.
'use strict';

const assert = require('node:assert');
const { once } = require('node:events');
const readline = require('node:readline');
const { Client, Pool } = require('pg');

const [host, port, database, user] = process.argv.slice(2);
const settings = { host, port: Number(port), database, user };
const lines = readline.createInterface({ input: process.stdin });

function ok(what) {
  console.log(`ok ${what}`);
}

async function wait(what) {
  console.log(what);
  await once(lines, 'line');
}

async function main() {
  // Without a listener for errors: one would end the program.
  for (let number = 0; number < 20; number += 1) {
    const client = new Client(settings);
    const connected = client.connect().catch(() => {});
    await client.end();
    await Promise.race([connected, new Promise((resolve) => { setTimeout(resolve, 100); })]);
  }
  ok('pg: end() right after connect()');

  const pool = new Pool({ ...settings, max: 1 });
  pool.on('error', () => {});
  const one = async () => (await pool.query('select 1 as one')).rows[0].one;
  await one();
  await wait('idle pg');
  assert.strictEqual(await one(), 1);
  ok('pg: a pool connects again');
  console.log(`busy pg ${port}`);
  await assert.rejects(pool.query(`select pg_sleep(120), 'pg ${port}'`));
  assert.strictEqual(pool.totalCount, 0, 'MISMATCH pg: the connection stays in the pool');
  ok('pg: a query that is cut off is a lost connection');
  await wait('again pg');
  assert.strictEqual(await one(), 1);
  ok('pg: a pool connects once more');
  await pool.end();
  lines.close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});

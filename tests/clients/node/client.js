// pg from npm: both protocols, COPY, notifications, large objects, big rows, errors, cancel, TLS asked for.
'use strict';

const assert = require('assert');
const { createHash, randomBytes } = require('crypto');
const { once } = require('events');
const { readFileSync } = require('fs');
const stream = require('stream');
const { promisify } = require('util');
const { Client, Pool, Query } = require('pg');
const { from: copyFrom, to: copyTo } = require('pg-copy-streams');

const { Readable, Writable } = stream;
const pipeline = promisify(stream.pipeline);

const [host, port, database, user, bigText] = process.argv.slice(2);
const big = Number(bigText || 16 * 1024 * 1024);
const own = `node_${process.pid}`;
const settings = { host, port: Number(port), database, user, options: `-c search_path=${own}`, application_name: 'node client' };

// Packages need not export their package.json.
function version(name) {
  const file = require.resolve(name).replace(new RegExp(`(/node_modules/${name}/).*`), '$1package.json');
  return JSON.parse(readFileSync(file, 'utf8')).version;
}

function same(what, found, expected) {
  assert.deepStrictEqual(found, expected, `MISMATCH ${what}`);
  console.log(`ok ${what}`);
}

async function connect(more = {}) {
  const client = new Client({ ...settings, ...more });
  await client.connect();
  return client;
}

async function one(client, text, values) {
  const { rows } = await client.query({ text, values, rowMode: 'array' });
  return rows[0];
}

async function protocols(client) {
  same('startup parameters', await one(client, 'show application_name'), ['node client']);
  const results = await client.query('select 1 as a; select 2 as b');
  same('simple protocol', results.map((result) => result.rows[0]), [{ a: 1 }, { b: 2 }]);
  same('extended protocol', await one(client, 'select $1::int + 1, $2::text', [41, 'ü']), [42, 'ü']);
  const doubled = [];
  for (let number = 0; number < 50; number += 1) {
    const { rows } = await client.query({ name: 'twice', text: 'select $1::int * 2 as twice', values: [number] });
    doubled.push(rows[0].twice);
  }
  same('prepared', doubled, [...Array(50).keys()].map((number) => number * 2));
  const heard = once(client, 'notice');
  await client.query("do $$ begin raise notice 'heard'; end $$");
  same('notice', (await heard)[0].message, 'heard');
}

async function copy(client) {
  await client.query('create table copied (id int, text text)');
  const lines = Buffer.from([...Array(50_000).keys()].map((number) => `${number}\trow ${number} ä\n`).join(''));
  await pipeline(Readable.from([lines]), client.query(copyFrom('copy copied from stdin')));
  const hash = createHash('sha256');
  const sink = new Writable({
    write(chunk, _, done) {
      hash.update(chunk);
      done();
    },
  });
  await pipeline(client.query(copyTo('copy (select * from copied order by id) to stdout')), sink);
  same('copy in and out', hash.digest('hex'), createHash('sha256').update(lines).digest('hex'));
}

async function notifications(client) {
  const other = await connect();
  // All clients share the database, and whoever listens hears everybody.
  const own = `news_${client.processID}`;
  await client.query(`listen ${own}`);
  const heard = once(client, 'notification');
  await other.query('select pg_notify($1, $2)', [own, 'x'.repeat(7000)]);
  const [{ channel, payload, processId }] = await heard;
  same('notification while idle', [channel, payload.length, processId], [own, 7000, other.processID]);
  await other.end();
}

async function largeObjects(client) {
  const content = randomBytes(300_000);
  const [oid] = await one(client, 'select lo_from_bytea(0, $1)', [content]);
  same('large object', (await one(client, 'select lo_get($1)', [oid]))[0].equals(content), true);
  await client.query('select lo_unlink($1)', [oid]);
}

async function bigRow(client) {
  const content = randomBytes(big);
  const [text, digest] = await one(client, "select repeat('r', $1), md5($2::bytea)", [big, content]);
  same(`row of ${big} bytes up`, digest, createHash('md5').update(content).digest('hex'));
  same(`row of ${big} bytes down`, text === 'r'.repeat(big), true);
}

async function serverErrors(client) {
  for (const [text, code] of [['select 1/0', '22012'], ['selec', '42601'], ['select * from nowhere', '42P01']]) {
    await assert.rejects(client.query(text), { code }, `MISMATCH ${text}, simple`);
    await assert.rejects(client.query({ name: `fails ${code}`, text }), { code }, `MISMATCH ${text}, extended`);
    console.log(`ok ${code}, both protocols`);
  }
  await client.query('create table once (id int primary key)');
  await assert.rejects(client.query('insert into once values (1), (1)'), { code: '23505', constraint: 'once_pkey', table: 'once' });
  same('usable after errors', await one(client, 'select 1'), [1]);
}

async function cancels(client) {
  const other = await connect();
  const query = new Query('select pg_sleep(60)');
  const began = Date.now();
  const ended = once(query, 'end').catch((error) => error);
  client.query(query);
  const asleep = "select count(*)::int from pg_stat_activity where pid = $1 and wait_event = 'PgSleep'";
  while ((await one(other, asleep, [client.processID]))[0] === 0);
  new Client(settings).cancel(client, query);
  same('cancel: SQLSTATE', (await ended).code, '57014');
  same('cancel: soon', Date.now() - began < 5000, true);
  same('cancel: usable after it', await one(client, 'select 1'), [1]);
  await other.end();
}

async function pool() {
  const connections = new Pool({ ...settings, max: 5 });
  const found = await Promise.all([...Array(100).keys()].map((number) => one(connections, 'select $1::int', [number])));
  same('pool', found.flat(), [...Array(100).keys()]);
  await connections.end();
}

async function main() {
  const client = await connect();
  await client.query(`create schema ${own}`);
  try {
    for (const part of [protocols, copy, notifications, largeObjects, bigRow, serverErrors, cancels]) await part(client);
  } finally {
    await client.query(`drop schema ${own} cascade`);
    await client.end();
  }
  await pool();
  // This driver has no "prefer": it either never asks for TLS or insists.
  await assert.rejects(connect({ ssl: true }), /does not support SSL/);
  console.log('ok ssl: true is told');
  await assert.rejects(connect({ database: 'no_such_database' }), { code: '3D000' });
  console.log('ok refusal at login');
  console.log(`ok pg ${version('pg')}`);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});

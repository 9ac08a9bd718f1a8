// mariadb from npm: MariaDB's own protocol extensions (bulk, metadata cache), its pools, LOCAL INFILE, big packets, errors.
'use strict';

const assert = require('assert');
const { createHash, randomBytes } = require('crypto');
const { mkdtempSync, readdirSync, rmdirSync, unlinkSync, writeFileSync } = require('fs');
const { tmpdir } = require('os');
const { join } = require('path');
const mariadb = require('mariadb');

const [host, port, database, user, bigText] = process.argv.slice(2);
const big = Number(bigText || 17 * 1024 * 1024);
const own = `mariadb_${process.pid}`;
const settings = {
  host,
  port: Number(port),
  database,
  user,
  multipleStatements: true,
  connectTimeout: 60_000,
  rowsAsArray: true,
  bigIntAsNumber: true,
  insertIdAsNumber: true,
  maxAllowedPacket: 1 << 28,
  compress: Boolean(process.env.COMPRESS),
  // MySQL's default plugin gives its public key to whom it asks.
  allowPublicKeyRetrieval: true,
};

function same(what, found, expected) {
  // Its rows carry more than the values; some of its numbers are BigInt.
  const plain = JSON.parse(JSON.stringify(found, (_, value) => (typeof value === 'bigint' ? Number(value) : value)));
  assert.deepStrictEqual(plain, expected, `MISMATCH ${what}`);
  console.log(`ok ${what}`);
}

async function refused(what, errno, act) {
  await assert.rejects(act, { errno }, `MISMATCH ${what}`);
  console.log(`ok ${what}`);
}

async function shows(db) {
  const [[name, number, version]] = await db.query('select current_user(), connection_id(), version()');
  same('user', name, `${user}@%`);
  same('connection id', db.threadId, Number(number));
  same('server version', db.serverVersion(), version);
  same('text protocol', await db.query('select ? + 1, ?, null', [41, 'ü🐬']), [[42, 'ü🐬', null]]);
  await db.query(`create table ${own} (id int primary key, text varchar(80))`);
  const numbers = [...Array(1000).keys()];
  await db.batch(`insert into ${own} values (?, ?)`, numbers.map((number) => [number, `Zeile ${number}`]));
  same('bulk', await db.query(`select count(*), max(text) from ${own}`), [[1000, 'Zeile 999']]);
  const prepared = await db.prepare(`select text from ${own} where id = ?`);
  for (const number of numbers.slice(0, 50)) assert.strictEqual((await prepared.execute([number]))[0][0], `Zeile ${number}`);
  prepared.close();
  console.log('ok prepared, the columns described once');
  const pipelined = await Promise.all(numbers.map((number) => db.query('select ?', [number])));
  same('pipeline', pipelined.flat(2), numbers);
  const results = await db.query(`select 1; update ${own} set text = 'neu' where id < 3; select 'zwei'`);
  same('multi-statements', [results[0], results[1].affectedRows, results[2]], [[[1]], 3, [['zwei']]]);
  await db.query(`create procedure ${own}() begin select 1; select 2 union select 3; end`);
  same('multi-results', (await db.query(`call ${own}()`)).slice(0, 2), [[[1]], [[2], [3]]]);
  let [sum, seen] = [0, 0];
  const sql = `select a.id + 1000 * b.id, repeat('x', 100) from ${own} a, ${own} b where b.id < 100`;
  for await (const [id] of db.queryStream(sql)) {
    sum += Number(id);
    seen += 1;
  }
  same('big result, row by row', [seen, sum], [100_000, 4_999_950_000]);
}

async function localInfile(db, scratch) {
  const file = join(scratch, 'lines');
  writeFileSync(file, [...Array(50_000).keys()].map((number) => `${number}\trow ${number} ä\n`).join(''));
  await db.query(`create table ${own}_in (id int, text varchar(40)) charset utf8mb4`);
  const sql = `load data local infile '${file}' into table ${own}_in character set utf8mb4`;
  await assert.rejects(db.query(sql), ({ errno }) => [1148, 3948, 4166].includes(errno), 'MISMATCH local infile, not asked for');
  console.log('ok local infile, not asked for');
  const other = await mariadb.createConnection({ ...settings, permitLocalInfile: true });
  await other.query(sql);
  same('local infile', await other.query(`select count(*), cast(sum(id) as signed) from ${own}_in`), [[50_000, 1_249_975_000]]);
  await other.end();
}

async function bigPackets(db) {
  const content = randomBytes(big / 2).toString('hex');
  const digest = createHash('sha256').update(content).digest('hex');
  same(`packet of ${big} bytes up`, await db.query('select sha2(?, 256)', [content]), [[digest]]);
  same(`packet of ${big} bytes down`, (await db.query(`select repeat('r', ${big})`))[0][0] === 'r'.repeat(big), true);
}

async function serverErrors(db) {
  for (const [sql, errno] of [['selec', 1064], ['select * from nowhere', 1146], [`insert into ${own} values (1, 'twice')`, 1062]]) {
    await refused(`error ${errno}`, errno, db.query(sql));
    await refused(`error ${errno}, prepared`, errno, db.execute(sql));
  }
  same('usable after errors', await db.query('select 1'), [[1]]);
}

async function kills(db) {
  const other = await mariadb.createConnection(settings);
  const began = Date.now();
  const ended = assert.rejects(db.query(`select id from ${own} where sleep(60)`), { errno: 1317 }, 'MISMATCH kill query');
  const asleep = 'select count(*) from information_schema.processlist where id = ? and state = ?';
  // The server cannot show another client's statement in utf8mb3: ask again.
  const sleepers = () => other.query(asleep, [db.threadId, 'User sleep']).then((found) => Number(found[0][0]), () => 0);
  while ((await sleepers()) === 0);
  await other.query(`kill query ${db.threadId}`);
  await ended;
  same('kill query: soon', Date.now() - began < 30_000, true);
  same('kill query: usable after it', await db.query('select 1'), [[1]]);
  await other.end();
}

async function users(db) {
  const number = db.threadId;
  const fresh = async (what, name) => {
    same(what, await db.query('select @mark, current_user(), connection_id()'), [[null, `${name}@%`, number]]);
    await db.query('set @mark = 1');
  };
  await db.query('set @mark = 1');
  await db.reset();
  await fresh('reset', user);
  // It will not do this to a MySQL.
  if (!db.info.isMariaDB()) return;
  await db.changeUser({ user });
  await fresh('change user', user);
  await db.changeUser({ user: 'readonly' });
  await fresh('change user to another', 'readonly');
  await db.changeUser({ user });
  await fresh('change user back', user);
  await db.ping();
}

async function pool() {
  const connections = mariadb.createPool({ ...settings, connectionLimit: 5, resetAfterUse: true, acquireTimeout: 60_000 });
  const ask = async (number) => {
    const db = await connections.getConnection();
    const [found] = await db.query('select ?, @mark', [number]);
    // It resets what comes back to the pool when the server is a MariaDB.
    if (db.info.isMariaDB()) await db.query('set @mark = 1');
    await db.release();
    return found;
  };
  const numbers = [...Array(100).keys()];
  same('pool with reset', await Promise.all(numbers.map(ask)), numbers.map((number) => [number, null]));
  await connections.end();
}

async function main() {
  const scratch = mkdtempSync(join(tmpdir(), 'mariadb-client-'));
  const db = await mariadb.createConnection(settings);
  try {
    for (const part of [shows, localInfile, bigPackets, serverErrors, kills, users]) await part(db, scratch);
  } finally {
    await db.query(`drop table if exists ${own}, ${own}_in; drop procedure if exists ${own}`);
    await db.end();
    for (const name of readdirSync(scratch)) unlinkSync(join(scratch, name));
    rmdirSync(scratch);
  }
  await pool();
  await refused('refusal at login', 1044, mariadb.createConnection({ ...settings, database: 'no_such_database' }));
  console.log(`ok mariadb ${mariadb.version}`);
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);

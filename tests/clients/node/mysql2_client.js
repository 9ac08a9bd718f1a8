// mysql2 from npm: both protocols, results in streams, LOCAL INFILE, big packets, KILL QUERY, pools, change of user, errors.
'use strict';

const assert = require('assert');
const { createHash, randomBytes } = require('crypto');
const { readFileSync } = require('fs');
const { Readable } = require('stream');
const mysql = require('mysql2/promise');

const [host, port, database, user, bigText] = process.argv.slice(2);
const big = Number(bigText || 17 * 1024 * 1024);
const own = `mysql2_${process.pid}`;
const place = host.startsWith('/') ? { socketPath: host } : { host, port: Number(port) };
const settings = { ...place, database, user, multipleStatements: true, rowsAsArray: true, connectTimeout: 60_000, compress: Boolean(process.env.COMPRESS) };

// Packages need not export their package.json.
function version(name) {
  const file = require.resolve(name).replace(new RegExp(`(/node_modules/${name}/).*`), '$1package.json');
  return JSON.parse(readFileSync(file, 'utf8')).version;
}

function same(what, found, expected) {
  assert.deepStrictEqual(found, expected, `MISMATCH ${what}`);
  console.log(`ok ${what}`);
}

const rows = async (db, sql, values) => (await db.query(sql, values))[0];

async function refused(what, errno, act) {
  await assert.rejects(act, { errno }, `MISMATCH ${what}`);
  console.log(`ok ${what}`);
}

async function greeting(db) {
  const [[name, number, version]] = await rows(db, 'select current_user(), connection_id(), version()');
  same('user', name, `${user}@%`);
  same('connection id', db.threadId, number);
  same('server version', db.connection._handshakePacket.serverVersion.replace(/^5\.5\.5-/, ''), version);
}

async function protocols(db) {
  same('text protocol', await rows(db, 'select ? + 1, ?, null', [41, 'ü🐬']), [[42, 'ü🐬', null]]);
  await db.query(`create table ${own} (id int primary key, text varchar(80))`);
  const numbers = [...Array(1000).keys()];
  await db.query(`insert into ${own} values ?`, [numbers.map((number) => [number, `Zeile ${number}`])]);
  for (const number of numbers.slice(0, 50)) {
    const [found] = await db.execute(`select text from ${own} where id = ?`, [number]);
    assert.deepStrictEqual(found, [[`Zeile ${number}`]], 'MISMATCH prepared');
  }
  console.log('ok prepared');
  const [results] = await db.query(`select 1; update ${own} set text = 'neu' where id < 3; select 'zwei'`);
  same('multi-statements', [results[0], results[1].affectedRows, results[2]], [[[1]], 3, [['zwei']]]);
  await db.query(`create procedure ${own}() begin select 1; select 2 union select 3; end`);
  same('multi-results', (await rows(db, `call ${own}()`)).slice(0, 2), [[[1]], [[2], [3]]]);
  let [sum, seen] = [0, 0];
  const sql = `select a.id + 1000 * b.id, repeat('x', 100) from ${own} a, ${own} b where b.id < 100`;
  await new Promise((resolve, reject) => {
    const query = db.connection.query({ sql, rowsAsArray: true });
    query.on('result', ([number]) => {
      sum += number;
      seen += 1;
    });
    query.on('error', reject).on('end', resolve);
  });
  same('big result, row by row', [seen, sum], [100_000, 4_999_950_000]);
}

async function localInfile(db) {
  await db.query(`create table ${own}_in (id int, text varchar(40)) charset utf8mb4`);
  const lines = Buffer.from([...Array(50_000).keys()].map((number) => `${number}\trow ${number} ä\n`).join(''));
  const sql = `load data local infile 'lines' into table ${own}_in character set utf8mb4`;
  await db.query({ sql, infileStreamFactory: () => Readable.from([lines]) });
  same('local infile', await rows(db, `select count(*), cast(sum(id) as signed) from ${own}_in`), [[50_000, 1_249_975_000]]);
  const other = await mysql.createConnection({ ...settings, flags: ['-LOCAL_FILES'] });
  await assert.rejects(other.query(sql), ({ errno }) => [1148, 3948, 4166].includes(errno), 'MISMATCH local infile, not asked for');
  console.log('ok local infile, not asked for');
  await other.end();
}

async function bigPackets(db) {
  const content = randomBytes(big / 2).toString('hex');
  const digest = createHash('sha256').update(content).digest('hex');
  same(`packet of ${big} bytes up`, await rows(db, 'select sha2(?, 256)', [content]), [[digest]]);
  same(`packet of ${big} bytes up, prepared`, (await db.execute('select sha2(?, 256)', [content]))[0], [[digest]]);
  same(`packet of ${big} bytes down`, (await rows(db, `select repeat('r', ${big})`))[0][0] === 'r'.repeat(big), true);
}

async function serverErrors(db) {
  for (const [sql, errno] of [['selec', 1064], ['select * from nowhere', 1146], [`insert into ${own} values (1, 'twice')`, 1062]]) {
    await refused(`error ${errno}`, errno, db.query(sql));
    await refused(`error ${errno}, prepared`, errno, db.execute(sql));
  }
  same('usable after errors', await rows(db, 'select 1'), [[1]]);
}

async function kills(db) {
  const other = await mysql.createConnection(settings);
  const began = Date.now();
  const ended = assert.rejects(db.query(`select id from ${own} where sleep(60)`), { errno: 1317 }, 'MISMATCH kill query');
  const asleep = 'select count(*) from information_schema.processlist where id = ? and state = ?';
  // The server cannot show another client's statement in utf8mb3: ask again.
  const sleepers = () => rows(other, asleep, [db.threadId, 'User sleep']).then((found) => found[0][0], () => 0);
  while ((await sleepers()) === 0);
  await other.query(`kill query ${db.threadId}`);
  await ended;
  same('kill query: soon', Date.now() - began < 30_000, true);
  same('kill query: usable after it', await rows(db, 'select 1'), [[1]]);
  await other.end();
}

async function users(db) {
  const number = db.threadId;
  const fresh = async (what, name) => {
    same(what, await rows(db, 'select @mark, current_user(), connection_id()'), [[null, `${name}@%`, number]]);
    await db.query('set @mark = 1');
  };
  await db.query('set @mark = 1');
  await db.changeUser({ user });
  await fresh('change user', user);
  await db.changeUser({ user: 'readonly' });
  await fresh('change user to another', 'readonly');
  await db.changeUser({ user });
  await fresh('change user back', user);
  await db.ping();
}

async function pool() {
  const connections = mysql.createPool({ ...settings, connectionLimit: 5 });
  const numbers = [...Array(100).keys()];
  const found = await Promise.all(numbers.map((number) => rows(connections, 'select ?', [number])));
  same('pool', found.flat(2), numbers);
  // Each taken by one user or the other, whoever had it before.
  const users = numbers.slice(0, 30).map((number) => (number % 3 ? user : 'readonly'));
  const seen = users.map(async (name) => {
    const db = await connections.getConnection();
    await db.changeUser({ user: name });
    const [[mark, current]] = await rows(db, 'select @mark, current_user()');
    await db.query('set @mark = 1');
    db.release();
    return [mark, current];
  });
  same('pool with change of user', await Promise.all(seen), users.map((name) => [null, `${name}@%`]));
  await connections.end();
}

async function main() {
  const db = await mysql.createConnection(settings);
  try {
    for (const part of [greeting, protocols, localInfile, bigPackets, serverErrors, kills, users]) await part(db);
  } finally {
    await db.query(`drop table if exists ${own}, ${own}_in; drop procedure if exists ${own}`);
    await db.end();
  }
  await pool();
  await refused('refusal at login', 1044, mysql.createConnection({ ...settings, database: 'no_such_database' }));
  const other = await mysql.createConnection(settings);
  other.connection.on('error', () => {});
  await refused('change user to nobody', 1045, other.changeUser({ user: 'nobody' }));
  console.log(`ok mysql2 ${version('mysql2')}`);
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);

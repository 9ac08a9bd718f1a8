// windows-client.js query|copy|cancel [PORT] : a client of packaging/windows-test, run by node.exe under wine. Without a port the
// variables of `rdsgate run` say where the database is. Writes to stdout at once: pipes of node under wine lose the rest.
const { Client } = require('pg');
const { from, to } = require('pg-copy-streams');
const { pipeline } = require('stream/promises');
const { Readable, Writable } = require('stream');
const { writeSync } = require('fs');

const [what, port] = process.argv.slice(2);
const options = port ? { host: '127.0.0.1', port: Number(port), user: 'app_user', database: 'appdb' } : {};
const say = (text) => writeSync(1, text + '\n');

async function main() {
  const client = new Client(options);
  await client.connect();
  if (what === 'query') {
    say('answer ' + (await client.query('select 6 * 7 as answer')).rows[0].answer);
  } else if (what === 'copy') {
    await client.query('create temporary table copied (line text)');
    const line = 'x'.repeat(999) + '\n';
    const block = Buffer.from(line.repeat(1000));
    await pipeline(Readable.from(Array(20).fill(block)), client.query(from('copy copied from stdin')));
    let bytes = 0;
    const count = new Writable({ write(chunk, _, done) { bytes += chunk.length; done(); } });
    await pipeline(client.query(to('copy copied to stdout')), count);
    if (bytes !== 20 * block.length) throw new Error('got ' + bytes + ' bytes');
    say('copied ' + bytes / 1e6);
  } else {
    const sleeping = client.query('select pg_sleep(60)').then(() => 'not cancelled', (error) => 'cancelled ' + error.code);
    const { processID, secretKey } = client;
    const cancelling = new Client(options);
    await new Promise((resolve) => {
      cancelling.connection.on('connect', () => cancelling.connection.cancel(processID, secretKey));
      cancelling.connection.on('end', resolve);
      cancelling.connection.connect(options.port, options.host);
    });
    say(await sleeping);
  }
  await client.end();
}

main().then(() => process.exit(0), (error) => { say('error ' + error.message); process.exit(1); });

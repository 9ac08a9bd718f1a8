// Tries every case that its arguments name, NUMBER,HOST,PORT,PASSWORD,CA, and shows the user that it is, or why it is refused.
'use strict';
const fs = require('fs');
const { Client } = require('pg');

async function attempt(words) {
  const [number, host, port, password, ca] = words.split(',');
  const db = new Client({
    host, port: Number(port), user: 'app_user', database: 'appdb', password: password || undefined,
    // Where the listener has no TLS, there is no such file.
    ssl: ca ? { ca: fs.existsSync(ca) ? fs.readFileSync(ca) : undefined } : false,
  });
  db.on('error', () => {});
  try {
    await db.connect();
    const { rows } = await db.query('select current_user as name');
    console.log(`${number} in as ${rows[0].name}`);
  } catch (error) {
    console.log(`${number} ${String(error.message).replace(/\s+/g, ' ')}`);
  }
  await db.end().catch(() => {});
}

Promise.all(process.argv.slice(2).map(attempt)).then(() => process.exit(0));

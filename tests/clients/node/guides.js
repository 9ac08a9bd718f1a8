// The JavaScript of docs/guides/frameworks.md, from standard input, for two databases: `orders` on PostgreSQL and `shop` on MySQL.
'use strict';

const assert = require('assert');
const fs = require('fs');

async function main() {
  const made = new Function('require', `${fs.readFileSync(0, 'utf8')}\nreturn { orders, shop };`)(require);
  for (const [name, database] of Object.entries(made)) {
    const found = await database.transaction(async (transaction) => {
      await database.query('create temporary table copied (id int)', { transaction });
      await database.query('insert into copied values (41), (43)', { transaction });
      const [rows] = await database.query('select max(id) as largest from copied', { transaction });
      return rows[0].largest;
    });
    assert.strictEqual(found, 43);
    await database.close();
    console.log(`ok ${name}`);
  }
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});

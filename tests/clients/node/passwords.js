// Drivers that log in with a password, and become another user with it where they can.
//
// Arguments: postgres|mysql|ed25519 HOST PORT DATABASE USER [OTHER]. The password of both users is in PASSWORD. On a MySQL that does
// not know the password yet, the drivers encrypt it with the key that they are given.
'use strict'

const [kind, host, port, database, user, other] = process.argv.slice(2)
const right = process.env.PASSWORD
const ASKS = { postgres: 'select current_user as name', mysql: "select substring_index(user(), '@', 1) as name" }

function same (what, found, expected) {
  if (found !== expected) throw new Error(`MISMATCH ${what}: ${found} instead of ${expected}`)
  console.log(`ok ${what}`)
}

const DRIVERS = {
  async pg (password) {
    const { Client } = require('pg')
    const db = new Client({ host, port: Number(port), database, user, password })
    await db.connect()
    same('pg', (await db.query(ASKS.postgres)).rows[0].name, user)
    await db.end()
  },
  async 'postgres.js' (password) {
    const sql = require('postgres')({ host, port: Number(port), database, username: user, password, max: 1 })
    try {
      same('postgres.js', (await sql.unsafe(ASKS.postgres))[0].name, user)
    } finally {
      await sql.end()
    }
  },
  async mysql2 (password) {
    const db = await require('mysql2/promise').createConnection({ host, port: Number(port), database, user, password })
    const name = async () => (await db.query(ASKS.mysql))[0][0].name
    same('mysql2', await name(), user)
    await db.changeUser({ user: other, password })
    same('mysql2, another user', await name(), other)
    await db.end()
  },
  async mariadb (password) {
    const settings = { host, port: Number(port), database, user, password, allowPublicKeyRetrieval: true }
    const db = await require('mariadb').createConnection(settings)
    const name = async () => (await db.query(ASKS.mysql))[0].name
    same('mariadb', await name(), user)
    // The driver does not do it with a MySQL.
    if (other && db.serverVersion().includes('MariaDB')) {
      await db.changeUser({ user: other, password })
      same('mariadb, another user', await name(), other)
    }
    await db.end()
  }
}
const OF = { postgres: ['pg', 'postgres.js'], mysql: ['mysql2', 'mariadb'], ed25519: ['mariadb'] }

async function main () {
  for (const name of OF[kind]) {
    // On MySQL the first login is the one with the whole password, the second has its hash alone.
    for (let login = 0; login < 2; login++) await DRIVERS[name](right)
    let refusal = null
    await DRIVERS[name]('wrong').catch(error => { refusal = error })
    const code = refusal && (kind === 'postgres' ? refusal.code : refusal.errno)
    same(`${name}, wrong password`, code, kind === 'postgres' ? '28P01' : 1045)
  }
}

main().catch(error => {
  console.error(error)
  process.exit(1)
})

"""asyncmy: asynchronous, with a pool; and that several connections work at once."""

import asyncio
import hashlib
import os
from importlib.metadata import version

import asyncmy
from asyncmy.errors import MySQLError

from check import arguments, ok, same, schema

to = arguments(15 * 1024 * 1024)  # it miscounts the parts of a packet of 16 MiB
own = schema("asyncmy")
settings = {"host": to.host, "port": to.port, "user": to.user, "database": to.database, "autocommit": True, "connect_timeout": 60}


async def rows(db, sql, values=None):
    async with db.cursor() as cursor:
        await cursor.execute(sql, values)
        return list(await cursor.fetchall())


async def refused(what, code, act):
    try:
        await act
    except MySQLError as error:
        same(what, error.args[0], code)
        return
    raise SystemExit(f"MISMATCH {what}: did not fail")


async def shows(db):
    user, number, found = (await rows(db, "select current_user(), connection_id(), version()"))[0]
    same("user", user, to.user + "@%")
    same("connection id", db.thread_id()[0] if isinstance(db.thread_id(), tuple) else db.thread_id(), number)
    same("server version", db.get_server_info().removeprefix("5.5.5-"), found)
    same("query", await rows(db, "select %s + 1, %s, null", (41, "ü🐬")), [(42, "ü🐬", None)])
    await rows(db, f"create table {own} (id int primary key)")
    async with db.cursor() as cursor:
        await cursor.executemany(f"insert into {own} values (%s)", [(number,) for number in range(5_000)])
    same("big result", sum(row[0] for row in await rows(db, f"select id from {own}")), 12_497_500)
    for sql, code in {"selec": 1064, "select * from nowhere": 1146, f"insert into {own} values (1)": 1062}.items():
        await refused(f"error {code}", code, rows(db, sql))
    content = os.urandom(to.big // 2).hex()
    found = (await rows(db, "select sha2(%s, 256)", (content,)))[0][0]
    same(f"packet of {to.big} bytes up", found, hashlib.sha256(content.encode()).hexdigest())
    same(f"packet of {to.big} bytes down", (await rows(db, f"select repeat('r', {to.big})"))[0][0] == "r" * to.big, True)
    same("usable after it", await rows(db, "select 1"), [(1,)])


async def main():
    db = await asyncmy.connect(**settings)
    try:
        await shows(db)
    finally:
        await rows(db, f"drop table if exists {own}")
        db.close()

    async def ask(pool, number):
        async with pool.acquire() as pooled:
            return (await rows(pooled, "select %s", (number,)))[0][0]

    async with asyncmy.create_pool(minsize=5, maxsize=5, **settings) as pool:
        same("pool", await asyncio.gather(*(ask(pool, number) for number in range(100))), list(range(100)))
    await refused("refusal at login", 1044, asyncmy.connect(**(settings | {"database": "no_such_database"})))
    ok("asyncmy " + version("asyncmy"))


asyncio.run(main())

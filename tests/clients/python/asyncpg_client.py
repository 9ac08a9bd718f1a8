"""asyncpg: its own protocol implementation, binary and pipelined."""

import asyncio
import hashlib
import io
import os
import time

import asyncpg

from check import arguments, below, ok, same, schema

to = arguments()
own = schema("asyncpg")


async def connect(**more):
    settings = {"server_settings": {"search_path": own, "application_name": "asyncpg client"}, "timeout": 60}
    return await asyncpg.connect(host=to.host, port=to.port, database=to.database, user=to.user, **(settings | more))


async def protocols(db):
    same("startup parameters", await db.fetchval("show application_name"), "asyncpg client")
    same("simple protocol", await db.execute("select 1; select 2"), "SELECT 1")
    same("extended protocol", tuple(await db.fetchrow("select $1::int + 1, $2::text", 41, "ü")), (42, "ü"))
    prepared = await db.prepare("select $1::int8 * 2")
    same("prepared", [await prepared.fetchval(number) for number in range(50)], [number * 2 for number in range(50)])
    await db.execute("create table many (id int)")
    await db.executemany("insert into many values ($1)", [(number,) for number in range(5_000)])
    async with db.transaction():
        same("cursor in parts", sum([row[0] async for row in db.cursor("select id from many", prefetch=100)]), 12_497_500)
    notices = []
    db.add_log_listener(lambda _, notice: notices.append(notice.message))
    await db.execute("do $$ begin raise notice 'heard'; end $$")
    await asyncio.sleep(0)
    same("notice", notices, ["heard"])


async def copy(db):
    await db.execute("create table copied (id int, text text)")
    lines = b"".join(f"{number}\trow {number} ä\n".encode() for number in range(50_000))
    await db.copy_to_table("copied", source=io.BytesIO(lines))
    out = io.BytesIO()
    await db.copy_from_query("select * from copied order by id", output=out)
    same("copy in and out", hashlib.sha256(out.getvalue()).hexdigest(), hashlib.sha256(lines).hexdigest())
    await db.copy_records_to_table("copied", records=[(number, None) for number in range(1_000)])
    same("binary copy", await db.fetchval("select count(*) from copied where text is null"), 1_000)


async def notifications(db):
    other = await connect()
    # All clients share the database, and whoever listens hears everybody.
    own = f"news_{db.get_server_pid()}"
    heard = asyncio.get_running_loop().create_future()
    await db.add_listener(own, lambda _, pid, channel, payload: heard.set_result((pid, channel, len(payload))))
    await other.execute("select pg_notify($1, $2)", own, "x" * 7000)
    expected = (other.get_server_pid(), own, 7000)
    same("notification while idle", await asyncio.wait_for(heard, 20), expected)
    await db.reset()
    await other.close()


async def large_objects(db):
    content = os.urandom(300_000)
    oid = await db.fetchval("select lo_from_bytea(0, $1)", content)
    same("large object", await db.fetchval("select lo_get($1)", oid), content)
    await db.execute("select lo_unlink($1)", oid)


async def big_row(db):
    content = os.urandom(to.big)
    row = await db.fetchrow("select repeat('r', $1), md5($2::bytea)", to.big, content)
    same(f"row of {to.big} bytes up", row[1], hashlib.md5(content).hexdigest())
    same(f"row of {to.big} bytes down", row[0] == "r" * to.big, True)


async def server_errors(db):
    for sql, state in {"select 1/0": "22012", "selec": "42601", "select * from nowhere": "42P01"}.items():
        for protocol, run in ("simple", db.execute), ("extended", db.fetch):
            try:
                await run(sql)
                raise SystemExit(f"MISMATCH {sql} did not fail")
            except asyncpg.PostgresError as error:
                same(f"{state}, {protocol}", error.sqlstate, state)
    same("usable after errors", await db.fetchval("select 1"), 1)


async def cancels(db):
    began = time.monotonic()
    try:
        await asyncio.wait_for(db.execute("select pg_sleep(60)"), 1)
        raise SystemExit("MISMATCH pg_sleep ended by itself")
    except asyncio.TimeoutError:
        pass
    same("cancel: usable after it", await db.fetchval("select 1"), 1)
    below("cancel: soon", time.monotonic() - began, 30)


async def pool():
    async with asyncpg.create_pool(
        host=to.host, port=to.port, database=to.database, user=to.user, min_size=5, max_size=5
    ) as connections:
        found = await asyncio.gather(*(connections.fetchval("select $1::int", number) for number in range(100)))
    same("pool", found, list(range(100)))


async def tls_modes():
    for mode in "disable", "allow", "prefer":
        db = await connect(ssl=mode)
        same(f"ssl={mode}", await db.fetchval("select current_user"), to.user)
        await db.close()
    if to.host.startswith("/"):
        return  # It asks for no TLS on a unix socket.
    try:
        await connect(ssl="require")
        raise SystemExit("MISMATCH ssl=require got in without TLS")
    except ConnectionError as error:
        same("ssl=require is told", "rejected SSL" in str(error), True)


async def main():
    db = await connect()
    await db.execute(f"create schema {own}")
    try:
        for part in protocols, copy, notifications, large_objects, big_row, server_errors, cancels:
            await part(db)
    finally:
        await db.execute(f"drop schema {own} cascade")
        await db.close()
    await pool()
    await tls_modes()
    ok("asyncpg " + asyncpg.__version__)


asyncio.run(main())

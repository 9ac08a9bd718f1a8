"""Pools whose connections break: SQLAlchemy over psycopg2, psycopg and asyncpg, with pool_pre_ping as people set it.

Says `idle NAME` and waits for a line, while which the connection in the pool is broken; then `busy MARK` and runs a query with that
mark until its connection breaks; then `again NAME` and waits for a line before it connects once more.
"""

import asyncio
import sys

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from check import arguments, ok, same

to = arguments()


def settings(driver):
    url = sa.URL.create(f"postgresql+{driver}", username=to.user, host=to.host, port=to.port, database=to.database)
    return {"url": url, "pool_size": 1, "max_overflow": 0, "pool_pre_ping": True}


def wait(what):
    print(what, flush=True)
    sys.stdin.readline()


def slow(mark):
    print(f"busy {mark}", flush=True)
    return sa.text(f"select pg_sleep(120), '{mark}'")


def lost(driver, error):
    same(f"{driver}: a query that is cut off is a lost connection", error.connection_invalidated, True)


def blocking(driver):
    engine = sa.create_engine(**settings(driver))

    def one():
        with engine.connect() as db:
            return db.execute(sa.text("select 1")).scalar_one()

    one()
    wait(f"idle {driver}")
    same(f"{driver}: a pool connects again", one(), 1)
    try:
        with engine.connect() as db:
            db.execute(slow(f"{driver} {to.port}"))
        raise SystemExit(f"MISMATCH {driver}: the query was to be cut off")
    except sa.exc.DBAPIError as error:
        lost(driver, error)
    wait(f"again {driver}")
    same(f"{driver}: a pool connects once more", one(), 1)
    engine.dispose()


async def concurrent():
    engine = create_async_engine(**settings("asyncpg"))

    async def one():
        async with engine.connect() as db:
            return (await db.execute(sa.text("select 1"))).scalar_one()

    async def idle(what):
        # The driver hears of the end meanwhile, as it does in a program that serves others.
        await asyncio.to_thread(wait, what)

    await one()
    await idle("idle asyncpg")
    same("asyncpg: a pool connects again", await one(), 1)
    try:
        async with engine.connect() as db:
            await db.execute(slow(f"asyncpg {to.port}"))
        raise SystemExit("MISMATCH asyncpg: the query was to be cut off")
    except sa.exc.DBAPIError as error:
        lost("asyncpg", error)
    await idle("again asyncpg")
    same("asyncpg: a pool connects once more", await one(), 1)
    await engine.dispose()


blocking("psycopg2")
blocking("psycopg")
asyncio.run(concurrent())
ok("all pools")

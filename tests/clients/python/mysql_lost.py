"""SQLAlchemy with pool_pre_ping: what becomes of its connections when they are lost, with PyMySQL, mysqlclient and Connector/Python.

Prints `cut` where whoever started it is to cut the way to the database, and goes on with a line from standard input.
"""

import sys
import threading
import time

from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from check import arguments, ok, same

to = arguments()


def cut():
    print("cut", flush=True)
    sys.stdin.readline()


def running(db, what, value):
    """Whether another connection of ours has this in the server's list."""
    return db.scalar(text(f"select count(*) from information_schema.processlist where {what} = :value"), {"value": value}) > 0


def wait_until(condition):
    end = time.monotonic() + 60
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("MISMATCH: it does not happen")
        time.sleep(0.01)


def survives(driver):
    # The last wants for the character set what a server before MySQL 8 has.
    url = f"mysql+{driver}://{to.user}@{to.host}:{to.port}/{to.database}?charset=utf8mb4"
    url += "&collation=utf8mb4_unicode_ci" if driver == "mysqlconnector" else ""
    engine = create_engine(url, pool_pre_ping=True, pool_size=1, max_overflow=0)
    single = create_engine(url, poolclass=NullPool)

    def works(what):
        with engine.connect() as db:
            same(f"{driver}: {what}", db.scalar(text("select 42")), 42)

    with engine.connect() as db:
        number = db.scalar(text("select connection_id()"))
    with single.connect() as db:
        db.execute(text(f"kill {number}"))
        wait_until(lambda: not running(db, "id", number))
    works("after the server has closed")

    with engine.connect() as db:
        db.execute(text("set session wait_timeout = 1"))
        number = db.scalar(text("select connection_id()"))
    with single.connect() as db:
        wait_until(lambda: not running(db, "id", number))
    works("after wait_timeout")

    cut()
    works("after the way has broken")

    lost = []

    def waits():
        try:
            with engine.connect() as db:
                db.execute(text("select sleep(600)"))
        except DBAPIError as error:
            lost.append(error.connection_invalidated)

    waiting = threading.Thread(target=waits)
    waiting.start()
    with single.connect() as db:
        wait_until(lambda: running(db, "info", "select sleep(600)"))
    cut()
    waiting.join()
    same(f"{driver}: lost while it waits", lost, [True])
    works("after it was lost while it waited")
    engine.dispose()


for driver in ("pymysql", "mysqldb", "mysqlconnector"):
    survives(driver)
ok("lost connections")

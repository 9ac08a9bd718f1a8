"""psycopg 3, that is libpq: both protocols, COPY, notifications, large objects, big rows, errors, PQcancel, TLS modes."""

import hashlib
import os
import threading
import time

import psycopg
from psycopg import errors

from check import arguments, below, ok, same, schema

to = arguments()
own = schema("psycopg")


def connect(**more):
    settings = {
        "host": to.host,
        "port": to.port,
        "dbname": to.database,
        "user": to.user,
        "options": f"-c search_path={own}",
        "application_name": "psycopg client",
    }
    return psycopg.connect(autocommit=True, **(settings | more))


def protocols(db):
    same("startup parameters", db.execute("show application_name").fetchone(), ("psycopg client",))
    same("simple protocol", db.pgconn.exec_(b"select 1; select 'zwei'").get_value(0, 0), b"zwei")
    same("extended protocol", db.execute("select %s::int + 1, %s::text", (41, "ü")).fetchone(), (42, "ü"))
    for number in range(3):
        row = db.execute("select %s::int * 2", (number,), prepare=True, binary=True).fetchone()
    same("prepared, binary", row, (4,))
    with db.pipeline():
        cursors = [db.execute("select %s::int", (number,)) for number in range(100)]
        same("pipeline", [cursor.fetchone()[0] for cursor in cursors], list(range(100)))
    with db.transaction(), db.cursor(name="portal") as cursor:
        cursor.itersize = 100
        cursor.execute("select generate_series(1, 1000)")
        same("cursor in parts", sum(row[0] for row in cursor), 500_500)
    notices = []
    db.add_notice_handler(lambda notice: notices.append(notice.message_primary))
    db.execute("do $$ begin raise notice 'heard'; end $$")
    same("notice", notices, ["heard"])


def copy(db):
    db.execute("create table copied (id int, text text)")
    lines = [f"{number}\trow {number} ä\n".encode() for number in range(50_000)]
    with db.cursor() as cursor:
        with cursor.copy("copy copied from stdin") as sink:
            for line in lines:
                sink.write(line)
        with cursor.copy("copy (select * from copied order by id) to stdout") as source:
            out = b"".join(source)
    same("copy in and out", hashlib.sha256(out).hexdigest(), hashlib.sha256(b"".join(lines)).hexdigest())
    try:
        with db.cursor() as cursor, cursor.copy("copy copied from stdin") as sink:
            sink.write(b"not a number\tx\n")
        raise SystemExit("MISMATCH a copy of nonsense did not fail")
    except errors.InvalidTextRepresentation as error:
        same("error in copy", error.sqlstate, "22P02")
    same("usable after it", db.execute("select count(*) from copied").fetchone(), (50_000,))


def notifications(db):
    with connect() as other:
        # All clients share the database, and whoever listens hears everybody.
        channel = f"news_{db.info.backend_pid}"
        db.execute(f"listen {channel}")
        other.execute("select pg_notify(%s, %s)", (channel, "x" * 7000))
        heard = next(db.notifies(timeout=60, stop_after=1))
        same("notification", (heard.channel, len(heard.payload), heard.pid), (channel, 7000, other.info.backend_pid))


def large_objects(db):
    content = os.urandom(300_000)
    oid = db.execute("select lo_from_bytea(0, %s)", (content,)).fetchone()[0]
    same("large object", db.execute("select lo_get(%s)", (oid,)).fetchone()[0], content)
    db.execute("select lo_unlink(%s)", (oid,))


def big_row(db):
    content = os.urandom(to.big)
    text, digest = db.execute("select repeat('r', %s), md5(%b::bytea)", (to.big, content), binary=True).fetchone()
    same(f"row of {to.big} bytes up", digest, hashlib.md5(content).hexdigest())
    same(f"row of {to.big} bytes down", text == "r" * to.big, True)


def server_errors(db):
    for sql, state in {"select 1/0": "22012", "selec": "42601", "select * from nowhere": "42P01"}.items():
        for protocol, binary in ("simple", False), ("extended", True):  # a binary result cannot be had by the simple one
            try:
                db.execute(sql, binary=binary)
                raise SystemExit(f"MISMATCH {sql} did not fail")
            except psycopg.Error as error:
                same(f"{state}, {protocol}", error.sqlstate, state)
    same("usable after errors", db.execute("select 1").fetchone(), (1,))
    with psycopg.ClientCursor(db) as cursor:
        try:
            cursor.execute("create table once (id int primary key); insert into once values (1), (1)")
            raise SystemExit("MISMATCH a key twice")
        except errors.UniqueViolation as error:
            same("fields of an error", (error.diag.constraint_name, error.diag.table_name), ("once_pkey", "once"))


def when_asleep(db, act):
    """Acts in a thread as soon as the server is inside pg_sleep."""

    def watch():
        with connect() as other:
            asleep = "select count(*) from pg_stat_activity where pid = %s and wait_event = 'PgSleep'"
            while other.execute(asleep, (db.info.backend_pid,)).fetchone() == (0,):
                pass
        act()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def cancels(db):
    for name, cancel in ("PQcancel", db.cancel), ("PQcancelStart or its stand-in", lambda: db.cancel_safe(timeout=60)):
        began = time.monotonic()
        canceller = when_asleep(db, cancel)
        try:
            db.execute("select pg_sleep(60)")
            raise SystemExit(f"MISMATCH {name} did not cancel")
        except errors.QueryCanceled as error:
            same(f"{name}: SQLSTATE", error.sqlstate, "57014")
        canceller.join()
        below(f"{name}: soon", time.monotonic() - began, 30)
        same(f"{name}: usable after it", db.execute("select 1").fetchone(), (1,))


def tls_modes():
    for mode in "disable", "allow", "prefer":
        with connect(sslmode=mode) as db:
            same(f"sslmode={mode}", db.execute("select current_user").fetchone(), (to.user,))
    if to.host.startswith("/"):
        return  # It asks for no TLS on a unix socket.
    try:
        connect(sslmode="require")
        raise SystemExit("MISMATCH sslmode=require got in without TLS")
    except psycopg.OperationalError as error:
        same("sslmode=require is told", "server does not support SSL" in str(error), True)


def unknown_database():
    try:
        connect(dbname="no_such_database")
        raise SystemExit("MISMATCH a database that is not there")
    except psycopg.OperationalError as error:
        same("refusal at login", 'database "no_such_database" does not exist' in str(error), True)


with connect() as db:
    db.execute(f"create schema {own}")
    try:
        for part in protocols, copy, notifications, large_objects, big_row, server_errors, cancels:
            part(db)
    finally:
        db.execute(f"drop schema {own} cascade")
tls_modes()
unknown_database()
ok("psycopg " + psycopg.__version__)

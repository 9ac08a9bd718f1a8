"""What every MySQL driver with Python's DB-API is asked to do; a driver's own program adds what it alone can."""

import hashlib
import os
import tempfile
import threading
import time
from importlib.metadata import version

from check import arguments, below, ok, same, schema

to = arguments(17 * 1024 * 1024)
# By whom and how it is refused differs: the client itself, MySQL, MariaDB.
REFUSALS_OF_INFILE = -1, 1148, 2000, 2068, 3948, 4166


class Scenario:
    """Subclassed by a program; `own` begins the name of all that is made in the database."""

    name: str
    package: str  # its name on PyPI
    module = None  # the driver: its Error and its connect(**settings)
    settings = {}
    infile = {"local_infile": True}

    def __init__(self):
        self.own = schema(self.name)

    def connect(self, **more):
        place = {"unix_socket": to.host} if to.host.startswith("/") else {"host": to.host, "port": to.port}
        settings = place | {"user": to.user, "database": to.database, "autocommit": True}
        compress = {"compress": True} if os.environ.get("COMPRESS") else {}
        return self.module.connect(**(settings | self.settings | compress | more))

    def rows(self, db, sql, values=None):
        with db.cursor() as cursor:
            cursor.execute(sql, values)
            return [tuple(row) for row in cursor.fetchall()]

    def execute(self, db, *statements):
        with db.cursor() as cursor:
            for sql in statements:
                cursor.execute(sql)

    def refused(self, what, codes, act):
        try:
            act()
        except self.module.Error as error:
            same(what, error.args[0] in codes or error.args[0], True)
            return
        raise SystemExit(f"MISMATCH {what}: did not fail")

    def connection_id(self, db):
        return db.thread_id()

    def server_version(self, db):
        return db.get_server_info()

    def streamed(self, db, sql):
        """A cursor whose rows are not all fetched first."""
        raise NotImplementedError

    def what_it_alone_can(self, db):
        pass

    def run(self):
        db = self.connect()
        try:
            self.execute(
                db,
                f"create table {self.own} (id int primary key, text varchar(80))",
                f"create procedure {self.own}() begin select 1; select 2 union select 3; end",
            )
            for part in (
                self.greeting,
                self.text,
                self.many_rows,
                self.many_results,
                self.local_infile,
                self.server_errors,
                self.big_packets,
                self.kill,
                self.what_it_alone_can,
            ):
                part(db)
        finally:
            with self.connect() as last:
                self.execute(last, f"drop procedure {self.own}", f"drop table {self.own}")
            db.close()
        self.refused("refusal at login", {1044}, lambda: self.connect(database="no_such_database"))
        ok(self.name + " " + version(self.package))

    def greeting(self, db):
        user, number, found = self.rows(db, "select current_user(), connection_id(), version()")[0]
        same("user", user, to.user + "@%")
        same("connection id", self.connection_id(db), number)
        same("server version", self.server_version(db).removeprefix("5.5.5-"), found)

    def text(self, db):
        same("query", self.rows(db, "select %s + 1, %s, null", (41, "ü🐬")), [(42, "ü🐬", None)])
        with db.cursor() as cursor:
            cursor.executemany(f"insert into {self.own} values (%s, %s)", [(number, f"Zeile {number}") for number in range(10)])
            same("rows written", cursor.rowcount, 10)
        db.begin() if hasattr(db, "begin") else self.execute(db, "start transaction")
        self.execute(db, f"delete from {self.own}")
        db.rollback()
        same("rolled back", self.rows(db, f"select count(*) from {self.own}"), [(10,)])
        same("empty result", self.rows(db, f"select * from {self.own} where id < 0"), [])

    def many_rows(self, db):
        digits = ", ".join(f"{self.own} as d{place}" for place in range(5))
        number = " + ".join(f"{10 ** place} * d{place}.id" for place in range(5))
        sql = f"select {number}, repeat('x', 100) from {digits}"
        same("big result", sum(row[0] for row in self.rows(db, sql)), 4_999_950_000)
        with self.streamed(db, sql) as cursor:
            same("big result, row by row", sum(row[0] for row in cursor), 4_999_950_000)

    def results(self, cursor):
        found = []
        while True:
            found.append([row[0] for row in cursor.fetchall()] if cursor.description else cursor.rowcount)
            if not cursor.nextset():
                return found

    def many_results(self, db):
        with db.cursor() as cursor:
            cursor.execute(f"select 1; update {self.own} set text = 'neu' where id < 3; select 'zwei'")
            same("multi-statements", self.results(cursor), [[1], 3, ["zwei"]])
        with db.cursor() as cursor:
            cursor.execute(f"call {self.own}()")
            same("multi-results", self.results(cursor)[:2], [[1], [2, 3]])
        same("usable after it", self.rows(db, "select 1"), [(1,)])

    def local_infile(self, db):
        table = f"{self.own}_in"
        self.execute(db, f"create table {table} (id int, text varchar(40)) charset utf8mb4")
        try:
            with tempfile.NamedTemporaryFile() as file:
                file.writelines(f"{number}\trow {number} ä\n".encode() for number in range(50_000))
                file.flush()
                sql = f"load data local infile '{file.name}' into table {table} character set utf8mb4"
                with self.connect(**self.infile) as other:
                    self.execute(other, sql)
                    found = self.rows(other, f"select count(*), cast(sum(id) as signed), max(text) from {table}")
                    same("local infile", found, [(50_000, 1_249_975_000, "row 9999 ä")])
                with self.connect(**{name: False for name in self.infile if name != "client_flag"}) as other:
                    self.refused("local infile, not asked for", REFUSALS_OF_INFILE, lambda: self.execute(other, sql))
        finally:
            self.execute(db, f"drop table {table}")

    def server_errors(self, db):
        for sql, code in {
            "selec": 1064,
            "select * from nowhere": 1146,
            f"insert into {self.own} values (1, 'twice')": 1062,
        }.items():
            self.refused(f"error {code}", {code}, lambda: self.execute(db, sql))
        same("usable after errors", self.rows(db, "select 1"), [(1,)])

    def big_packets(self, db):
        content = os.urandom(to.big // 2).hex()
        found = self.rows(db, "select sha2(%s, 256)", (content,))[0][0]
        same(f"packet of {to.big} bytes up", found, hashlib.sha256(content.encode()).hexdigest())
        same(f"packet of {to.big} bytes down", self.rows(db, f"select repeat('r', {to.big})")[0][0] == "r" * to.big, True)

    def is_asleep(self, other, query):
        try:
            return self.rows(other, query) != [(0,)]
        except Exception:  # the server cannot show another client's statement in utf8mb3
            return False

    def kill(self, db):
        number = self.connection_id(db)

        def watch():
            with self.connect() as other:
                asleep = f"select count(*) from information_schema.processlist where id = {number} and state = 'User sleep'"
                while not self.is_asleep(other, asleep):
                    pass
                self.execute(other, f"kill query {number}")

        killer = threading.Thread(target=watch)
        began = time.monotonic()
        killer.start()
        self.refused("kill query", {1317}, lambda: self.rows(db, f"select id from {self.own} where sleep(60)"))
        killer.join()
        below("kill query: soon", time.monotonic() - began, 30)
        same("kill query: usable after it", self.rows(db, "select 1"), [(1,)])

    def fresh(self, what, db, number, user=None):
        """That the session is as a new one, on the same connection."""
        found = self.rows(db, "select @mark, current_user(), connection_id()")[0]
        same(what, found, (None, (user or to.user) + "@%", number))

"""MySQL's Connector/Python, twice: in pure Python, and as an extension on MySQL's own C library."""

import os

import mysql.connector
from mysql.connector.pooling import MySQLConnectionPool

from check import same
from mysql_scenario import Scenario, to


class Connector(Scenario):
    package = "mysql-connector-python"
    module = mysql.connector
    infile = {"allow_local_infile": True}

    def __init__(self, pure):
        self.name = "connector_pure" if pure else "connector_c"
        # The one wants for the character set what a server before MySQL 8 has.
        self.settings = {"use_pure": pure, "connection_timeout": 60, "charset": "utf8mb4", "collation": "utf8mb4_unicode_ci"}
        super().__init__()

    def connection_id(self, db):
        return db.connection_id

    def server_version(self, db):
        return db.server_info

    def streamed(self, db, sql):
        cursor = db.cursor()
        cursor.execute(sql)
        return cursor

    def what_it_alone_can(self, db):
        with db.cursor(prepared=True) as cursor:
            for number in range(50):
                cursor.execute("select ? * 2, ?", (number, "ü"))
                same_row = cursor.fetchall()
                if same_row != [(number * 2, "ü")]:
                    raise SystemExit(f"MISMATCH prepared: {same_row}")
        same("prepared", True, True)
        number = db.connection_id
        self.execute(db, "set @mark = 1")
        db.cmd_reset_connection()
        self.fresh("reset", db, number)
        # In pure Python it refuses a change of user by itself where it compresses.
        if not (self.settings["use_pure"] and os.environ.get("COMPRESS")):
            self.change_user(db, number)
        settings = {"host": to.host, "port": to.port, "user": to.user, "database": to.database}
        pool = MySQLConnectionPool(2, self.name, pool_reset_session=True, **(settings | self.settings))
        numbers = set()
        for _ in range(6):
            with pool.get_connection() as pooled:
                numbers.add(pooled.connection_id)
                self.fresh("pool with reset", pooled, pooled.connection_id)
                self.execute(pooled, "set @mark = 1")
        same("pool: connections", len(numbers), 2)

    def change_user(self, db, number):
        self.execute(db, "set @mark = 1")
        db.cmd_change_user(to.user, "", to.database)
        self.fresh("change user", db, number)
        db.cmd_change_user("readonly", "", to.database)
        self.fresh("change user to another", db, number, "readonly")
        # For a user that it does not have, MySQL makes up a plugin; the driver may know no way with it, which it calls -1.
        self.refused("change user to nobody", {1045, -1}, lambda: db.cmd_change_user("nobody", "", to.database))


if not mysql.connector.HAVE_CEXT:
    raise SystemExit("MISMATCH this Connector/Python has no C extension")
for pure in True, False:
    Connector(pure).run()

"""mysqlclient: Python on MariaDB's C connector."""

import MySQLdb
from MySQLdb.cursors import SSCursor

from check import same
from mysql_scenario import Scenario, to


class MySqlClient(Scenario):
    name = "mysqlclient"
    package = "mysqlclient-static"
    module = MySQLdb
    # By the name localhost it means a unix socket.
    settings = {"host": to.host.replace("localhost", "127.0.0.1"), "charset": "utf8mb4", "connect_timeout": 60}

    def streamed(self, db, sql):
        cursor = db.cursor(SSCursor)
        cursor.execute(sql)
        return cursor

    def what_it_alone_can(self, db):
        number = db.thread_id()
        self.execute(db, "set @mark = 1")
        db.change_user(to.user, "", to.database)
        self.fresh("change user", db, number)
        db.change_user("readonly", "", to.database)
        self.fresh("change user to another", db, number, "readonly")
        db.change_user(to.user, "", to.database)
        same("statistics", db.stat().startswith("Uptime"), True)
        db.ping()


MySqlClient().run()

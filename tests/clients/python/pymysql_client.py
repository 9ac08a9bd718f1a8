"""PyMySQL: a protocol implementation of its own, text protocol only."""

import pymysql
from pymysql.constants import CLIENT
from pymysql.cursors import SSCursor

from mysql_scenario import Scenario


class PyMySql(Scenario):
    name = "pymysql"
    package = "PyMySQL"
    module = pymysql
    settings = {"client_flag": CLIENT.MULTI_STATEMENTS, "connect_timeout": 60, "max_allowed_packet": 1 << 28}

    def streamed(self, db, sql):
        cursor = db.cursor(SSCursor)
        cursor.execute(sql)
        return cursor


PyMySql().run()

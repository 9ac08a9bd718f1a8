"""Drivers that log in with a password, and become another user with it where they can.

Arguments: HOST PORT DATABASE USER OTHER. The password of both users is in MYSQL_PWD.
"""

import asyncio
import os
import sys

import asyncmy
import MySQLdb
import mysql.connector
import pymysql

host, port, database, user, other = sys.argv[1:]
password = os.environ["MYSQL_PWD"]
settings = {"host": host, "port": int(port), "user": user, "password": password, "database": database}


def check(name, db, expected):
    cursor = db.cursor()
    cursor.execute("select substring_index(user(), '@', 1)")
    (found,) = cursor.fetchone()
    if found != expected:
        raise SystemExit(f"MISMATCH {name}: {found} instead of {expected}")
    print(f"ok {name} as {found}")


check("PyMySQL", pymysql.connect(**settings), user)
db = MySQLdb.connect(**settings)
check("mysqlclient", db, user)
db.change_user(other, password, database)
check("mysqlclient, another user", db, other)
for use_pure in (True, False):
    db = mysql.connector.connect(**settings, ssl_disabled=True, use_pure=use_pure)
    check(f"Connector/Python, pure: {use_pure}", db, user)
    db.cmd_change_user(other, password, database)
    check(f"Connector/Python, pure: {use_pure}, another user", db, other)


async def check_asyncmy():
    db = await asyncmy.connect(**settings)
    async with db.cursor() as cursor:
        await cursor.execute("select substring_index(user(), '@', 1)")
        (found,) = await cursor.fetchone()
    if found != user:
        raise SystemExit(f"MISMATCH asyncmy: {found} instead of {user}")
    print(f"ok asyncmy as {found}")
    await db.ensure_closed()


asyncio.run(check_asyncmy())
try:
    # MySQL asks for all of a password that it does not know, and not every driver can encrypt it.
    MySQLdb.connect(**(settings | {"password": "wrong"}))
    raise SystemExit("MISMATCH a wrong password was taken")
except MySQLdb.OperationalError as error:
    if error.args[0] != 1045:
        raise
    print("ok wrong password")

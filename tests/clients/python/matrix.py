"""As matrix.js of node, with PyMySQL. A path is a folder with a socket of the usual name."""

import concurrent.futures
import os
import sys

import pymysql


def attempt(words):
    number, host, port, password, ca = words.split(",")
    where = {"unix_socket": f"{host}/mysql.sock"} if host.startswith("/") else {"host": host, "port": int(port)}
    # Where the listener has no TLS, there is no such file.
    tls = {"ssl": {"ca": ca if os.path.exists(ca) else None}} if ca else {"ssl_disabled": True}
    try:
        db = pymysql.connect(user="app_user", database="appdb", password=password, **where, **tls)
    except pymysql.Error as error:
        return f"{number} " + " ".join(str(error).split())
    with db, db.cursor() as cursor:
        cursor.execute("select substring_index(user(), '@', 1)")
        return f"{number} in as {cursor.fetchone()[0]}"


with concurrent.futures.ThreadPoolExecutor(max_workers=64) as threads:
    for result in threads.map(attempt, sys.argv[1:]):
        print(result)

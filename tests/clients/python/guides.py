"""The Python of docs/guides/frameworks.md, from standard input, for two databases: `orders` on PostgreSQL and `shop` on MySQL.
Argument: django or sqlalchemy."""

import sys

from check import ok, same

framework = sys.argv[1]
settings = {}
exec(compile(sys.stdin.read(), "the guide", "exec"), settings)

if framework == "sqlalchemy":
    import sqlalchemy

    for name in ("orders", "shop"):
        with settings[name].connect() as connection:
            connection.execute(sqlalchemy.text("create temporary table copied (id int)"))
            connection.execute(sqlalchemy.text("insert into copied values (41), (43)"))
            same(name, connection.scalar(sqlalchemy.text("select max(id) from copied")), 43)
    ok("SQLAlchemy " + sqlalchemy.__version__)
else:
    import django
    from django.conf import settings as configuration

    configuration.configure(DATABASES=settings["DATABASES"])
    django.setup()
    from django.db import connections

    for name in ("default", "shop"):
        with connections[name].cursor() as cursor:
            cursor.execute("create temporary table copied (id int)")
            cursor.executemany("insert into copied values (%s)", [(41,), (43,)])
            cursor.execute("select max(id) from copied")
            same(name, cursor.fetchone()[0], 43)
    ok("Django " + django.get_version())

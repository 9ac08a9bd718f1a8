"""A small application on SQLAlchemy models, its tables made by two Alembic migrations and taken away again."""

import os

import alembic.command
import sqlalchemy as sa
from alembic.config import Config
from sqlalchemy import orm

from check import arguments, ok, same, schema

to = arguments()
own = schema("sqlalchemy")
url = sa.URL.create("postgresql+psycopg", username=to.user, host=to.host, port=to.port, database=to.database)


class Base(orm.DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str] = orm.mapped_column(sa.String(80), unique=True)
    books: orm.Mapped[list["Book"]] = orm.relationship(back_populates="author", cascade="all, delete-orphan")


class Book(Base):
    __tablename__ = "book"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    title: orm.Mapped[str]
    pages: orm.Mapped[int | None]
    author_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("author.id"))
    author: orm.Mapped[Author] = orm.relationship(back_populates="books")


def tables(engine):
    return sorted(set(sa.inspect(engine).get_table_names(own)) - {"alembic_version"})


engine = sa.create_engine(url, connect_args={"options": f"-c search_path={own}"}, pool_size=3)
with engine.begin() as db:
    db.execute(sa.text(f"create schema {own}"))
try:
    config = Config()
    config.set_main_option("script_location", os.path.join(os.path.dirname(__file__), "alembic"))
    config.attributes["engine"] = engine
    alembic.command.upgrade(config, "head")
    same("migrations up", tables(engine), ["author", "book"])
    config.attributes["metadata"] = Base.metadata
    alembic.command.check(config)
    ok("the migrations make what the models describe")
    with orm.Session(engine) as session:
        session.add(Author(name="Zoë", books=[Book(title=f"Volume {number}", pages=number) for number in range(500)]))
        session.commit()
        found = session.scalars(sa.select(Author).options(orm.selectinload(Author.books))).one()
        same("rows through models", (found.name, sum(book.pages for book in found.books)), ("Zoë", 124_750))
        session.add(Author(name="Zoë"))
        try:
            session.commit()
            raise SystemExit("MISMATCH a name twice")
        except sa.exc.IntegrityError as error:
            same("error", error.orig.sqlstate, "23505")
            session.rollback()
        session.delete(found)
        session.commit()
        same("deleted with what hung on it", session.scalar(sa.select(sa.func.count()).select_from(Book)), 0)
    alembic.command.downgrade(config, "base")
    same("migrations down", tables(engine), [])
finally:
    with engine.begin() as db:
        db.execute(sa.text(f"drop schema {own} cascade"))
ok("SQLAlchemy " + sa.__version__)

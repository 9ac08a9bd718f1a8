"""Django's `migrate` with its own applications and one of ours, rows through the model, and the way back."""

import django
from django.conf import settings
from django.core.management import call_command

from check import arguments, ok, same, schema

to = arguments()
own = schema("django")
settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "notes"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": to.host,
            "PORT": to.port,
            "NAME": to.database,
            "USER": to.user,
            "OPTIONS": {"options": f"-c search_path={own}"},
        }
    },
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
)
django.setup()

from django.db import IntegrityError, connection, transaction  # noqa: E402

from notes.models import Note  # noqa: E402

with connection.cursor() as cursor:
    cursor.execute(f"create schema {own}")
try:
    call_command("migrate", verbosity=0)
    with connection.cursor() as cursor:
        found = connection.introspection.table_names(cursor)
    same("migrate", {"notes_note", "auth_user", "django_migrations"} <= set(found), True)
    call_command("makemigrations", check=True, verbosity=0)
    ok("the migrations make what the model describes")
    Note.objects.bulk_create(Note(title=f"Notiz {number} ü", body={"number": number}) for number in range(500))
    same("rows through the model", Note.objects.filter(body__number__gte=490).count(), 10)
    with transaction.atomic():
        note = Note.objects.select_for_update().get(title="Notiz 7 ü")
        note.body = {"number": None}
        note.save()
    same("changed", Note.objects.get(pk=note.pk).body, {"number": None})
    same("server-side cursor", sum(1 for _ in Note.objects.iterator(chunk_size=50)), 500)
    try:
        with transaction.atomic():
            Note.objects.create(title="Notiz 1 ü", body={})
        raise SystemExit("MISMATCH a title twice")
    except IntegrityError as error:
        same("error", error.__cause__.sqlstate, "23505")
    call_command("migrate", "notes", "zero", verbosity=0)
    with connection.cursor() as cursor:
        same("and back", "notes_note" in connection.introspection.table_names(cursor), False)
finally:
    with connection.cursor() as cursor:
        cursor.execute(f"drop schema {own} cascade")
ok("Django " + django.get_version())

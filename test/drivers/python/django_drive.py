"""Drives a node through Django's ORM and migrations: django_drive.py HOST PORT."""
import datetime as dt
import decimal
import io
import sys

import django
from django.conf import settings

from check import check, done, eq

settings.configure(
    DEBUG=False, USE_TZ=True, SECRET_KEY="x", DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions", "django.contrib.admin", "django.contrib.messages", "shop"],
    DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "dj", "USER": "root", "HOST": sys.argv[1], "PORT": sys.argv[2]}},
)
import psycopg2  # noqa: E402

k = psycopg2.connect(host=sys.argv[1], port=sys.argv[2], user="root", dbname="defaultdb")
k.autocommit = True
with k.cursor() as cur:
    cur.execute("DROP DATABASE IF EXISTS dj")
    cur.execute("CREATE DATABASE dj")
k.close()

django.setup()
from django.core.management import call_command  # noqa: E402
from django.db import IntegrityError, connection, models, transaction  # noqa: E402
from django.db.models import Avg, Count, Exists, F, OuterRef, Q, Subquery, Sum, Window  # noqa: E402
from django.db.models.functions import Coalesce, Concat, ExtractYear, Lower, RowNumber, TruncMonth  # noqa: E402
from django.contrib.auth.models import Group, Permission, User  # noqa: E402


from shop.models import Author, Book, Tag  # noqa: E402


@check("migrate")
def _():
    call_command("migrate", verbosity=0, interactive=False)
    call_command("migrate", verbosity=0, interactive=False)
    eq(Permission.objects.count() > 10, True)


@check("schema editor")
def _():
    with connection.schema_editor() as ed:
        for m in (Author, Tag, Book):
            ed.create_model(m)
    extra = models.IntegerField(default=7)
    extra.set_attributes_from_name("extra")
    wide = models.CharField(max_length=200, unique=True, db_index=True)
    wide.model = Author
    wide.set_attributes_from_name("name")
    as_text = models.TextField(null=True)
    as_text.set_attributes_from_name("extra")
    with connection.schema_editor() as ed:
        ed.add_field(Book, extra)
        ed.alter_field(Author, Author._meta.get_field("name"), wide)
    with connection.schema_editor() as ed:
        ed.alter_field(Book, extra, as_text)
        ed.remove_field(Book, as_text)
        ed.add_index(Book, models.Index(fields=["at"], name="by_at"))
    with connection.schema_editor() as ed:
        ed.remove_index(Book, models.Index(fields=["at"], name="by_at"))
        ed.alter_db_table(Tag, "shop_tag", "shop_tag2")
        ed.alter_db_table(Tag, "shop_tag2", "shop_tag")


@check("auth")
def _():
    u = User.objects.create_user("ann", "ann@example.com", "secret")
    u.groups.add(Group.objects.create(name="staff"))
    u.user_permissions.set(Permission.objects.all()[:5])
    eq(User.objects.filter(groups__name="staff").get().check_password("secret"), True)
    eq(u.has_perm("auth.add_user") in (True, False), True)
    eq(User.objects.filter(username__iexact="ANN").exists(), True)


@check("objects")
def _():
    a = Author.objects.create(name="Ann", born=dt.date(1970, 1, 2))
    b = Author.objects.create(name="Bob")
    Book.objects.bulk_create([Book(title="t%d" % i, author=a if i % 2 else b, price=decimal.Decimal(i), data={"n": i, "l": [i]}, raw=b"\0\xff", length=dt.timedelta(days=1, microseconds=i), rating=i / 2, ip="10.0.0.1", at_time=dt.time(1, 2, 3)) for i in range(100)])
    x = Book.objects.get(title="t7")
    eq((x.price, x.data, bytes(x.raw), x.length, x.ip, x.at_time), (decimal.Decimal("7.00"), {"n": 7, "l": [7]}, b"\0\xff", dt.timedelta(days=1, microseconds=7), "10.0.0.1", dt.time(1, 2, 3)))
    t = Tag.objects.create(name="good")
    x.tags.add(t)
    eq(Book.objects.filter(tags__name="good").count(), 1)
    eq(Book.objects.filter(data__n=7).count(), 1)
    eq(Book.objects.filter(data__has_key="l").count(), 100)
    eq(Book.objects.filter(data__l__contains=[9]).count(), 1)
    eq(Author.objects.annotate(n=Count("books"), s=Sum("books__price")).order_by("name").values_list("name", "n", "s").first(), ("Ann", 50, decimal.Decimal(2500)))
    eq(Book.objects.filter(price__gt=F("rating")).aggregate(Avg("price"))["price__avg"], 50)
    eq(Book.objects.annotate(y=ExtractYear("at"), m=TruncMonth("at")).values("y").distinct().count(), 1)
    eq(Book.objects.annotate(r=Window(RowNumber(), order_by=F("price").desc())).order_by("r").first().title, "t99")
    eq(Author.objects.filter(Exists(Book.objects.filter(author=OuterRef("pk"), price__gt=98))).count(), 1)
    eq(Author.objects.annotate(top=Subquery(Book.objects.filter(author=OuterRef("pk")).order_by("-price").values("title")[:1])).get(name="Bob").top, "t98")
    eq(Book.objects.filter(Q(title__icontains="T9") | Q(title__regex=r"^t1\d$")).count(), 21)
    eq(Book.objects.update(price=F("price") + 1), 100)
    Book.objects.bulk_update([Book(pk=x.pk, title="changed")], ["title"])
    eq(Author.objects.get_or_create(name="Bob")[1], False)
    eq(Author.objects.update_or_create(name="Cat", defaults={"born": None})[1], True)
    eq(list(Author.objects.annotate(l=Lower(Concat("name", models.Value("!")))).order_by("name").values_list("l", flat=True)), ["ann!", "bob!", "cat!"])
    eq(Book.objects.in_bulk([x.pk])[x.pk].title, "changed")
    eq(sum(1 for _ in Book.objects.all().iterator(chunk_size=7)), 100)
    with transaction.atomic():
        eq(sum(1 for _ in Book.objects.select_for_update().iterator(chunk_size=7)), 100)
    eq(Book.objects.select_related("author").prefetch_related("tags").count(), 100)
    Tag.objects.bulk_create([Tag(name="good"), Tag(name="bad")], ignore_conflicts=True)
    eq(Tag.objects.count(), 2)
    eq(Book.objects.filter(price__gt=50).union(Book.objects.filter(price__lt=10)).count() > 50, True)
    eq(Book.objects.dates("at", "month").count(), 1)
    eq(a.delete()[0] >= 50, True)
    eq(Book.objects.explain() != "", True)


@check("transactions")
def _():
    with transaction.atomic():
        Author.objects.create(name="Dan")
        try:
            with transaction.atomic():
                Author.objects.create(name="Dan")
        except IntegrityError as e:
            eq(e.__cause__.diag.constraint_name, "shop_author_name_key")
        Author.objects.create(name="Eve")
    eq(Author.objects.filter(name__in=["Dan", "Eve"]).count(), 2)
    try:
        with transaction.atomic():
            Author.objects.all().delete()
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    eq(Author.objects.count() > 1, True)
    done_ = []
    with transaction.atomic():
        transaction.on_commit(lambda: done_.append(1))
    eq(done_, [1])


@check("introspection")
def _():
    with connection.cursor() as cur:
        i = connection.introspection
        names = i.table_names(cur)
        eq("shop_book" in names and "auth_user" in names, True)
        eq(i.get_primary_key_column(cur, "shop_book"), "id")
        eq({r[0] for r in i.get_relations(cur, "shop_book").items()}, {"author_id"})
        con = i.get_constraints(cur, "shop_book")
        eq((con["price_ok"]["check"], con["one_title"]["unique"], con["by_price"]["orders"]), (True, True, ["DESC", "ASC"]))
        eq([s["column"] for s in i.get_sequences(cur, "shop_book")], ["id"])
    out = io.StringIO()
    call_command("inspectdb", "shop_book", stdout=out)
    eq("price = models.DecimalField(max_digits=8, decimal_places=2)" in out.getvalue(), True)
    call_command("sqlsequencereset", "auth", stdout=io.StringIO())
    call_command("flush", verbosity=0, interactive=False)
    eq(User.objects.count(), 0)


connection.close()
done()

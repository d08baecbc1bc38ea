"""Drives a node through SQLAlchemy: sqlalchemy_drive.py HOST PORT."""
import datetime as dt
import decimal
import enum
import sys
import uuid

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.dialects.postgresql import insert as pg_insert

from check import check, done, eq

url = "postgresql+psycopg2://root@%s:%s/defaultdb" % tuple(sys.argv[1:3])
engine = sa.create_engine(url, future=True)
with engine.begin() as c:
    c.execute(sa.text("DROP SCHEMA IF EXISTS sqa CASCADE"))
    c.execute(sa.text("CREATE SCHEMA sqa"))
meta = sa.MetaData(schema="sqa")
Base = orm.declarative_base(metadata=meta)


class Color(enum.Enum):
    red = 1
    green = 2


tags = sa.Table("item_tags", meta, sa.Column("item_id", sa.ForeignKey("sqa.items.id", ondelete="CASCADE"), primary_key=True), sa.Column("tag", sa.String(20), primary_key=True))


class Owner(Base):
    __tablename__ = "owners"
    id = sa.Column(sa.Integer, primary_key=True)
    name = sa.Column(sa.String(50), nullable=False, unique=True)
    items = orm.relationship("Item", back_populates="owner", cascade="all, delete-orphan", order_by="Item.id")


class Item(Base):
    __tablename__ = "items"
    __table_args__ = (sa.CheckConstraint("price >= 0", name="price_ok"), sa.Index("by_day", "day", sa.text("price DESC")), sa.UniqueConstraint("owner_id", "name", name="one_name"), {"comment": "things"})
    id = sa.Column(sa.BigInteger, primary_key=True)
    owner_id = sa.Column(sa.Integer, sa.ForeignKey("sqa.owners.id", name="item_owner", onupdate="CASCADE"), index=True)
    name = sa.Column(sa.Text, comment="what it is called")
    price = sa.Column(sa.Numeric(12, 2), server_default="1.50")
    day = sa.Column(sa.Date)
    at = sa.Column(sa.DateTime(timezone=True), server_default=sa.func.now())
    color = sa.Column(sa.Enum(Color, name="color"))
    ok = sa.Column(sa.Boolean, default=True)
    data = sa.Column(pg.JSONB)
    nums = sa.Column(pg.ARRAY(sa.Integer))
    key = sa.Column(pg.UUID(as_uuid=True), default=uuid.uuid4)
    raw = sa.Column(sa.LargeBinary)
    f = sa.Column(sa.Float)
    span = sa.Column(sa.Interval)
    addr = sa.Column(pg.INET)
    owner = orm.relationship("Owner", back_populates="items")


@check("create_all, twice")
def _():
    meta.create_all(engine)
    meta.create_all(engine)


@check("sessions")
def _():
    with orm.Session(engine) as s:
        o = Owner(name="ann", items=[Item(name="n%d" % i, price=decimal.Decimal(i), day=dt.date(2024, 1, i + 1), color=Color.green, data={"i": [i]}, nums=[i, None], raw=b"\0\xff", f=1.5, span=dt.timedelta(days=1, seconds=i), addr="10.0.0.1") for i in range(20)])
        s.add(o)
        s.commit()
        eq((o.id, len(o.items), o.items[3].price), (1, 20, decimal.Decimal(3)))
        i = s.get(Item, o.items[5].id)
        eq((i.color, i.data, i.nums, i.raw, i.span, i.addr), (Color.green, {"i": [5]}, [5, None], b"\0\xff", dt.timedelta(days=1, seconds=5), "10.0.0.1"))
        i.price += 1
        i.data = {"changed": True}
        s.flush()
        eq(s.query(Item).filter(Item.data["changed"].astext == "true").count(), 1)
        eq(s.query(Item).filter(Item.nums.any(5)).count(), 1)
        s.rollback()
        eq(i.price, 5)
        try:
            with s.begin_nested():
                s.add(Owner(name="ann"))
                s.flush()
        except sa.exc.IntegrityError as e:
            eq(e.orig.diag.constraint_name, "owners_name_key")
        s.add(Owner(name="bob"))
        s.commit()
        eq([o.name for o in s.query(Owner).order_by(Owner.name)], ["ann", "bob"])
        eq(s.query(sa.func.sum(Item.price)).join(Owner).filter(Owner.name.ilike("AN%")).scalar(), 190)
        q = s.query(Owner).options(orm.joinedload(Owner.items)).filter_by(name="ann").one()
        eq(len(q.items), 20)
        q = s.query(Owner).options(orm.selectinload(Owner.items)).populate_existing().all()
        sub = s.query(Item.owner_id, sa.func.count().label("n")).group_by(Item.owner_id).subquery()
        eq(s.query(Owner.name, sub.c.n).outerjoin(sub, sub.c.owner_id == Owner.id).order_by(Owner.id).all(), [("ann", 20), ("bob", None)])
        eq(s.query(Item.id, sa.func.row_number().over(order_by=Item.price.desc())).limit(1).one()[1], 1)
        s.query(Item).filter(Item.price > 15).with_for_update().all()
        s.query(Item).filter(Item.price > 15).update({"ok": False}, synchronize_session=False)
        s.query(Item).filter(Item.price > 18).delete(synchronize_session="fetch")
        s.commit()
        s.delete(s.query(Owner).filter_by(name="ann").one())
        s.commit()
        eq(s.query(Item).count(), 0)


@check("core")
def _():
    t = Item.__table__
    with engine.begin() as c:
        c.execute(t.insert(), [{"name": "m%d" % i, "price": i} for i in range(1000)])
        eq(c.execute(sa.select(sa.func.count()).select_from(t)).scalar(), 1000)
        o = Owner.__table__
        st = pg_insert(o).values([{"name": "bob"}, {"name": "cat"}])
        r = c.execute(st.on_conflict_do_update(index_elements=["name"], set_={"name": st.excluded.name + "!"}).returning(o.c.name))
        eq(sorted(x[0] for x in r), ["bob!", "cat"])
        c.execute(st.on_conflict_do_nothing())
        eq(c.execute(sa.select(t.c.name).where(t.c.price.in_([1, 2, 3])).order_by(sa.desc(t.c.price))).scalars().all(), ["m3", "m2", "m1"])
        eq(c.execute(t.insert().values(name="x")).inserted_primary_key[0] > 0, True)
        cte = sa.select(t.c.price).where(t.c.price < 5).cte("low")
        eq(c.execute(sa.select(sa.func.max(cte.c.price))).scalar(), 4)
        eq(len(c.execution_options(stream_results=True).execute(sa.select(t.c.id)).fetchall()), 1001)


@check("isolation levels and autocommit")
def _():
    for level in ("SERIALIZABLE", "REPEATABLE READ", "READ COMMITTED", "AUTOCOMMIT"):
        with engine.connect().execution_options(isolation_level=level) as c:
            eq(c.execute(sa.text("SELECT 1")).scalar(), 1)
    with engine.connect() as c:
        c.get_isolation_level()
        eq(c.dialect.server_version_info >= (13,), True)
        eq(c.dialect.default_schema_name, "public")


@check("reflection")
def _():
    insp = sa.inspect(engine)
    eq("sqa" in insp.get_schema_names(), True)
    eq(sorted(insp.get_table_names(schema="sqa")), ["item_tags", "items", "owners"])
    cols = {x["name"]: x for x in insp.get_columns("items", schema="sqa")}
    eq(repr(cols["price"]["type"]), "NUMERIC(precision=12, scale=2)")
    eq(cols["price"]["default"].startswith("1.5"), True)
    eq((cols["id"]["nullable"], cols["name"]["comment"], str(cols["at"]["type"]), cols["at"]["type"].timezone), (False, "what it is called", "TIMESTAMP", True))
    eq(("nextval" in cols["id"]["default"], str(cols["nums"]["type"].item_type), str(cols["key"]["type"])), (True, "INTEGER", "UUID"))
    eq((cols["color"]["type"].enums, cols["color"]["type"].name), (["red", "green"], "color"))
    eq(insp.get_pk_constraint("items", schema="sqa")["constrained_columns"], ["id"])
    eq(insp.get_pk_constraint("item_tags", schema="sqa"), {"constrained_columns": ["item_id", "tag"], "name": "item_tags_pkey"})
    fk, = insp.get_foreign_keys("items", schema="sqa")
    eq((fk["name"], fk["constrained_columns"], fk["referred_schema"], fk["referred_table"], fk["referred_columns"], fk["options"]), ("item_owner", ["owner_id"], "sqa", "owners", ["id"], {"onupdate": "CASCADE"}))
    eq({i["name"]: (i["column_names"], bool(i["unique"])) for i in insp.get_indexes("items", schema="sqa")}, {"by_day": (["day", "price"], False), "one_name": (["owner_id", "name"], True), "ix_sqa_items_owner_id": (["owner_id"], False)})
    eq([u["name"] for u in insp.get_unique_constraints("items", schema="sqa")], ["one_name"])
    eq([k["name"] for k in insp.get_check_constraints("items", schema="sqa")], ["price_ok"])
    eq(insp.get_table_comment("items", schema="sqa"), {"text": "things"})
    eq("color" in [e["name"] for e in insp.get_enums()], True)
    eq(insp.has_table("items", schema="sqa"), True)
    eq(insp.has_table("nothing", schema="sqa"), False)
    insp.get_view_names(schema="sqa")
    insp.get_sequence_names(schema="sqa")
    m = sa.MetaData()
    m.reflect(engine, schema="sqa")
    eq(sorted(m.tables), ["sqa.item_tags", "sqa.items", "sqa.owners"])
    # What was reflected can be made again elsewhere.
    with engine.begin() as c:
        c.execute(sa.text("DROP SCHEMA IF EXISTS sqa2 CASCADE"))
        c.execute(sa.text("CREATE SCHEMA sqa2"))
    m2 = sa.MetaData()
    t = m.tables["sqa.owners"].to_metadata(m2, schema="sqa2")
    t.c.id.server_default = None
    m2.create_all(engine)
    eq(sa.inspect(engine).get_table_names(schema="sqa2"), ["owners"])


@check("drop_all")
def _():
    meta.drop_all(engine)
    eq(sa.inspect(engine).get_table_names(schema="sqa"), [])


done()

package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
	"github.com/holdfastdb/holdfast/sql/parser"
)

// store is a sorted map with versions, enough to stand in for the KV layer.
type store struct {
	now  int64
	data map[string][]version
	gets int
}

type version struct {
	ts    hlc.Timestamp
	value []byte
}

func newStore() *store { return &store{now: 100, data: map[string][]version{}} }

// fakeTxn is a serial transaction on a store.
type fakeTxn struct {
	s     *store
	ts    hlc.Timestamp
	fixed bool
	puts  map[string][]byte
	hooks []func()
}

func (s *store) begin() *fakeTxn {
	s.now++
	return &fakeTxn{s: s, ts: hlc.Timestamp{WallTime: s.now}, puts: map[string][]byte{}}
}

func (s *store) at(ts int64) *fakeTxn {
	return &fakeTxn{s: s, ts: hlc.Timestamp{WallTime: ts}, fixed: true}
}

func (t *fakeTxn) commit() {
	t.s.now++
	for k, v := range t.puts {
		t.s.data[k] = append(t.s.data[k], version{hlc.Timestamp{WallTime: t.s.now}, v})
	}
	for _, h := range t.hooks {
		h()
	}
}

func (t *fakeTxn) read(key string) (kv.KeyValue, bool) {
	if v, ok := t.puts[key]; ok {
		return kv.KeyValue{Key: keys.Key(key), Value: v}, len(v) > 0
	}
	vs := t.s.data[key]
	for i := len(vs) - 1; i >= 0; i-- {
		if vs[i].ts.LessEq(t.ts) {
			return kv.KeyValue{Key: keys.Key(key), Value: vs[i].value, Timestamp: vs[i].ts}, len(vs[i].value) > 0
		}
	}
	return kv.KeyValue{Key: keys.Key(key)}, false
}

func (t *fakeTxn) Get(_ context.Context, key keys.Key) (kv.KeyValue, error) {
	t.s.gets++
	r, ok := t.read(string(key))
	if !ok {
		r.Value = nil
	}
	return r, nil
}

func (t *fakeTxn) Scan(_ context.Context, start, end keys.Key, o kv.ScanOptions) (res kv.ScanResult, err error) {
	all := map[string]bool{}
	for k := range t.s.data {
		all[k] = true
	}
	for k := range t.puts {
		all[k] = true
	}
	var ks []string
	for k := range all {
		if bytes.Compare([]byte(k), start) >= 0 && bytes.Compare([]byte(k), end) < 0 {
			ks = append(ks, k)
		}
	}
	sort.Strings(ks)
	for _, k := range ks {
		if r, ok := t.read(k); ok {
			if o.MaxKeys > 0 && int64(len(res.KVs)) == o.MaxKeys {
				res.Resume = &keys.Span{Key: keys.Key(k), EndKey: end}
				break
			}
			res.KVs = append(res.KVs, r)
		}
	}
	return res, nil
}

func (t *fakeTxn) Put(_ context.Context, key keys.Key, value []byte) error {
	if t.fixed {
		return errors.New("read-only")
	}
	t.puts[string(key)] = value
	return nil
}

func (t *fakeTxn) Del(ctx context.Context, ks ...keys.Key) error {
	for _, k := range ks {
		t.puts[string(k)] = nil
	}
	return nil
}

func (t *fakeTxn) ReadTimestamp() hlc.Timestamp { return t.ts }
func (t *fakeTxn) IsFixed() bool                { return t.fixed }
func (t *fakeTxn) OnCommit(fn func())           { t.hooks = append(t.hooks, fn) }

func (t *fakeTxn) ProvisionalCommitTimestamp() hlc.Timestamp { return t.ts }
func (t *fakeTxn) RefreshToNow(context.Context) error        { return nil }
func (t *fakeTxn) IsFinished() bool                          { return false }
func (t *fakeTxn) BoundCommit(kv.CommitBound, uint64)        {}

// CommitTimestamp is that of commit, which advances the clock by one.
func (t *fakeTxn) CommitTimestamp() hlc.Timestamp { return hlc.Timestamp{WallTime: t.s.now} }

func newCatalog(t *testing.T) (*store, *Cache) {
	t.Helper()
	s := newStore()
	c, err := NewCache()
	if err != nil {
		t.Fatal(err)
	}
	txn := s.begin()
	if err := Bootstrap(context.Background(), txn); err != nil {
		t.Fatal(err)
	}
	txn.commit()
	return s, c
}

func testTable(name string, id, schema ID, cols ...*types.T) *catalogpb.TableDescriptor {
	pb := &catalogpb.TableDescriptor{Name: name, Id: id, ParentId: DefaultDBID, UnexposedParentSchemaId: schema, Privileges: NewPrivileges(RootUser)}
	for i, typ := range cols {
		b, err := MarshalType(typ)
		if err != nil {
			panic(err)
		}
		pb.Columns = append(pb.Columns, &catalogpb.ColumnDescriptor{Name: fmt.Sprintf("c%d", i), Type: b, Nullable: true})
	}
	if err := AllocateIDs(pb); err != nil {
		panic(err)
	}
	return pb
}

func mustT[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func resolver(c *Collection) *Resolver {
	return &Resolver{Collection: c, CurrentDatabase: "defaultdb", SearchPath: []string{"$user", "public"}, User: "bob",
		VirtualTable: func(s, t string) bool { return s == PgCatalogName && t == "pg_class" }}
}

func TestInitialDescriptorsAreValid(t *testing.T) {
	all := mustT[[]Descriptor](t)(InitialDescriptors())
	if err := ValidateAll(all); err != nil {
		t.Fatal(err)
	}
	seen := map[ID]bool{}
	for _, d := range all {
		seen[d.ID()] = true
	}
	for _, id := range []ID{SystemDatabaseID, DescriptorTableID, PublicSchemaID, DefaultDBID, PostgresPublicID} {
		if !seen[id] {
			t.Errorf("no descriptor %d", id)
		}
	}
}

func TestCollectionLifeCycle(t *testing.T) {
	ctx := context.Background()
	s, cache := newCatalog(t)
	txn := s.begin()
	c := cache.NewCollection(txn)
	mustT[Descriptor](t)(c.Create(ctx, testTable("t", 110, DefaultDBPublicID, types.Int, types.String)))
	ref := mustT[*TableRef](t)(resolver(c).Table(ctx, "t", Flags{}))
	if ref.Table.Version() != 1 || ref.QualifiedName() != "defaultdb.public.t" {
		t.Errorf("own table: %s, %s", ref.Table, ref.QualifiedName())
	}
	// Nobody else sees it yet.
	other := cache.NewCollection(s.begin())
	if ref, err := resolver(other).FindTable(ctx, "t", Flags{}); err != nil || ref != nil {
		t.Errorf("uncommitted table is visible: %v %v", ref, err)
	}
	created := s.now
	txn.commit()
	c.Release()
	txn2 := s.begin()
	c2 := cache.NewCollection(txn2)
	ref = mustT[*TableRef](t)(resolver(c2).Table(ctx, "t", Flags{}))
	if ref.Table.ModificationTime().IsEmpty() {
		t.Error("a committed descriptor has no modification time")
	}
	// The second reader is served by the cache.
	c3 := cache.NewCollection(s.begin())
	gets := s.gets
	if again := mustT[*TableRef](t)(resolver(c3).Table(ctx, "t", Flags{})); again.Table != ref.Table {
		t.Error("two wrappers of one version")
	}
	if s.gets != gets {
		t.Errorf("the cache was passed by: %d reads", s.gets-gets)
	}
	// Several changes in one transaction are one version.
	for i := 0; i < 2; i++ {
		m := mustT[*catalogpb.TableDescriptor](t)(c2.MutableTable(ctx, 110))
		m.OfflineReason = fmt.Sprint(i)
		mustT[Descriptor](t)(c2.Write(ctx, m))
	}
	if err := c2.RemoveName(ctx, DefaultDBID, DefaultDBPublicID, "t"); err != nil {
		t.Fatal(err)
	}
	if err := c2.SetName(ctx, DefaultDBID, DefaultDBPublicID, "u", 110); err != nil {
		t.Fatal(err)
	}
	txn2.commit()
	c2.Release()
	c4 := cache.NewCollection(s.begin())
	if ref, err := resolver(c4).FindTable(ctx, "t", Flags{}); err != nil || ref != nil {
		t.Errorf("the old name is still there: %v %v", ref, err)
	}
	ref = mustT[*TableRef](t)(resolver(c4).Table(ctx, "u", Flags{}))
	if ref.Table.Version() != 2 || ref.Table.OfflineReason() != "1" {
		t.Errorf("version %d, %q", ref.Table.Version(), ref.Table.OfflineReason())
	}
	// The reader that began before keeps its version; the schema changer waits for it.
	if v := mustT[*Table](t)(c3.TableByID(ctx, 110, Flags{})).Version(); v != 1 {
		t.Errorf("an older transaction changed to version %d", v)
	}
	waitCtx, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if err := cache.WaitForOneVersion(waitCtx, 110, 2); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting while version 1 is in use: %v", err)
	}
	c3.Release()
	if err := cache.WaitForOneVersion(ctx, 110, 2); err != nil {
		t.Error(err)
	}
	// History.
	past := cache.NewCollection(s.at(created))
	if ref, err := resolver(past).FindTable(ctx, "t", Flags{}); err != nil || ref != nil {
		t.Errorf("before its creation: %v %v", ref, err)
	}
	past = cache.NewCollection(s.at(created + 1))
	if ref := mustT[*TableRef](t)(resolver(past).Table(ctx, "t", Flags{})); ref.Table.Version() != 1 {
		t.Errorf("in the past: version %d", ref.Table.Version())
	}
}

func TestRollbackTo(t *testing.T) {
	ctx := context.Background()
	s, cache := newCatalog(t)
	c := cache.NewCollection(s.begin())
	mustT[Descriptor](t)(c.Create(ctx, testTable("a", 110, DefaultDBPublicID, types.Int)))
	m := c.Mark()
	mustT[Descriptor](t)(c.Create(ctx, testTable("b", 111, DefaultDBPublicID, types.Int)))
	c.RollbackTo(m)
	if ids := c.ChangedIDs(); len(ids) != 1 || ids[0] != 110 {
		t.Errorf("changed: %v", ids)
	}
}

func TestNameResolution(t *testing.T) {
	ctx := context.Background()
	s, cache := newCatalog(t)
	txn := s.begin()
	c := cache.NewCollection(txn)
	db := mustT[*catalogpb.DatabaseDescriptor](t)(c.MutableDatabase(ctx, DefaultDBID))
	db.Schemas["sc"] = &catalogpb.DatabaseDescriptor_SchemaInfo{Id: 120}
	mustT[Descriptor](t)(c.Write(ctx, db))
	mustT[Descriptor](t)(c.Create(ctx, &catalogpb.SchemaDescriptor{Name: "sc", Id: 120, ParentId: DefaultDBID, Privileges: NewPrivileges(RootUser)}))
	mustT[Descriptor](t)(c.Create(ctx, testTable("x", 121, 120, types.Int)))
	mustT[Descriptor](t)(c.Create(ctx, testTable("y", 122, DefaultDBPublicID, types.Int)))
	off := testTable("off", 123, DefaultDBPublicID, types.Int)
	off.State, off.OfflineReason = catalogpb.State_OFFLINE, "restoring"
	mustT[Descriptor](t)(c.Create(ctx, off))
	r := resolver(c)
	for _, tc := range []struct {
		name []string
		want string // qualified name or error
		code pgerr.Code
	}{
		{[]string{"y"}, "defaultdb.public.y", ""},
		{[]string{"x"}, `relation "x" does not exist`, pgerr.UndefinedTable},
		{[]string{"sc", "x"}, "defaultdb.sc.x", ""},
		{[]string{"defaultdb", "y"}, "defaultdb.public.y", ""}, // a database, schema public
		{[]string{"defaultdb", "sc", "x"}, "defaultdb.sc.x", ""},
		{[]string{"nodb", "sc", "x"}, `relation "nodb.sc.x" does not exist`, pgerr.UndefinedTable},
		{[]string{"pg_class"}, "defaultdb.pg_catalog.pg_class", ""},
		{[]string{"pg_catalog", "pg_class"}, "defaultdb.pg_catalog.pg_class", ""},
		{[]string{"pg_catalog", "y"}, `relation "pg_catalog.y" does not exist`, pgerr.UndefinedTable},
		{[]string{"system", "users"}, "system.public.users", ""},
		{[]string{"off"}, `relation "off" is offline: restoring`, pgerr.ObjectNotInPrerequisiteState},
	} {
		ref, err := r.Table(ctx, tc.name, Flags{})
		if err != nil {
			if err.Error() != tc.want || pgerr.GetCode(err) != tc.code {
				t.Errorf("%v: %v [%s]", tc.name, err, pgerr.GetCode(err))
			}
			continue
		}
		if got := ref.QualifiedName(); got != tc.want {
			t.Errorf("%v: %s, want %s", tc.name, got, tc.want)
		}
	}
	if _, _, err := r.Target(ctx, []string{"pg_catalog", "z"}); pgerr.GetCode(err) != pgerr.InsufficientPrivilege {
		t.Errorf("creating in pg_catalog: %v", err)
	}
	if ref, name, err := r.Target(ctx, []string{"z"}); err != nil || ref.Name != "public" || name != "z" {
		t.Errorf("target: %v %s %v", ref, name, err)
	}
	if _, _, err := r.Target(ctx, []string{"nope", "z"}); pgerr.GetCode(err) != pgerr.InvalidSchemaName {
		t.Errorf("target in no schema: %v", err)
	}
	all := mustT[[]Descriptor](t)(c.AllInDatabase(ctx, DefaultDBID))
	var names []string
	for _, d := range all {
		names = append(names, d.Name())
	}
	if got := strings.Join(names, " "); got != "public sc x y" {
		t.Errorf("in defaultdb: %s", got)
	}
}

func TestEnumsInTables(t *testing.T) {
	ctx := context.Background()
	s, cache := newCatalog(t)
	txn := s.begin()
	c := cache.NewCollection(txn)
	mustT[Descriptor](t)(c.Create(ctx, &catalogpb.TypeDescriptor{Name: "mood", Id: 130, ParentId: DefaultDBID, ParentSchemaId: DefaultDBPublicID,
		EnumMembers: NewEnumMembers([]string{"sad", "happy"}), Privileges: NewTypePrivileges(RootUser)}))
	mood := EnumType(OIDFromTypeID(130))
	mustT[Descriptor](t)(c.Create(ctx, testTable("t", 131, DefaultDBPublicID, mood, ArrayOf(mood))))
	txn.commit()
	c.Release()
	c = cache.NewCollection(s.begin())
	r := resolver(c)
	tab := mustT[*TableRef](t)(r.Table(ctx, "t", Flags{})).Table
	e := tab.Enums()[OIDFromTypeID(130)]
	if e == nil || e.Name != "mood" || e.Schema != "public" {
		t.Fatalf("enum of the table: %+v", e)
	}
	if got := SQLTypeName(tab.Columns()[1].Type, tab.Enums()); got != "public.mood[]" {
		t.Errorf("type name %s", got)
	}
	if o := PGOid(tab.Columns()[0].Type, tab.Enums()); o != 100130 {
		t.Errorf("OID %d", o)
	}
	// Text becomes a value, unknown text an error, and order is that of declaration.
	expr := mustT[tree.Expr](t)(parser.ParseExpr(`'happy'::mood`))
	expr = mustT[tree.Expr](t)(r.ResolveTypes(ctx, expr))
	typed, err := expr.TypeCheck(&tree.SemaContext{}, types.Any)
	if err != nil {
		t.Fatal(err)
	}
	evalCtx := &tree.EvalContext{}
	happy, err := typed.Eval(evalCtx)
	if err != nil {
		t.Fatal(err)
	}
	sad := mustT[*tree.DCollatedString](t)(e.FromLabel("sad"))
	if sad.Compare(evalCtx, happy) >= 0 {
		t.Error("sad is not below happy")
	}
	if _, err := e.FromLabel("glad"); err == nil || err.Error() != `invalid input value for enum mood: "glad"` || pgerr.GetCode(err) != pgerr.InvalidTextRepresentation {
		t.Errorf("unknown label: %v", err)
	}
	if _, err := r.ResolveTypes(ctx, mustT[tree.Expr](t)(parser.ParseExpr(`'x'::nosuch`))); pgerr.GetCode(err) != pgerr.UndefinedObject {
		t.Errorf("unknown type: %v", err)
	}
	f := tree.NewFmtCtx(tree.FmtParsable)
	f.FormatNode(expr)
	text := f.CloseAndGetString()
	again, err := r.ResolveTypes(ctx, mustT[tree.Expr](t)(parser.ParseExpr(text)))
	if err != nil || again.String() != expr.String() {
		t.Errorf("%s comes back as %v, %v", text, again, err)
	}
	// A new value reaches tables that were cached.
	c2 := cache.NewCollection(s.begin())
	m := mustT[*catalogpb.TypeDescriptor](t)(c2.MutableType(ctx, 130))
	m.EnumMembers = append(m.EnumMembers, &catalogpb.TypeDescriptor_EnumMember{LogicalRepresentation: "mad", PhysicalRepresentation: EnumPhysicalBetween(m.EnumMembers[1].PhysicalRepresentation, nil)})
	mustT[Descriptor](t)(c2.Write(ctx, m))
	c2.txn.(*fakeTxn).commit()
	c2.Release()
	c3 := cache.NewCollection(s.begin())
	tab = mustT[*TableRef](t)(resolver(c3).Table(ctx, "t", Flags{})).Table
	if _, err := tab.Enums()[OIDFromTypeID(130)].FromLabel("mad"); err != nil {
		t.Errorf("new value: %v", err)
	}
}

func TestEnumPhysical(t *testing.T) {
	for n := 0; n < 600; n += 37 {
		labels := make([]string, n)
		m := NewEnumMembers(labels)
		for i := 1; i < n; i++ {
			if bytes.Compare(m[i-1].PhysicalRepresentation, m[i].PhysicalRepresentation) >= 0 {
				t.Fatalf("%d labels: %x, %x", n, m[i-1].PhysicalRepresentation, m[i].PhysicalRepresentation)
			}
		}
	}
	if m := NewEnumMembers([]string{"a", "b", "c"}); m[0].PhysicalRepresentation[0] != 0x40 || m[2].PhysicalRepresentation[0] != 0xc0 {
		t.Errorf("%x %x", m[0].PhysicalRepresentation, m[2].PhysicalRepresentation)
	}
	lo, hi := []byte{0x40}, []byte{0x80}
	if mid := EnumPhysicalBetween(lo, hi); !bytes.Equal(mid, []byte{0x60}) {
		t.Errorf("between: %x", mid)
	}
	// Narrow down from both sides: there is always room.
	for i := 0; i < 200; i++ {
		mid := EnumPhysicalBetween(lo, hi)
		if bytes.Compare(lo, mid) >= 0 || bytes.Compare(mid, hi) >= 0 {
			t.Fatalf("%x is not between %x and %x", mid, lo, hi)
		}
		if i%3 == 0 {
			lo = mid
		} else {
			hi = mid
		}
	}
	if b := EnumPhysicalBetween([]byte{0xff, 0xff}, nil); bytes.Compare(b, []byte{0xff, 0xff}) <= 0 {
		t.Errorf("after ffff: %x", b)
	}
	if b := EnumPhysicalBetween(nil, []byte{0x00, 0x01}); bytes.Compare(b, []byte{0x00, 0x01}) >= 0 {
		t.Errorf("before 0001: %x", b)
	}
}

func TestTypesRoundTrip(t *testing.T) {
	for _, typ := range []*types.T{types.Int4, types.MakeVarChar(10), types.MakeDecimal(10, 2), types.IntArray, EnumType(100200), ArrayOf(EnumType(100200)), types.MakeChar(3), types.Oid, types.RegClass} {
		b, err := MarshalType(typ)
		if err != nil {
			t.Fatal(err)
		}
		got, err := UnmarshalType(b)
		if err != nil || !got.Identical(typ) {
			t.Errorf("%s becomes %v, %v", typ.DebugString(), got, err)
		}
	}
	for _, b := range [][]byte{{0x08, 0x16}, {0x08, 0xff}, {0xff}} {
		if _, err := UnmarshalType(b); err == nil {
			t.Errorf("%x is a type", b)
		}
	}
}

func TestValidate(t *testing.T) {
	mk := func(edit func(m *catalogpb.TableDescriptor)) error {
		all := mustT[[]Descriptor](t)(InitialDescriptors())
		m := testTable("t", 110, DefaultDBPublicID, types.Int, types.String)
		m.Version = 1
		edit(m)
		tab, err := NewTable(m)
		if err != nil {
			return err
		}
		return ValidateAll(append(all, tab))
	}
	if err := mk(func(*catalogpb.TableDescriptor) {}); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		edit func(m *catalogpb.TableDescriptor)
		want string
	}{
		"database": {func(m *catalogpb.TableDescriptor) { m.ParentId = 999 }, "is in database 999, which does not exist"},
		"schema":   {func(m *catalogpb.TableDescriptor) { m.UnexposedParentSchemaId = PostgresPublicID }, "of another database"},
		"column":   {func(m *catalogpb.TableDescriptor) { m.Columns[1].Name = "c0" }, `has two columns "c0"`},
		"next id":  {func(m *catalogpb.TableDescriptor) { m.NextColumnId = 2 }, "hands out 2 next"},
		"index":    {func(m *catalogpb.TableDescriptor) { m.PrimaryIndex.KeyColumnIds[0] = 77 }, "names a column that does not exist"},
		"family":   {func(m *catalogpb.TableDescriptor) { m.Families[0].ColumnIds = m.Families[0].ColumnIds[1:] }, `has column "c0" in no family`},
		"fk": {func(m *catalogpb.TableDescriptor) {
			m.OutboundFks = append(m.OutboundFks, &catalogpb.ForeignKeyConstraint{Name: "f", OriginTableId: 110, ReferencedTableId: 555, OriginColumnIds: []uint32{1}, ReferencedColumnIds: []uint32{1}})
		}, "refers to table 555"},
		"view": {func(m *catalogpb.TableDescriptor) { m.DependsOn = []uint32{12345} }, "depends on relation 12345"},
	} {
		if err := mk(tc.edit); err == nil || !strings.Contains(err.Error(), tc.want) || pgerr.GetCode(err) != pgerr.DataCorrupted {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"types", "fx"} {
		for _, d := range loadDescriptors(t, name) {
			_ = d
		}
	}
}

func TestPrivileges(t *testing.T) {
	p := NewPrivileges("owner")
	GrantPrivileges(p, "bob", Select.Mask()|Insert.Mask(), false)
	bob := map[string]bool{"bob": true, PublicRole: true}
	if !HasPrivilege(p, bob, Select) || HasPrivilege(p, bob, Delete) || !HasAnyPrivilege(p, bob) {
		t.Error("after GRANT SELECT, INSERT")
	}
	RevokePrivileges(p, "bob", Select.Mask(), false, TableObject)
	if HasPrivilege(p, bob, Select) || !HasPrivilege(p, bob, Insert) {
		t.Error("after REVOKE SELECT")
	}
	GrantPrivileges(p, "bob", All.Mask(), true)
	RevokePrivileges(p, "bob", Drop.Mask(), false, TableObject)
	if HasPrivilege(p, bob, Drop) || !HasPrivilege(p, bob, Update) {
		t.Error("after REVOKE DROP of ALL")
	}
	RevokePrivileges(p, "bob", All.Mask(), false, TableObject)
	if HasAnyPrivilege(p, bob) || !HasPrivilege(p, map[string]bool{"owner": true}, Drop) || !HasPrivilege(p, map[string]bool{AdminRole: true}, Drop) {
		t.Error("after REVOKE ALL")
	}
}

// TestAllocateIDs: ids never go back, and what has one keeps it.
func TestAllocateIDs(t *testing.T) {
	d := testTable("t", 110, DefaultDBPublicID, types.Int, types.Decimal, types.String)
	d.Indexes = append(d.Indexes, &catalogpb.IndexDescriptor{Name: "i", KeyColumnNames: []string{"c1"}, StoreColumnNames: []string{"c2"}})
	if err := AllocateIDs(d); err != nil {
		t.Fatal(err)
	}
	x := d.Indexes[0]
	if x.Id != 2 || len(x.KeySuffixColumnIds) != 1 || len(x.CompositeColumnIds) != 1 || x.StoreColumnIds[0] != 3 {
		t.Errorf("index %v", x)
	}
	before := proto.CloneOf(d)
	if err := AllocateIDs(d); err != nil || !proto.Equal(before, d) {
		t.Errorf("a second time changes things: %v\n%v\n%v", err, before, d)
	}
	d.Indexes = nil
	d.Columns = append(d.Columns[:2:2], d.Columns[3:]...)
	d.Families[0].ColumnNames, d.Families[0].ColumnIds = nil, nil
	b, _ := MarshalType(types.Int)
	d.Columns = append(d.Columns, &catalogpb.ColumnDescriptor{Name: "n", Type: b, Nullable: true})
	d.Indexes = append(d.Indexes, &catalogpb.IndexDescriptor{Name: "j", KeyColumnNames: []string{"n"}})
	if err := AllocateIDs(d); err != nil {
		t.Fatal(err)
	}
	if id := d.Columns[len(d.Columns)-1].Id; id != 5 {
		t.Errorf("new column has id %d", id)
	}
	if d.Indexes[0].Id != 3 {
		t.Errorf("new index has id %d", d.Indexes[0].Id)
	}
	if !d.Columns[2].Hidden || d.Columns[2].Name != RowIDColumnName {
		t.Errorf("no hidden key: %v", d.Columns)
	}
}

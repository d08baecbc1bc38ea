package backupccl

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/kvserver"
	"github.com/holdfastdb/holdfast/kv/kvtest"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
	"github.com/holdfastdb/holdfast/sql/parser"
)

// relatedNode has a database d with tables parent and child (a foreign key
// between them), a sequence with a table that uses and owns it, a view and an
// enum.
func relatedNode(t *testing.T) (*testNode, rows, rows) {
	n := startNode(t, nodeOptions{})
	n.createDatabase("d")
	db := n.database("d")
	public, _ := db.SchemaID("public")
	parent, child := rows{}, rows{}
	pt := n.createTable("d", "parent")
	ct := n.createTable("d", "child", func(pb *catalogpb.TableDescriptor) {
		pb.OutboundFks = []*catalogpb.ForeignKeyConstraint{{
			OriginTableId: pb.Id, OriginColumnIds: []uint32{3}, ReferencedTableId: pt.ID(), ReferencedColumnIds: []uint32{1}, Name: "child_n_fkey",
		}}
	})
	seqID, viewID, typeID, arrayID := n.newID(), n.newID(), n.newID(), n.newID()
	user := n.createTable("d", "users", func(pb *catalogpb.TableDescriptor) {
		def := "nextval('public.seq'::REGCLASS)"
		pb.Columns[0].DefaultExpr, pb.Columns[0].UsesSequenceIds, pb.Columns[0].OwnsSequenceIds = &def, []uint32{seqID}, []uint32{seqID}
		pb.Columns = append(pb.Columns, columnDesc("mood", catalog.EnumType(catalog.OIDFromTypeID(typeID)), true))
		pb.DependsOnTypes = []uint32{typeID}
	})
	n.txn(func(ctx context.Context, _ *kv.Txn, cat *catalog.Collection) error {
		pb, err := cat.MutableTable(ctx, pt.ID())
		if err != nil {
			return err
		}
		pb.InboundFks = ct.Mutable().OutboundFks
		pb.DependedOnBy = []*catalogpb.Reference{{Id: viewID, ColumnIds: []uint32{1}}}
		if _, err := cat.Write(ctx, pb); err != nil {
			return err
		}
		seq := catalog.NewSequence("seq", seqID, db.ID(), public, &catalogpb.SequenceOpts{
			Increment: 1, MinValue: 1, MaxValue: 1 << 40, Start: 1, Owner: &catalogpb.SequenceOwner{TableId: user.ID(), ColumnId: 1},
		}, catalog.NewPrivileges("root"))
		seq.DependedOnBy = []*catalogpb.Reference{{Id: user.ID(), ColumnIds: []uint32{1}}}
		view := &catalogpb.TableDescriptor{
			Name: "v", Id: viewID, ParentId: db.ID(), UnexposedParentSchemaId: public, ViewQuery: "SELECT id FROM public.parent",
			Columns: []*catalogpb.ColumnDescriptor{columnDesc("id", types.Int, true)}, DependsOn: []uint32{pt.ID()},
			Privileges: catalog.NewPrivileges("root"),
		}
		if err := catalog.AllocateIDs(view); err != nil {
			return err
		}
		alias, err := catalog.MarshalType(catalog.ArrayOf(catalog.EnumType(catalog.OIDFromTypeID(typeID))))
		if err != nil {
			return err
		}
		enum := &catalogpb.TypeDescriptor{
			Name: "mood", Id: typeID, ParentId: db.ID(), ParentSchemaId: public, ArrayTypeId: arrayID,
			EnumMembers: catalog.NewEnumMembers([]string{"sad", "ok"}), Privileges: catalog.NewTypePrivileges("root"),
			ReferencingDescriptorIds: []uint32{user.ID()},
		}
		array := &catalogpb.TypeDescriptor{
			Name: "_mood", Id: arrayID, ParentId: db.ID(), ParentSchemaId: public, Kind: catalogpb.TypeDescriptor_ALIAS, Alias: alias,
			Privileges: catalog.NewTypePrivileges("root"),
		}
		if _, err := cat.Create(ctx, seq); err != nil {
			return err
		}
		if _, err := cat.Create(ctx, view); err != nil {
			return err
		}
		if _, err := cat.Create(ctx, enum); err != nil {
			return err
		}
		_, err = cat.Create(ctx, array)
		return err
	})
	n.write(pt, parent, someRows(0, 50, "p"))
	n.write(ct, child, someRows(0, 30, "c"))
	n.mustRun(backupInto(databases("d")))
	return n, parent, child
}

// TestRestoreTables restores parts of a database into another and says what they
// need.
func TestRestoreTables(t *testing.T) {
	n, parent, child := relatedNode(t)
	n.createDatabase("x")
	into := func(db string, edit ...func(*parser.RestoreOptions)) func(*parser.Restore) {
		return func(r *parser.Restore) {
			r.Options.IntoDB = str(db)
			for _, e := range edit {
				e(&r.Options)
			}
		}
	}
	skipFKs := func(o *parser.RestoreOptions) { o.SkipMissingFKs = true }
	for _, c := range []struct {
		stmt tree.Statement
		want string
	}{
		{restoreFrom(tables("d.child"), into("x")), `cannot restore table "child" without referenced table `},
		{restoreFrom(tables("d.v"), into("x")), `cannot restore view "v" without restoring referenced table (or "skip_missing_views" option)`},
		{restoreFrom(tables("d.users"), into("x")), `cannot restore table "users" without referenced sequence `},
		{restoreFrom(tables("d.seq"), into("x")), `cannot restore sequence "seq" without referenced owner table `},
	} {
		if _, err := n.run(c.stmt); err == nil || !strings.HasPrefix(err.Error(), c.want) || pgerr.GetCode(err) != pgerr.DependentObjectsStillExist {
			t.Errorf("%s: got %v", c.stmt, err)
		}
	}
	n.mustRun(restoreFrom(tables("d.child"), into("x", skipFKs)))
	n.expect("x", "child", child)
	if fks := n.table("x", "child").OutboundFKs(); len(fks) != 0 {
		t.Errorf("child has foreign keys %v", fks)
	}
	if _, err := n.run(restoreFrom(tables("d.child"), into("x", skipFKs))); pgerr.GetCode(err) != pgerr.DuplicateRelation {
		t.Errorf("second restore: %v", err)
	}
	// A view without its table is left out on request.
	n.mustRun(restoreFrom(tables("d.v"), into("x", func(o *parser.RestoreOptions) { o.SkipMissingViews = true })))
	n.expect("x", "v", nil)
	// A table without its sequence loses the default.
	n.mustRun(restoreFrom(tables("d.users"), into("x", func(o *parser.RestoreOptions) { o.SkipMissingSequences = true })))
	users := n.table("x", "users")
	if users.Columns()[0].HasDefault() || len(users.Proto().Columns[0].OwnsSequenceIds) > 0 {
		t.Errorf("users.id still uses a sequence: %v", users.Proto().Columns[0])
	}
	// Its enum came along, under a new id that the column knows.
	oids := users.EnumOIDs()
	if len(oids) != 1 {
		t.Fatalf("users has enums %v", oids)
	}
	n.txn(func(ctx context.Context, _ *kv.Txn, cat *catalog.Collection) error {
		typ, err := cat.TypeByID(ctx, oids[0]-catalog.UserTypeOIDBase)
		if err != nil || typ == nil || typ.Name() != "mood" || typ.ParentID() != n.database("x").ID() {
			t.Errorf("type of users.mood: %v, %v", typ, err)
		}
		return nil
	})
	// Everything at once, by pattern, into a database where the type is already.
	n.createDatabase("y")
	n.mustRun(restoreFrom(tables("d.*"), into("y")))
	n.expect("y", "parent", parent)
	n.expect("y", "child", child)
	yc, yp := n.table("y", "child"), n.table("y", "parent")
	if fks := yc.OutboundFKs(); len(fks) != 1 || fks[0].ReferencedTableId != yp.ID() || fks[0].OriginTableId != yc.ID() {
		t.Errorf("child in y has foreign keys %v", fks)
	}
	if in := yp.InboundFKs(); len(in) != 1 || in[0].OriginTableId != yc.ID() {
		t.Errorf("parent in y has inbound keys %v", in)
	}
	seq := n.table("y", "seq")
	if got := n.table("y", "users").Proto().Columns[0].UsesSequenceIds; len(got) != 1 || got[0] != seq.ID() {
		t.Errorf("users in y uses sequences %v, want %d", got, seq.ID())
	}
	if o := seq.Proto().SequenceOpts.Owner; o.GetTableId() != n.table("y", "users").ID() {
		t.Errorf("owner of seq in y: %v", o)
	}
	if v := n.table("y", "v"); v.Proto().DependsOn[0] != yp.ID() {
		t.Errorf("view in y depends on %v", v.Proto().DependsOn)
	}
	// The same type is reused, another one of its name is refused.
	n.dropTable("y", "users")
	n.mustRun(restoreFrom(tables("d.users"), into("y", func(o *parser.RestoreOptions) { o.SkipMissingSequences = true })))
	n.txn(func(ctx context.Context, _ *kv.Txn, cat *catalog.Collection) error {
		tid := n.table("y", "users").EnumOIDs()[0] - catalog.UserTypeOIDBase
		pb, err := cat.MutableType(ctx, tid)
		if err != nil {
			return err
		}
		pb.EnumMembers = catalog.NewEnumMembers([]string{"sad", "ok", "new"})
		_, err = cat.Write(ctx, pb)
		return err
	})
	n.dropTable("y", "users")
	_, err := n.run(restoreFrom(tables("d.users"), into("y", func(o *parser.RestoreOptions) { o.SkipMissingSequences = true })))
	if err == nil || err.Error() != `"mood" is not compatible with type "mood" existing in cluster` {
		t.Errorf("another type of the name: %v", err)
	}
	if off := n.offlineObjects(); len(off) > 0 {
		t.Errorf("%v stay behind", off)
	}
}

// TestSchemaOnly restores descriptors without rows, with and without reading
// the data.
func TestSchemaOnly(t *testing.T) {
	n, _ := sampleNode(t, nodeOptions{})
	n.mustRun(backupInto(databases("d")))
	only := func(verify bool) func(*parser.Restore) {
		return func(r *parser.Restore) { r.Options.SchemaOnly, r.Options.VerifyData = true, verify }
	}
	out := n.mustRun(restoreFrom(databases("d"), newName("e"), only(false)))
	n.expect("e", "t", rows{})
	if out[0][3] != "0" {
		t.Errorf("schema_only counts %s rows", out[0][3])
	}
	n.dropDatabase("e")
	out = n.mustRun(restoreFrom(databases("d"), newName("e"), only(true)))
	n.expect("e", "t", rows{})
	if out[0][3] != "300" {
		t.Errorf("verification counts %s rows", out[0][3])
	}
	n.dropDatabase("e")
	// A damaged data file is what verification is for.
	mem := n.places.mem("/c")
	if err := mem.List(t.Context(), "", "", func(name string) error {
		if strings.Contains(name, "/data/") {
			mem.Tamper(name, []byte("not an sstable"))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := n.run(restoreFrom(databases("d"), newName("e"), only(true))); pgerr.GetCode(err) != pgerr.DataCorrupted {
		t.Errorf("verification of damaged data: %v", err)
	}
	n.mustRun(restoreFrom(databases("d"), newName("e"), only(false)))
}

// TestIntroducedSpans: a table that was offline between two layers is exported
// anew, and what older layers have of it does not come back.
func TestIntroducedSpans(t *testing.T) {
	n := startNode(t, nodeOptions{})
	n.createDatabase("d")
	tbl := n.createTable("d", "t")
	model := rows{}
	n.write(tbl, model, someRows(0, 50, "a"))
	n.mustRun(backupInto(databases("d")))
	// Its data is replaced while it is offline, without tombstones.
	setState := func(s catalogpb.State) {
		n.txn(func(ctx context.Context, txn *kv.Txn, cat *catalog.Collection) error {
			pb, err := cat.MutableTable(ctx, tbl.ID())
			if err != nil {
				return err
			}
			pb.State = s
			if s == catalogpb.State_PUBLIC {
				pb.OnlineSince = catalog.TimestampPB(txn.ReadTimestamp())
			} else {
				pb.OfflineReason = "importing"
			}
			_, err = cat.Write(ctx, pb)
			return err
		})
	}
	setState(catalogpb.State_OFFLINE)
	if err := n.db.ClearRange(context.Background(), tbl.Span()); err != nil {
		t.Fatal(err)
	}
	model = rows{}
	n.write(tbl, model, someRows(100, 10, "b"))
	setState(catalogpb.State_PUBLIC)
	n.mustRun(backupInto(databases("d"), latest))
	n.mustRun(restoreFrom(databases("d"), newName("e")))
	n.expect("e", "t", model)
}

// TestIntroducedHistory: a table that is new in an incremental layer with history
// may have lost some of that history to garbage collection. The layer does not
// claim what it lacks.
func TestIntroducedHistory(t *testing.T) {
	ctx := context.Background()
	var short keys.Span // has a short time to live
	n := startNode(t, nodeOptions{open: func() (*kvtest.Node, error) {
		return kvtest.Start(kvtest.Options{GC: &kvserver.GCConfig{
			Policies: func(context.Context, keys.Span) ([]kvserver.GCPolicy, error) {
				if short.Key == nil {
					return nil, nil
				}
				return []kvserver.GCPolicy{{Span: short, TTL: time.Millisecond}}, nil
			},
			Protections: func(context.Context) ([]kvserver.Protection, hlc.Timestamp, error) {
				return nil, hlc.Timestamp{WallTime: time.Now().UnixNano()}, nil
			},
			Interval: time.Hour,
		}})
	}})
	n.createDatabase("d")
	n.createTable("d", "old")
	n.mustRun(backupInto(databases("d"), withHistory))
	tbl, model := n.createTable("d", "new"), rows{}
	collected := n.write(tbl, model, someRows(0, 50, "a"))
	n.write(tbl, model, someRows(0, 50, "b"))
	time.Sleep(20 * time.Millisecond)
	short = tbl.Span()
	if err := n.node.Store.CollectGarbage(ctx); err != nil {
		t.Fatal(err)
	}
	kept := n.write(tbl, model, someRows(0, 10, "c"))
	n.mustRun(backupInto(databases("d"), withHistory, latest))

	if _, err := n.run(restoreFrom(databases("d"), newName("e"), at(collected))); err == nil {
		t.Error("restored to a time whose versions were collected before the backup")
		n.dropDatabase("e")
	} else if !strings.Contains(err.Error(), "only has revision history from") {
		t.Errorf("restore to a collected time: %v", err)
	}
	n.mustRun(restoreFrom(databases("d"), newName("f"), at(kept)))
	n.expect("f", "new", model)
}

package backupccl

import (
	"context"
	"strings"
	"testing"

	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
	"github.com/holdfastdb/holdfast/sql/parser"
)

// TestNamesOfTheOldDatabase: queries and expressions that name their own database
// do not go on meaning the old one after a restore under another name.
func TestNamesOfTheOldDatabase(t *testing.T) {
	n := startNode(t, nodeOptions{})
	n.createDatabase("d")
	texts := func(db string) string {
		var out []string
		for _, name := range []string{"t", "v"} {
			tbl := n.table(db, name)
			if tbl == nil {
				continue
			}
			pb := tbl.Proto()
			for _, c := range pb.Columns {
				out = append(out, c.GetDefaultExpr(), c.GetComputeExpr(), c.GetOnUpdateExpr())
			}
			for _, c := range pb.Checks {
				out = append(out, c.Expr)
			}
			for _, x := range pb.Indexes {
				out = append(out, x.Predicate)
			}
			out = append(out, pb.ViewQuery)
		}
		return strings.Join(strings.Fields(strings.Join(out, " ")), " ")
	}
	tbl := n.createTable("d", "t", func(pb *catalogpb.TableDescriptor) {
		for i, text := range []string{"currval('d.public.s')", "v::d.public.mood", "'a'::d.public.mood"} {
			c := pb.Columns[i]
			*[]**string{&c.DefaultExpr, &c.ComputeExpr, &c.OnUpdateExpr}[i] = &text
		}
		pb.Checks = []*catalogpb.CheckConstraint{{Name: "c", Expr: "d.public.t.n > 0 AND v != 'd.public.t'", ColumnIds: []uint32{3}}}
		pb.Indexes[0].Predicate = "v > 'b'::d.public.mood"
	})
	viewID := n.newID()
	n.txn(func(ctx context.Context, _ *kv.Txn, cat *catalog.Collection) error {
		view := &catalogpb.TableDescriptor{
			Name: "v", Id: viewID, ParentId: tbl.ParentID(), UnexposedParentSchemaId: tbl.ParentSchemaID(),
			ViewQuery: "SELECT d.public.t.id FROM d.public.t AS t", DependsOn: []uint32{tbl.ID()},
			Columns: []*catalogpb.ColumnDescriptor{columnDesc("id", types.Int, true)}, Privileges: catalog.NewPrivileges("root"),
		}
		if err := catalog.AllocateIDs(view); err != nil {
			return err
		}
		_, err := cat.Create(ctx, view)
		return err
	})
	was := texts("d")
	const table = "currval('public.s') v::public.mood 'a'::public.mood (public.t.n > 0) AND (v != 'd.public.t') v > 'b'::public.mood"
	n.mustRun(backupInto(databases("d")))
	n.mustRun(restoreFrom(databases("d"), newName("e")))
	if got, want := texts("e"), table+" SELECT public.t.id FROM public.t AS t"; got != want {
		t.Errorf("under another name:\n got %s\nwant %s", got, want)
	}
	n.createDatabase("f")
	n.mustRun(restoreFrom(tables("d.t"), func(r *parser.Restore) { r.Options.IntoDB = str("f") }))
	if got := texts("f"); got != table {
		t.Errorf("into another database:\n got %s\nwant %s", got, table)
	}
	n.dropDatabase("d")
	n.mustRun(restoreFrom(databases("d")))
	if got := texts("d"); got != was {
		t.Errorf("under its own name:\n got %s\nwant %s", got, was)
	}
}

package builtins

import (
	"testing"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
)

type oneRow tree.Datums

func (r oneRow) IndexedVarEval(i int, _ *tree.EvalContext) (tree.Datum, error) { return r[i], nil }
func (r oneRow) IndexedVarResolvedType(int) *types.T                           { return types.Int }
func (r oneRow) IndexedVarNodeFormatter(int) tree.NodeFormatter                { return nil }

func TestFoldConstants(t *testing.T) {
	ctx := testEval(t)
	ctx.IVarContainer = oneRow{tree.NewDInt(5)}
	for _, tc := range []struct {
		expr     string
		foldable bool
		folded   string
		value    string
	}{
		{"@1 + 1", false, "@1 + 1", "6"},
		{"@1 + (2 + 3)", true, "@1 + 5", "10"},
		{"@1 > length('abc')", true, "@1 > 3", "true"},
		{"@1 in (7, 5, 6)", true, "@1 IN (5, 6, 7)", "true"},
		{"@1 not in (7, null, 6)", true, "@1 NOT IN (7, NULL, 6)", "NULL"},
		{"@1 in (1, 2)", false, "@1 IN (1, 2)", "false"},
		{"case when @1 = 5 then 1 else 1/0 end", true, "CASE WHEN @1 = 5 THEN 1 ELSE 1 / 0 END", "1"},
		{"@1 + random() > 0", false, "(@1 + random()) > 0", "true"},
	} {
		e, err := parseExpr(tc.expr)
		if err != nil {
			t.Fatal(err)
		}
		e, err = tree.SimpleVisit(e, func(e tree.Expr) (bool, tree.Expr, error) {
			if iv, ok := e.(*tree.IndexedVar); ok {
				return false, tree.NewTypedOrdinalReference(iv.Idx, types.Int), nil
			}
			return true, e, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		te, err := TypeCheck(nil, e, types.Any)
		if err != nil {
			t.Fatalf("%s: %v", tc.expr, err)
		}
		before := te.String()
		if got := Foldable(te); got != tc.foldable {
			t.Errorf("%s: foldable %t", tc.expr, got)
		}
		f := FoldConstants(ctx, te)
		if got := f.String(); got != tc.folded {
			t.Errorf("%s: folded to %s, want %s", tc.expr, got, tc.folded)
		}
		d, err := f.Eval(ctx)
		if err != nil || tree.AsStringWithFlags(d, tree.FmtBareStrings) != tc.value {
			t.Errorf("%s: got %v, %v want %s", tc.expr, d, err, tc.value)
		}
		if te.String() != before {
			t.Errorf("%s was changed to %s", before, te)
		}
	}
}

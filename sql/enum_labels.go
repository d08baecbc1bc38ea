package sql

import (
	"context"
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/catalog"
)

// refuseNamedLabel refuses to rename a label that an expression of a table with the
// type names. Expressions are kept as text: they would fail from then on or, once
// another label has the name, mean that one, and a partial index would no longer hold
// what its predicate says.
func (p *planner) refuseNamedLabel(ctx context.Context, t *catalog.Type, label string) error {
	for _, id := range t.Proto().ReferencingDescriptorIds {
		tbl, err := p.cat.TableByID(ctx, id, catalog.Flags{})
		if err != nil {
			return err
		}
		if tbl == nil {
			continue
		}
		named := func(text, what, name string) error {
			if text == "" {
				return nil
			}
			if found, err := hasLiteral(text, label); err != nil || !found {
				return err
			}
			return pgerr.Newf(pgerr.FeatureNotSupported, "cannot rename enum label \"%s\" because %s \"%s\" of table \"%s\" names it", label, what, name, tbl.Name()).
				WithHint("Drop it, rename the label, and create it again with the new name.")
		}
		for _, c := range tbl.Proto().Columns {
			if c.Inaccessible {
				continue // Under its index.
			}
			for _, text := range []string{c.GetDefaultExpr(), c.GetOnUpdateExpr(), c.GetComputeExpr()} {
				if err := named(text, "the default or generation expression of column", c.Name); err != nil {
					return err
				}
			}
		}
		for _, c := range tbl.Proto().Checks {
			if err := named(c.Expr, "constraint", c.Name); err != nil {
				return err
			}
		}
		for _, x := range tbl.Indexes() {
			if err := named(x.Predicate, "index", x.Name); err != nil {
				return err
			}
			for _, c := range x.KeyColumns {
				if !c.Inaccessible {
					continue
				}
				if err := named(c.ComputeExpr, "index", x.Name); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// hasLiteral says whether an expression has a string constant that is s, or an array
// that may have it.
func hasLiteral(text, s string) (found bool, err error) {
	e, err := parseExpr(text)
	if err != nil {
		return false, err
	}
	_, err = tree.SimpleVisit(e, func(x tree.Expr) (bool, tree.Expr, error) {
		if v, ok := x.(*tree.StrVal); ok {
			raw := v.RawString()
			found = found || raw == s || strings.HasPrefix(raw, "{") && strings.Contains(raw, s)
		}
		return true, x, nil
	})
	return found, err
}

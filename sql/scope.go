package sql

import (
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/catalog"
)

// scopeCol is a column that names can refer to.
type scopeCol struct {
	name string
	// table is the alias it is known under, "" for none; schema and db qualify
	// it where the table was named without alias.
	table, schema, db string
	id                colID
	typ               *types.T
	// hidden columns are not part of *; merged ones (of USING) are hidden
	// behind the merged column but can still be named with their table.
	hidden bool
	merged bool
	// scalar says that this is the value of a function in FROM: if it is the
	// table's only column, the table's alias alone means it, not a row.
	scalar bool
	// rel is the relation of which it is a column, for tableoid; 0 for none.
	rel catalog.ID
}

// scope is what names mean at one place of a statement.
type scope struct {
	parent *scope
	cols   []scopeCol
	// ctes are the WITH queries defined here.
	ctes map[string]*cteDef
	// group is set while the expressions of a SELECT are bound: it collects
	// aggregates, window functions and set-returning functions.
	sel *selectBinder
	// preferTable is the table that unqualified names mean if several fit.
	preferTable string
}

func (s *scope) child() *scope { return &scope{parent: s} }

// findCTE looks a WITH query up.
func (s *scope) findCTE(name string) *cteDef {
	for ; s != nil; s = s.parent {
		if d := s.ctes[name]; d != nil {
			return d
		}
	}
	return nil
}

func (c *scopeCol) ref() *colRef {
	n := c.name
	if c.table != "" {
		n = c.table + "." + c.name
	}
	return &colRef{id: c.id, typ: c.typ, name: n}
}

// resolve finds the column a name means, in this scope or an enclosing one.
func (s *scope) resolve(n *tree.UnresolvedName) (*scopeCol, error) {
	col := n.Parts[0]
	for sc := s; sc != nil; sc = sc.parent {
		c, err := sc.resolveHere(n)
		if err != nil || c != nil {
			return c, err
		}
	}
	if n.NumParts == 1 {
		return nil, errNoColumn(col)
	}
	tab := n.Parts[1]
	for sc := s; sc != nil; sc = sc.parent {
		if sc.hasTable(tab) {
			return nil, pgerr.Newf(pgerr.UndefinedColumn, "column %s.%s does not exist", quoteIdent(tab), quoteIdent(col))
		}
	}
	return nil, pgerr.Newf(pgerr.UndefinedTable, "missing FROM-clause entry for table %q", tab)
}

// tableOID finds the relation that tableoid, with or without a table's name, means.
func (s *scope) tableOID(n *tree.UnresolvedName) (catalog.ID, bool) {
	for ; s != nil; s = s.parent {
		var found catalog.ID
		table := ""
		for i := range s.cols {
			c := &s.cols[i]
			if c.rel == 0 || !c.matchesTable(n) {
				continue
			}
			if found != 0 && c.table != table {
				return 0, false // Of several.
			}
			found, table = c.rel, c.table
		}
		if found != 0 {
			return found, true
		}
	}
	return 0, false
}

func errNoColumn(name string) *pgerr.Error {
	return pgerr.Newf(pgerr.UndefinedColumn, "column %q does not exist", name)
}

// quoteIdent quotes a name only where it must be.
func quoteIdent(s string) string {
	n := tree.Name(s)
	return n.String()
}

func (s *scope) resolveHere(n *tree.UnresolvedName) (*scopeCol, error) {
	name := n.Parts[0]
	var found *scopeCol
	for i := range s.cols {
		c := &s.cols[i]
		if c.name != name || !c.matchesTable(n) {
			continue
		}
		if n.NumParts == 1 && c.merged {
			continue
		}
		if found != nil && found.id != c.id {
			if s.preferTable != "" && found.table == s.preferTable {
				continue
			}
			// A hidden column gives way to one that is not.
			if found.hidden && !c.hidden {
				found = c
				continue
			}
			if c.hidden && !found.hidden {
				continue
			}
			return nil, pgerr.Newf(pgerr.AmbiguousColumn, "column reference %q is ambiguous", name)
		}
		found = c
	}
	return found, nil
}

// matchesTable compares the qualification of n (table, schema, database from
// Parts[1] on) with the column's.
func (c *scopeCol) matchesTable(n *tree.UnresolvedName) bool {
	if n.NumParts > 1 && c.table != n.Parts[1] {
		return false
	}
	if n.NumParts > 2 && c.schema != n.Parts[2] {
		return n.NumParts == 3 && c.db == n.Parts[2]
	}
	return n.NumParts < 4 || c.db == n.Parts[3]
}

func (s *scope) hasTable(name string) bool {
	for i := range s.cols {
		if s.cols[i].table == name {
			return true
		}
	}
	return false
}

// tableCols returns the columns of a table alias, for t.* and whole-row
// references.
func (s *scope) tableCols(table string) []scopeCol {
	var out []scopeCol
	for _, c := range s.cols {
		if c.table == table && (!c.hidden || c.merged) {
			out = append(out, c)
		}
	}
	return out
}

// resolveTable finds the scope that has a table alias.
func (s *scope) resolveTable(table string) (*scope, []scopeCol) {
	for sc := s; sc != nil; sc = sc.parent {
		if sc.hasTable(table) {
			return sc, sc.tableCols(table)
		}
	}
	return nil, nil
}

// colIDs are the ids of all columns of this scope alone.
func (s *scope) colIDs() colSet {
	var out colSet
	for _, c := range s.cols {
		out.add(c.id)
	}
	return out
}

// checkDuplicateAliases refuses FROM lists that name a table twice.
func checkDuplicateAliases(seen map[string]bool, cols []scopeCol) error {
	here := map[string]bool{}
	for _, c := range cols {
		if c.table == "" || here[c.table] {
			continue
		}
		here[c.table] = true
		// Two tables of one name in different schemas may live together.
		key := strings.Join([]string{c.db, c.schema, c.table}, ".")
		if seen[key] {
			return pgerr.Newf("42712", "table name %q specified more than once", c.table)
		}
		seen[key] = true
	}
	return nil
}

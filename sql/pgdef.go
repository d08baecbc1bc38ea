package sql

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
)

// Definitions as text: those of PostgreSQL's pg_get_*def functions, and those of
// SHOW CREATE.

// pgExpr shows a stored expression as PostgreSQL does: literals with the type of
// their column, types by PostgreSQL's names.
func pgExpr(text string, columnType *types.T, enums catalog.EnumSet) string {
	if strings.HasPrefix(text, "nextval(") {
		return strings.Replace(text, "::REGCLASS", "::regclass", 1)
	}
	e, err := parseExpr(text)
	if err != nil {
		return text
	}
	if columnType != nil {
		switch v := e.(type) {
		case *tree.StrVal:
			if plain := plainConstant(v.RawString(), columnType); plain != "" {
				return plain
			}
			return pgTypes(text) + "::" + baseTypeName(columnType, enums)
		case *tree.DString:
			return pgTypes(text) + "::" + baseTypeName(columnType, enums)
		}
	}
	f := tree.NewFmtCtx(tree.FmtSimple)
	f.FormatNode(e)
	return pgTypes(f.CloseAndGetString())
}

var plainNumber = regexp.MustCompile(`^[0-9]+(\.[0-9]*)?$`)

// plainConstant is a quoted constant without its quotes, for the types and values
// that PostgreSQL shows so; else "".
func plainConstant(s string, t *types.T) string {
	switch t.Family() {
	case types.BoolFamily:
		if b, err := tree.ParseDBool(strings.TrimSpace(s)); err == nil {
			return strconv.FormatBool(bool(*b))
		}
	case types.IntFamily:
		if t.Width() == 32 && plainNumber.MatchString(s) && !strings.Contains(s, ".") {
			return s
		}
	case types.DecimalFamily:
		if plainNumber.MatchString(s) && strings.Contains(s, ".") {
			return s
		}
	}
	return ""
}

// baseTypeName is a type's name without length.
func baseTypeName(t *types.T, enums catalog.EnumSet) string {
	n := catalog.PGTypeName(t, enums)
	if i := strings.IndexByte(n, '('); i >= 0 {
		if j := strings.IndexByte(n, ')'); j > i {
			n = n[:i] + n[j+1:]
		}
	}
	return n
}

// indexDef is what pg_get_indexdef gives.
func (s *descSet) indexDef(t *catalog.Table, x *catalog.Index) string {
	var b strings.Builder
	b.WriteString("CREATE ")
	if x.Unique {
		b.WriteString("UNIQUE ")
	}
	method := "btree"
	if x.Inverted {
		method = "gin"
	}
	fmt.Fprintf(&b, "INDEX %s ON %s.%s USING %s (", quoteIdent(x.Name), quoteIdent(s.schemaOf(t)), quoteIdent(t.Name()), method)
	for i, c := range x.KeyColumns {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(indexElem(c, s.enums))
		if x.KeyDirections[i] == catalogpb.Direction_DESC {
			b.WriteString(" DESC")
		}
	}
	b.WriteByte(')')
	if stored := storedOf(x); len(stored) > 0 {
		names := make([]string, len(stored))
		for i, c := range stored {
			names[i] = quoteIdent(c.Name)
		}
		b.WriteString(" INCLUDE (" + strings.Join(names, ", ") + ")")
	}
	if x.Predicate != "" {
		b.WriteString(" WHERE " + pgCondition(x.Predicate, s.enums))
	}
	return b.String()
}

// indexElem shows a key column of an index; what is not a function call stands in
// parentheses.
func indexElem(c *catalog.Column, enums catalog.EnumSet) string {
	if !c.Inaccessible {
		return quoteIdent(c.Name)
	}
	e, err := parseExpr(c.ComputeExpr)
	if _, call := e.(*tree.FuncExpr); err == nil && call {
		return pgExpr(c.ComputeExpr, nil, enums)
	}
	return "(" + pgCondition(c.ComputeExpr, enums) + ")"
}

// pgCondition is pgExpr with parentheses around operators, as PostgreSQL shows
// predicates.
func pgCondition(text string, enums catalog.EnumSet) string {
	s := pgExpr(text, nil, enums)
	e, err := parseExpr(text)
	if err != nil {
		return s
	}
	switch e.(type) {
	case *tree.UnresolvedName, *tree.FuncExpr, *tree.CoalesceExpr, *tree.CaseExpr:
		return s
	}
	return parenthesized(s)
}

func quotedColumns(t *catalog.Table, ids []uint32) string {
	names := make([]string, len(ids))
	for i, id := range ids {
		if c := t.ColumnByID(id); c != nil {
			names[i] = quoteIdent(c.Name)
		}
	}
	return strings.Join(names, ", ")
}

// uniqueDef is the definition of a PRIMARY KEY or UNIQUE constraint.
func uniqueDef(t *catalog.Table, x *catalog.Index) string {
	kind := "UNIQUE"
	if x.Primary {
		kind = "PRIMARY KEY"
	}
	def := kind + " (" + quotedColumns(t, x.PB.KeyColumnIds) + ")"
	if stored := storedOf(x); len(stored) > 0 {
		ids := make([]uint32, len(stored))
		for i, c := range stored {
			ids[i] = c.ID
		}
		def += " INCLUDE (" + quotedColumns(t, ids) + ")"
	}
	return def
}

// fkDef is the definition of a foreign key; qualify names the parent with its
// schema.
func (s *descSet) fkDef(t *catalog.Table, fk *catalogpb.ForeignKeyConstraint, qualify bool) string {
	parent := s.tableByID[fk.ReferencedTableId]
	if parent == nil {
		return ""
	}
	name := quoteIdent(parent.Name())
	if sc := s.schemaOf(parent); qualify || !s.inPath(sc) {
		name = quoteIdent(sc) + "." + name
	}
	def := fmt.Sprintf("FOREIGN KEY (%s) REFERENCES %s(%s)", quotedColumns(t, fk.OriginColumnIds), name, quotedColumns(parent, fk.ReferencedColumnIds))
	if fk.Match == catalogpb.Match_FULL {
		def += " MATCH FULL"
	}
	for _, a := range []struct {
		on  string
		act catalogpb.ReferenceAction
	}{{"UPDATE", fk.OnUpdate}, {"DELETE", fk.OnDelete}} {
		if a.act != catalogpb.ReferenceAction_NO_ACTION {
			def += " ON " + a.on + " " + strings.ReplaceAll(a.act.String(), "_", " ")
		}
	}
	if fk.Validity != catalogpb.ConstraintValidity_VALIDATED {
		def += " NOT VALID"
	}
	return def
}

func (s *descSet) checkDef(c *catalogpb.CheckConstraint) string {
	def := "CHECK (" + parenthesized(s.typesInPath(pgExpr(c.Expr, nil, s.enums))) + ")"
	if c.Validity != catalogpb.ConstraintValidity_VALIDATED {
		def += " NOT VALID"
	}
	return def
}

// parenthesized puts an operator expression into parentheses of its own, as
// PostgreSQL shows it.
func parenthesized(s string) string {
	if strings.HasPrefix(s, "(") && strings.HasSuffix(s, ")") {
		depth := 0
		for i, r := range s {
			switch r {
			case '(':
				depth++
			case ')':
				depth--
			}
			if depth == 0 && i < len(s)-1 {
				return "(" + s + ")"
			}
		}
		return s
	}
	return "(" + s + ")"
}

// showCreate is the text of SHOW CREATE. Foreign keys can be left out, for SHOW
// CREATE ALL TABLES.
func (s *descSet) showCreate(t *catalog.Table, withFKs bool) string {
	render := catalog.CreateStatement
	if !withFKs {
		render = catalog.CreateStatementWithoutFKs
	}
	text, err := render(t, s.find, s.partitionClause)
	if err != nil {
		return "" // Only types without a statement of their own have none.
	}
	return text
}

// find returns a descriptor of the set by id, or nil.
func (s *descSet) find(id catalog.ID) catalog.Descriptor {
	if d := s.tableByID[id]; d != nil {
		return d
	}
	if d := s.typeByID[id]; d != nil {
		return d
	}
	if d := s.schemas[id]; d != nil {
		return d
	}
	if d := s.dbByID[id]; d != nil {
		return d
	}
	return nil
}

func directedColumns(x *catalog.Index) string {
	parts := make([]string, len(x.KeyColumns))
	for i, c := range x.KeyColumns {
		parts[i] = quoteIdent(c.Name) + " " + x.KeyDirections[i].String()
	}
	return strings.Join(parts, ", ")
}

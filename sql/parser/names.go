package parser

import (
	"reflect"
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/lib/pq/oid"
)

// EachName calls fn with each *tree.UnresolvedName, *tree.TableName, *tree.FuncExpr,
// *tree.CastExpr and *UDTCast of a statement or expression, wherever it stands. fn may change them:
// the tree must be one's own, fresh from the parser.
func EachName(node any, fn func(node any)) {
	eachName(reflect.ValueOf(node), map[any]bool{}, fn)
}

func eachName(v reflect.Value, seen map[any]bool, fn func(any)) {
	switch v.Kind() {
	case reflect.Interface:
		eachName(v.Elem(), seen, fn)
	case reflect.Pointer:
		if v.IsNil() || !v.CanInterface() || seen[v.Interface()] {
			return
		}
		p := v.Interface()
		switch p.(type) {
		case *types.T, *tree.FunctionDefinition:
			return // Not names, and large.
		}
		seen[p] = true
		switch p.(type) {
		case *tree.UnresolvedName, *tree.TableName, *tree.FuncExpr, *tree.CastExpr, *UDTCast:
			fn(p)
		}
		eachName(v.Elem(), seen, fn)
	case reflect.Struct:
		if v.CanAddr() {
			// A table name may lie in its expression by value.
			if t, ok := v.Addr().Interface().(*tree.TableName); ok && !seen[t] {
				seen[t] = true
				fn(t)
			}
		}
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				eachName(v.Field(i), seen, fn)
			}
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			eachName(v.Index(i), seen, fn)
		}
	}
}

// WithoutDatabase returns the text of a query or, if expr, an expression with each
// name that is qualified by db without it. What is not qualified by db, or cannot be
// parsed, stays as it is to the byte.
func WithoutDatabase(text, db string, expr bool) string {
	var node tree.NodeFormatter
	if expr {
		e, err := ParseExpr(text)
		if err != nil {
			return text
		}
		node = e
	} else {
		stmt, err := ParseOne(text)
		if err != nil {
			return text
		}
		node = stmt.AST
	}
	if !StripDatabase(node, db) {
		return text
	}
	return tree.AsStringWithFlags(node, tree.FmtParsable)
}

// StripDatabase takes the database off the names of a tree that are qualified by it
// and says whether there were any. Columns are qualified by one in four parts, types
// in three. Of strings, those count that sequence functions and casts to regclass
// and regtype look up.
func StripDatabase(node any, db string) (changed bool) {
	EachName(node, func(node any) {
		switch n := node.(type) {
		case *tree.UnresolvedName:
			if n.NumParts == 4 && n.Parts[3] == db {
				n.NumParts, n.Parts[3], changed = 3, "", true
			}
		case *tree.TableName:
			if n.ExplicitCatalog && n.ExplicitSchema && string(n.CatalogName) == db {
				n.ExplicitCatalog, n.CatalogName, changed = false, "", true
			}
		case *UDTCast:
			if n.Name != nil && n.Name.NumParts == 3 && n.Name.Parts[2] == db {
				n.Name.NumParts, n.Name.Parts[2], changed = 2, "", true
			}
		case *tree.FuncExpr:
			if len(n.Exprs) > 0 && sequenceFunction(n) {
				n.Exprs[0], changed = stripString(n.Exprs[0], db, changed)
			}
		case *tree.CastExpr:
			if o := n.Type.Oid(); o == oid.T_regclass || o == oid.T_regtype {
				n.Expr, changed = stripString(n.Expr, db, changed)
			}
		}
	})
	return changed
}

func sequenceFunction(f *tree.FuncExpr) bool {
	parts := strings.Split(strings.ToLower(tree.AsString(&f.Func)), ".")
	switch parts[len(parts)-1] {
	case "nextval", "currval", "setval":
		return true
	}
	return false
}

// stripString takes db off the name that a string constant is.
func stripString(e tree.Expr, db string, changed bool) (tree.Expr, bool) {
	lit, ok := e.(*tree.StrVal)
	if !ok {
		return e, changed
	}
	n, err := ParseObjectName(lit.RawString())
	if err != nil || n.NumParts != 3 || n.Parts[2] != db {
		return e, changed
	}
	n.NumParts, n.Parts[2] = 2, ""
	return tree.NewStrVal(n.String()), true
}

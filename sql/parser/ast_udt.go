package parser

import (
	"fmt"
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// TypeName returns the type as it was written.
func (e *UDTCast) TypeName() string {
	s := fmt.Sprintf("@%d", e.OID)
	if e.Name != nil {
		s = e.Name.String()
	}
	if e.Array {
		s += "[]"
	}
	return s
}

// Format implements tree.NodeFormatter.
func (e *UDTCast) Format(ctx *tree.FmtCtx) {
	FormatOperand(ctx, e.Expr)
	if e.Annotation {
		ctx.WriteByte(':')
	}
	ctx.WriteString("::")
	ctx.WriteString(e.TypeName())
}

// FormatOperand prints what is cast, in parentheses if it needs them.
func FormatOperand(ctx *tree.FmtCtx, e tree.Expr) {
	switch e.(type) {
	case *tree.StrVal, *tree.ParenExpr, *tree.Placeholder, *tree.DString, *tree.UnresolvedName, *tree.FuncExpr, *tree.Array, *UDTCast:
		ctx.FormatNode(e)
	default:
		ctx.WriteByte('(')
		ctx.FormatNode(e)
		ctx.WriteByte(')')
	}
}

func (e *UDTCast) String() string { return tree.AsString(e) }

// Walk implements tree.Expr.
func (e *UDTCast) Walk(v tree.Visitor) tree.Expr {
	sub, changed := tree.WalkExpr(v, e.Expr)
	if !changed {
		return e
	}
	c := *e
	c.Expr = sub
	return &c
}

// TypeCheck implements tree.Expr. A cast that is still here was not resolved.
func (e *UDTCast) TypeCheck(*tree.SemaContext, *types.T) (tree.TypedExpr, error) {
	return nil, pgerr.Newf(pgerr.UndefinedObject, "type \"%s\" does not exist", e.TypeName())
}

// udtLocale marks the types that stand for user-defined ones in column
// definitions until they are resolved.
const udtLocale = "?"

// unresolvedType returns the stand-in for a type name.
func unresolvedType(name string, array bool) *types.T {
	t := types.MakeCollatedString(types.String, udtLocale+name)
	if array {
		return types.MakeArray(t)
	}
	return t
}

// UserDefinedType says whether t, taken from a column definition, ALTER COLUMN
// TYPE or PREPARE, stands for a user-defined type, and which: a name, or an OID
// when the text said @oid.
func UserDefinedType(t *types.T) (name *tree.UnresolvedObjectName, oid uint32, array, ok bool) {
	if t == nil {
		return nil, 0, false, false
	}
	if t.Family() == types.ArrayFamily {
		name, oid, _, ok = UserDefinedType(t.ArrayContents())
		return name, oid, true, ok
	}
	if t.Family() != types.CollatedStringFamily || !strings.HasPrefix(t.Locale(), udtLocale) {
		return nil, 0, false, false
	}
	parts := strings.Split(t.Locale()[len(udtLocale):], "\x00")
	if s, found := strings.CutPrefix(parts[0], "@"); found && len(parts) == 1 {
		var o uint32
		if _, err := fmt.Sscanf(s, "%d", &o); err == nil {
			return nil, o, false, true
		}
	}
	return objectName(parts), 0, false, true
}

// objectName makes an unresolved name of parts in writing order (database,
// schema, object).
func objectName(parts []string) *tree.UnresolvedObjectName {
	var rev [3]string
	n := len(parts)
	if n > 3 {
		parts, n = parts[n-3:], 3
	}
	for i, p := range parts {
		rev[n-1-i] = p
	}
	u, err := tree.NewUnresolvedObjectName(n, rev, tree.NoAnnotation)
	if err != nil {
		return &tree.UnresolvedObjectName{NumParts: 1, Parts: rev}
	}
	return u
}

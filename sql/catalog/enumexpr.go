package catalog

import (
	"context"
	"fmt"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/lib/pq/oid"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/parser"
)

// EnumCast turns text into a value of an enum type, or text[] into an array of
// it. A planner also wraps string literals in it that are compared with or
// assigned to enum columns.
type EnumCast struct {
	Expr  tree.Expr
	Enum  *Enum
	Array bool
}

var _ tree.TypedExpr = (*EnumCast)(nil)

// Format implements tree.NodeFormatter. The parsable form names the type by OID,
// so that stored expressions survive its renaming.
func (e *EnumCast) Format(ctx *tree.FmtCtx) {
	parser.FormatOperand(ctx, e.Expr)
	ctx.WriteString("::")
	if ctx.HasFlags(tree.FmtParsable) {
		fmt.Fprintf(&ctx.Buffer, "@%d", e.Enum.OID)
	} else {
		ctx.WriteString(e.Enum.QualifiedName())
	}
	if e.Array {
		ctx.WriteString("[]")
	}
}

func (e *EnumCast) String() string { return tree.AsString(e) }

// Walk implements tree.Expr.
func (e *EnumCast) Walk(v tree.Visitor) tree.Expr {
	sub, changed := tree.WalkExpr(v, e.Expr)
	if !changed {
		return e
	}
	c := *e
	c.Expr = sub
	return &c
}

// ResolvedType implements tree.TypedExpr.
func (e *EnumCast) ResolvedType() *types.T {
	if e.Array {
		return ArrayOf(e.Enum.typ)
	}
	return e.Enum.typ
}

// TypeCheck implements tree.Expr.
func (e *EnumCast) TypeCheck(ctx *tree.SemaContext, _ *types.T) (tree.TypedExpr, error) {
	want := types.String
	if e.Array {
		want = types.StringArray
	}
	sub, err := e.Expr.TypeCheck(ctx, want)
	if err != nil {
		return nil, err
	}
	from := sub.ResolvedType()
	switch {
	case from.Equivalent(e.ResolvedType()):
		if from.Family() != types.UnknownFamily {
			return sub, nil
		}
	case from.Family() == types.StringFamily, from.Family() == types.UnknownFamily, from.Family() == types.CollatedStringFamily:
		if o, ok := EnumOID(from); ok {
			return nil, e.cannotCast(fmt.Sprintf("@%d", o))
		}
	case e.Array && from.Family() == types.ArrayFamily && from.ArrayContents().Family() == types.StringFamily:
	case from.Family() == types.BytesFamily: // the physical representation, in stored expressions
	default:
		return nil, e.cannotCast(from.String())
	}
	c := *e
	c.Expr = sub
	return &c, nil
}

func (e *EnumCast) cannotCast(from string) error {
	return pgerr.Newf("42846", "cannot cast type %s to %s", from, e.Enum.Name)
}

// Eval implements tree.TypedExpr.
func (e *EnumCast) Eval(ctx *tree.EvalContext) (tree.Datum, error) {
	d, err := e.Expr.(tree.TypedExpr).Eval(ctx)
	if err != nil {
		return nil, err
	}
	return e.Enum.Cast(d, e.Array)
}

// Cast turns text, or an array of text, into a value of the enum.
func (e *Enum) Cast(d tree.Datum, array bool) (tree.Datum, error) {
	if w, ok := d.(*tree.DOidWrapper); ok {
		d = w.Wrapped
	}
	switch t := d.(type) {
	case *tree.DString:
		if array {
			a, err := tree.ParseDArrayFromString(nil, string(*t), types.String)
			if err != nil {
				return nil, err
			}
			return e.Cast(a, true)
		}
		return e.FromLabel(string(*t))
	case *tree.DBytes:
		if v := e.FromPhysical([]byte(*t)); v != nil {
			return v, nil
		}
		return nil, pgerr.Newf(pgerr.InvalidTextRepresentation, "enum %s has no value with representation %x", e.Name, string(*t))
	case *tree.DCollatedString:
		if t.Locale == e.locale {
			return t, nil
		}
		return e.FromLabel(t.Contents)
	case *tree.DArray:
		out := tree.NewDArray(e.typ)
		for _, el := range t.Array {
			v := el
			if el != tree.DNull {
				var err error
				if v, err = e.Cast(el, false); err != nil {
					return nil, err
				}
			}
			if err := out.Append(v); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	if d == tree.DNull {
		return d, nil
	}
	return nil, pgerr.Newf("42846", "cannot cast type %s to %s", d.ResolvedType(), e.Name)
}

// ResolveTypes replaces the casts to user-defined types in expr by casts that can
// be evaluated.
func (r *Resolver) ResolveTypes(ctx context.Context, expr tree.Expr) (tree.Expr, error) {
	v := &udtVisitor{ctx: ctx, r: r}
	out, _ := tree.WalkExpr(v, expr)
	return out, v.err
}

type udtVisitor struct {
	ctx context.Context
	r   *Resolver
	err error
}

// VisitPre implements tree.Visitor.
func (v *udtVisitor) VisitPre(e tree.Expr) (bool, tree.Expr) { return v.err == nil, e }

// VisitPost implements tree.Visitor.
func (v *udtVisitor) VisitPost(e tree.Expr) tree.Expr {
	c, ok := e.(*parser.UDTCast)
	if !ok || v.err != nil {
		return e
	}
	_, enum, array, err := v.r.ResolveUDT(v.ctx, c.Name, c.OID, c.Array)
	if err != nil {
		v.err = err
		return e
	}
	return &EnumCast{Expr: c.Expr, Enum: enum, Array: array}
}

// ResolveUDT resolves a user-defined type as the parser reports it: by name, or
// by OID when name is nil. array says whether the result is an array type.
func (r *Resolver) ResolveUDT(ctx context.Context, name *tree.UnresolvedObjectName, typeOID uint32, isArray bool) (t *types.T, e *Enum, array bool, err error) {
	if name != nil {
		t, e, err = r.ResolveType(ctx, name, isArray)
		return t, e, t != nil && t.Family() == types.ArrayFamily, err
	}
	id, ok := TypeIDFromOID(oid.Oid(typeOID))
	var d *Type
	if ok {
		if d, err = r.TypeByID(ctx, id); err != nil {
			return nil, nil, false, err
		}
	}
	if d == nil {
		return nil, nil, false, pgerr.Newf(pgerr.UndefinedObject, "type with OID %d does not exist", typeOID)
	}
	if t, err = r.TypeOf(d); err != nil {
		return nil, nil, false, err
	}
	if t.Family() == types.ArrayFamily {
		o, _ := EnumOID(t.ArrayContents())
		e, err = r.EnumByOID(ctx, o)
		return t, e, true, err
	}
	if e, err = r.EnumByOID(ctx, oid.Oid(typeOID)); err != nil {
		return nil, nil, false, err
	}
	if isArray {
		t = ArrayOf(t)
	}
	return t, e, isArray, nil
}

package builtins

import (
	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/lib/pq/oid"
)

// CastContext says where a cast stands: PostgreSQL allows fewer casts where
// nobody wrote one.
type CastContext int

const (
	ImplicitCast   CastContext = iota // in any expression
	AssignmentCast                    // storing into a column
	ExplicitCast                      // CAST(x AS t), x::t
)

// CanCast says whether a value of type from may become one of type to.
func CanCast(from, to *types.T, in CastContext) bool {
	ff, tf := from.Family(), to.Family()
	if ff == types.UnknownFamily || tf == types.AnyFamily {
		return true
	}
	if ff == types.ArrayFamily && tf == types.ArrayFamily {
		return CanCast(from.ArrayContents(), to.ArrayContents(), in)
	}
	if ff == types.TupleFamily && tf == types.TupleFamily {
		fc, tc := from.TupleContents(), to.TupleContents()
		if len(tc) == 0 || len(fc) != len(tc) {
			return len(tc) == 0
		}
		for i := range fc {
			if !CanCast(&fc[i], &tc[i], in) {
				return false
			}
		}
		return true
	}
	if ff == types.CollatedStringFamily && tf == types.CollatedStringFamily {
		return from.Locale() == to.Locale() || in == ExplicitCast
	}
	if ff == tf {
		switch {
		case ff == types.IntFamily && in == ImplicitCast:
			return intWidth(from) <= intWidth(to)
		case ff == types.FloatFamily && in == ImplicitCast:
			return floatWidth(from) <= floatWidth(to)
		case ff == types.OidFamily && in == ImplicitCast:
			return to.Oid() == oid.T_oid || from.Oid() == to.Oid() || from.Oid() == oid.T_oid
		}
		return true
	}
	if isText(from) && tf == types.OidFamily && to.Oid() == oid.T_regclass {
		return true
	}
	if isText(to) {
		// I/O casts to the string types are for assignments.
		return in >= AssignmentCast || (ff == types.CollatedStringFamily && !isEnumType(from))
	}
	if isText(from) {
		return in == ExplicitCast || (tf == types.CollatedStringFamily && !isEnumType(to))
	}
	if ctx, ok := castTable[[2]types.Family{ff, tf}]; ok {
		if ff == types.OidFamily && tf == types.IntFamily && intWidth(to) == 64 {
			return true
		}
		return in >= ctx
	}
	return false
}

// castTable lists the casts between families and the widest use of each.
var castTable = map[[2]types.Family]CastContext{
	{types.IntFamily, types.DecimalFamily}:           ImplicitCast,
	{types.IntFamily, types.FloatFamily}:             ImplicitCast,
	{types.DecimalFamily, types.FloatFamily}:         ImplicitCast,
	{types.DecimalFamily, types.IntFamily}:           AssignmentCast,
	{types.FloatFamily, types.IntFamily}:             AssignmentCast,
	{types.FloatFamily, types.DecimalFamily}:         AssignmentCast,
	{types.IntFamily, types.BoolFamily}:              ExplicitCast,
	{types.BoolFamily, types.IntFamily}:              ExplicitCast,
	{types.IntFamily, types.BitFamily}:               ExplicitCast,
	{types.BitFamily, types.IntFamily}:               ExplicitCast,
	{types.IntFamily, types.OidFamily}:               ImplicitCast,
	{types.OidFamily, types.IntFamily}:               AssignmentCast,
	{types.DateFamily, types.TimestampFamily}:        ImplicitCast,
	{types.DateFamily, types.TimestampTZFamily}:      ImplicitCast,
	{types.TimestampFamily, types.DateFamily}:        AssignmentCast,
	{types.TimestampFamily, types.TimeFamily}:        AssignmentCast,
	{types.TimestampFamily, types.TimestampTZFamily}: ImplicitCast,
	{types.TimestampTZFamily, types.DateFamily}:      AssignmentCast,
	{types.TimestampTZFamily, types.TimeFamily}:      AssignmentCast,
	{types.TimestampTZFamily, types.TimeTZFamily}:    AssignmentCast,
	{types.TimestampTZFamily, types.TimestampFamily}: AssignmentCast,
	{types.TimeFamily, types.IntervalFamily}:         ImplicitCast,
	{types.TimeFamily, types.TimeTZFamily}:           ImplicitCast,
	{types.TimeTZFamily, types.TimeFamily}:           AssignmentCast,
	{types.IntervalFamily, types.TimeFamily}:         AssignmentCast,
	{types.JsonFamily, types.BoolFamily}:             ExplicitCast,
	{types.JsonFamily, types.IntFamily}:              ExplicitCast,
	{types.JsonFamily, types.FloatFamily}:            ExplicitCast,
	{types.JsonFamily, types.DecimalFamily}:          ExplicitCast,
	// Not PostgreSQL's, but what stored expressions of CockroachDB use.
	{types.UuidFamily, types.BytesFamily}:   ExplicitCast,
	{types.BytesFamily, types.UuidFamily}:   ExplicitCast,
	{types.DecimalFamily, types.BoolFamily}: ExplicitCast,
}

func isText(t *types.T) bool { return t.Family() == types.StringFamily }

// isEnumType knows the catalog's convention for enum types.
func isEnumType(t *types.T) bool {
	return t.Family() == types.CollatedStringFamily && len(t.Locale()) > 1 && t.Locale()[0] == '@'
}

func intWidth(t *types.T) int32 {
	switch w := t.Width(); w {
	case 16, 32:
		return w
	}
	return 64
}

func floatWidth(t *types.T) int32 {
	if t.Width() == 32 {
		return 32
	}
	return 64
}

func intOfWidth(w int32) *types.T {
	switch w {
	case 16:
		return types.Int2
	case 32:
		return types.Int4
	}
	return types.Int
}

// implicitCost rates passing an argument of type from to a parameter of type to,
// 0 for an exact match. Preferred types of a category are cheaper.
func implicitCost(from, to *types.T) (int, bool) {
	if to.Family() == types.AnyFamily {
		return 3, true
	}
	if from.Family() == types.UnknownFamily {
		return 0, true
	}
	if from.Family() == types.ArrayFamily && to.Family() == types.ArrayFamily {
		if to.ArrayContents().Family() == types.AnyFamily {
			return 3, true
		}
		return implicitCost(from.ArrayContents(), to.ArrayContents())
	}
	if from.Family() == types.TupleFamily && to.Family() == types.TupleFamily {
		return 0, true
	}
	if from.Family() == to.Family() {
		switch from.Family() {
		case types.CollatedStringFamily:
			return 0, from.Locale() == to.Locale() || to.Locale() == "" || to == types.AnyCollatedString
		}
		return 0, true // Widths are looked at by the operators themselves.
	}
	if !CanCast(from, to, ImplicitCast) {
		return 0, false
	}
	if isPreferred(to) {
		return 10, true
	}
	return 11, true
}

func isPreferred(t *types.T) bool {
	switch t.Family() {
	case types.FloatFamily, types.TimestampTZFamily, types.IntervalFamily, types.StringFamily, types.BoolFamily, types.INetFamily:
		return true
	case types.OidFamily:
		return t.Oid() == oid.T_oid
	}
	return false
}

// CommonType returns the type to which PostgreSQL brings the branches of a
// UNION, CASE or VALUES list: ok is false if there is none.
func CommonType(a, b *types.T) (t *types.T, ok bool) {
	switch {
	case a.Family() == types.UnknownFamily:
		return b, true
	case b.Family() == types.UnknownFamily:
		return a, true
	case a.Identical(b):
		return a, true
	}
	af, bf := a.Family(), b.Family()
	if af == bf {
		switch af {
		case types.IntFamily:
			return intOfWidth(max(intWidth(a), intWidth(b))), true
		case types.FloatFamily:
			if floatWidth(a) < floatWidth(b) {
				return b, true
			}
			return a, true
		case types.StringFamily:
			// Different string types or lengths: text, or the common kind unbounded.
			// varchar and text cast to each other: the first stays, unless it is text.
			if a.Oid() == oid.T_varchar && (b.Oid() == oid.T_varchar || b.Oid() == oid.T_text) {
				return types.VarChar, true
			}
			return types.String, true
		case types.DecimalFamily:
			return types.Decimal, true
		case types.ArrayFamily:
			e, ok := CommonType(a.ArrayContents(), b.ArrayContents())
			if !ok {
				return nil, false
			}
			return types.MakeArray(e), true
		case types.TupleFamily:
			ac, bc := a.TupleContents(), b.TupleContents()
			if len(ac) != len(bc) {
				return nil, false
			}
			out := make([]types.T, len(ac))
			for i := range ac {
				e, ok := CommonType(&ac[i], &bc[i])
				if !ok {
					return nil, false
				}
				out[i] = *e
			}
			return types.MakeLabeledTuple(out, a.TupleLabels()), true
		case types.TimestampFamily:
			return types.Timestamp, true
		case types.TimestampTZFamily:
			return types.TimestampTZ, true
		case types.CollatedStringFamily:
			return a, a.Locale() == b.Locale()
		case types.OidFamily:
			return types.Oid, true
		case types.BitFamily:
			return types.VarBit, true
		}
		return a, true
	}
	switch {
	case CanCast(a, b, ImplicitCast):
		return unbounded(b), true
	case CanCast(b, a, ImplicitCast):
		return unbounded(a), true
	}
	return nil, false
}

// unbounded drops the precision of a numeric that others are brought to.
func unbounded(t *types.T) *types.T {
	if t.Family() == types.DecimalFamily {
		return types.Decimal
	}
	return t
}

// typeName is how PostgreSQL's messages name a type.
func typeName(t *types.T) string {
	switch t.Family() {
	case types.UnknownFamily:
		return "unknown"
	case types.TupleFamily:
		return "record"
	case types.AnyFamily:
		return "anyelement"
	case types.ArrayFamily:
		return typeName(t.ArrayContents()) + "[]"
	}
	if isEnumType(t) {
		return "enum"
	}
	return t.SQLStandardName()
}

// castTo casts e to t implicitly unless its type is already the same.
func castTo(e tree.TypedExpr, t *types.T) tree.TypedExpr {
	if e.ResolvedType().Identical(t) {
		return e
	}
	if d, ok := ConstValue(e); ok && d != tree.DNull {
		// A constant stays one, for whoever looks for constants.
		switch t.Family() {
		case types.IntFamily:
			if _, isInt := d.(*tree.DInt); isInt && intWidth(e.ResolvedType()) <= intWidth(t) {
				return newIntConst(d, t)
			}
		case types.DecimalFamily, types.FloatFamily:
			if v, err := CastDatum(nil, d, t, ImplicitCast); err == nil {
				if !v.ResolvedType().Identical(t) {
					return &Const{D: v, T: t}
				}
				return v
			}
		}
	}
	return &Cast{Expr: e, Typ: t, Context: ImplicitCast}
}

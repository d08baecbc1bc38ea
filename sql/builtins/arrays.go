package builtins

import (
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

func arr(d tree.Datum) tree.Datums { return tree.MustBeDArray(d).Array }

// elemType is the return type of functions that give an element of an array.
func elemType(i int) tree.ReturnTyper {
	return func(args []tree.TypedExpr) *types.T {
		if len(args) <= i {
			return tree.UnknownReturnType
		}
		t := args[i].ResolvedType()
		if t.Family() != types.ArrayFamily {
			return types.String
		}
		return t.ArrayContents()
	}
}

// arrayOf is the return type of functions that give an array of argument i's type.
func arrayOf(i int) tree.ReturnTyper {
	return func(args []tree.TypedExpr) *types.T {
		if len(args) <= i {
			return tree.UnknownReturnType
		}
		t := args[i].ResolvedType()
		if t.Family() == types.UnknownFamily {
			t = types.String
		}
		return types.MakeArray(t)
	}
}

// sameArray is the return type of functions that give back an array argument.
func sameArray(i, elem int) tree.ReturnTyper {
	return func(args []tree.TypedExpr) *types.T {
		if len(args) <= i {
			return tree.UnknownReturnType
		}
		if t := args[i].ResolvedType(); t.Family() == types.ArrayFamily {
			return t
		}
		if elem >= 0 && args[elem].ResolvedType().Family() != types.UnknownFamily {
			return types.MakeArray(args[elem].ResolvedType())
		}
		return types.StringArray
	}
}

func newArray(elem *types.T, ds tree.Datums) (tree.Datum, error) {
	out := tree.NewDArray(elem)
	out.Array = make(tree.Datums, 0, len(ds))
	for _, d := range ds {
		if err := out.Append(d); err != nil {
			return nil, pgerr.New(pgerr.ProgramLimitExceeded, "array size exceeds the maximum allowed")
		}
	}
	return out, nil
}

func defineArrays(d definitions) {
	dim := func(name string, f func(n int64) (int64, bool)) {
		d.scalar(name, ts(tArr, tInt), tInt4, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			n := int64(len(arr(a[0])))
			v, ok := f(n)
			if num(a[1]) != 1 || n == 0 || !ok {
				return tree.DNull, nil
			}
			return dint(v)
		})
	}
	dim("array_length", func(n int64) (int64, bool) { return n, true })
	dim("array_upper", func(n int64) (int64, bool) { return n, true })
	dim("array_lower", func(int64) (int64, bool) { return 1, true })
	d.scalar("cardinality", ts(tArr), tInt4, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		return dint(int64(len(arr(a[0]))))
	})
	d.scalar("array_ndims", ts(tArr), tInt4, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		if len(arr(a[0])) == 0 {
			return tree.DNull, nil
		}
		return dint(1)
	})
	d.scalar("array_dims", ts(tArr), tText, func(ctx *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		n := len(arr(a[0]))
		if n == 0 {
			return tree.DNull, nil
		}
		return text("[1:" + FormatText(ctx, tree.NewDInt(tree.DInt(n)), tInt) + "]")
	})
	elemOf := func(d tree.Datum, other tree.Datum) *types.T {
		if d != tree.DNull {
			return tree.MustBeDArray(d).ParamTyp
		}
		return other.ResolvedType()
	}
	d.add("array_append", argTypes(tArr, tAny), sameArray(0, 1), func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		var in tree.Datums
		if a[0] != tree.DNull {
			in = arr(a[0])
		}
		return newArray(elemOf(a[0], a[1]), append(in[:len(in):len(in)], a[1]))
	}, nullable)
	d.add("array_prepend", argTypes(tAny, tArr), sameArray(1, 0), func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		in := tree.Datums{a[0]}
		if a[1] != tree.DNull {
			in = append(in, arr(a[1])...)
		}
		return newArray(elemOf(a[1], a[0]), in)
	}, nullable)
	d.add("array_cat", argTypes(tArr, tArr), sameArray(0, -1), func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		if a[0] == tree.DNull {
			return a[1], nil
		}
		if a[1] == tree.DNull {
			return a[0], nil
		}
		in := arr(a[0])
		return newArray(tree.MustBeDArray(a[0]).ParamTyp, append(in[:len(in):len(in)], arr(a[1])...))
	}, nullable)
	same := func(ctx *tree.EvalContext, x, y tree.Datum) bool {
		if x == tree.DNull || y == tree.DNull {
			return x == y
		}
		return Compare(ctx, x, y) == 0
	}
	d.add("array_remove", argTypes(tArr, tAny), sameArray(0, -1), func(ctx *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		if a[0] == tree.DNull {
			return tree.DNull, nil
		}
		var out tree.Datums
		for _, e := range arr(a[0]) {
			if !same(ctx, e, a[1]) {
				out = append(out, e)
			}
		}
		return newArray(tree.MustBeDArray(a[0]).ParamTyp, out)
	}, nullable)
	d.add("array_replace", argTypes(tArr, tAny, tAny), sameArray(0, -1), func(ctx *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		if a[0] == tree.DNull {
			return tree.DNull, nil
		}
		out := append(tree.Datums(nil), arr(a[0])...)
		for i, e := range out {
			if same(ctx, e, a[1]) {
				out[i] = a[2]
			}
		}
		return newArray(tree.MustBeDArray(a[0]).ParamTyp, out)
	}, nullable)
	position := func(ctx *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		if a[0] == tree.DNull {
			return tree.DNull, nil
		}
		from := int64(1)
		if len(a) > 2 {
			if a[2] == tree.DNull {
				return nil, pgerr.New("22004", "initial position must not be null")
			}
			from = num(a[2])
		}
		for i, e := range arr(a[0]) {
			if int64(i)+1 >= from && same(ctx, e, a[1]) {
				return dint(int64(i) + 1)
			}
		}
		return tree.DNull, nil
	}
	d.add("array_position", argTypes(tArr, tAny), tree.FixedReturnType(tInt4), position, nullable)
	d.add("array_position", argTypes(tArr, tAny, tInt), tree.FixedReturnType(tInt4), position, nullable)
	d.add("array_positions", argTypes(tArr, tAny), tree.FixedReturnType(types.MakeArray(tInt4)), func(ctx *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		if a[0] == tree.DNull {
			return tree.DNull, nil
		}
		var out tree.Datums
		for i, e := range arr(a[0]) {
			if same(ctx, e, a[1]) {
				out = append(out, tree.NewDInt(tree.DInt(i+1)))
			}
		}
		return newArray(tInt4, out)
	}, nullable)
	fill := func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		if a[1] == tree.DNull {
			return nil, pgerr.New("22004", "dimension array or low bound array cannot be null")
		}
		dims := arr(a[1])
		if len(dims) != 1 {
			return nil, pgerr.New(pgerr.FeatureNotSupported, "only arrays of one dimension are supported")
		}
		n := num(dims[0])
		if n < 0 || n > 1<<24 {
			return nil, pgerr.New(pgerr.ProgramLimitExceeded, "array size exceeds the maximum allowed")
		}
		out := make(tree.Datums, n)
		for i := range out {
			out[i] = a[0]
		}
		return newArray(a[0].ResolvedType(), out)
	}
	d.add("array_fill", argTypes(tAny, types.IntArray), arrayOf(0), fill, nullable)
	d.add("trim_array", argTypes(tArr, tInt), tree.IdentityReturnType(0), func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		in, n := arr(a[0]), num(a[1])
		if n < 0 || n > int64(len(in)) {
			return nil, pgerr.Newf("2202E", "number of elements to trim must be between 0 and %d", len(in))
		}
		return newArray(tree.MustBeDArray(a[0]).ParamTyp, in[:int64(len(in))-n])
	})
	toString := func(ctx *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		if a[0] == tree.DNull || a[1] == tree.DNull {
			return tree.DNull, nil
		}
		var parts []string
		for _, e := range arr(a[0]) {
			if e == tree.DNull {
				if len(a) > 2 && a[2] != tree.DNull {
					parts = append(parts, str(a[2]))
				}
				continue
			}
			parts = append(parts, anyText(ctx, e))
		}
		return text(strings.Join(parts, str(a[1])))
	}
	d.scalar("array_to_string", ts(tArr, tText), tText, toString, nullable)
	d.scalar("array_to_string", ts(tArr, tText, tText), tText, toString, nullable)
	for _, n := range []string{"string_to_array"} {
		f := func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			if a[0] == tree.DNull {
				return tree.DNull, nil
			}
			return splitToArray(a)
		}
		d.scalar(n, ts(tText, tText), types.StringArray, f, nullable)
		d.scalar(n, ts(tText, tText, tText), types.StringArray, f, nullable)
	}
}

// splitToArray is string_to_array(text, separator [, null string]).
func splitToArray(a tree.Datums) (tree.Datum, error) {
	s := str(a[0])
	var parts []string
	switch {
	case s == "":
	case a[1] == tree.DNull:
		for _, r := range s {
			parts = append(parts, string(r))
		}
	case str(a[1]) == "":
		parts = []string{s}
	default:
		parts = strings.Split(s, str(a[1]))
	}
	out := textArray(parts)
	if len(a) > 2 && a[2] != tree.DNull {
		for i, p := range parts {
			if p == str(a[2]) {
				out.Array[i] = tree.DNull
				out.HasNulls = true
			}
		}
	}
	return out, nil
}

package builtins

import (
	"bytes"
	stdjson "encoding/json"
	"math"
	"strconv"
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/auxten/postgresql-parser/pkg/util/json"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/pgcodec"
)

// Values of type json and jsonb are the same datum here.

// registerJSONOps mends operators whose behaviour differs.
func registerJSONOps() {
	setBin := func(op tree.BinaryOperator, l, r *types.T, f binFn) {
		for _, o := range tree.BinOps[op] {
			b := o.(*tree.BinOp)
			if b.LeftType.Equivalent(l) && b.RightType.Equivalent(r) {
				b.Fn = f
			}
		}
	}
	setBin(tree.Concat, tJSON, tJSON, func(_ *tree.EvalContext, l, r tree.Datum) (tree.Datum, error) {
		j, err := concatJSON(l.(*tree.DJSON).JSON.MaybeDecode(), r.(*tree.DJSON).JSON.MaybeDecode())
		if err != nil {
			return nil, err
		}
		return tree.NewDJSON(j), nil
	})
	// ->> and #>> give numbers and containers in PostgreSQL's text form.
	setBin(tree.JSONFetchText, tJSON, tText, func(_ *tree.EvalContext, l, r tree.Datum) (tree.Datum, error) {
		j, err := l.(*tree.DJSON).JSON.FetchValKey(str(r))
		return jsonAsText(j, err)
	})
	setBin(tree.JSONFetchText, tJSON, tInt, func(_ *tree.EvalContext, l, r tree.Datum) (tree.Datum, error) {
		j, err := jsonElement(l.(*tree.DJSON).JSON, num(r))
		return jsonAsText(j, err)
	})
	setBin(tree.JSONFetchVal, tJSON, tInt, func(_ *tree.EvalContext, l, r tree.Datum) (tree.Datum, error) {
		j, err := jsonElement(l.(*tree.DJSON).JSON, num(r))
		if err != nil || j == nil {
			return tree.DNull, err
		}
		return tree.NewDJSON(j), nil
	})
	setBin(tree.JSONFetchTextPath, tJSON, types.StringArray, func(_ *tree.EvalContext, l, r tree.Datum) (tree.Datum, error) {
		path, ok := textPath(r)
		if !ok {
			return tree.DNull, nil
		}
		j, err := json.FetchPath(l.(*tree.DJSON).JSON, path)
		return jsonAsText(j, err)
	})
}

// jsonElement is -> with a number. A scalar counts as an array of itself.
func jsonElement(j json.JSON, i int64) (json.JSON, error) {
	switch j.Type() {
	case json.ArrayJSONType:
		if i != int64(int32(i)) {
			return nil, nil
		}
		return j.FetchValIdx(int(i))
	case json.ObjectJSONType:
		return nil, nil
	}
	if i == 0 || i == -1 {
		return j, nil
	}
	return nil, nil
}

func concatJSON(l, r json.JSON) (json.JSON, error) {
	lo, ro := l.Type() == json.ObjectJSONType, r.Type() == json.ObjectJSONType
	if lo && ro {
		return l.Concat(r)
	}
	b := json.NewArrayBuilder(4)
	for _, j := range []json.JSON{l, r} {
		if j.Type() != json.ArrayJSONType {
			b.Add(j)
			continue
		}
		for i := range j.Len() {
			e, err := j.FetchValIdx(i)
			if err != nil {
				return nil, err
			}
			b.Add(e)
		}
	}
	return b.Build(), nil
}

// jsonAsText is the ->> of a fetched value: SQL NULL for json null and nothing.
func jsonAsText(j json.JSON, err error) (tree.Datum, error) {
	if err != nil {
		return nil, err
	}
	if j == nil {
		return tree.DNull, nil
	}
	j = j.MaybeDecode()
	switch j.Type() {
	case json.NullJSONType:
		return tree.DNull, nil
	case json.StringJSONType:
		s, err := j.AsText()
		if err != nil || s == nil {
			return tree.DNull, err
		}
		return text(*s)
	}
	return text(string(pgcodec.AppendJSON(nil, j)))
}

// textPath reads a text[]; ok is false if it holds a NULL.
func textPath(d tree.Datum) ([]string, bool) {
	arr := tree.MustBeDArray(d)
	path := make([]string, len(arr.Array))
	for i, e := range arr.Array {
		if e == tree.DNull {
			return nil, false
		}
		path[i] = str(e)
	}
	return path, true
}

// toJSON is to_jsonb.
func toJSON(ctx *tree.EvalContext, d tree.Datum) (json.JSON, error) {
	if d == tree.DNull {
		return json.NullJSONValue, nil
	}
	switch v := unwrap(d).(type) {
	case *tree.DBool:
		return json.FromBool(bool(*v)), nil
	case *tree.DInt:
		return json.FromInt64(int64(*v)), nil
	case *tree.DFloat:
		f := float64(*v)
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return json.FromString(FormatText(ctx, v, tFloat)), nil
		}
		return json.FromNumber(stdjson.Number(strconv.FormatFloat(f, 'g', -1, 64)))
	case *tree.DDecimal:
		if v.Form != 0 {
			return json.FromString(FormatText(ctx, v, tDec)), nil
		}
		return json.FromDecimal(v.Decimal), nil
	case *tree.DJSON:
		return v.JSON, nil
	case *tree.DArray:
		b := json.NewArrayBuilder(len(v.Array))
		for _, e := range v.Array {
			j, err := toJSON(ctx, asTyped(ctx, e, v.ParamTyp))
			if err != nil {
				return nil, err
			}
			b.Add(j)
		}
		return b.Build(), nil
	case *tree.DTuple:
		b := json.NewObjectBuilder(len(v.D))
		labels, contents := v.ResolvedType().TupleLabels(), v.ResolvedType().TupleContents()
		for i, e := range v.D {
			if i < len(contents) {
				e = asTyped(ctx, e, &contents[i])
			}
			j, err := toJSON(ctx, e)
			if err != nil {
				return nil, err
			}
			name := "f" + strconv.Itoa(i+1)
			if i < len(labels) && labels[i] != "" {
				name = labels[i]
			}
			b.Add(name, j)
		}
		return b.Build(), nil
	case *tree.DTimestamp, *tree.DTimestampTZ:
		// ISO 8601 with a T, and hours and minutes of the zone.
		s := strings.Replace(FormatText(ctx, d, d.ResolvedType()), " ", "T", 1)
		if _, zoned := v.(*tree.DTimestampTZ); zoned {
			at, bc := strings.CutSuffix(s, " BC")
			if i := strings.LastIndexAny(at, "+-"); i > 10 && !strings.Contains(at[i:], ":") {
				at += ":00"
			}
			if s = at; bc {
				s += " BC"
			}
		}
		return json.FromString(s), nil
	}
	return json.FromString(anyText(ctx, d)), nil
}

// asTyped prepares a part of an array or a row for toJSON.
func asTyped(ctx *tree.EvalContext, d tree.Datum, t *types.T) tree.Datum {
	switch {
	case d == tree.DNull:
	case isReal(t):
		return shortFloat(d)
	case isPadded(t):
		return tree.NewDString(FormatText(ctx, d, t))
	}
	return d
}

func jsonDatum(j json.JSON, err error) (tree.Datum, error) {
	if err != nil {
		return nil, MapError(err)
	}
	return tree.NewDJSON(j), nil
}

func defineJSON(d definitions) {
	jsonOnly := func(names []string, args []*types.T, ret *types.T, f fn, opts ...option) {
		d.same(names, args, ret, f, opts...)
	}
	both := func(base string) []string { return []string{"json_" + base, "jsonb_" + base} }

	jsonOnly([]string{"to_json", "to_jsonb"}, ts(tAny), tJSON, func(ctx *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		return jsonDatum(toJSON(ctx, a[0]))
	})
	jsonOnly([]string{"row_to_json"}, ts(types.AnyTuple), tJSON, func(ctx *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		return jsonDatum(toJSON(ctx, a[0]))
	})
	jsonOnly([]string{"array_to_json"}, ts(tArr), tJSON, func(ctx *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		return jsonDatum(toJSON(ctx, a[0]))
	})
	for _, n := range both("build_array") {
		d.add(n, variadic(nil, tAny), tree.FixedReturnType(tJSON), func(ctx *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			b := json.NewArrayBuilder(len(a))
			for _, x := range a {
				j, err := toJSON(ctx, x)
				if err != nil {
					return nil, err
				}
				b.Add(j)
			}
			return tree.NewDJSON(b.Build()), nil
		}, nullable)
	}
	for _, n := range both("build_object") {
		d.add(n, variadic(nil, tAny), tree.FixedReturnType(tJSON), func(ctx *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			if len(a)%2 != 0 {
				return nil, pgerr.New("22023", "argument list must have even number of elements").
					WithHint("The arguments of %s() must consist of alternating keys and values.", n)
			}
			b := json.NewObjectBuilder(len(a) / 2)
			for i := 0; i < len(a); i += 2 {
				if a[i] == tree.DNull {
					return nil, pgerr.Newf("22023", "argument %d: key must not be null", i+1)
				}
				j, err := toJSON(ctx, a[i+1])
				if err != nil {
					return nil, err
				}
				b.Add(anyText(ctx, a[i]), j)
			}
			return tree.NewDJSON(b.Build()), nil
		}, nullable)
	}
	objectOf := func(keys, vals tree.Datums) (tree.Datum, error) {
		if len(keys) != len(vals) {
			return nil, pgerr.New("2202E", "mismatched array dimensions")
		}
		b := json.NewObjectBuilder(len(keys))
		for i, k := range keys {
			if k == tree.DNull {
				return nil, pgerr.New("22004", "null value not allowed for object key")
			}
			if vals[i] == tree.DNull {
				b.Add(str(k), json.NullJSONValue)
			} else {
				b.Add(str(k), json.FromString(str(vals[i])))
			}
		}
		return tree.NewDJSON(b.Build()), nil
	}
	for _, n := range []string{"json_object", "jsonb_object"} {
		d.scalar(n, ts(types.StringArray), tJSON, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			arr := tree.MustBeDArray(a[0]).Array
			if len(arr)%2 != 0 {
				return nil, pgerr.New("2202E", "array must have even number of elements")
			}
			var keys, vals tree.Datums
			for i := 0; i < len(arr); i += 2 {
				keys, vals = append(keys, arr[i]), append(vals, arr[i+1])
			}
			return objectOf(keys, vals)
		})
		d.scalar(n, ts(types.StringArray, types.StringArray), tJSON, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			return objectOf(tree.MustBeDArray(a[0]).Array, tree.MustBeDArray(a[1]).Array)
		})
	}
	for _, n := range both("typeof") {
		d.scalar(n, ts(tJSON), tText, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			return text(map[json.Type]string{
				json.NullJSONType: "null", json.StringJSONType: "string", json.NumberJSONType: "number", json.FalseJSONType: "boolean",
				json.TrueJSONType: "boolean", json.ArrayJSONType: "array", json.ObjectJSONType: "object",
			}[a[0].(*tree.DJSON).JSON.Type()])
		})
	}
	for _, n := range both("array_length") {
		d.scalar(n, ts(tJSON), tInt4, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			j := a[0].(*tree.DJSON).JSON
			switch j.Type() {
			case json.ArrayJSONType:
				return dint(int64(j.Len()))
			case json.ObjectJSONType:
				return nil, pgerr.New("22023", "cannot get array length of a non-array")
			}
			return nil, pgerr.New("22023", "cannot get array length of a scalar")
		})
	}
	for _, n := range both("extract_path") {
		d.add(n, variadic(ts(tJSON), tText), tree.FixedReturnType(tJSON), func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			j, err := extractPath(a)
			if err != nil || j == nil {
				return tree.DNull, err
			}
			return tree.NewDJSON(j), nil
		})
	}
	for _, n := range both("extract_path_text") {
		d.add(n, variadic(ts(tJSON), tText), tree.FixedReturnType(tText), func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			return jsonAsText(extractPath(a))
		})
	}
	for _, n := range both("strip_nulls") {
		d.scalar(n, ts(tJSON), tJSON, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			j, _, err := a[0].(*tree.DJSON).JSON.StripNulls()
			return jsonDatum(j, err)
		})
	}
	d.scalar("jsonb_pretty", ts(tJSON), tText, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		compact := pgcodec.AppendJSON(nil, a[0].(*tree.DJSON).JSON)
		return text(prettyJSON(compact))
	})
	set := func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		create := true
		if len(a) > 3 {
			create = a[3] == tree.DBoolTrue
		}
		path, ok := textPath(a[1])
		if !ok {
			return nil, pgerr.New("22004", "path element at position 1 is null")
		}
		if t := a[0].(*tree.DJSON).JSON.Type(); t != json.ArrayJSONType && t != json.ObjectJSONType {
			return nil, pgerr.New("22023", "cannot set path in scalar")
		}
		return jsonDatum(setPath(a[0].(*tree.DJSON).JSON.MaybeDecode(), path, a[2].(*tree.DJSON).JSON, create, pathSet, false))
	}
	d.scalar("jsonb_set", ts(tJSON, types.StringArray, tJSON), tJSON, set)
	d.scalar("jsonb_set", ts(tJSON, types.StringArray, tJSON, tBool), tJSON, set)
	d.scalar("json_set", ts(tJSON, types.StringArray, tJSON), tJSON, set)
	d.scalar("json_set", ts(tJSON, types.StringArray, tJSON, tBool), tJSON, set)
	insert := func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		after := len(a) > 3 && a[3] == tree.DBoolTrue
		path, ok := textPath(a[1])
		if !ok {
			return nil, pgerr.New("22004", "path element at position 1 is null")
		}
		return jsonDatum(setPath(a[0].(*tree.DJSON).JSON.MaybeDecode(), path, a[2].(*tree.DJSON).JSON, true, pathInsert, after))
	}
	d.scalar("jsonb_insert", ts(tJSON, types.StringArray, tJSON), tJSON, insert)
	d.scalar("jsonb_insert", ts(tJSON, types.StringArray, tJSON, tBool), tJSON, insert)
	d.scalar("json_remove_path", ts(tJSON, types.StringArray), tJSON, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		path, ok := textPath(a[1])
		if !ok {
			return a[0], nil
		}
		j, _, err := a[0].(*tree.DJSON).JSON.RemovePath(path)
		return jsonDatum(j, err)
	})
	for _, n := range []string{"jsonb_exists_any", "jsonb_exists_all"} {
		any := strings.HasSuffix(n, "any")
		d.scalar(n, ts(tJSON, types.StringArray), tBool, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			for _, k := range tree.MustBeDArray(a[1]).Array {
				if k == tree.DNull {
					continue
				}
				ok, err := a[0].(*tree.DJSON).JSON.Exists(str(k))
				if err != nil {
					return nil, err
				}
				if ok == any {
					return dbool(any)
				}
			}
			return dbool(!any)
		})
	}
	for _, n := range []string{"jsonb_concat", "json_concat"} {
		d.scalar(n, ts(tJSON, tJSON), tJSON, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			return jsonDatum(concatJSON(a[0].(*tree.DJSON).JSON.MaybeDecode(), a[1].(*tree.DJSON).JSON.MaybeDecode()))
		})
	}
}

func extractPath(a tree.Datums) (json.JSON, error) {
	path := make([]string, len(a)-1)
	for i, p := range a[1:] {
		path[i] = str(p)
	}
	return json.FetchPath(a[0].(*tree.DJSON).JSON, path)
}

// pathOp says what setPath does at the end of the path.
type pathOp int

const (
	pathSet pathOp = iota
	pathInsert
)

// setPath implements jsonb_set and jsonb_insert. Only a missing last step is created.
func setPath(j json.JSON, path []string, to json.JSON, create bool, op pathOp, after bool) (json.JSON, error) {
	if len(path) == 0 {
		return j, nil
	}
	last := len(path) == 1
	switch j.Type() {
	case json.ObjectJSONType:
		it, err := j.ObjectIter()
		if err != nil {
			return nil, err
		}
		b := json.NewObjectBuilder(j.Len() + 1)
		found := false
		for it.Next() {
			v := it.Value()
			if it.Key() == path[0] {
				found = true
				switch {
				case last && op == pathInsert:
					return nil, pgerr.New("22023", "cannot replace existing key").
						WithHint("Try using the function jsonb_set to replace key value.")
				case last:
					v = to
				default:
					if v, err = setPath(v.MaybeDecode(), path[1:], to, create, op, after); err != nil {
						return nil, err
					}
				}
			}
			b.Add(it.Key(), v)
		}
		if !found && last && create {
			b.Add(path[0], to)
		}
		return b.Build(), nil
	case json.ArrayJSONType:
		idx, err := strconv.Atoi(path[0])
		if err != nil {
			return nil, pgerr.Newf(pgerr.InvalidTextRepresentation, "path element at position 1 is not an integer: %q", path[0])
		}
		n := j.Len()
		at := idx
		if at < 0 {
			at += n
		}
		b := json.NewArrayBuilder(n + 1)
		if last && create && (at < 0 || n == 0) {
			b.Add(to)
		}
		for i := range n {
			v, err := j.FetchValIdx(i)
			if err != nil {
				return nil, err
			}
			if i != at {
				b.Add(v)
				continue
			}
			switch {
			case last && op == pathInsert && after:
				b.Add(v)
				b.Add(to)
			case last && op == pathInsert:
				b.Add(to)
				b.Add(v)
			case last:
				b.Add(to)
			default:
				if v, err = setPath(v.MaybeDecode(), path[1:], to, create, op, after); err != nil {
					return nil, err
				}
				b.Add(v)
			}
		}
		if last && create && at >= n && n > 0 {
			b.Add(to)
		}
		return b.Build(), nil
	}
	return j, nil
}

// prettyJSON indents as jsonb_pretty does: four blanks, one member a line.
func prettyJSON(compact []byte) string {
	var b bytes.Buffer
	depth := 0
	inStr := false
	line := func() {
		b.WriteByte('\n')
		for range depth {
			b.WriteString("    ")
		}
	}
	for i := 0; i < len(compact); i++ {
		c := compact[i]
		if inStr {
			b.WriteByte(c)
			if c == '\\' {
				i++
				b.WriteByte(compact[i])
			} else if c == '"' {
				inStr = false
			}
			continue
		}
		switch c {
		case '"':
			inStr = true
			b.WriteByte(c)
		case '{', '[':
			b.WriteByte(c)
			depth++
			line()
			if i+1 < len(compact) && (compact[i+1] == '}' || compact[i+1] == ']') {
				b.Truncate(b.Len() - 4*depth - 1)
				depth--
				line()
				i++
				b.WriteByte(compact[i])
			}
		case '}', ']':
			depth--
			line()
			b.WriteByte(c)
		case ',':
			b.WriteByte(c)
			line()
			if i+1 < len(compact) && compact[i+1] == ' ' {
				i++
			}
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

package builtins

import (
	"context"
	"strings"
	"time"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/auxten/postgresql-parser/pkg/util/duration"
	"github.com/auxten/postgresql-parser/pkg/util/json"
	"github.com/cockroachdb/apd"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// listGen yields prepared rows.
type listGen struct{ rows []tree.Datums }

func (g *listGen) Next(context.Context) (tree.Datums, error) {
	if len(g.rows) == 0 {
		return nil, nil
	}
	r := g.rows[0]
	g.rows = g.rows[1:]
	return r, nil
}
func (*listGen) Close() {}

func oneColumn(ds tree.Datums) Generator {
	g := &listGen{rows: make([]tree.Datums, len(ds))}
	for i := range ds {
		g.rows[i] = ds[i : i+1 : i+1]
	}
	return g
}

// funcGen calls next until it has no more.
type funcGen struct {
	next func() (tree.Datum, error)
	row  [1]tree.Datum
	n    int
}

func (g *funcGen) Next(ctx context.Context) (tree.Datums, error) {
	if g.n++; g.n&1023 == 0 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	d, err := g.next()
	if err != nil || d == nil {
		return nil, err
	}
	g.row[0] = d
	return g.row[:], nil
}
func (*funcGen) Close() {}

func record(labels []string, ts ...*types.T) tree.ReturnTyper {
	contents := make([]types.T, len(ts))
	for i, t := range ts {
		contents[i] = *t
	}
	return tree.FixedReturnType(types.MakeLabeledTuple(contents, labels))
}

func errStepZero() error { return pgerr.New("22023", "step size cannot equal zero") }

func defineGenerators(d definitions) {
	series := func(_ *tree.EvalContext, a tree.Datums) (Generator, error) {
		cur, stop, step := num(a[0]), num(a[1]), int64(1)
		if len(a) > 2 {
			step = num(a[2])
		}
		if step == 0 {
			return nil, errStepZero()
		}
		done := false
		return &funcGen{next: func() (tree.Datum, error) {
			if done || step > 0 && cur > stop || step < 0 && cur < stop {
				return nil, nil
			}
			v := cur
			cur += step
			done = (cur > v) != (step > 0) // overflow
			return tree.NewDInt(tree.DInt(v)), nil
		}}, nil
	}
	d.generator("generate_series", argTypes(tInt, tInt), widerInt, series)
	d.generator("generate_series", argTypes(tInt, tInt, tInt), widerInt, series)
	decSeries := func(_ *tree.EvalContext, a tree.Datums) (Generator, error) {
		cur, stop, step := &a[0].(*tree.DDecimal).Decimal, &a[1].(*tree.DDecimal).Decimal, apd.New(1, 0)
		if len(a) > 2 {
			step = &a[2].(*tree.DDecimal).Decimal
		}
		for i, x := range []*apd.Decimal{cur, stop, step} {
			if x.Form != apd.Finite {
				return nil, pgerr.Newf("22023", "%s value cannot be %s", []string{"start", "stop", "step"}[i],
					map[bool]string{true: "NaN", false: "infinity"}[x.Form == apd.NaN])
			}
		}
		if step.Coeff.Sign() == 0 {
			return nil, errStepZero()
		}
		return &funcGen{next: func() (tree.Datum, error) {
			c := cur.Cmp(stop)
			if !step.Negative && c > 0 || step.Negative && c < 0 {
				return nil, nil
			}
			v := cur
			cur = addDecimal(cur, step)
			return &tree.DDecimal{Decimal: *v}, nil
		}}, nil
	}
	d.generator("generate_series", argTypes(tDec, tDec), tree.FixedReturnType(tDec), decSeries)
	d.generator("generate_series", argTypes(tDec, tDec, tDec), tree.FixedReturnType(tDec), decSeries)
	timeSeries := func(get func(tree.Datum) time.Time, mk func(time.Time) tree.Datum, zoned bool) GeneratorFactory {
		return func(ctx *tree.EvalContext, a tree.Datums) (Generator, error) {
			loc := time.UTC
			if zoned {
				loc = ctx.GetLocation()
			}
			cur, stop, step := get(a[0]).In(loc), get(a[1]), a[2].(*tree.DInterval).Duration
			sign := step.Compare(duration.Duration{})
			if sign == 0 {
				return nil, errStepZero()
			}
			return &funcGen{next: func() (tree.Datum, error) {
				if sign > 0 && cur.After(stop) || sign < 0 && cur.Before(stop) {
					return nil, nil
				}
				v := cur
				cur = duration.Add(cur, step)
				return mk(v.UTC()), nil
			}}, nil
		}
	}
	d.generator("generate_series", argTypes(tTS, tTS, tIval), tree.FixedReturnType(tTS), timeSeries(
		func(d tree.Datum) time.Time { return d.(*tree.DTimestamp).Time },
		func(t time.Time) tree.Datum { return &tree.DTimestamp{Time: t} }, false))
	d.generator("generate_series", argTypes(tTSTZ, tTSTZ, tIval), tree.FixedReturnType(tTSTZ), timeSeries(
		func(d tree.Datum) time.Time { return d.(*tree.DTimestampTZ).Time },
		func(t time.Time) tree.Datum { return &tree.DTimestampTZ{Time: t} }, true))

	// No table is partitioned.
	d.generator("pg_partition_tree", argTypes(types.RegClass), record([]string{"relid", "parentrelid", "isleaf", "level"}, types.RegClass, types.RegClass, tBool, tInt4),
		func(*tree.EvalContext, tree.Datums) (Generator, error) { return &listGen{}, nil })
	d.generator("pg_partition_ancestors", argTypes(types.RegClass), record([]string{"relid"}, types.RegClass),
		func(*tree.EvalContext, tree.Datums) (Generator, error) { return &listGen{}, nil })
	d.generator("unnest", argTypes(tArr), elemType(0), func(_ *tree.EvalContext, a tree.Datums) (Generator, error) {
		if a[0] == tree.DNull { // The overloads below want to see NULLs, so this one gets them too.
			return oneColumn(nil), nil
		}
		return oneColumn(arr(a[0])), nil
	})
	// unnest(a, b, …): columns side by side.
	for n := 2; n <= 6; n++ {
		args := make([]*types.T, n)
		for i := range args {
			args[i] = tArr
		}
		d.generator("unnest", argTypes(args...), func(e []tree.TypedExpr) *types.T {
			if len(e) == 0 {
				return tree.UnknownReturnType
			}
			contents := make([]types.T, len(e))
			labels := make([]string, len(e))
			for i := range e {
				contents[i] = *elemType(i)(e)
				labels[i] = "unnest"
			}
			return types.MakeLabeledTuple(contents, labels)
		}, func(_ *tree.EvalContext, a tree.Datums) (Generator, error) {
			g := &listGen{}
			for i := 0; ; i++ {
				row := make(tree.Datums, len(a))
				any := false
				for j, x := range a {
					row[j] = tree.DNull
					if x != tree.DNull && i < len(arr(x)) {
						row[j], any = arr(x)[i], true
					}
				}
				if !any {
					return g, nil
				}
				g.rows = append(g.rows, row)
			}
		}, nullable)
	}
	subscripts := func(_ *tree.EvalContext, a tree.Datums) (Generator, error) {
		n := len(arr(a[0]))
		if num(a[1]) != 1 {
			n = 0
		}
		out := make(tree.Datums, n)
		for i := range out {
			out[i] = tree.NewDInt(tree.DInt(i + 1))
		}
		if len(a) > 2 && a[2] == tree.DBoolTrue {
			for i, j := 0, n-1; i < j; i, j = i+1, j-1 {
				out[i], out[j] = out[j], out[i]
			}
		}
		return oneColumn(out), nil
	}
	// Partitions do not exist: every relation is its own tree.
	for _, name := range []string{"pg_partition_ancestors"} {
		for _, t := range []*types.T{types.RegClass, types.Oid, tText} {
			d.generator(name, argTypes(t), tree.FixedReturnType(types.RegClass), func(_ *tree.EvalContext, a tree.Datums) (Generator, error) {
				return oneColumn(a[:1]), nil
			})
		}
	}
	d.generator("generate_subscripts", argTypes(tArr, tInt), tree.FixedReturnType(tInt4), subscripts)
	d.generator("generate_subscripts", argTypes(tArr, tInt, tBool), tree.FixedReturnType(tInt4), subscripts)
	d.generator("string_to_table", argTypes(tText, tText), tree.FixedReturnType(tText), stringToTable, nullable)
	d.generator("string_to_table", argTypes(tText, tText, tText), tree.FixedReturnType(tText), stringToTable, nullable)

	matches := func(_ *tree.EvalContext, a tree.Datums) (Generator, error) {
		flags := ""
		if len(a) > 2 {
			flags = str(a[2])
		}
		re, err := compileRegexp(str(a[1]), strings.ReplaceAll(flags, "g", ""))
		if err != nil {
			return nil, err
		}
		n := 1
		if strings.Contains(flags, "g") {
			n = -1
		}
		s := str(a[0])
		var out tree.Datums
		for _, loc := range re.FindAllStringSubmatchIndex(s, n) {
			out = append(out, groups(s, loc))
		}
		return oneColumn(out), nil
	}
	d.generator("regexp_matches", argTypes(tText, tText), tree.FixedReturnType(types.StringArray), matches)
	d.generator("regexp_matches", argTypes(tText, tText, tText), tree.FixedReturnType(types.StringArray), matches)
	splitTable := func(_ *tree.EvalContext, a tree.Datums) (Generator, error) {
		flags := ""
		if len(a) > 2 {
			flags = str(a[2])
		}
		parts, err := regexpSplit(str(a[0]), str(a[1]), flags)
		if err != nil {
			return nil, err
		}
		return oneColumn(textArray(parts).Array), nil
	}
	d.generator("regexp_split_to_table", argTypes(tText, tText), tree.FixedReturnType(tText), splitTable)
	d.generator("regexp_split_to_table", argTypes(tText, tText, tText), tree.FixedReturnType(tText), splitTable)

	for _, prefix := range []string{"json_", "jsonb_"} {
		elements := func(asText bool) GeneratorFactory {
			return func(_ *tree.EvalContext, a tree.Datums) (Generator, error) {
				j := a[0].(*tree.DJSON).JSON.MaybeDecode()
				switch j.Type() {
				case json.ArrayJSONType:
				case json.ObjectJSONType:
					return nil, pgerr.New("22023", "cannot extract elements from an object")
				default:
					return nil, pgerr.New("22023", "cannot extract elements from a scalar")
				}
				out := make(tree.Datums, j.Len())
				for i := range out {
					e, err := j.FetchValIdx(i)
					if err != nil {
						return nil, err
					}
					if asText {
						if out[i], err = jsonAsText(e, nil); err != nil {
							return nil, err
						}
					} else {
						out[i] = tree.NewDJSON(e)
					}
				}
				return oneColumn(out), nil
			}
		}
		d.generator(prefix+"array_elements", argTypes(tJSON), tree.FixedReturnType(tJSON), elements(false))
		d.generator(prefix+"array_elements_text", argTypes(tJSON), tree.FixedReturnType(tText), elements(true))
		for _, n := range []string{"array_elements", "array_elements_text"} {
			d.get(prefix + n).props.ReturnLabels = []string{"value"}
		}
		members := func(asText bool, fn string) GeneratorFactory {
			return func(_ *tree.EvalContext, a tree.Datums) (Generator, error) {
				j := a[0].(*tree.DJSON).JSON.MaybeDecode()
				if j.Type() != json.ObjectJSONType {
					return nil, pgerr.Newf("22023", "cannot call %s on a non-object", fn)
				}
				it, err := j.ObjectIter()
				if err != nil {
					return nil, err
				}
				g := &listGen{}
				for it.Next() {
					var v tree.Datum = tree.NewDJSON(it.Value())
					if asText {
						if v, err = jsonAsText(it.Value(), nil); err != nil {
							return nil, err
						}
					}
					g.rows = append(g.rows, tree.Datums{tree.NewDString(it.Key()), v})
				}
				sortByKeyLength(g.rows)
				return g, nil
			}
		}
		kv := []string{"key", "value"}
		d.generator(prefix+"each", argTypes(tJSON), record(kv, tText, tJSON), members(false, prefix+"each"))
		d.generator(prefix+"each_text", argTypes(tJSON), record(kv, tText, tText), members(true, prefix+"each_text"))
		d.generator(prefix+"object_keys", argTypes(tJSON), tree.FixedReturnType(tText), func(_ *tree.EvalContext, a tree.Datums) (Generator, error) {
			j := a[0].(*tree.DJSON).JSON.MaybeDecode()
			switch j.Type() {
			case json.ObjectJSONType:
			case json.ArrayJSONType:
				return nil, pgerr.Newf("22023", "cannot call %sobject_keys on an array", prefix)
			default:
				return nil, pgerr.Newf("22023", "cannot call %sobject_keys on a scalar", prefix)
			}
			it, err := j.ObjectIter()
			if err != nil {
				return nil, err
			}
			g := &listGen{}
			for it.Next() {
				g.rows = append(g.rows, tree.Datums{tree.NewDString(it.Key())})
			}
			sortByKeyLength(g.rows)
			return g, nil
		})
	}
	d.generator("pg_get_keywords", argTypes(), record([]string{"word", "catcode", "catdesc"}, tText, tText, tText),
		func(*tree.EvalContext, tree.Datums) (Generator, error) {
			g := &listGen{}
			for w := range quotedWords {
				g.rows = append(g.rows, tree.Datums{tree.NewDString(w), tree.NewDString("R"), tree.NewDString("reserved")})
			}
			return g, nil
		})
	// information_schema._pg_expandarray(array): element and index.
	for _, n := range []string{"_pg_expandarray", "information_schema._pg_expandarray"} {
		d.generator(n, argTypes(tArr), func(e []tree.TypedExpr) *types.T {
			if len(e) == 0 {
				return tree.UnknownReturnType
			}
			return types.MakeLabeledTuple([]types.T{*elemType(0)(e), *tInt4}, []string{"x", "n"})
		}, func(_ *tree.EvalContext, a tree.Datums) (Generator, error) {
			g := &listGen{}
			for i, x := range arr(a[0]) {
				g.rows = append(g.rows, tree.Datums{x, tree.NewDInt(tree.DInt(i + 1))})
			}
			return g, nil
		})
	}
	// crdb_internal.check_consistency(stats_only, start_key, end_key): empty keys are the
	// ends of the keyspace. Statistics are compared together with the rest.
	d.generator("crdb_internal.check_consistency", argTypes(tBool, tBytes, tBytes),
		record([]string{"range_id", "start_key", "start_key_pretty", "status", "detail"}, tInt, tBytes, tText, tText, tText),
		func(ctx *tree.EvalContext, a tree.Datums) (Generator, error) {
			e, err := getEnv(ctx)
			if err != nil {
				return nil, err
			}
			var bounds [2][]byte
			for i := range bounds {
				if b, ok := a[i+1].(*tree.DBytes); ok {
					bounds[i] = []byte(*b)
				}
			}
			checks, err := e.CheckConsistency(ctx.Ctx(), bounds[0], bounds[1])
			if err != nil {
				return nil, err
			}
			g := &listGen{}
			for _, c := range checks {
				g.rows = append(g.rows, tree.Datums{
					tree.NewDInt(tree.DInt(c.RangeID)), tree.NewDBytes(tree.DBytes(c.Start)), tree.NewDString(c.StartPretty),
					tree.NewDString(c.Status), tree.NewDString(c.Detail),
				})
			}
			return g, nil
		})
	empty := func(*tree.EvalContext, tree.Datums) (Generator, error) { return &listGen{}, nil }
	d.generator("pg_listening_channels", argTypes(), tree.FixedReturnType(tText), empty)
	d.generator("pg_lock_status", argTypes(), tree.FixedReturnType(tText), empty)
	d.generator("pg_options_to_table", argTypes(types.StringArray), record([]string{"option_name", "option_value"}, tText, tText),
		func(_ *tree.EvalContext, a tree.Datums) (Generator, error) {
			g := &listGen{}
			for _, o := range arr(a[0]) {
				k, v, _ := strings.Cut(str(o), "=")
				g.rows = append(g.rows, tree.Datums{tree.NewDString(k), tree.NewDString(v)})
			}
			return g, nil
		})
}

func stringToTable(_ *tree.EvalContext, a tree.Datums) (Generator, error) {
	if a[0] == tree.DNull {
		return &listGen{}, nil
	}
	parts, err := splitToArray(a)
	if err != nil {
		return nil, err
	}
	return oneColumn(arr(parts)), nil
}

// sortByKeyLength gives jsonb's order of keys: shorter first, then by bytes,
// which they already are.
func sortByKeyLength(rows []tree.Datums) {
	for i := 1; i < len(rows); i++ {
		for j := i; j > 0 && len(str(rows[j][0])) < len(str(rows[j-1][0])); j-- {
			rows[j], rows[j-1] = rows[j-1], rows[j]
		}
	}
}

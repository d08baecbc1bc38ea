package exec

import (
	"context"
	"sort"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// windowPartition is the rows of one partition in window order.
type windowPartition struct {
	flow  *Flow
	order Ordering
	rows  []tree.Datums
	// peer[i] is the number of row i's peer group, starts[g] its first row;
	// starts has one more element, the number of rows.
	peer   []int
	starts []int
}

func (p *windowPartition) findPeers() {
	p.peer = make([]int, len(p.rows))
	p.starts = []int{0}
	g := 0
	for i := 1; i < len(p.rows); i++ {
		if p.order.Compare(p.flow.Eval, p.rows[i-1], p.rows[i]) != 0 {
			g++
			p.starts = append(p.starts, i)
		}
		p.peer[i] = g
	}
	p.starts = append(p.starts, len(p.rows))
}

func (p *windowPartition) groups() int { return len(p.starts) - 1 }

// compute returns the value of spec for each row.
func (p *windowPartition) compute(ctx context.Context, spec *WindowSpec) (tree.Datums, error) {
	out := make(tree.Datums, len(p.rows))
	arg := func(i, a int) tree.Datum { return p.rows[i][spec.Args[a]] }
	n := len(p.rows)
	dint := func(v int) tree.Datum { return tree.NewDInt(tree.DInt(v)) }
	each := func(f func(i int) tree.Datum) (tree.Datums, error) {
		for i := range out {
			out[i] = f(i)
		}
		return out, nil
	}
	def, ok := spec.Func.Func.FunctionReference.(*tree.FunctionDefinition)
	if !ok {
		return nil, pgerr.Newf(pgerr.Internal, "window function %s is not resolved", spec.Func)
	}
	if def.Class == tree.AggregateClass {
		return p.aggregate(ctx, spec)
	}
	switch def.Name {
	case "row_number":
		return each(func(i int) tree.Datum { return dint(i + 1) })
	case "rank":
		return each(func(i int) tree.Datum { return dint(p.starts[p.peer[i]] + 1) })
	case "dense_rank":
		return each(func(i int) tree.Datum { return dint(p.peer[i] + 1) })
	case "percent_rank":
		return each(func(i int) tree.Datum {
			if n == 1 {
				return tree.NewDFloat(0)
			}
			return tree.NewDFloat(tree.DFloat(float64(p.starts[p.peer[i]]) / float64(n-1)))
		})
	case "cume_dist":
		return each(func(i int) tree.Datum {
			return tree.NewDFloat(tree.DFloat(float64(p.starts[p.peer[i]+1]) / float64(n)))
		})
	case "ntile":
		return p.ntile(out, arg)
	case "lag", "lead":
		for i := range out {
			off := 1
			if len(spec.Args) > 1 {
				d := arg(i, 1)
				if d == tree.DNull {
					out[i] = tree.DNull
					continue
				}
				off = int(tree.MustBeDInt(d))
			}
			if def.Name == "lag" {
				off = -off
			}
			switch j := i + off; {
			case j >= 0 && j < n:
				out[i] = arg(j, 0)
			case len(spec.Args) > 2:
				out[i] = arg(i, 2)
			default:
				out[i] = tree.DNull
			}
		}
		return out, nil
	case "first_value", "last_value", "nth_value":
		return p.frameValue(spec, def.Name, out, arg)
	}
	return nil, pgerr.Newf(pgerr.FeatureNotSupported, "window function %s is not supported", def.Name)
}

func (p *windowPartition) ntile(out tree.Datums, arg func(i, a int) tree.Datum) (tree.Datums, error) {
	d := arg(0, 0)
	if d == tree.DNull {
		setNulls(out)
		return out, nil
	}
	buckets := int(tree.MustBeDInt(d))
	if buckets <= 0 {
		return nil, pgerr.New("22014", "argument of ntile must be greater than zero")
	}
	n := len(p.rows)
	size, larger := n/buckets, n%buckets // the first `larger` buckets have one more
	for i := range out {
		var b int
		if i < larger*(size+1) {
			b = i / (size + 1)
		} else {
			b = larger + (i-larger*(size+1))/size
		}
		out[i] = tree.NewDInt(tree.DInt(b + 1))
	}
	return out, nil
}

func (p *windowPartition) frameValue(
	spec *WindowSpec, name string, out tree.Datums, arg func(i, a int) tree.Datum,
) (tree.Datums, error) {
	fr, err := p.newFramer(spec)
	if err != nil {
		return nil, err
	}
	for i := range out {
		if err := fr.move(i); err != nil {
			return nil, err
		}
		nth := 1
		if name == "nth_value" {
			d := arg(i, 1)
			if d == tree.DNull {
				out[i] = tree.DNull
				continue
			}
			if nth = int(tree.MustBeDInt(d)); nth <= 0 {
				return nil, pgerr.New("22016", "argument of nth_value must be greater than zero")
			}
		}
		out[i] = tree.DNull
		if name == "last_value" {
			for j := fr.end - 1; j >= fr.start; j-- {
				if !fr.excluded(j) {
					out[i] = arg(j, 0)
					break
				}
			}
			continue
		}
		if !fr.excludes {
			if fr.start+nth-1 < fr.end {
				out[i] = arg(fr.start+nth-1, 0)
			}
			continue
		}
		for j := fr.start; j < fr.end; j++ {
			if fr.excluded(j) {
				continue
			}
			if nth--; nth == 0 {
				out[i] = arg(j, 0)
				break
			}
		}
	}
	return out, nil
}

// aggregate computes an aggregate over each row's frame. A frame that only grew
// since the row before is continued, an equal one reused, any other one is
// computed from its start.
func (p *windowPartition) aggregate(ctx context.Context, spec *WindowSpec) (tree.Datums, error) {
	fr, err := p.newFramer(spec)
	if err != nil {
		return nil, err
	}
	argTypes := make([]*types.T, len(spec.Func.Exprs))
	for i, e := range spec.Func.Exprs {
		argTypes[i] = e.(tree.TypedExpr).ResolvedType()
	}
	fn := spec.Func.ResolvedOverload().AggregateFunc(argTypes, p.flow.Eval, nil)
	defer fn.Close(ctx)
	args := make(tree.Datums, len(spec.Args))
	add := func(j int) error {
		row := p.rows[j]
		if spec.Filter >= 0 && row[spec.Filter] != tree.DBoolTrue {
			return nil
		}
		for a, c := range spec.Args {
			args[a] = row[c]
		}
		switch len(args) {
		case 0:
			return fn.Add(ctx, nil)
		case 1:
			return fn.Add(ctx, args[0])
		}
		return fn.Add(ctx, args[0], args[1:]...)
	}
	out := make(tree.Datums, len(p.rows))
	from, to := 0, 0 // what fn holds
	var last tree.Datum
	n := 0
	for i := range out {
		if err := fr.move(i); err != nil {
			return nil, err
		}
		start, end := fr.start, max(fr.start, fr.end)
		if fr.excludes || start != from || end < to {
			fn.Reset(ctx)
			from, to, last = start, start, nil
		}
		for ; to < end; to++ {
			if err := checkCtx(ctx, &n); err != nil {
				return nil, err
			}
			if fr.excluded(to) {
				continue
			}
			if err := add(to); err != nil {
				return nil, err
			}
			last = nil
		}
		if last == nil || fr.excludes {
			if last, err = fn.Result(); err != nil {
				return nil, err
			}
		}
		out[i] = last
	}
	return out, nil
}

// framer computes the frame [start, end) of each row.
type framer struct {
	p          *windowPartition
	mode       tree.WindowFrameMode
	startType  tree.WindowFrameBoundType
	endType    tree.WindowFrameBoundType
	startOff   tree.Datum
	endOff     tree.Datum
	plus       *tree.BinOp
	minus      *tree.BinOp
	exclusion  tree.WindowFrameExclusion
	excludes   bool
	row        int
	start, end int
}

func (p *windowPartition) newFramer(spec *WindowSpec) (*framer, error) {
	f := &framer{p: p, mode: tree.RANGE, startType: tree.UnboundedPreceding, endType: tree.CurrentRow}
	if spec.Frame == nil {
		return f, nil
	}
	b := spec.Frame.Bounds
	f.mode, f.startType = spec.Frame.Mode, b.StartBound.BoundType
	if b.EndBound != nil {
		f.endType = b.EndBound.BoundType
	}
	f.exclusion = spec.Frame.Exclusion
	f.excludes = f.exclusion != tree.NoExclusion
	var err error
	if f.startOff, err = f.offset(b.StartBound, "starting", "22013"); err != nil {
		return nil, err
	}
	if b.EndBound != nil {
		if f.endOff, err = f.offset(b.EndBound, "ending", "22013"); err != nil {
			return nil, err
		}
	}
	return f, nil
}

func (f *framer) offset(b *tree.WindowFrameBound, which string, code pgerr.Code) (tree.Datum, error) {
	if !b.HasOffset() {
		return nil, nil
	}
	te := b.OffsetExpr.(tree.TypedExpr)
	d, err := f.p.flow.EvalRow(te, nil)
	if err != nil {
		return nil, err
	}
	if d == tree.DNull {
		return nil, pgerr.Newf("22004", "frame %s offset must not be null", which)
	}
	if f.mode != tree.RANGE {
		if tree.MustBeDInt(d) < 0 {
			return nil, pgerr.Newf(code, "frame %s offset must not be negative", which)
		}
		return d, nil
	}
	if len(f.p.order) != 1 {
		return nil, pgerr.New("42P20", "RANGE with offset PRECEDING/FOLLOWING requires exactly one ORDER BY column")
	}
	neg := false
	switch t := d.(type) {
	case *tree.DInt:
		neg = *t < 0
	case *tree.DFloat:
		neg = *t < 0 || *t != *t
	case *tree.DDecimal:
		neg = t.Negative
	case *tree.DInterval:
		neg = t.Duration.Compare(tree.DInterval{}.Duration) < 0
	}
	if neg {
		return nil, pgerr.New(code, "invalid preceding or following size in window function")
	}
	if f.plus == nil {
		for _, row := range f.p.rows {
			v := row[f.p.order[0].Col]
			if v == tree.DNull {
				continue
			}
			var ok bool
			f.plus, f.minus, ok = tree.WindowFrameRangeOps{}.LookupImpl(v.ResolvedType(), d.ResolvedType())
			if !ok {
				return nil, pgerr.Newf(pgerr.FeatureNotSupported,
					"RANGE with offset PRECEDING/FOLLOWING is not supported for column type %s and offset type %s",
					v.ResolvedType().SQLStandardName(), d.ResolvedType().SQLStandardName())
			}
			break
		}
	}
	return d, nil
}

// move computes the frame of row i.
func (f *framer) move(i int) (err error) {
	f.row = i
	if f.start, err = f.bound(i, f.startType, f.startOff, true); err != nil {
		return err
	}
	f.end, err = f.bound(i, f.endType, f.endOff, false)
	return err
}

func (f *framer) bound(i int, typ tree.WindowFrameBoundType, off tree.Datum, isStart bool) (int, error) {
	p := f.p
	n := len(p.rows)
	switch typ {
	case tree.UnboundedPreceding:
		return 0, nil
	case tree.UnboundedFollowing:
		return n, nil
	}
	if f.mode == tree.RANGE && typ != tree.CurrentRow {
		return f.rangeBound(i, typ == tree.OffsetPreceding, off, isStart)
	}
	delta := 0
	if typ != tree.CurrentRow {
		v := int64(tree.MustBeDInt(off))
		delta = int(min(v, int64(n)+1))
		if typ == tree.OffsetPreceding {
			delta = -delta
		}
	}
	if f.mode == tree.ROWS {
		at := i + delta
		if !isStart {
			at++
		}
		return max(0, min(n, at)), nil
	}
	g := p.peer[i] + delta
	if !isStart {
		g++
	}
	return p.starts[max(0, min(p.groups(), g))], nil
}

// rangeBound finds the bound at the current value plus or minus off. Rows with
// NULL are at an infinite distance from all others.
func (f *framer) rangeBound(i int, preceding bool, off tree.Datum, isStart bool) (int, error) {
	p := f.p
	c := p.order[0]
	cur := p.rows[i][c.Col]
	if cur == tree.DNull {
		if isStart {
			return p.starts[p.peer[i]], nil
		}
		return p.starts[p.peer[i]+1], nil
	}
	op := f.plus
	if preceding != c.Desc {
		op = f.minus
	}
	limit, err := op.Fn(p.flow.Eval, cur, off)
	if err != nil {
		return 0, err
	}
	return sort.Search(len(p.rows), func(j int) bool {
		r := c.compare(p.flow.Eval, p.rows[j][c.Col], limit)
		if isStart {
			return r >= 0
		}
		return r > 0
	}), nil
}

// excluded says whether the EXCLUDE clause takes row j out of the frame.
func (f *framer) excluded(j int) bool {
	if !f.excludes {
		return false
	}
	switch f.exclusion {
	case tree.ExcludeCurrentRow:
		return j == f.row
	case tree.ExcludeGroup:
		return f.p.peer[j] == f.p.peer[f.row]
	case tree.ExcludeTies:
		return f.p.peer[j] == f.p.peer[f.row] && j != f.row
	}
	return false
}

package sql

import (
	"context"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"

	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/sql/builtins"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/rowenc"
)

// pointPlan is the shortcut for SELECT columns FROM t WHERE pk = …: one get and
// one decoded row, without operators. The decoder is kept from one execution to
// the next; a plan belongs to one session.
type pointPlan struct {
	desc *catalog.Table
	// keys are the values of the primary key's columns: datums or placeholders.
	keys []tree.TypedExpr

	fetcher *rowenc.Fetcher
	row     tree.Datums
	out     tree.Datums // in the order of the select list
	pos     []int
	key     []byte
	pairs   rowenc.SlicePairs
	kv      [1]rowenc.KV
}

// pointPlan recognizes plans that the shortcut can run.
func (p *planner) pointPlan(pl *plan) *pointPlan {
	s, ok := pl.root.(*scanNode)
	if !ok || pl.tag != "SELECT" || s.lock.on || s.target || s.access == nil {
		return nil
	}
	a := s.access
	if !a.index.Primary || !a.single || a.rng != nil || len(a.residual) > 0 ||
		len(a.points) != len(a.index.KeyColumns) || len(s.tab.desc.Families()) > 1 {
		return nil
	}
	pp := &pointPlan{desc: s.tab.desc}
	for _, pt := range a.points {
		if pt.null || pt.array != nil || len(pt.vals) != 1 {
			return nil
		}
		switch v := pt.vals[0].(type) {
		case *tree.Placeholder:
			if !v.ResolvedType().Equivalent(pt.col.Type) {
				return nil
			}
			pp.keys = append(pp.keys, v)
		default:
			d, ok := builtins.ConstValue(v)
			if !ok {
				return nil
			}
			pp.keys = append(pp.keys, d)
		}
	}
	at := map[uint32]int{}
	var want []*catalog.Column
	for _, id := range pl.out {
		m := pl.md.cols[id]
		if m.tab != s.tab {
			return nil
		}
		c := s.tab.columns[m.ord]
		i, ok := at[c.ID]
		if !ok {
			i = len(want)
			at[c.ID] = i
			want = append(want, c)
		}
		pp.pos = append(pp.pos, i)
	}
	pp.fetcher = rowenc.NewFetcher(pp.desc, a.index, want)
	pp.row = make(tree.Datums, len(want))
	pp.out = make(tree.Datums, len(pl.out))
	pp.key = append(pp.key, a.index.Prefix()...)
	return pp
}

// execPoint runs a plan by the shortcut.
func (p *planner) execPoint(ctx context.Context, pl *plan, res ResultWriter) error {
	pp := pl.point
	if err := res.SetColumns(ctx, pl.cols); err != nil {
		return err
	}
	x := pp.desc.PrimaryIndex()
	prefix := len(x.Prefix())
	key := append(make([]byte, 0, prefix+24), pp.key[:prefix]...)
	for i, e := range pp.keys {
		d, ok := e.(tree.Datum)
		if ph, isPh := e.(*tree.Placeholder); isPh {
			var err error
			if d, err = p.argument(ph); err != nil {
				return err
			}
			ok = true
		}
		if !ok || d == tree.DNull {
			res.Complete("SELECT 0")
			return nil
		}
		var err error
		if key, err = rowenc.EncodeKeyDatum(key, d, x.KeyDirections[i]); err != nil {
			return err
		}
	}
	key = rowenc.AppendFamily(key, 0)
	got, err := p.txn.GetWith(ctx, key, kv.GetOptions{})
	if err != nil {
		return err
	}
	if got.Value == nil {
		res.Complete("SELECT 0")
		return nil
	}
	pp.kv[0] = rowenc.KV{Key: got.Key, Value: got.Value}
	pp.pairs.KVs = pp.kv[:]
	pp.fetcher.Reset()
	ok, err := pp.fetcher.Next(ctx, &pp.pairs, pp.row)
	if err != nil {
		return err
	}
	if !ok {
		res.Complete("SELECT 0")
		return nil
	}
	for i, j := range pp.pos {
		pp.out[i] = pp.row[j]
	}
	if err := res.AddRow(ctx, pp.out); err != nil {
		return err
	}
	res.Complete("SELECT 1")
	return nil
}

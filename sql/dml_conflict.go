package sql

import (
	"context"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"

	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/exec"
	"github.com/holdfastdb/holdfast/sql/rowenc"
)

// conflictOp runs ON CONFLICT. Rows come in groups: for each group the rows in
// the way are read at once, own writes of this statement included.
type conflictOp struct {
	plan *conflictPlan
	// set computes the updated row over existing ++ proposed.
	set    []tree.TypedExpr // by ordinal
	where  tree.TypedExpr
	checks []boundCheck

	group []tree.Datums
	pos   int
	found map[string]tree.Datums // by row key: present rows of the group's keys
	// touched are the keys of rows this statement has written.
	touched map[string]bool
}

const conflictGroup = 500

func (c *compiler) compileConflict(n *mutationNode) (*conflictOp, error) {
	p := n.conflict
	co := &conflictOp{plan: p, touched: map[string]bool{}}
	if p.nothing {
		return co, nil
	}
	lay := newLayout(append(append([]colID(nil), p.existing...), n.newRow...))
	// Columns that ON CONFLICT computes are put in place of references to them.
	m := map[colID]tree.TypedExpr{}
	for _, it := range p.items {
		m[it.id] = it.expr
	}
	for _, it := range p.computed {
		m[it.id] = substitute(it.expr, m)
	}
	ref := func(id colID) tree.TypedExpr {
		if e, ok := m[id]; ok {
			return e
		}
		return &colRef{id: id, typ: c.typ(id), name: c.md.cols[id].name}
	}
	for _, id := range p.updRow {
		e, err := c.bind(ref(id), lay)
		if err != nil {
			return nil, err
		}
		co.set = append(co.set, e)
	}
	var err error
	if co.where, err = c.bind(p.where, lay); err != nil {
		return nil, err
	}
	co.checks, err = c.bindChecks(p.checks, newLayout(p.updRow))
	return co, err
}

// next returns the next row that was inserted or updated.
func (co *conflictOp) next(ctx context.Context, o *mutationOpr) (tree.Datums, error) {
	for {
		if co.pos >= len(co.group) {
			more, err := co.fill(ctx, o)
			if err != nil || !more {
				return nil, err
			}
		}
		row := co.group[co.pos]
		co.pos++
		out, err := co.one(ctx, o, row)
		if err != nil || out != nil {
			return out, err
		}
	}
}

// fill reads the next group of proposed rows and the rows in their way.
func (co *conflictOp) fill(ctx context.Context, o *mutationOpr) (bool, error) {
	co.group, co.pos = co.group[:0], 0
	for len(co.group) < conflictGroup {
		in, err := o.in.Next(ctx)
		if err != nil {
			return false, err
		}
		if in == nil {
			break
		}
		row := make(tree.Datums, len(o.new))
		gather(row, in, o.new)
		if err := o.w.exprs.fill(row); err != nil {
			return false, err
		}
		co.group = append(co.group, row)
	}
	if len(co.group) == 0 {
		return false, nil
	}
	// Earlier rows of this statement count as present.
	if err := o.w.flush(ctx); err != nil {
		return false, err
	}
	if co.plan.nothing {
		clear(co.touched) // They are found by the lookup now.
	}
	return true, co.lookup(ctx, o)
}

// arbiterKey is the key on which a row would collide in x, nil if it cannot.
func (co *conflictOp) arbiterKey(o *mutationOpr, x *catalog.Index, row tree.Datums) (keys.Key, error) {
	if ok, err := o.w.exprs.in(x, row); err != nil || !ok {
		return nil, err
	}
	vals := make(tree.Datums, len(x.KeyColumns))
	for i, k := range x.KeyColumns {
		vals[i] = row[k.Ordinal]
		if vals[i] == nil || vals[i] == tree.DNull {
			return nil, nil
		}
	}
	k, err := rowenc.IndexKey(x, vals)
	if err != nil {
		return nil, err
	}
	return rowenc.AppendFamily(k, 0), nil
}

// lookup reads the present rows behind the group's arbiter keys.
func (co *conflictOp) lookup(ctx context.Context, o *mutationOpr) error {
	co.found = map[string]tree.Datums{}
	o.p.txn.SetStepping(false)
	defer o.p.txn.SetStepping(true)
	var all []keys.Key
	for _, row := range co.group {
		for _, x := range co.plan.arbiters {
			k, err := co.arbiterKey(o, x, row)
			if err != nil {
				return err
			}
			if k != nil {
				all = append(all, k)
			}
		}
	}
	kvs, err := getAll(ctx, o.p.txn, all, kv.ScanOptions{ForUpdate: !co.plan.nothing && !o.p.autoCommit})
	if err != nil {
		return err
	}
	for _, kvp := range kvs {
		if co.plan.nothing {
			co.found[string(kvp.Key)] = tree.Datums{}
			continue
		}
		row, err := co.load(ctx, o, kvp)
		if err != nil {
			return err
		}
		co.found[string(kvp.Key)] = row
	}
	return nil
}

// load reads the whole row behind an index entry.
func (co *conflictOp) load(ctx context.Context, o *mutationOpr, kvp kv.KeyValue) (tree.Datums, error) {
	desc := o.node.desc
	pk := desc.PrimaryIndex()
	prefix := kvp.Key
	for _, x := range co.plan.arbiters {
		if x.Primary || !hasKeyPrefix(kvp.Key, x.Prefix()) {
			continue
		}
		f := rowenc.NewFetcher(desc, x, pk.KeyColumns)
		vals := make(tree.Datums, len(pk.KeyColumns))
		if _, err := f.Next(ctx, &rowenc.SlicePairs{KVs: []rowenc.KV{{Key: kvp.Key, Value: kvp.Value}}}, vals); err != nil {
			return nil, err
		}
		k, err := rowenc.IndexKey(pk, vals)
		if err != nil {
			return nil, err
		}
		prefix = k
	}
	var pairs rowenc.SlicePairs
	if len(desc.Families()) <= 1 && len(prefix) == len(kvp.Key) {
		pairs.KVs = []rowenc.KV{{Key: kvp.Key, Value: kvp.Value}}
	} else {
		if n, ok := keys.FamilySuffixLen(prefix); ok && len(prefix) == len(kvp.Key) {
			prefix = prefix[:len(prefix)-n]
		}
		res, err := o.p.txn.Scan(ctx, prefix, prefix.PrefixEnd(), kv.ScanOptions{ForUpdate: !o.p.autoCommit})
		if err != nil {
			return nil, err
		}
		for _, p := range res.KVs {
			pairs.KVs = append(pairs.KVs, rowenc.KV{Key: p.Key, Value: p.Value})
		}
	}
	row := make(tree.Datums, len(o.w.cols))
	ok, err := rowenc.NewFetcher(desc, pk, o.w.cols).Next(ctx, &pairs, row)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, pgerr.Newf(pgerr.DataCorrupted, "an entry of an index of %q has no row", desc.Name())
	}
	return row, nil
}

func hasKeyPrefix(k, prefix keys.Key) bool {
	return len(k) >= len(prefix) && string(k[:len(prefix)]) == string(prefix)
}

// one inserts a proposed row or does what ON CONFLICT says; nil means that
// nothing was written.
func (co *conflictOp) one(ctx context.Context, o *mutationOpr, row tree.Datums) (tree.Datums, error) {
	if err := o.checkRow(ctx, row, o.checks); err != nil {
		return nil, err
	}
	var hit keys.Key
	var mine []keys.Key
	for _, x := range co.plan.arbiters {
		k, err := co.arbiterKey(o, x, row)
		if err != nil {
			return nil, err
		}
		if k == nil {
			continue
		}
		mine = append(mine, k)
		if hit != nil {
			continue
		}
		if _, ok := co.found[string(k)]; ok || co.touched[string(k)] {
			hit = k
		}
	}
	if hit == nil {
		if err := co.touch(o, mine); err != nil {
			return nil, err
		}
		return row, o.w.insert(ctx, row)
	}
	if co.plan.nothing {
		return nil, nil
	}
	if co.touched[string(hit)] {
		return nil, pgerr.New("21000", "ON CONFLICT DO UPDATE command cannot affect row a second time").
			WithHint("Ensure that no rows proposed for insertion within the same command have duplicate constrained values.")
	}
	old := co.found[string(hit)]
	both := append(append(make(tree.Datums, 0, 2*len(row)), old...), row...)
	f := o.p.flow
	if co.where != nil {
		if ok, err := f.EvalBool(co.where, both); err != nil || !ok {
			return nil, err
		}
	}
	upd := make(tree.Datums, len(old))
	for i, e := range co.set {
		d, err := f.EvalRow(e, both)
		if err != nil {
			return nil, err
		}
		upd[i] = d
	}
	if err := o.checkRow(ctx, upd, co.checks); err != nil {
		return nil, err
	}
	if err := co.touch(o, mine); err != nil {
		return nil, err
	}
	return upd, o.w.update(ctx, old, upd, co.plan.changed)
}

// touch remembers keys that this statement has written.
func (co *conflictOp) touch(o *mutationOpr, ks []keys.Key) error {
	for _, k := range ks {
		if err := o.p.mem.Grow(int64(len(k)) + 48); err != nil {
			return err
		}
		co.touched[string(k)] = true
	}
	return nil
}

var _ exec.Operator = (*mutationOpr)(nil)

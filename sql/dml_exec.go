package sql

import (
	"context"
	"errors"
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/storage"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
	"github.com/holdfastdb/holdfast/sql/exec"
	"github.com/holdfastdb/holdfast/sql/rowenc"
)

// A batch of writes is sent when it has this many operations or bytes.
const (
	maxBatchOps   = 4000
	maxBatchBytes = 1 << 20
)

// rowWriter collects the writes that rows of one table make. It is what INSERT,
// UPDATE, DELETE and COPY share.
type rowWriter struct {
	p    *planner
	desc *catalog.Table
	enc  *rowenc.Encoder
	cols []*catalog.Column

	writable  []*catalog.Index // secondary, to put new entries into
	deletable []*catalog.Index // secondary, to remove old entries from
	fks       *fkEnforcer

	batch *kv.Batch
	bytes int
	// bulk, if set, takes new rows instead of batch.
	bulk  *bulkLoader
	exprs *indexExprs // nil: no partial indexes and none on expressions
	kvs   []rowenc.KV
	old   []rowenc.KV
	ks    []keys.Key
	rows  int64 // net change of the row count
}

func (p *planner) newRowWriter(ctx context.Context, desc *catalog.Table) (*rowWriter, error) {
	w := &rowWriter{p: p, desc: desc, cols: desc.AllColumns(), batch: p.txn.NewBatch()}
	var err error
	if w.enc, err = rowenc.NewEncoder(desc, w.cols); err != nil {
		return nil, err
	}
	w.writable = desc.WritableIndexes()
	w.deletable = desc.DeletableIndexes()
	if w.exprs, err = p.newIndexExprs(desc, w.cols); err != nil {
		return nil, err
	}
	w.fks, err = p.newFKEnforcer(ctx, desc)
	return w, err
}

// checkNotNull refuses NULLs in NOT NULL columns.
func (w *rowWriter) checkNotNull(ctx context.Context, row tree.Datums) error {
	for i, c := range w.cols {
		if !c.Nullable && row[i] == tree.DNull && !c.Virtual && w.mustBeSet(c) {
			e := pgerr.Newf(pgerr.NotNullViolation, "null value in column %q of relation %q violates not-null constraint", c.Name, w.desc.Name()).
				WithDetail("Failing row contains %s.", failingRow(w.p, w.desc, row)).
				WithConstraint(w.p.schemaNameOf(ctx, w.desc), w.desc.Name(), "")
			e.ColumnName = c.Name
			return e
		}
	}
	return nil
}

// mustBeSet: a column that is being added or dropped may still lack values.
func (w *rowWriter) mustBeSet(c *catalog.Column) bool {
	return c.Mutation == nil || c.Mutation.State == catalogpb.DescriptorMutation_WRITE_ONLY &&
		c.Mutation.Direction == catalogpb.DescriptorMutation_ADD && c.HasDefault()
}

// failingRow prints a row as PostgreSQL does in error details.
func failingRow(p *planner, desc *catalog.Table, row tree.Datums) string {
	var b strings.Builder
	b.WriteByte('(')
	n := 0
	for i, c := range desc.AllColumns() {
		if c.Hidden || !c.Public() {
			continue
		}
		if n++; n > 1 {
			b.WriteString(", ")
		}
		if row[i] == nil || row[i] == tree.DNull {
			b.WriteString("null")
			continue
		}
		s := p.datumText(row[i], c.Type)
		if len(s) > 64 {
			s = s[:64] + "..."
		}
		b.WriteString(s)
	}
	b.WriteByte(')')
	return b.String()
}

// insert adds a row. Conflicting keys are found when the batch is sent.
func (w *rowWriter) insert(ctx context.Context, row tree.Datums) error {
	err := w.exprs.fill(row)
	if err != nil {
		return err
	}
	if w.kvs, err = w.enc.EncodeRow(w.kvs[:0], row); err != nil {
		return err
	}
	w.add(w.desc.PrimaryIndex(), w.kvs)
	for _, x := range w.writable {
		if ok, err := w.exprs.in(x, row); err != nil {
			return err
		} else if !ok {
			continue
		}
		if w.kvs, err = w.enc.EncodeIndexEntries(w.kvs[:0], x, row); err != nil {
			return err
		}
		w.add(x, w.kvs)
	}
	w.rows++
	if err := w.fks.insert(ctx, row); err != nil {
		return err
	}
	return w.maybeFlush(ctx)
}

// add puts the new pairs of a row into an index.
func (w *rowWriter) add(x *catalog.Index, pairs []rowenc.KV) {
	if w.bulk != nil {
		w.bulk.add(x, pairs)
		return
	}
	for i, p := range pairs {
		w.put(p, x.Unique && i == 0)
	}
}

// put adds a pair to the batch; with check the key must be free.
func (w *rowWriter) put(p rowenc.KV, check bool) {
	if check {
		w.batch.CPut(p.Key, p.Value, nil)
	} else {
		w.batch.Put(p.Key, p.Value)
	}
	w.bytes += len(p.Key) + len(p.Value)
}

func (w *rowWriter) del(k keys.Key) {
	w.batch.Del(k)
	w.bytes += len(k)
}

// update replaces old by new. changed are the ordinals that may differ.
func (w *rowWriter) update(ctx context.Context, old, new tree.Datums, changed map[int]bool) error {
	for _, row := range []tree.Datums{old, new} {
		if err := w.exprs.fill(row); err != nil {
			return err
		}
	}
	pkChanged := false
	for _, k := range w.desc.PrimaryIndex().KeyColumns {
		if changed[k.Ordinal] {
			pkChanged = true
		}
	}
	var err error
	if pkChanged {
		// The key may be the same after all.
		a, err := w.enc.RowPrefix(old)
		if err != nil {
			return err
		}
		b, err := w.enc.RowPrefix(new)
		if err != nil {
			return err
		}
		pkChanged = !a.Equal(b)
	}
	if pkChanged {
		if w.ks, err = w.enc.RowKeys(w.ks[:0], old); err != nil {
			return err
		}
		for _, k := range w.ks {
			w.del(k)
		}
		if w.kvs, err = w.enc.EncodeRow(w.kvs[:0], new); err != nil {
			return err
		}
		for i, p := range w.kvs {
			w.put(p, i == 0)
		}
	} else {
		if w.kvs, err = w.enc.UpdateRow(w.kvs[:0], new); err != nil {
			return err
		}
		for _, p := range w.kvs {
			if len(p.Value) == 0 {
				w.del(p.Key)
			} else {
				w.put(p, false)
			}
		}
	}
	for _, x := range w.deletable {
		if !pkChanged && !touches(x, changed) {
			continue
		}
		if err := w.updateIndex(x, old, new); err != nil {
			return err
		}
	}
	if err := w.fks.update(ctx, old, new); err != nil {
		return err
	}
	return w.maybeFlush(ctx)
}

// touches says whether an index has any of the changed columns. Those of its
// expressions may be any.
func touches(x *catalog.Index, changed map[int]bool) bool {
	if x.Predicate != "" {
		return true
	}
	for _, l := range [][]*catalog.Column{x.KeyColumns, x.SuffixColumns, x.StoredColumns} {
		for _, c := range l {
			if changed[c.Ordinal] || c.Virtual {
				return true
			}
		}
	}
	return false
}

// updateIndex changes the entries of one index.
func (w *rowWriter) updateIndex(x *catalog.Index, old, new tree.Datums) error {
	oldIn, err := w.exprs.in(x, old)
	if err != nil {
		return err
	}
	newIn, err := w.exprs.in(x, new)
	if err != nil {
		return err
	}
	write := x.Mutation == nil || x.Mutation.State != catalogpb.DescriptorMutation_DELETE_ONLY
	w.old, w.kvs = w.old[:0], w.kvs[:0]
	if oldIn {
		if w.old, err = w.enc.EncodeIndexEntries(w.old, x, old); err != nil {
			return err
		}
	}
	if newIn && write {
		if w.kvs, err = w.enc.EncodeIndexEntries(w.kvs, x, new); err != nil {
			return err
		}
	}
	for _, o := range w.old {
		kept := false
		for _, n := range w.kvs {
			kept = kept || o.Key.Equal(n.Key)
		}
		if !kept {
			w.del(o.Key)
		}
	}
	for i, n := range w.kvs {
		same, equal := false, false
		for _, o := range w.old {
			if o.Key.Equal(n.Key) {
				same, equal = true, string(o.Value) == string(n.Value)
			}
		}
		// An index that is being built may lack the old entry.
		if equal && x.Mutation == nil {
			continue
		}
		w.put(n, x.Unique && i == 0 && !same)
	}
	return nil
}

// delete removes a row.
func (w *rowWriter) delete(ctx context.Context, old tree.Datums) error {
	err := w.exprs.fill(old)
	if err != nil {
		return err
	}
	if w.ks, err = w.enc.RowKeys(w.ks[:0], old); err != nil {
		return err
	}
	for _, k := range w.ks {
		w.del(k)
	}
	for _, x := range w.deletable {
		if ok, err := w.exprs.in(x, old); err != nil {
			return err
		} else if !ok {
			continue
		}
		if w.ks, err = w.enc.IndexKeys(w.ks[:0], x, old); err != nil {
			return err
		}
		for _, k := range w.ks {
			w.del(k)
		}
	}
	w.rows--
	if err := w.fks.delete(ctx, old); err != nil {
		return err
	}
	return w.maybeFlush(ctx)
}

func (w *rowWriter) maybeFlush(ctx context.Context) error {
	if w.bulk != nil {
		return w.bulk.maybeFlush(ctx)
	}
	if w.batch.Len() < maxBatchOps && w.bytes < maxBatchBytes {
		return nil
	}
	return w.flush(ctx)
}

// flush sends the batch.
func (w *rowWriter) flush(ctx context.Context) error {
	if w.batch.Len() == 0 {
		return nil
	}
	if err := w.p.txn.Run(ctx, w.batch); err != nil {
		return w.conflictError(ctx, err)
	}
	w.reset()
	return nil
}

func (w *rowWriter) reset() {
	w.batch.Reset()
	w.bytes = 0
}

// finish sends what is left, with the commit if this is all that the transaction
// does, and checks what can only be checked at the end.
func (w *rowWriter) finish(ctx context.Context, last bool) error {
	if w.bulk != nil {
		if err := w.bulk.finish(ctx); err != nil {
			return err
		}
	}
	tx := &w.p.s.tx
	if last && w.p.autoCommit && w.fks == nil && len(tx.beforeCommit) == 0 && w.batch.Len() > 0 && !w.p.cat.HasChanges() {
		if err := w.p.txn.CommitInBatch(ctx, w.batch); err != nil {
			return w.conflictError(ctx, err)
		}
		w.p.committed = true
	} else {
		if err := w.flush(ctx); err != nil {
			return err
		}
		if err := w.fks.finish(ctx); err != nil {
			return err
		}
	}
	if w.rows != 0 {
		w.p.srv.stats.move(w.desc.ID(), w.rows)
	}
	return nil
}

// conflictError turns a failed condition into the violation of the constraint
// whose key it was.
func (w *rowWriter) conflictError(ctx context.Context, err error) error {
	var cf *kvpb.ConditionFailedError
	var shadow *storage.ShadowingError
	switch {
	case errors.As(err, &cf):
		return w.p.uniqueViolation(ctx, w.desc, cf.Key, cf.Actual)
	case errors.As(err, &shadow):
		return w.p.uniqueViolation(ctx, w.desc, shadow.Key, shadow.Actual)
	}
	return err
}

// uniqueViolation describes the row in the way of a key.
func (p *planner) uniqueViolation(ctx context.Context, desc *catalog.Table, key keys.Key, value []byte) error {
	for _, x := range desc.Indexes() {
		if !strings.HasPrefix(string(key), string(x.Prefix())) {
			continue
		}
		e := pgerr.Newf(pgerr.UniqueViolation, "duplicate key value violates unique constraint %q", x.Name).
			WithConstraint(p.schemaNameOf(ctx, desc), desc.Name(), x.Name)
		f := rowenc.NewFetcher(desc, x, x.KeyColumns)
		row := make(tree.Datums, len(x.KeyColumns))
		if ok, err := f.Next(ctx, &rowenc.SlicePairs{KVs: []rowenc.KV{{Key: key, Value: value}}}, row); err == nil && ok {
			return e.WithDetail("Key (%s)=(%s) already exists.", keyList(x.KeyColumns), p.valueList(row, x.KeyColumns))
		}
		return e
	}
	return pgerr.New(pgerr.UniqueViolation, "duplicate key value violates unique constraint")
}

// keyList names the key columns of an index, which may be expressions.
func keyList(cols []*catalog.Column) string {
	names := make([]string, len(cols))
	for i, c := range cols {
		names[i] = c.Name
		if c.Inaccessible {
			names[i] = indexElem(c, nil)
		}
	}
	return strings.Join(names, ", ")
}

func (p *planner) valueList(row tree.Datums, cols []*catalog.Column) string {
	vals := make([]string, len(row))
	for i, d := range row {
		if d == tree.DNull {
			vals[i] = "null"
		} else {
			vals[i] = p.datumText(d, cols[i].Type)
		}
	}
	return strings.Join(vals, ", ")
}

// boundCheck is a CHECK constraint ready for evaluation.
type boundCheck struct {
	name string
	expr tree.TypedExpr
}

func (c *compiler) bindChecks(items []checkItem, lay *layout) ([]boundCheck, error) {
	var out []boundCheck
	for _, ck := range items {
		e, err := c.bind(ck.expr, lay)
		if err != nil {
			return nil, err
		}
		out = append(out, boundCheck{ck.name, e})
	}
	return out, nil
}

// mutationOpr runs a mutationNode.
type mutationOpr struct {
	p    *planner
	node *mutationNode
	in   exec.Operator
	w    *rowWriter

	old, new []int // positions in the input, -1 for NULL
	pass     []int
	checks   []boundCheck
	conflict *conflictOp

	typs   []*types.T
	out    tree.Datums
	oldRow tree.Datums
	newRow tree.Datums
	done   bool
	opened bool
	count  int64
}

// compileMutation makes the operator of INSERT, UPDATE and DELETE.
func (c *compiler) compileMutation(n *mutationNode) (exec.Operator, *layout, error) {
	o := &mutationOpr{p: c.p, node: n}
	outIDs := append(append([]colID(nil), n.outRow...), n.pass...)
	lay := newLayout(outIDs)
	o.typs = c.typs(outIDs)
	o.out = make(tree.Datums, len(outIDs))
	c.mutations = append(c.mutations, o)
	if n.all && len(n.desc.Families()) <= 1 {
		return o, lay, nil
	}
	var need colSet
	n.directCols(&need)
	for _, ck := range n.checks {
		exprCols(ck.expr, &need)
	}
	in, inLay, err := c.compile(n.in, need)
	if err != nil {
		return nil, nil, err
	}
	o.in = in
	pos := func(ids []colID) []int {
		out := make([]int, len(ids))
		for i, id := range ids {
			out[i] = -1
			if p, ok := inLay.pos[id]; ok && id != 0 {
				out[i] = p
			}
		}
		return out
	}
	o.old, o.new, o.pass = pos(n.oldRow), pos(n.newRow), pos(n.pass)
	if o.checks, err = c.bindChecks(n.checks, newLayout(n.newRow)); err != nil {
		return nil, nil, err
	}
	if n.conflict != nil {
		if o.conflict, err = c.compileConflict(n); err != nil {
			return nil, nil, err
		}
	}
	return o, lay, nil
}

func (o *mutationOpr) Types() []*types.T { return o.typs }

func (o *mutationOpr) Close() {
	if o.w != nil && o.w.bulk != nil {
		o.w.bulk.close()
	}
	if o.in != nil {
		o.in.Close()
	}
}

func (o *mutationOpr) Open(ctx context.Context) error {
	if o.opened {
		return pgerr.New(pgerr.Internal, "a data-modifying statement was started twice")
	}
	o.opened = true
	var err error
	if o.w, err = o.p.newRowWriter(ctx, o.node.desc); err != nil {
		return err
	}
	if o.node.bulk {
		o.w.bulk = o.p.newBulkLoader(o.w)
	}
	n := len(o.w.cols)
	o.oldRow, o.newRow = make(tree.Datums, n), make(tree.Datums, n)
	if o.in == nil {
		return nil
	}
	return o.in.Open(ctx)
}

// gather copies columns of an input row.
func gather(dst, src tree.Datums, pos []int) {
	for i, p := range pos {
		if p < 0 {
			dst[i] = tree.DNull
		} else {
			dst[i] = src[p]
		}
	}
}

func (o *mutationOpr) Next(ctx context.Context) (tree.Datums, error) {
	if o.done {
		return nil, nil
	}
	if o.in == nil {
		return nil, o.deleteAll(ctx)
	}
	for {
		if o.conflict != nil {
			row, err := o.conflict.next(ctx, o)
			if err != nil {
				return nil, err
			}
			if row == nil {
				return nil, o.finish(ctx)
			}
			o.count++
			if o.node.returning {
				copy(o.out, row)
				return o.out, nil
			}
			continue
		}
		in, err := o.in.Next(ctx)
		if err != nil {
			return nil, err
		}
		if in == nil {
			return nil, o.finish(ctx)
		}
		row := o.newRow
		switch o.node.op {
		case opInsert:
			gather(o.newRow, in, o.new)
			if err := o.checkRow(ctx, o.newRow, o.checks); err != nil {
				return nil, err
			}
			err = o.w.insert(ctx, o.newRow)
		case opUpdate:
			gather(o.oldRow, in, o.old)
			gather(o.newRow, in, o.new)
			if err := o.checkRow(ctx, o.newRow, o.checks); err != nil {
				return nil, err
			}
			err = o.w.update(ctx, o.oldRow, o.newRow, o.node.changed)
		case opDelete:
			gather(o.oldRow, in, o.old)
			row = o.oldRow
			err = o.w.delete(ctx, o.oldRow)
		}
		if err != nil {
			return nil, err
		}
		o.count++
		if o.node.returning {
			n := copy(o.out, row)
			for i, p := range o.pass {
				o.out[n+i] = in[p]
			}
			return o.out, nil
		}
	}
}

// checkRow checks NOT NULL and CHECK constraints.
func (o *mutationOpr) checkRow(ctx context.Context, row tree.Datums, checks []boundCheck) error {
	if err := o.w.checkNotNull(ctx, row); err != nil {
		return err
	}
	for _, ck := range checks {
		d, err := o.p.flow.EvalRow(ck.expr, row)
		if err != nil {
			return err
		}
		if d != tree.DBoolFalse {
			continue
		}
		desc := o.node.desc
		return pgerr.Newf(pgerr.CheckViolation, "new row for relation %q violates check constraint %q", desc.Name(), ck.name).
			WithDetail("Failing row contains %s.", failingRow(o.p, desc, row)).
			WithConstraint(o.p.schemaNameOf(ctx, desc), desc.Name(), ck.name)
	}
	return nil
}

func (o *mutationOpr) finish(ctx context.Context) error {
	o.done = true
	return o.w.finish(ctx, o.node.top)
}

// deleteAll removes all rows of a table that nothing refers to.
func (o *mutationOpr) deleteAll(ctx context.Context) error {
	desc := o.node.desc
	sp := desc.PrimaryIndex().Span()
	n, err := o.p.txn.DelRange(ctx, sp.Key, sp.EndKey)
	if err != nil {
		return err
	}
	for _, x := range desc.DeletableIndexes() {
		sp := x.Span()
		if _, err := o.p.txn.DelRange(ctx, sp.Key, sp.EndKey); err != nil {
			return err
		}
	}
	o.count, o.w.rows = n, -n
	return o.finish(ctx)
}

package sql

import (
	"math"
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/sql/builtins"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
)

// accessPath says how a scan reads its table: through which index and which part
// of it.
type accessPath struct {
	index *catalog.Index
	// points fix the first key columns, each to one or more values.
	points []pointConstraint
	// rng bounds the key column after points.
	rng *rangeConstraint
	// reverse reads from the end. flipNulls moves the rows in which the key
	// column after points is NULL to the other end, where ORDER BY wants them.
	reverse   bool
	flipNulls bool
	// splitNaN reads NaN apart: keys have it below all numbers, ORDER BY wants it
	// above them.
	splitNaN bool
	// covering: the index has all that is needed; otherwise rows are fetched
	// from the primary index.
	covering bool
	// single: at most one row.
	single bool
	// rows is the estimated number of entries read.
	rows float64
	// residual are the filters that the constraints do not imply.
	residual []tree.TypedExpr
}

// pointConstraint fixes a column to one of some values. The expressions use no
// columns of the scan.
type pointConstraint struct {
	col  *catalog.Column
	vals []tree.TypedExpr
	// array, if set, is an expression whose elements are the values.
	array tree.TypedExpr
	null  bool // the value is NULL itself: IS NULL
}

type rangeConstraint struct {
	col            *catalog.Column
	lo, hi         tree.TypedExpr // nil: open
	loExcl, hiExcl bool
	notNull        bool
	// prefix: all strings beginning with it.
	prefix string
}

func (t *tableRef) colOf(c *catalog.Column) (colID, bool) {
	for i, rc := range t.columns {
		if rc.ID == c.ID {
			return t.colIDs[i], true
		}
	}
	return 0, false
}

// access chooses indexes and join methods below n. want is an order in which the
// rows would be useful, limit how many of them are wanted (0: all).
func (o *optimizer) access(n rel, want ordering, limit int64) rel {
	switch t := n.(type) {
	case *scanNode:
		t.limitHint = limit
		t.access = o.choosePath(t, want, limit)
		return t
	case *limitNode:
		hint := int64(0)
		if t.limit != nil {
			if k, ok := intDatum(t.limit); ok {
				hint = k
			}
			if _, ok := t.limit.(*tree.Placeholder); ok {
				hint = 100 // Some bound; pages are small to begin with.
			}
			if hint > 0 && t.offset != nil {
				if k, ok := intDatum(t.offset); ok {
					hint += k
				}
			}
		}
		t.in = o.access(t.in, want, hint)
		return t
	case *sortNode:
		t.in = o.access(t.in, t.order, limit)
		if satisfies(o.provided(t.in), t.order) {
			return t.in
		}
		return t
	case *projectNode:
		t.in = o.access(t.in, o.mapOrder(t, want), limit)
		return t
	case *filterNode:
		t.in = o.access(t.in, want, 0)
		return t
	case *groupNode:
		if m := o.minMax(t); m != nil {
			return o.access(m, want, limit)
		}
		t.in = o.access(t.in, nil, 0)
		return t
	case *joinNode:
		return o.accessJoin(t, want, limit)
	case *maxOneRowNode:
		t.in = o.access(t.in, nil, 2)
		return t
	case *distinctNode:
		t.in = o.access(t.in, want, 0)
		return t
	case *mutationNode:
		if t.in != nil {
			t.in = o.access(t.in, nil, 0)
		}
		return t
	}
	replaceInputs(n, func(in rel) rel { return o.access(in, nil, 0) })
	return n
}

// mapOrder expresses an order over a projection's output in its input's columns.
func (o *optimizer) mapOrder(p *projectNode, want ordering) ordering {
	var out ordering
	for _, w := range want {
		id := w.id
		for _, it := range p.items {
			if it.id == id {
				c, ok := it.expr.(*colRef)
				switch {
				case ok:
					id = c.id
				default:
					if id, ok = indexedExpr(p.in, it.expr); !ok {
						return nil
					}
				}
			}
		}
		out = append(out, orderCol{id: id, desc: w.desc, nullsFirst: w.nullsFirst})
	}
	return out
}

// provided returns the order in which n yields its rows.
func (o *optimizer) provided(n rel) providedOrder {
	switch t := n.(type) {
	case *scanNode:
		return o.pathOrder(t, t.access)
	case *filterNode:
		return o.provided(t.in)
	case *limitNode:
		return o.provided(t.in)
	case *projectNode:
		po := o.provided(t.in)
		for _, it := range t.items {
			c, ok := it.expr.(*colRef)
			if !ok {
				if colsOf(it.expr).empty() && !hasVolatile(it.expr) {
					po.fixed.add(it.id)
				}
				if v, ok := indexedExpr(t.in, it.expr); ok {
					po = po.alias(v, it.id)
				}
				continue
			}
			po = po.alias(c.id, it.id)
		}
		return po
	case *sortNode:
		return providedOrder{cols: t.order}
	case *joinNode:
		if t.apply || (t.lateral && (t.kind == joinInner || t.kind == joinLeft || t.kind == joinSemi || t.kind == joinAnti)) {
			return o.provided(t.left)
		}
	case *windowNode, *groupNode:
	}
	return providedOrder{}
}

// providedOrder is the order of a stream: sorted by cols, the columns in fixed
// having one value only. one says that there is at most one row.
type providedOrder struct {
	cols  ordering
	fixed colSet
	one   bool
	// equal maps a column to others that always have its value.
	same map[colID]colID
}

func (p providedOrder) alias(from, to colID) providedOrder {
	if p.fixed.has(from) {
		p.fixed = p.fixed.copy()
		p.fixed.add(to)
	}
	m := map[colID]colID{to: p.root(from)}
	for k, v := range p.same {
		m[k] = v
	}
	p.same = m
	return p
}

func (p providedOrder) root(c colID) colID {
	if r, ok := p.same[c]; ok {
		return r
	}
	return c
}

// satisfies says whether a stream of order p is in order want.
func satisfies(p providedOrder, want ordering) bool {
	if p.one {
		return true
	}
	var seen colSet
	i := 0
	for _, w := range want {
		id := p.root(w.id)
		if p.fixed.has(id) || seen.has(id) {
			continue
		}
		for i < len(p.cols) && (p.fixed.has(p.root(p.cols[i].id)) || seen.has(p.root(p.cols[i].id))) {
			i++
		}
		if i >= len(p.cols) {
			return false
		}
		c := p.cols[i]
		if p.root(c.id) != id || c.desc != w.desc || c.nullsFirst != w.nullsFirst {
			return false
		}
		seen.add(id)
		i++
	}
	return true
}

// pathOrder is the order in which a path yields rows.
func (o *optimizer) pathOrder(s *scanNode, a *accessPath) providedOrder {
	var po providedOrder
	if a == nil {
		return po
	}
	po.one = a.single
	for _, p := range a.points {
		if id, ok := s.tab.colOf(p.col); ok {
			if p.array != nil || len(p.vals) != 1 {
				if !p.null {
					return po // Several spans, in the order of the values given.
				}
			}
			po.fixed.add(id)
		}
	}
	full := keyColumns(a.index)
	for i := len(a.points); i < len(full); i++ {
		c := full[i]
		id, ok := s.tab.colOf(c)
		if !ok {
			return po
		}
		desc := keyDesc(a.index, i) != a.reverse
		if hasNaN(c) && !(a.splitNaN && i == len(a.points)) {
			return po
		}
		// Stored order has NULLs first in ascending keys.
		nullsFirst := !desc
		first := i == len(a.points)
		if !c.Nullable || (first && a.rng != nil) {
			// No NULLs: any place is right.
			po.cols = append(po.cols, orderCol{id: id, desc: desc, nullsFirst: desc})
			continue
		}
		if first && a.flipNulls {
			nullsFirst = !nullsFirst
		}
		po.cols = append(po.cols, orderCol{id: id, desc: desc, nullsFirst: nullsFirst})
	}
	return po
}

// hasNaN says that NaN is a value of a column. Its place among the keys is not
// that of its order.
func hasNaN(c *catalog.Column) bool {
	return c.Type.Family() == types.FloatFamily || c.Type.Family() == types.DecimalFamily
}

// keyDesc says whether key column i of an index is descending. Suffix columns
// ascend.
func keyDesc(x *catalog.Index, i int) bool {
	return i < len(x.KeyDirections) && x.KeyDirections[i] == catalogpb.Direction_DESC
}

// keyColumns are the columns by which the entries of an index are ordered. In a
// unique index the primary key stands in the value.
func keyColumns(x *catalog.Index) []*catalog.Column {
	if x.Unique && !x.PrimaryEncoding() {
		return x.KeyColumns
	}
	return x.FullKeyColumns()
}

// choosePath compares all indexes of a scan's table.
func (o *optimizer) choosePath(s *scanNode, want ordering, limit int64) *accessPath {
	if s.tab.desc.PrimaryIndex() == nil {
		return nil
	}
	if s.hint != nil && (s.hint.Index != "" || s.hint.IndexID != 0) {
		if x := hintedIndex(s.tab.desc, s.hint); x != nil {
			if best, _ := o.pathFor(s, x, want, limit); best != nil {
				return best
			}
		}
	}
	var best *accessPath
	bestCost := math.Inf(1)
	for _, x := range s.tab.desc.PublicIndexes() {
		if x.Inverted {
			continue
		}
		a, cost := o.pathFor(s, x, want, limit)
		if a != nil && cost < bestCost {
			best, bestCost = a, cost
		}
	}
	return best
}

// hintedIndex returns the index a hint names.
func hintedIndex(desc *catalog.Table, hint *tree.IndexFlags) *catalog.Index {
	for _, x := range desc.PublicIndexes() {
		if (hint.Index != "" && x.Name == string(hint.Index)) || (hint.IndexID != 0 && x.ID == uint32(hint.IndexID)) {
			return x
		}
	}
	if hint.Index == "primary" {
		return desc.PrimaryIndex()
	}
	return nil
}

// pathFor makes the best path over one index and its cost.
func (o *optimizer) pathFor(s *scanNode, x *catalog.Index, want ordering, limit int64) (*accessPath, float64) {
	own := s.cols()
	a := &accessPath{index: x}
	// filters are those of the scan in terms of the index's columns.
	filters := s.tab.overIndex(s.filters, x)
	consumed := map[tree.TypedExpr]bool{}
	n := o.tableRows(s)
	rows := n
	if x.Predicate != "" {
		conds, ok := s.tab.preds[x.ID]
		if !ok || !impliesAll(s.filters, conds) {
			return nil, 0
		}
		for i, f := range s.filters {
			if holdsInIndex(f, conds) {
				consumed[filters[i]] = true
			}
		}
		rows *= 0.3
	}
	full := keyColumns(x)
	for _, k := range full {
		id, ok := s.tab.colOf(k)
		if !ok {
			break
		}
		pt, cond := findPoint(filters, id, k, own)
		if pt == nil {
			if r, conds := findRange(filters, id, k, own); r != nil {
				a.rng = r
				for _, c := range conds {
					consumed[c] = true
				}
				if r.lo != nil && r.hi != nil || r.prefix != "" {
					rows *= 0.1
				} else if r.lo != nil || r.hi != nil {
					rows *= 0.3
				} else {
					rows *= 0.9
				}
			}
			break
		}
		consumed[cond] = true
		a.points = append(a.points, *pt)
		m := float64(len(pt.vals))
		if pt.array != nil {
			m = 10
		}
		rows *= math.Min(0.01*math.Max(m, 1), 1)
	}
	if x.Unique && len(a.points) >= len(x.KeyColumns) {
		single := 1.0
		unique := true
		for _, p := range a.points[:len(x.KeyColumns)] {
			if p.array != nil {
				single *= 10
			} else if len(p.vals) > 1 {
				single *= float64(len(p.vals))
			}
			if p.null {
				unique = false
			}
		}
		if unique {
			rows = math.Min(rows, single)
			a.single = single == 1
		}
	}
	rows = math.Max(rows, 1)
	a.rows = rows
	a.covering = x.Primary || o.covers(s, x)
	for i, f := range s.filters {
		if !consumed[filters[i]] {
			a.residual = append(a.residual, f)
		}
	}

	read := rows
	sorted := len(want) == 0
	if !sorted {
		a.splitNaN = len(a.points) < len(full) && hasNaN(full[len(a.points)])
		for _, try := range [][2]bool{{false, false}, {true, false}, {false, true}, {true, true}} {
			a.reverse, a.flipNulls = try[0], try[1]
			if a.flipNulls && (a.rng != nil || len(a.points) >= len(full)) {
				continue
			}
			if satisfies(o.pathOrder(s, a), want) {
				sorted = true
				break
			}
		}
		if !sorted {
			a.reverse, a.flipNulls, a.splitNaN = false, false, false
		}
	}
	if sorted && limit > 0 {
		sel := 1.0
		for _, f := range a.residual {
			sel *= selectivity(f)
		}
		read = math.Min(read, float64(limit)/math.Max(sel, 1e-6))
	}
	perRow := 1.0
	if !a.covering {
		perRow = 8 // A second, random read.
	} else if !x.Primary {
		perRow = 0.9 // Smaller entries.
	}
	cost := 2 + read*perRow
	if !sorted {
		cost += rows * 0.5 * math.Log2(rows+2) / 4
	}
	if s.lock.on && !x.Primary {
		cost += read * 4
	}
	forced := s.hint != nil && s.hint.Index != ""
	if len(a.points) == 0 && a.rng == nil && !x.Primary && !a.covering && !forced && x.Predicate == "" {
		if !sorted || len(want) == 0 {
			return nil, 0
		}
	}
	return a, cost
}

// covers says whether an index holds all columns of the scan that are read.
func (o *optimizer) covers(s *scanNode, x *catalog.Index) bool {
	if s.lock.on {
		return false // The row itself must be locked.
	}
	has := map[uint32]bool{}
	for _, c := range x.FullKeyColumns() {
		has[c.ID] = true
	}
	for _, c := range x.StoredColumns {
		has[c.ID] = true
	}
	for i, c := range s.tab.columns {
		if o.used.has(s.tab.colIDs[i]) && !has[c.ID] && !c.Virtual {
			return false
		}
	}
	return true
}

// usableFor says whether comparing column c with a value of e's type follows c's
// key order, so that e's values can be encoded as keys.
func usableFor(c *catalog.Column, e tree.TypedExpr, own colSet) bool {
	t := e.ResolvedType()
	if !t.Equivalent(c.Type) || t.Family() == types.UnknownFamily {
		return false
	}
	switch c.Type.Family() {
	case types.JsonFamily, types.ArrayFamily, types.TupleFamily:
		return false
	}
	if hasVolatile(e) {
		return false
	}
	cols := colsOf(e)
	return !cols.intersects(own)
}

// findPoint looks for a condition that fixes column id to given values.
func findPoint(filters []tree.TypedExpr, id colID, k *catalog.Column, own colSet) (*pointConstraint, tree.TypedExpr) {
	isCol := func(e tree.Expr) bool {
		r, ok := e.(*colRef)
		return ok && r.id == id
	}
	var list *pointConstraint
	var listCond tree.TypedExpr
	for _, f := range filters {
		switch t := f.(type) {
		case *colRef:
			if t.id == id && k.Type.Family() == types.BoolFamily {
				return &pointConstraint{col: k, vals: []tree.TypedExpr{tree.DBoolTrue}}, f
			}
		case *tree.NotExpr:
			if isCol(t.Expr) && k.Type.Family() == types.BoolFamily {
				return &pointConstraint{col: k, vals: []tree.TypedExpr{tree.DBoolFalse}}, f
			}
		case *tree.ComparisonExpr:
			switch t.Operator {
			case tree.EQ:
				if isCol(t.Left) && usableFor(k, t.TypedRight(), own) {
					return &pointConstraint{col: k, vals: []tree.TypedExpr{t.TypedRight()}}, f
				}
				if isCol(t.Right) && usableFor(k, t.TypedLeft(), own) {
					return &pointConstraint{col: k, vals: []tree.TypedExpr{t.TypedLeft()}}, f
				}
			case tree.IsNotDistinctFrom:
				if isCol(t.Left) && t.Right == tree.DNull {
					return &pointConstraint{col: k, null: true, vals: []tree.TypedExpr{tree.DNull}}, f
				}
			case tree.In:
				if !isCol(t.Left) || list != nil {
					continue
				}
				var vals []tree.TypedExpr
				switch r := t.Right.(type) {
				case *tree.Tuple:
					for _, e := range r.Exprs {
						te, ok := e.(tree.TypedExpr)
						if !ok || !(usableFor(k, te, own) || te == tree.DNull) {
							vals = nil
							break
						}
						vals = append(vals, te)
					}
				case *tree.DTuple:
					for _, d := range r.D {
						if !usableFor(k, d, own) && d != tree.DNull {
							vals = nil
							break
						}
						vals = append(vals, d)
					}
				}
				if len(vals) > 0 {
					list, listCond = &pointConstraint{col: k, vals: vals}, f
				}
			case tree.Any:
				if t.SubOperator != tree.EQ || !isCol(t.Left) || list != nil {
					continue
				}
				r := t.TypedRight()
				rt := r.ResolvedType()
				if rt.Family() != types.ArrayFamily || !rt.ArrayContents().Equivalent(k.Type) || hasVolatile(r) {
					continue
				}
				if cols := colsOf(r); cols.intersects(own) {
					continue
				}
				list, listCond = &pointConstraint{col: k, array: r}, f
			}
		}
	}
	return list, listCond
}

// findRange looks for conditions that bound column id.
func findRange(filters []tree.TypedExpr, id colID, k *catalog.Column, own colSet) (*rangeConstraint, []tree.TypedExpr) {
	isCol := func(e tree.Expr) bool {
		r, ok := e.(*colRef)
		return ok && r.id == id
	}
	r := &rangeConstraint{col: k}
	var used []tree.TypedExpr
	lower := func(e tree.TypedExpr, excl bool, f tree.TypedExpr) {
		if r.lo == nil && usableFor(k, e, own) {
			r.lo, r.loExcl = e, excl
			used = append(used, f)
		}
	}
	upper := func(e tree.TypedExpr, excl bool, f tree.TypedExpr) {
		if r.hi == nil && usableFor(k, e, own) {
			r.hi, r.hiExcl = e, excl
			used = append(used, f)
		}
	}
	for _, f := range filters {
		switch t := f.(type) {
		case *tree.ComparisonExpr:
			l, rt, op := t.TypedLeft(), t.TypedRight(), t.Operator
			if isCol(t.Right) {
				switch op {
				case tree.LT:
					op = tree.GT
				case tree.LE:
					op = tree.GE
				case tree.GT:
					op = tree.LT
				case tree.GE:
					op = tree.LE
				default:
					continue
				}
				l, rt = rt, l
			}
			if !isCol(l) {
				continue
			}
			switch op {
			case tree.GT:
				lower(rt, true, f)
			case tree.GE:
				lower(rt, false, f)
			case tree.LT:
				upper(rt, true, f)
			case tree.LE:
				upper(rt, false, f)
			case tree.IsDistinctFrom:
				if rt == tree.DNull && !r.notNull {
					r.notNull = true
					used = append(used, f)
				}
			case tree.Like:
				v, _ := builtins.ConstValue(rt)
				d, ok := v.(*tree.DString)
				if ok && r.prefix == "" && k.Type.Family() == types.StringFamily {
					// The condition stays as a filter.
					if i := strings.IndexAny(string(*d), `%_\`); i > 0 {
						r.prefix = string(*d)[:i]
					}
				}
			}
		case *tree.RangeCond:
			if t.Not || t.Symmetric || !isCol(t.Left) {
				continue
			}
			lo, hi := t.TypedFrom(), t.TypedTo()
			if r.lo == nil && r.hi == nil && usableFor(k, lo, own) && usableFor(k, hi, own) {
				r.lo, r.hi = lo, hi
				used = append(used, f)
			}
		}
	}
	if r.lo != nil || r.hi != nil {
		r.prefix = ""
	}
	if r.lo == nil && r.hi == nil && !r.notNull && r.prefix == "" {
		return nil, nil
	}
	return r, used
}

// accessJoin chooses the method of a join.
func (o *optimizer) accessJoin(t *joinNode, want ordering, limit int64) rel {
	if !t.lateral && t.hint == "" || t.hint == tree.AstLookup {
		if o.tryLookup(t, want, limit) {
			return t
		}
		// The other way round.
		if t.kind == joinInner && o.estimate(t.right) < o.estimate(t.left) {
			t.left, t.right = t.right, t.left
			if o.tryLookup(t, want, limit) {
				return t
			}
			t.left, t.right = t.right, t.left
		}
	}
	if t.lateral {
		t.left = o.access(t.left, want, 0)
		t.right = o.access(t.right, nil, 0)
		return t
	}
	// Hash join: the right side is kept, so it should be the smaller one.
	if l, r := o.estimate(t.left), o.estimate(t.right); l*1.5 < r {
		switch t.kind {
		case joinInner:
			t.left, t.right = t.right, t.left
		case joinLeft:
			t.left, t.right, t.kind = t.right, t.left, joinRight
		case joinRight:
			t.left, t.right, t.kind = t.right, t.left, joinLeft
		}
	}
	t.left = o.access(t.left, nil, 0)
	t.right = o.access(t.right, nil, 0)
	return t
}

// tryLookup makes the right side be read by key for each left row, if that looks
// cheaper than reading all of it.
func (o *optimizer) tryLookup(t *joinNode, want ordering, limit int64) bool {
	switch t.kind {
	case joinInner, joinLeft, joinSemi, joinAnti:
	default:
		return false
	}
	if t.nullAware {
		return false
	}
	s := innerScan(t.right)
	if s == nil || s.lock.on {
		return false
	}
	lcols := t.left.cols()
	var keys []tree.TypedExpr
	for _, c := range t.on {
		if cols := colsOf(c); cols.intersects(lcols) && !hasVolatile(c) && !hasSubquery(c) {
			keys = append(keys, c)
		}
	}
	if len(keys) == 0 {
		return false
	}
	// What would the scan do, were the left columns known?
	probe := &scanNode{tab: s.tab, filters: append(append([]tree.TypedExpr(nil), s.filters...), keys...), lock: s.lock, hint: s.hint}
	path := o.choosePath(probe, nil, 0)
	if path == nil || len(path.points) == 0 {
		return false
	}
	usesLeft := false
	for _, p := range path.points {
		for _, v := range p.vals {
			if cols := colsOf(v); cols.intersects(lcols) {
				usesLeft = true
			}
		}
	}
	if !usesLeft {
		return false
	}
	perRow := 12 + path.rows
	if !path.covering {
		perRow += 8 * path.rows
	}
	left := o.estimate(t.left)
	if limit > 0 {
		left = math.Min(left, float64(limit)*2)
	}
	hash := o.estimate(t.right)
	if sp := o.choosePath(s, nil, 0); sp != nil {
		hash = sp.rows
	}
	if t.hint != tree.AstLookup && left*perRow >= hash+left {
		return false
	}
	t.apply, t.lateral = true, true
	s.filters = append(s.filters, keys...)
	isKey := map[tree.TypedExpr]bool{}
	for _, k := range keys {
		isKey[k] = true
	}
	var rest []tree.TypedExpr
	for _, c := range t.on {
		if !isKey[c] {
			rest = append(rest, c)
		}
	}
	t.on = rest
	t.left = o.access(t.left, want, limit)
	t.right = o.access(t.right, nil, 0)
	return true
}

// innerScan finds the scan below nodes that conditions may pass through.
func innerScan(n rel) *scanNode {
	switch t := n.(type) {
	case *scanNode:
		return t
	case *projectNode:
		for _, it := range t.items {
			if hasVolatile(it.expr) || hasSubquery(it.expr) {
				return nil
			}
		}
		return innerScan(t.in)
	case *filterNode:
		return innerScan(t.in)
	}
	return nil
}

// minMax turns min(c) or max(c) over a whole table into reading one entry of an
// index: the first that is not NULL.
func (o *optimizer) minMax(t *groupNode) rel {
	if !t.scalar || len(t.aggs) != 1 {
		return nil
	}
	a := &t.aggs[0]
	name := a.fn.Func.String()
	if (name != "min" && name != "max") || len(a.args) != 1 || a.filter != 0 || t.minMaxDone {
		return nil
	}
	s, ok := t.in.(*scanNode)
	if !ok || s.lock.on {
		return nil
	}
	m := o.md.cols[a.args[0]]
	if m.tab != s.tab {
		return nil
	}
	order := ordering{{id: a.args[0], desc: name == "max", nullsFirst: name == "max"}}
	notNull := tree.NewTypedComparisonExpr(tree.IsDistinctFrom, &colRef{id: a.args[0], typ: m.typ, name: m.name}, tree.DNull)
	probe := &scanNode{tab: s.tab, filters: append(append([]tree.TypedExpr(nil), s.filters...), notNull), hint: s.hint}
	path := o.choosePath(probe, order, 1)
	if path == nil || !satisfies(o.pathOrder(probe, path), order) {
		return nil
	}
	g := *t
	g.minMaxDone = true
	g.in = &limitNode{in: &sortNode{in: probe, order: order}, limit: tree.NewDInt(1)}
	return &g
}

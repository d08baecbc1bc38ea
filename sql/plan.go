package sql

import (
	"math/bits"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/sql/catalog"
)

// A plan is a tree of relational nodes (rel). Every column that any node makes
// has an id of its own within the statement, so that expressions stay valid
// when nodes move: predicates sink through joins and views without renaming.
// Nodes are built by the binder (bind_*.go), rewritten in place by the optimizer
// (opt_*.go) and turned into operators by the compiler (compile*.go), which
// replaces ids by positions. A plan holds no values of an execution: it may be
// compiled many times.

// colID names a column within a statement; 0 is no column.
type colID int32

// colMeta is what is known about a column.
type colMeta struct {
	name string
	typ  *types.T
	// tab and ord are the table column behind it, if it is one.
	tab *tableRef
	ord int
	// origin is the column that this one repeats, for RowDescription.
	origin colID
}

// metadata lists the columns of a statement; colID is the index.
type metadata struct {
	cols []colMeta
}

func (m *metadata) add(c colMeta) colID {
	if len(m.cols) == 0 {
		m.cols = append(m.cols, colMeta{})
	}
	m.cols = append(m.cols, c)
	return colID(len(m.cols) - 1)
}

// colSet is a set of columns. The zero value is empty. Methods that change it
// need a pointer; copies share nothing that add would overwrite only after copy.
type colSet struct{ w []uint64 }

func (s *colSet) add(c colID) {
	i := int(c) >> 6
	for len(s.w) <= i {
		s.w = append(s.w, 0)
	}
	s.w[i] |= 1 << (uint(c) & 63)
}

func (s *colSet) remove(c colID) {
	if i := int(c) >> 6; i < len(s.w) {
		s.w[i] &^= 1 << (uint(c) & 63)
	}
}

func (s colSet) has(c colID) bool {
	i := int(c) >> 6
	return i < len(s.w) && s.w[i]&(1<<(uint(c)&63)) != 0
}

func (s colSet) empty() bool {
	for _, w := range s.w {
		if w != 0 {
			return false
		}
	}
	return true
}

func (s colSet) len() int {
	n := 0
	for _, w := range s.w {
		n += bits.OnesCount64(w)
	}
	return n
}

func (s colSet) copy() colSet { return colSet{append([]uint64(nil), s.w...)} }

func (s *colSet) union(o colSet) {
	for len(s.w) < len(o.w) {
		s.w = append(s.w, 0)
	}
	for i, w := range o.w {
		s.w[i] |= w
	}
}

func (s colSet) subsetOf(o colSet) bool {
	for i, w := range s.w {
		var ow uint64
		if i < len(o.w) {
			ow = o.w[i]
		}
		if w&^ow != 0 {
			return false
		}
	}
	return true
}

func (s colSet) intersects(o colSet) bool {
	for i := range min(len(s.w), len(o.w)) {
		if s.w[i]&o.w[i] != 0 {
			return true
		}
	}
	return false
}

func (s colSet) minus(o colSet) colSet {
	r := s.copy()
	for i := range min(len(r.w), len(o.w)) {
		r.w[i] &^= o.w[i]
	}
	return r
}

func (s colSet) ids() []colID {
	var out []colID
	for i, w := range s.w {
		for w != 0 {
			b := bits.TrailingZeros64(w)
			out = append(out, colID(i<<6+b))
			w &^= 1 << b
		}
	}
	return out
}

func makeColSet(ids ...colID) colSet {
	var s colSet
	for _, c := range ids {
		s.add(c)
	}
	return s
}

// rel is a relational node. cols are the columns it yields, in no promised
// order: the compiler decides the layout.
type rel interface {
	cols() colSet
}

// tableRef is one occurrence of a table in a statement.
type tableRef struct {
	desc  *catalog.Table
	alias string
	// columns are desc's public columns, or all of them for the target of a
	// mutation; colIDs are their ids, by position.
	columns []*catalog.Column
	colIDs  []colID
	// exprs are the expressions behind the hidden columns of indexes, by column
	// id, and preds the conditions of partial indexes, by index id, over colIDs.
	// One that is missing makes its index useless for reading.
	exprs map[uint32]tree.TypedExpr
	preds map[uint32][]tree.TypedExpr
}

// scanNode reads a table.
type scanNode struct {
	tab *tableRef
	// filters are all true of the rows it yields; they use its columns,
	// placeholders and columns of enclosing queries.
	filters []tree.TypedExpr
	lock    lockMode
	// target: the rows found are going to be changed.
	target bool
	hint   *tree.IndexFlags

	// Set by the optimizer:
	access *accessPath
	// limitHint is how many rows the nodes above will want, 0 for all.
	limitHint int64
}

type lockMode struct {
	on         bool
	skipLocked bool
	noWait     bool
}

func (n *scanNode) cols() colSet { return makeColSet(n.tab.colIDs...) }

// virtualNode reads a table that is computed when it is read.
type virtualNode struct {
	table   *virtualTable
	outCols []colID
	db      string
}

func (n *virtualNode) cols() colSet { return makeColSet(n.outCols...) }

// sourceNode reads rows of a statement that is not a query, such as SHOW.
type sourceNode struct {
	src     *rowSource
	outCols []colID
}

func (n *sourceNode) cols() colSet { return makeColSet(n.outCols...) }

// valuesNode yields rows of expressions.
type valuesNode struct {
	outCols []colID
	rows    [][]tree.TypedExpr
}

func (n *valuesNode) cols() colSet { return makeColSet(n.outCols...) }

// item is a computed column.
type item struct {
	id   colID
	expr tree.TypedExpr
}

// projectNode adds computed columns to those of its input.
type projectNode struct {
	in    rel
	items []item
}

func (n *projectNode) cols() colSet {
	s := n.in.cols().copy()
	for _, it := range n.items {
		s.add(it.id)
	}
	return s
}

// filterNode passes rows on which all conds are true.
type filterNode struct {
	in    rel
	conds []tree.TypedExpr
}

func (n *filterNode) cols() colSet { return n.in.cols() }

type joinKind int

const (
	joinInner joinKind = iota
	joinLeft
	joinRight
	joinFull
	joinSemi
	joinAnti
)

func (k joinKind) String() string {
	return [...]string{"inner", "left", "right", "full", "semi", "anti"}[k]
}

// joinNode joins two inputs. When lateral, the right side is run for each row of
// the left and may use its columns.
type joinNode struct {
	kind        joinKind
	left, right rel
	on          []tree.TypedExpr
	lateral     bool
	hint        string
	// nullAware anti joins are NOT IN: a NULL on the right rejects all.
	nullAware bool

	// apply is set by the optimizer if the right side is run for each left row,
	// with access by its columns.
	apply bool
}

func (n *joinNode) cols() colSet {
	s := n.left.cols().copy()
	if n.kind != joinSemi && n.kind != joinAnti {
		s.union(n.right.cols())
	}
	return s
}

// ordering is a list of sort columns.
type orderCol struct {
	id         colID
	desc       bool
	nullsFirst bool
}

type ordering []orderCol

// aggItem is one aggregate function call of a groupNode.
type aggItem struct {
	id       colID
	fn       *tree.FuncExpr
	args     []colID
	filter   colID
	distinct bool
	order    ordering
}

// groupNode groups its input. Without group columns it yields one row.
type groupNode struct {
	in        rel
	groupCols []colID
	aggs      []aggItem
	scalar    bool // no GROUP BY: one row even for no input
	// minMaxDone: the input is already cut down to the one row that matters.
	minMaxDone bool
}

func (n *groupNode) cols() colSet {
	s := makeColSet(n.groupCols...)
	for _, a := range n.aggs {
		s.add(a.id)
	}
	return s
}

// windowItem is one window function call.
type windowItem struct {
	id        colID
	fn        *tree.FuncExpr
	args      []colID
	filter    colID
	partition []colID
	order     ordering
	frame     *tree.WindowFrame
	// startOffset and endOffset are the expressions of n PRECEDING.
	startOffset, endOffset tree.TypedExpr
}

// windowNode adds the results of window functions to its input's columns.
type windowNode struct {
	in    rel
	funcs []windowItem
}

func (n *windowNode) cols() colSet {
	s := n.in.cols().copy()
	for _, f := range n.funcs {
		s.add(f.id)
	}
	return s
}

// srfItem is a set-returning function call, or a plain expression in ROWS FROM,
// with the columns it yields.
type srfItem struct {
	expr tree.TypedExpr
	cols []colID
}

// projectSetNode runs set-returning functions on each row, in step.
type projectSetNode struct {
	in    rel
	funcs []srfItem
	// expand: functions that return records give their columns (in FROM).
	expand bool
	// ordinality is the column of WITH ORDINALITY, or 0.
	ordinality colID
}

func (n *projectSetNode) cols() colSet {
	s := n.in.cols().copy()
	for _, f := range n.funcs {
		for _, c := range f.cols {
			s.add(c)
		}
	}
	if n.ordinality != 0 {
		s.add(n.ordinality)
	}
	return s
}

// ordinalityNode numbers the rows of its input.
type ordinalityNode struct {
	in rel
	id colID
}

func (n *ordinalityNode) cols() colSet {
	s := n.in.cols().copy()
	s.add(n.id)
	return s
}

type sortNode struct {
	in    rel
	order ordering
}

func (n *sortNode) cols() colSet { return n.in.cols() }

type limitNode struct {
	in            rel
	limit, offset tree.TypedExpr // nil: none
}

func (n *limitNode) cols() colSet { return n.in.cols() }

// distinctNode keeps one row of each group of equal values in on. Its input's
// order decides which.
type distinctNode struct {
	in rel
	on []colID
}

func (n *distinctNode) cols() colSet { return n.in.cols() }

// setOpNode is UNION, INTERSECT or EXCEPT. Left and right columns pair up by
// position; outCols are new.
type setOpNode struct {
	op                  tree.UnionType
	all                 bool
	left, right         rel
	leftCols, rightCols []colID
	outCols             []colID
}

func (n *setOpNode) cols() colSet { return makeColSet(n.outCols...) }

// cteDef is a WITH query. One with a single reference and no effects is
// inlined; others are run once and kept.
type cteDef struct {
	name     string
	in       rel
	inCols   []colID
	outNames []string
	outTypes []*types.T
	refs     int
	mutates  bool
	// recursive: initial is in; step refers to the working table.
	step     rel
	stepCols []colID
	dedup    bool

	optimized bool
}

// cteScanNode reads a WITH query.
type cteScanNode struct {
	def     *cteDef
	outCols []colID
	working bool // the recursive reference
}

func (n *cteScanNode) cols() colSet { return makeColSet(n.outCols...) }

// withNode makes sure that data-modifying WITH queries run even if nobody reads
// them.
type withNode struct {
	in   rel
	defs []*cteDef
}

func (n *withNode) cols() colSet { return n.in.cols() }

// maxOneRowNode fails if its input yields more than one row.
type maxOneRowNode struct{ in rel }

func (n *maxOneRowNode) cols() colSet { return n.in.cols() }

// colRef is a column in an expression.
type colRef struct {
	id  colID
	typ *types.T
	// name is for messages.
	name string
}

var _ tree.TypedExpr = (*colRef)(nil)
var _ tree.VariableExpr = (*colRef)(nil)

func (c *colRef) String() string              { return tree.AsString(c) }
func (c *colRef) Walk(tree.Visitor) tree.Expr { return c }
func (c *colRef) ResolvedType() *types.T      { return c.typ }
func (c *colRef) Variable()                   {}
func (c *colRef) TypeCheck(*tree.SemaContext, *types.T) (tree.TypedExpr, error) {
	return c, nil
}

// Format writes the id: two expressions are the same if their texts are.
func (c *colRef) Format(ctx *tree.FmtCtx) {
	if ctx.HasFlags(fmtColNames) {
		ctx.WriteString(c.name)
		return
	}
	ctx.Printf("#%d", c.id)
}

// fmtColNames makes colRefs print as names, for EXPLAIN.
const fmtColNames tree.FmtFlags = 1 << 40

func (c *colRef) Eval(*tree.EvalContext) (tree.Datum, error) {
	return nil, errUnboundColumn
}

// subqueryKind says what a subquery in an expression stands for.
type subqueryKind int

const (
	subScalar subqueryKind = iota // (SELECT …)
	subExists                     // EXISTS (SELECT …)
	subAny                        // x op ANY (SELECT …), x IN (SELECT …)
	subAll                        // x op ALL (SELECT …)
	subArray                      // ARRAY(SELECT …)
	subTuple                      // (SELECT a, b), compared with a row
)

// subqueryExpr is a subquery in an expression.
type subqueryExpr struct {
	kind subqueryKind
	in   rel
	out  []colID
	typ  *types.T
	// outer are the columns of enclosing queries that it uses.
	outer colSet
	// left and cmp are for ANY and ALL: cmp compares left (as columns
	// leftIDs) with the row's columns.
	left    tree.TypedExpr
	leftIDs []colID
	cmp     tree.TypedExpr
	negated bool // NOT IN
}

var _ tree.TypedExpr = (*subqueryExpr)(nil)
var _ tree.VariableExpr = (*subqueryExpr)(nil)

func (s *subqueryExpr) String() string         { return tree.AsString(s) }
func (s *subqueryExpr) ResolvedType() *types.T { return s.typ }
func (s *subqueryExpr) Variable()              {}
func (s *subqueryExpr) TypeCheck(*tree.SemaContext, *types.T) (tree.TypedExpr, error) {
	return s, nil
}
func (s *subqueryExpr) Format(ctx *tree.FmtCtx) { ctx.Printf("(subquery %p)", s) }

// Walk visits the left operand; the plan inside is not part of the expression.
func (s *subqueryExpr) Walk(v tree.Visitor) tree.Expr {
	if s.left == nil {
		return s
	}
	l, changed := tree.WalkExpr(v, s.left)
	if !changed {
		return s
	}
	c := *s
	c.left = l.(tree.TypedExpr)
	return &c
}

func (s *subqueryExpr) Eval(*tree.EvalContext) (tree.Datum, error) {
	return nil, errUnboundColumn
}

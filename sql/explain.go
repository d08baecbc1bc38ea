package sql

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/exec"
	"github.com/holdfastdb/holdfast/sql/parser"
)

func explainColumns() []ResultColumn {
	return []ResultColumn{MakeResultColumn("QUERY PLAN", types.String)}
}

// execExplain runs EXPLAIN [ANALYZE].
func (p *planner) execExplain(ctx context.Context, stmt tree.Statement, res ResultWriter) (bool, error) {
	var inner tree.Statement
	analyze, verbose := false, false
	switch t := stmt.(type) {
	case *tree.Explain:
		inner, verbose = t.Statement, t.Flags[tree.ExplainFlagVerbose]
	case *parser.Explain:
		inner, analyze, verbose = t.Statement, t.Analyze, t.Verbose
		if f := t.Options["format"]; f != "" && f != "text" {
			return true, pgerr.Newf(pgerr.FeatureNotSupported, "EXPLAIN format %q is not supported", f).WithHint("Use FORMAT TEXT.")
		}
	case *tree.ExplainAnalyzeDebug:
		inner, analyze = t.Statement, true
	default:
		return false, nil
	}
	pl, err := p.planStmt(ctx, inner)
	if err != nil {
		return true, err
	}
	if pl == nil {
		return true, pgerr.Newf(pgerr.SyntaxError, "cannot explain %s", inner.StatementTag())
	}
	ex := &explainer{p: p, md: pl.md, verbose: verbose}
	var took time.Duration
	if analyze {
		if ex.ops, took, err = p.analyze(ctx, pl); err != nil {
			return true, err
		}
	}
	ex.node(pl.root, 0)
	if analyze {
		ex.lines = append(ex.lines, fmt.Sprintf("Execution Time: %.3f ms", float64(took.Microseconds())/1000))
	}
	if err := res.SetColumns(ctx, explainColumns()); err != nil {
		return true, err
	}
	for _, l := range ex.lines {
		if err := res.AddRow(ctx, tree.Datums{tree.NewDString(l)}); err != nil {
			return true, err
		}
	}
	res.Complete("EXPLAIN")
	return true, nil
}

// analyze runs a plan and counts the rows of each node.
func (p *planner) analyze(ctx context.Context, pl *plan) (map[rel]exec.Operator, time.Duration, error) {
	r := &running{pl: pl}
	defer r.close()
	began := time.Now()
	r.c = p.newCompiler(ctx, pl.md)
	r.c.explain = map[rel]exec.Operator{}
	op, err := r.c.compileOutput(pl.root, pl.out)
	if err != nil {
		return nil, 0, err
	}
	r.op = op
	err = exec.Drain(ctx, op, func(tree.Datums) error { return nil })
	return r.c.explain, time.Since(began), err
}

// explainer prints a plan as an indented tree.
type explainer struct {
	p       *planner
	md      *metadata
	ops     map[rel]exec.Operator
	verbose bool
	lines   []string
	seen    map[*cteDef]bool
}

func (e *explainer) line(depth int, format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	if depth > 0 {
		s = strings.Repeat(" ", 2+(depth-1)*6) + "->  " + s
	}
	e.lines = append(e.lines, s)
}

func (e *explainer) detail(depth int, format string, args ...any) {
	pad := 2 + depth*6
	e.lines = append(e.lines, strings.Repeat(" ", pad)+fmt.Sprintf(format, args...))
}

func (e *explainer) text(x tree.TypedExpr) string {
	f := tree.NewFmtCtx(tree.FmtSimple)
	f.SetPlaceholderFormat(nil)
	e.format(f, x)
	return f.CloseAndGetString()
}

// format prints an expression with names for columns.
func (e *explainer) format(f *tree.FmtCtx, x tree.TypedExpr) {
	named := rewriteExpr(x, func(t tree.TypedExpr) tree.TypedExpr {
		switch c := t.(type) {
		case *colRef:
			return &namedRef{name: c.name, typ: c.typ}
		case *subqueryExpr:
			return &namedRef{name: "(subquery)", typ: c.typ}
		}
		return nil
	})
	f.FormatNode(named)
}

// namedRef prints a name.
type namedRef struct {
	name string
	typ  *types.T
}

func (c *namedRef) String() string              { return c.name }
func (c *namedRef) Format(ctx *tree.FmtCtx)     { ctx.WriteString(c.name) }
func (c *namedRef) Walk(tree.Visitor) tree.Expr { return c }
func (c *namedRef) ResolvedType() *types.T      { return c.typ }
func (c *namedRef) TypeCheck(*tree.SemaContext, *types.T) (tree.TypedExpr, error) {
	return c, nil
}
func (c *namedRef) Eval(*tree.EvalContext) (tree.Datum, error) { return nil, errUnboundColumn }

func (e *explainer) conds(list []tree.TypedExpr) string {
	out := make([]string, len(list))
	for i, c := range list {
		out[i] = "(" + e.text(c) + ")"
	}
	return strings.Join(out, " AND ")
}

func (e *explainer) colName(id colID) string {
	m := e.md.cols[id]
	if m.tab != nil && m.tab.alias != "" {
		return m.tab.alias + "." + m.name
	}
	return m.name
}

func (e *explainer) order(o ordering) string {
	var out []string
	for _, c := range o {
		s := e.colName(c.id)
		if c.desc {
			s += " DESC"
		}
		if c.nullsFirst != c.desc {
			if c.nullsFirst {
				s += " NULLS FIRST"
			} else {
				s += " NULLS LAST"
			}
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}

// rows describes how many rows a node yields, and yielded.
func (e *explainer) rows(n rel) string {
	o := &optimizer{p: e.p, md: e.md}
	s := fmt.Sprintf("  (rows=%.0f)", o.estimate(n))
	if op, ok := e.ops[n].(*countingOp); ok {
		s += fmt.Sprintf(" (actual rows=%d loops=%d)", op.rows, op.opens)
	}
	return s
}

func (e *explainer) node(n rel, d int) {
	rows := e.rows(n)
	switch t := n.(type) {
	case *scanNode:
		e.scan(t, d, rows)
	case *virtualNode:
		e.line(d, "Virtual Table Scan on %s.%s%s", t.table.schema, t.table.name, rows)
	case *sourceNode:
		e.line(d, "Function Scan%s", rows)
	case *valuesNode:
		if len(t.outCols) == 0 {
			e.line(d, "Result%s", rows)
		} else {
			e.line(d, "Values Scan%s", rows)
		}
	case *filterNode:
		e.line(d, "Filter%s", rows)
		e.detail(d, "Filter: %s", e.conds(t.conds))
		e.node(t.in, d+1)
	case *projectNode:
		if !e.verbose {
			e.node(t.in, d)
			break
		}
		e.line(d, "Project%s", rows)
		for _, it := range t.items {
			e.detail(d, "%s := %s", e.colName(it.id), e.text(it.expr))
		}
		e.node(t.in, d+1)
	case *joinNode:
		kind := map[joinKind]string{joinInner: "", joinLeft: " Left", joinRight: " Right", joinFull: " Full", joinSemi: " Semi", joinAnti: " Anti"}[t.kind]
		method := "Nested Loop"
		switch {
		case t.apply:
			method = "Lookup"
		case t.lateral:
			method = "Apply"
		default:
			for _, c := range t.on {
				if _, _, ok := splitEquality(c, t.left.cols(), t.right.cols()); ok {
					method = "Hash"
				}
			}
		}
		if method == "Nested Loop" {
			e.line(d, "%s%s Join%s", method, kind, rows)
		} else {
			e.line(d, "%s%s Join%s", method, kind, rows)
		}
		if len(t.on) > 0 {
			e.detail(d, "Join Cond: %s", e.conds(t.on))
		}
		e.node(t.left, d+1)
		e.node(t.right, d+1)
	case *groupNode:
		if t.scalar {
			e.line(d, "Aggregate%s", rows)
		} else {
			e.line(d, "HashAggregate%s", rows)
			var keys []string
			for _, c := range t.groupCols {
				keys = append(keys, e.colName(c))
			}
			e.detail(d, "Group Key: %s", strings.Join(keys, ", "))
		}
		e.node(t.in, d+1)
	case *windowNode:
		e.line(d, "WindowAgg%s", rows)
		e.node(t.in, d+1)
	case *projectSetNode:
		e.line(d, "ProjectSet%s", rows)
		if v, ok := t.in.(*valuesNode); !ok || len(v.outCols) > 0 {
			e.node(t.in, d+1)
		}
	case *ordinalityNode:
		e.line(d, "Ordinality%s", rows)
		e.node(t.in, d+1)
	case *sortNode:
		e.line(d, "Sort%s", rows)
		e.detail(d, "Sort Key: %s", e.order(t.order))
		e.node(t.in, d+1)
	case *limitNode:
		e.line(d, "Limit%s", rows)
		e.node(t.in, d+1)
	case *distinctNode:
		e.line(d, "Unique%s", rows)
		e.node(t.in, d+1)
	case *setOpNode:
		name := "Append"
		if t.op != tree.UnionOp {
			name = "SetOp " + t.op.String()
		} else if !t.all {
			name = "HashAggregate Append"
		}
		e.line(d, "%s%s", name, rows)
		e.node(t.left, d+1)
		e.node(t.right, d+1)
	case *cteScanNode:
		e.line(d, "CTE Scan on %s%s", t.def.name, rows)
		if e.seen == nil {
			e.seen = map[*cteDef]bool{}
		}
		if !t.working && !e.seen[t.def] {
			e.seen[t.def] = true
			e.node(t.def.in, d+1)
			if t.def.step != nil {
				e.node(t.def.step, d+1)
			}
		}
	case *withNode:
		for _, def := range t.defs {
			e.line(d, "CTE %s", def.name)
			e.node(def.in, d+1)
		}
		e.node(t.in, d)
	case *maxOneRowNode:
		e.node(t.in, d)
	case *mutationNode:
		e.line(d, "%s on %s%s", strings.ToUpper(t.op.String()[:1])+t.op.String()[1:], t.desc.Name(), rows)
		if t.in != nil && !t.all {
			e.node(t.in, d+1)
		}
	default:
		e.line(d, "%T", n)
	}
	e.subplans(n, d)
}

// subplans prints the plans inside of a node's expressions.
func (e *explainer) subplans(n rel, d int) {
	mapExprsConst(n, func(x tree.TypedExpr) {
		if !hasSubquery(x) {
			return
		}
		rewriteExpr(x, func(t tree.TypedExpr) tree.TypedExpr {
			if s, ok := t.(*subqueryExpr); ok {
				e.line(d+1, "SubPlan")
				e.node(s.in, d+2)
			}
			return nil
		})
	})
}

func (e *explainer) scan(t *scanNode, d int, rows string) {
	a := t.access
	name := t.tab.desc.Name()
	if t.tab.alias != name {
		name += " " + t.tab.alias
	}
	if a == nil {
		e.line(d, "Scan on %s%s", name, rows)
		return
	}
	dir := ""
	if a.reverse {
		dir = " Backward"
	}
	constrained := len(a.points) > 0 || a.rng != nil
	switch {
	case a.index.Primary && !constrained:
		e.line(d, "Seq Scan%s on %s%s", dir, name, rows)
	case a.covering && !a.index.Primary:
		e.line(d, "Index Only Scan%s using %s on %s%s", dir, a.index.Name, name, rows)
	default:
		e.line(d, "Index Scan%s using %s on %s%s", dir, a.index.Name, name, rows)
	}
	var conds []string
	for _, p := range a.points {
		switch {
		case p.null:
			conds = append(conds, indexElem(p.col, nil)+" IS NULL")
		case p.array != nil:
			conds = append(conds, fmt.Sprintf("%s = ANY (%s)", indexElem(p.col, nil), e.text(p.array)))
		case len(p.vals) == 1:
			conds = append(conds, fmt.Sprintf("%s = %s", indexElem(p.col, nil), e.text(p.vals[0])))
		default:
			var vals []string
			for _, v := range p.vals {
				vals = append(vals, e.text(v))
			}
			conds = append(conds, fmt.Sprintf("%s IN (%s)", indexElem(p.col, nil), strings.Join(vals, ", ")))
		}
	}
	if r := a.rng; r != nil {
		if r.lo != nil {
			op := ">="
			if r.loExcl {
				op = ">"
			}
			conds = append(conds, fmt.Sprintf("%s %s %s", indexElem(r.col, nil), op, e.text(r.lo)))
		}
		if r.hi != nil {
			op := "<="
			if r.hiExcl {
				op = "<"
			}
			conds = append(conds, fmt.Sprintf("%s %s %s", indexElem(r.col, nil), op, e.text(r.hi)))
		}
		if r.prefix != "" {
			conds = append(conds, fmt.Sprintf("%s begins with %q", indexElem(r.col, nil), r.prefix))
		}
		if r.notNull {
			conds = append(conds, indexElem(r.col, nil)+" IS NOT NULL")
		}
	}
	if len(conds) > 0 {
		e.detail(d, "Index Cond: (%s)", strings.Join(conds, " AND "))
	}
	if len(a.residual) > 0 {
		e.detail(d, "Filter: %s", e.conds(a.residual))
	}
	if t.limitHint > 0 {
		e.detail(d, "Limit: %d", t.limitHint)
	}
	if t.lock.on {
		e.detail(d, "Lock: FOR UPDATE")
	}
}

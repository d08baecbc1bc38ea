package builtins

import (
	"strconv"
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// call resolves a function call by PostgreSQL's rules: the overload with the
// fewest implicit casts; unknown literals prefer text.
func (c *checker) call(e *tree.FuncExpr, desired *types.T) (tree.TypedExpr, error) {
	if f, ok := e.Func.FunctionReference.(*tree.FunctionDefinition); ok && e.ResolvedOverload() != nil && f != nil {
		return e, nil // Already typed.
	}
	def, err := e.Func.Resolve(c.ctx.SearchPath)
	if err != nil {
		return nil, c.unknownFunction(e)
	}
	if err := c.usage(def, e); err != nil {
		return nil, err
	}
	wasInAgg := c.inAgg
	if def.Class == tree.AggregateClass && e.WindowDef == nil {
		if c.inAgg {
			return nil, pgerr.New(pgerr.GroupingError, "aggregate function calls cannot be nested")
		}
		c.inAgg = true
	}
	defer func() { c.inAgg = wasInAgg }()

	args := e.Exprs
	if len(args) == 1 {
		if _, star := args[0].(tree.UnqualifiedStar); star {
			if def.Name != "count" {
				return nil, pgerr.Newf(pgerr.UndefinedFunction, "function %s() does not exist", def.Name).WithHint(hintFunction)
			}
			def, args = tree.FunDefs["count_rows"], nil
		}
	}
	if sequenceFuncs[def.Name] && len(args) > 0 {
		// nextval('s'::regclass): the name is all that is needed.
		args = append(tree.Exprs{stripRegclass(args[0])}, args[1:]...)
	}
	typed := make(tree.TypedExprs, len(args))
	known := make([]*types.T, len(args))
	for i, a := range args {
		known[i] = types.Unknown
		if c.isUntyped(a) {
			continue
		}
		x, err := c.check(a, types.Any)
		if err != nil {
			return nil, err
		}
		typed[i] = x
		known[i] = x.ResolvedType()
	}
	if strings.HasPrefix(def.Name, "enum_") && len(args) == 1 && isEnumType(known[0]) {
		e := &enumList{enum: known[0], typ: known[0], name: def.Name}
		if def.Name == "enum_range" {
			e.typ = types.MakeArray(known[0])
		}
		return e, nil
	}
	if def.Name == "pg_typeof" && len(args) == 1 {
		t := known[0]
		if isEnumType(t) {
			// The catalog knows its name.
			if o, err := strconv.ParseUint(t.Locale()[1:], 10, 32); err == nil {
				return &Cast{Expr: tree.NewDOid(tree.DInt(o)), Typ: types.RegType, Context: ExplicitCast}, nil
			}
		}
		return tree.NewDOidWithName(tree.DInt(t.Oid()), types.RegType, typeName(t)), nil
	}
	ov, params := resolveOverload(def, known)
	if ov == nil {
		return nil, noFunction(def.Name, known)
	}
	if _, same := ov.Types.(tree.HomogeneousType); same {
		if typed, _, err = c.unify(args, desired, strings.ToUpper(def.Name)); err != nil {
			return nil, err
		}
	} else {
		for i, a := range args {
			p := params[i]
			if typed[i] == nil {
				if _, any := ov.Types.(tree.VariadicType); any && p.Family() == types.AnyFamily {
					p = types.String // VARIADIC "any": each argument for itself.
				} else if p.IsAmbiguous() || p == types.AnyTuple {
					p = polymorphic(p, params, known)
				}
				if typed[i], err = c.resolveUntyped(a, p); err != nil {
					return nil, err
				}
				continue
			}
			if typed[i], err = c.asParam(a, typed[i], false, p); err != nil {
				return nil, err
			}
		}
		if def.Name != "unnest" { // Its arrays have nothing to do with each other.
			if !unifyPolymorphic(params, typed) {
				return nil, noFunction(def.Name, known)
			}
		}
	}
	for i := range typed {
		if i < len(params) && params[i].Family() == types.AnyFamily {
			typed[i] = rendered(def.Name, typed[i])
		}
	}
	typ := ov.ReturnType(typed)
	if typ == tree.UnknownReturnType {
		return nil, pgerr.New("42P18", "could not determine polymorphic type because input has type unknown")
	}
	filter, err := c.filter(def, e)
	if err != nil {
		return nil, err
	}
	window, err := c.window(def, e)
	if err != nil {
		return nil, err
	}
	out := tree.NewTypedFuncExpr(
		tree.ResolvableFunctionReference{FunctionReference: def}, e.Type, typed, nil, window, typ, &def.FunctionProperties, ov)
	if filter != nil {
		out.Filter = filter
	}
	for _, o := range e.OrderBy {
		x, err := c.check(o.Expr, types.Any)
		if err != nil {
			return nil, err
		}
		cp := *o
		cp.Expr = x
		out.OrderBy = append(out.OrderBy, &cp)
	}
	if e.Type == tree.DistinctFuncType && def.Class != tree.AggregateClass {
		return nil, pgerr.Newf(pgerr.WrongObjectType, "DISTINCT specified, but %s is not an aggregate function", def.Name)
	}
	if len(e.OrderBy) > 0 && def.Class != tree.AggregateClass {
		return nil, pgerr.Newf(pgerr.WrongObjectType, "ORDER BY specified, but %s is not an aggregate function", def.Name)
	}
	if def.Name == "abs" && typ.Family() == types.IntFamily && intWidth(typ) < 64 {
		return &intGuard{expr: out, typ: typ}, nil
	}
	return out, nil
}

const hintFunction = "No function matches the given name and argument types. You might need to add explicit type casts."

var sequenceFuncs = map[string]bool{"nextval": true, "currval": true, "setval": true}

func stripRegclass(e tree.Expr) tree.Expr {
	if cast, ok := tree.StripParens(e).(*tree.CastExpr); ok && regclassLike[cast.Type.Oid()] {
		switch inner := tree.StripParens(cast.Expr).(type) {
		case *tree.StrVal:
			return inner
		case *tree.CastExpr: // 's'::text::regclass
			if s, ok := tree.StripParens(inner.Expr).(*tree.StrVal); ok && isText(inner.Type) {
				return s
			}
		}
	}
	return e
}

func (c *checker) unknownFunction(e *tree.FuncExpr) error {
	known := make([]*types.T, len(e.Exprs))
	for i, a := range e.Exprs {
		known[i] = types.Unknown
		if _, star := a.(tree.UnqualifiedStar); star || c.isUntyped(a) {
			continue
		}
		if x, err := c.check(a, types.Any); err == nil {
			known[i] = x.ResolvedType()
		} else {
			return err
		}
	}
	return noFunction(e.Func.String(), known)
}

func noFunction(name string, args []*types.T) error {
	names := make([]string, len(args))
	for i, t := range args {
		names[i] = typeName(t)
	}
	return pgerr.Newf(pgerr.UndefinedFunction, "function %s(%s) does not exist", name, strings.Join(names, ", ")).
		WithHint(hintFunction)
}

// resolveOverload picks the overload for argument types, unknown included, and
// gives its parameter types.
func resolveOverload(def *tree.FunctionDefinition, args []*types.T) (*tree.Overload, []*types.T) {
	var best *tree.Overload
	var bestParams []*types.T
	bestCost := 1 << 30
	homogeneous := types.Unknown
	for _, t := range args {
		if t.Family() != types.UnknownFamily {
			homogeneous = t
			break
		}
	}
	for _, d := range def.Definition {
		ov := d.(*tree.Overload)
		if _, same := ov.Types.(tree.HomogeneousType); same {
			return ov, nil
		}
		if !ov.Types.MatchLen(len(args)) {
			continue
		}
		params := make([]*types.T, len(args))
		cost, ok := 0, true
		for i, t := range args {
			params[i] = ov.Types.GetAt(i)
			n, can := implicitCost(t, params[i])
			if !can {
				ok = false
				break
			}
			cost += 10 * n
			if t.Family() == types.UnknownFamily {
				cost += unknownCost(params[i], homogeneous)
			}
		}
		if !ok {
			continue
		}
		if ov.PreferredOverload {
			cost--
		}
		if cost < bestCost {
			best, bestParams, bestCost = ov, params, cost
		}
	}
	return best, bestParams
}

// polymorphic says what an unknown argument of an anyelement or anyarray
// parameter is, going by the other arguments.
func polymorphic(p *types.T, params, known []*types.T) *types.T {
	for i, t := range known {
		if t.Family() == types.UnknownFamily || i >= len(params) {
			continue
		}
		switch {
		case params[i].Family() == types.ArrayFamily && params[i].IsAmbiguous():
			if p.Family() == types.ArrayFamily {
				return t
			}
			return t.ArrayContents()
		case params[i].Family() == types.AnyFamily:
			if p.Family() == types.ArrayFamily {
				return types.MakeArray(t)
			}
			return t
		}
	}
	if p.Family() == types.ArrayFamily {
		return types.StringArray
	}
	return types.String
}

// unifyPolymorphic brings the elements of an (anyarray, anyelement) call to the
// array's type, as in array_append(bigint[], 1).
func unifyPolymorphic(params []*types.T, args tree.TypedExprs) bool {
	var elem *types.T
	hasElem := false
	for i, p := range params {
		switch {
		case p.Family() == types.ArrayFamily && p.IsAmbiguous() && args[i].ResolvedType().Family() == types.ArrayFamily:
			if elem == nil {
				elem = args[i].ResolvedType().ArrayContents()
			} else {
				t, ok := CommonType(elem, args[i].ResolvedType().ArrayContents())
				if !ok {
					return false
				}
				elem = t
			}
		case p.Family() == types.AnyFamily:
			hasElem = true
		}
	}
	if elem == nil {
		return true
	}
	if hasElem {
		for i, p := range params {
			if p.Family() != types.AnyFamily {
				continue
			}
			t, ok := CommonType(elem, args[i].ResolvedType())
			if !ok {
				return false
			}
			elem = t
		}
	}
	for i, p := range params {
		if args[i] == tree.DNull {
			continue
		}
		switch {
		case p.Family() == types.ArrayFamily && p.IsAmbiguous():
			args[i] = castTo(args[i], types.MakeArray(elem))
		case p.Family() == types.AnyFamily:
			args[i] = castTo(args[i], elem)
		}
	}
	return true
}

// usage enforces what the statement allows at this place, and notes what was seen.
func (c *checker) usage(def *tree.FunctionDefinition, e *tree.FuncExpr) error {
	props := &c.ctx.Properties
	reject := tree.SemaRejectFlags(0)
	switch {
	case e.WindowDef != nil:
		if def.Class != tree.AggregateClass && def.Class != tree.WindowClass {
			return pgerr.Newf(pgerr.WrongObjectType, "OVER specified, but %s is not a window function nor an aggregate function", def.Name)
		}
		reject = tree.RejectWindowApplications
		props.Derived.SeenWindowApplication = true
	case def.Class == tree.WindowClass:
		return pgerr.Newf(pgerr.WrongObjectType, "window function %s requires an OVER clause", def.Name)
	case def.Class == tree.AggregateClass:
		reject = tree.RejectAggregates
		props.Derived.SeenAggregate = true
	case def.Class == tree.GeneratorClass:
		reject = tree.RejectGenerators
		props.Derived.SeenGenerator = true
	}
	if def.Impure {
		props.Derived.SeenImpure = true
		if props.IsSet(tree.RejectImpureFunctions) {
			reject |= tree.RejectImpureFunctions
		}
	}
	if reject != 0 && props.IsSet(reject) {
		// The name of the place is only known to the parser's package: let it speak.
		_, err := (&tree.FuncExpr{Func: tree.ResolvableFunctionReference{FunctionReference: def}, WindowDef: e.WindowDef}).
			TypeCheck(c.ctx, types.Any)
		if err != nil {
			return pgerr.New(pgErrCode(err), strings.TrimPrefix(err.Error(), def.Name+"(): "))
		}
	}
	return nil
}

func (c *checker) filter(def *tree.FunctionDefinition, e *tree.FuncExpr) (tree.TypedExpr, error) {
	if e.Filter == nil {
		return nil, nil
	}
	if def.Class != tree.AggregateClass {
		return nil, pgerr.Newf(pgerr.WrongObjectType, "FILTER specified, but %s is not an aggregate function", def.Name)
	}
	return c.boolean(e.Filter, "FILTER")
}

// window checks the expressions of an inline window definition.
func (c *checker) window(def *tree.FunctionDefinition, e *tree.FuncExpr) (*tree.WindowDef, error) {
	if e.WindowDef == nil {
		return nil, nil
	}
	if e.Type == tree.DistinctFuncType {
		return nil, pgerr.New(pgerr.FeatureNotSupported, "DISTINCT is not implemented for window functions")
	}
	w, err := c.windowDef(e.WindowDef)
	if err != nil {
		return nil, err
	}
	return w, nil
}

// TypeCheckWindow checks the expressions of a window definition of a WINDOW
// clause.
func TypeCheckWindow(ctx *tree.SemaContext, w *tree.WindowDef) (*tree.WindowDef, error) {
	c := checker{ctx: ctx}
	out, err := c.windowDef(w)
	if err != nil {
		return nil, MapError(err)
	}
	return out, nil
}

func (c *checker) windowDef(in *tree.WindowDef) (*tree.WindowDef, error) {
	w := *in
	w.Partitions = make(tree.Exprs, len(in.Partitions))
	for i, p := range in.Partitions {
		x, err := c.check(p, types.Any)
		if err != nil {
			return nil, err
		}
		w.Partitions[i] = x
	}
	w.OrderBy = make(tree.OrderBy, len(in.OrderBy))
	var orderType *types.T
	for i, o := range in.OrderBy {
		x, err := c.check(o.Expr, types.Any)
		if err != nil {
			return nil, err
		}
		cp := *o
		cp.Expr = x
		w.OrderBy[i] = &cp
		orderType = x.ResolvedType()
	}
	if in.Frame == nil {
		return &w, nil
	}
	f := *in.Frame
	bound := func(b *tree.WindowFrameBound) (*tree.WindowFrameBound, error) {
		if b == nil || b.OffsetExpr == nil {
			return b, nil
		}
		want := types.Int
		if f.Mode == tree.RANGE && orderType != nil {
			want = orderType
			switch orderType.Family() {
			case types.DateFamily, types.TimestampFamily, types.TimestampTZFamily, types.TimeFamily, types.TimeTZFamily:
				want = types.Interval
			}
		}
		x, err := c.check(b.OffsetExpr, want)
		if err != nil {
			return nil, err
		}
		if f.Mode != tree.RANGE && x.ResolvedType().Family() != types.IntFamily {
			if !CanCast(x.ResolvedType(), types.Int, AssignmentCast) {
				return nil, pgerr.Newf(pgerr.DatatypeMismatch, "argument of %s must be type bigint, not type %s",
					map[tree.WindowFrameMode]string{tree.ROWS: "ROWS", tree.GROUPS: "GROUPS"}[f.Mode], typeName(x.ResolvedType()))
			}
			x = castTo(x, types.Int)
		} else if f.Mode == tree.RANGE && want.Family() != types.IntervalFamily && x.ResolvedType().Family() != want.Family() &&
			CanCast(x.ResolvedType(), want, ImplicitCast) {
			x = castTo(x, want)
		}
		cp := *b
		cp.OffsetExpr = x
		return &cp, nil
	}
	var err error
	if f.Bounds.StartBound, err = bound(in.Frame.Bounds.StartBound); err != nil {
		return nil, err
	}
	if f.Bounds.EndBound, err = bound(in.Frame.Bounds.EndBound); err != nil {
		return nil, err
	}
	w.Frame = &f
	return &w, nil
}

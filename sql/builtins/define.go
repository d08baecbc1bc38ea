package builtins

import (
	"sort"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// fn is the body of a scalar function over evaluated arguments, none of them
// NULL unless the function was defined with nullable.
type fn = func(*tree.EvalContext, tree.Datums) (tree.Datum, error)

// definitions collects overloads by name before they go to tree.FunDefs.
type definitions map[string]*definition

type definition struct {
	props     tree.FunctionProperties
	overloads []tree.Overload
	gens      []GeneratorFactory // by overload, for set-returning functions
}

// option changes the properties of a function.
type option func(*tree.FunctionProperties)

// nullable functions see NULL arguments; volatile ones change from call to call.
func nullable(p *tree.FunctionProperties) { p.NullableArgs = true }
func volatile(p *tree.FunctionProperties) {
	p.Impure, p.NeedsRepeatedEvaluation = true, true
}

func (d definitions) get(name string) *definition {
	def := d[name]
	if def == nil {
		def = &definition{}
		d[name] = def
	}
	return def
}

func (d definitions) add(name string, args tree.TypeList, ret tree.ReturnTyper, f fn, opts ...option) {
	def := d.get(name)
	for _, o := range opts {
		o(&def.props)
	}
	def.overloads = append(def.overloads, tree.Overload{Types: args, ReturnType: ret, Fn: interruptible(name, f)})
	def.gens = append(def.gens, nil)
}

// scalar defines a function of fixed argument types.
func (d definitions) scalar(name string, args []*types.T, ret *types.T, f fn, opts ...option) {
	d.add(name, argTypes(args...), tree.FixedReturnType(ret), f, opts...)
}

// same defines one function under several names.
func (d definitions) same(names []string, args []*types.T, ret *types.T, f fn, opts ...option) {
	for _, n := range names {
		d.scalar(n, args, ret, f, opts...)
	}
}

// generator defines a set-returning function.
func (d definitions) generator(name string, args tree.TypeList, ret tree.ReturnTyper, g GeneratorFactory, opts ...option) {
	def := d.get(name)
	def.props.Class = tree.GeneratorClass
	for _, o := range opts {
		o(&def.props)
	}
	def.overloads = append(def.overloads, tree.Overload{
		Types: args, ReturnType: ret,
		Fn: func(*tree.EvalContext, tree.Datums) (tree.Datum, error) {
			return nil, errSetInScalar()
		},
	})
	def.gens = append(def.gens, interruptibleGenerator(name, g))
}

// aggregate defines an aggregate function; it serves as a window function too.
func (d definitions) aggregate(name string, args tree.TypeList, ret tree.ReturnTyper, newFn func(argTypes []*types.T, ctx *tree.EvalContext) tree.AggregateFunc) {
	def := d.get(name)
	def.props.Class = tree.AggregateClass
	def.props.NullableArgs = true
	def.overloads = append(def.overloads, tree.Overload{
		Types: args, ReturnType: ret,
		Fn: func(*tree.EvalContext, tree.Datums) (tree.Datum, error) {
			return nil, pgerr.Newf(pgerr.GroupingError, "aggregate function %s is not allowed here", name)
		},
		AggregateFunc: func(t []*types.T, ctx *tree.EvalContext, _ tree.Datums) tree.AggregateFunc { return newFn(t, ctx) },
	})
	def.gens = append(def.gens, nil)
}

func (d definitions) window(name string, args tree.TypeList, ret tree.ReturnTyper) {
	def := d.get(name)
	def.props.Class = tree.WindowClass
	def.props.NullableArgs = true
	def.overloads = append(def.overloads, tree.Overload{
		Types: args, ReturnType: ret,
		Fn: func(*tree.EvalContext, tree.Datums) (tree.Datum, error) {
			return nil, pgerr.Newf("42P20", "window function %s is not allowed here", name)
		},
	})
	def.gens = append(def.gens, nil)
}

// publish moves everything to the parser's table.
func (d definitions) publish() {
	tree.FunDefs = make(map[string]*tree.FunctionDefinition, len(d))
	for name, def := range d {
		fd := tree.NewFunctionDefinition(name, &def.props, def.overloads)
		for i, o := range fd.Definition {
			if def.gens[i] != nil {
				generators[o.(*tree.Overload)] = def.gens[i]
			}
		}
		tree.FunDefs[name] = fd
	}
}

// Names lists all functions, sorted.
func Names() []string {
	names := make([]string, 0, len(tree.FunDefs))
	for n := range tree.FunDefs {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

func argTypes(ts ...*types.T) tree.TypeList {
	a := make(tree.ArgTypes, len(ts))
	for i, t := range ts {
		a[i].Name = "arg"
		a[i].Typ = t
	}
	return a
}

func variadic(fixed []*types.T, v *types.T) tree.TypeList {
	return tree.VariadicType{FixedTypes: fixed, VarType: v}
}

// Short names for the argument lists of definitions.
var (
	tInt   = types.Int
	tInt4  = types.Int4
	tFloat = types.Float
	tDec   = types.Decimal
	tText  = types.String
	tBytes = types.Bytes
	tBool  = types.Bool
	tDate  = types.Date
	tTS    = types.Timestamp
	tTSTZ  = types.TimestampTZ
	tTime  = types.Time
	tTTZ   = types.TimeTZ
	tIval  = types.Interval
	tJSON  = types.Jsonb
	tAny   = types.Any
	tArr   = types.AnyArray
	tOid   = types.Oid
	tInet  = types.INet
	tUUID  = types.Uuid
	tBit   = types.VarBit
)

func ts(t ...*types.T) []*types.T { return t }

func str(d tree.Datum) string {
	s, _ := textOf(unwrap(d))
	return s
}
func num(d tree.Datum) int64            { return int64(tree.MustBeDInt(d)) }
func float(d tree.Datum) float64        { return float64(*d.(*tree.DFloat)) }
func text(s string) (tree.Datum, error) { return tree.NewDString(s), nil }
func dint(i int64) (tree.Datum, error)  { return tree.NewDInt(tree.DInt(i)), nil }
func dbool(b bool) (tree.Datum, error)  { return tree.MakeDBool(tree.DBool(b)), nil }
func dfloat(f float64) (tree.Datum, error) {
	return tree.NewDFloat(tree.DFloat(f)), nil
}

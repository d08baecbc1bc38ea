package builtins

import (
	"context"
	"runtime"
	"time"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
)

// Between rows a statement looks whether it has been canceled. One call with huge
// arguments can take many seconds of its own, inside of code that cannot look: of
// regular expressions, arbitrary precision, JSON. Such a call runs beside the
// statement, which leaves it when it is canceled. The call then ends by itself; it
// is a pure function of its arguments, and nobody waits for its result.

const (
	// longText and longDecimal are the sizes in bytes from which arguments are huge.
	longText    = 256 << 10
	longDecimal = 1 << 10
	longArray   = 10_000
)

// leftCalls bounds how many calls run beside statements, those that were left
// included. A further one waits for its place, and can be canceled while it does;
// after patience it runs inside of its statement, so that calls that were left hold
// up nobody else.
const patience = time.Second

var leftCalls = make(chan struct{}, 2*runtime.GOMAXPROCS(0))

// longCalls are pure functions whose time grows with their arguments, and is not
// looked after inside.
var longCalls = map[string]bool{
	"regexp_replace": true, "regexp_match": true, "regexp_matches": true, "regexp_split_to_array": true, "regexp_split_to_table": true,
	"regexp_count": true, "regexp_instr": true, "regexp_like": true, "regexp_substr": true, "substring": true,
	"replace": true, "translate": true, "reverse": true, "upper": true, "lower": true, "initcap": true, "lpad": true, "rpad": true,
	"string_to_array": true, "string_to_table": true, "split_part": true, "array_to_string": true, "unnest": true,
	"to_char": true, "to_number": true, "to_date": true, "to_timestamp": true, "format": true, "overlay": true, "encode": true, "decode": true,
	"array_remove": true, "array_replace": true, "array_positions": true, "array_cat": true, "array_to_json": true, "to_json": true, "to_jsonb": true,
	"json_array_elements": true, "jsonb_array_elements": true, "json_array_elements_text": true, "jsonb_array_elements_text": true,
	"md5": true, "sha224": true, "sha256": true, "sha384": true, "sha512": true, "similar_to_escape": true, "btrim": true, "ltrim": true, "rtrim": true,
	"exp": true, "ln": true, "log": true, "log10": true, "power": true, "pow": true, "sqrt": true, "cbrt": true, "factorial": true, "div": true, "mod": true,
}

// transcendental functions of decimals take long for small arguments too.
var transcendental = map[string]bool{"exp": true, "ln": true, "log": true, "log10": true, "power": true, "pow": true, "cbrt": true, "sqrt": true}

// interruptible makes a function of longCalls one that a canceled statement leaves.
func interruptible(name string, f fn) fn {
	if !longCalls[name] {
		return f
	}
	return func(ctx *tree.EvalContext, args tree.Datums) (tree.Datum, error) {
		if !longCall(name, args) {
			return f(ctx, args)
		}
		own := append(tree.Datums(nil), args...) // The caller uses its slice again.
		return leave(ctx, func(ctx *tree.EvalContext) (tree.Datum, error) { return f(ctx, own) })
	}
}

func interruptibleGenerator(name string, g GeneratorFactory) GeneratorFactory {
	if !longCalls[name] {
		return g
	}
	return func(ctx *tree.EvalContext, args tree.Datums) (Generator, error) {
		if !longCall(name, args) {
			return g(ctx, args)
		}
		own := append(tree.Datums(nil), args...)
		return leave(ctx, func(ctx *tree.EvalContext) (Generator, error) { return g(ctx, own) })
	}
}

func longCall(name string, args tree.Datums) bool {
	for _, a := range args {
		switch d := a.(type) {
		case *tree.DDecimal:
			if transcendental[name] {
				return true
			}
		case *tree.DInt:
			if (name == "lpad" || name == "rpad") && *d > longText {
				return true
			}
		}
		if huge(a) {
			return true
		}
	}
	return false
}

// huge says whether work on one value may take long.
func huge(d tree.Datum) bool {
	switch d := d.(type) {
	case *tree.DString:
		return len(*d) > longText
	case *tree.DBytes:
		return len(*d) > longText
	case *tree.DDecimal:
		return d.Coeff.BitLen() > 8*longDecimal
	case *tree.DArray:
		return d.Len() > longArray
	case *tree.DOidWrapper:
		return huge(d.Wrapped)
	}
	return false
}

// leave runs f and waits for it, unless the statement is canceled first.
func leave[T any](ctx *tree.EvalContext, f func(*tree.EvalContext) (T, error)) (T, error) {
	var none T
	if ctx == nil || ctx.Context == nil || ctx.Context.Done() == nil {
		return f(ctx)
	}
	stmt := ctx.Context
	select {
	case leftCalls <- struct{}{}:
	default:
		t := time.NewTimer(patience)
		defer t.Stop()
		select {
		case leftCalls <- struct{}{}:
		case <-t.C:
			return f(ctx)
		case <-stmt.Done():
			return none, context.Cause(stmt)
		}
	}
	type outcome struct {
		val      T
		err      error
		panicked any
	}
	own := *ctx // The statement's is used again by the next one.
	done := make(chan outcome, 1)
	// It ends when f does; leftCalls bounds how many there are.
	go func() {
		var o outcome
		defer func() {
			o.panicked = recover()
			<-leftCalls
			done <- o
		}()
		o.val, o.err = f(&own)
	}()
	select {
	case o := <-done:
		if o.panicked != nil {
			panic(o.panicked)
		}
		return o.val, o.err
	case <-stmt.Done():
		return none, context.Cause(stmt)
	}
}

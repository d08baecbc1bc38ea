package builtins

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// samples has values of every type, ordinary and odd ones.
var samples = []string{
	"1", "0", "-1", "2147483647", "9223372036854775807", "1::int2", "1.5", "0.0", "-1e10", "'NaN'::numeric", "1.5::float8", "'inf'::float8",
	"'NaN'::float8", "1.1::float4", "'abc'", "''", "'1'", "'é%_\\'", "null", "null::int", "null::text", "true", "'2024-01-31'::date",
	"'infinity'::date", "'2024-01-31 10:11:12.5'::timestamp", "'infinity'::timestamp", "'2024-07-01 00:00+02'::timestamptz", "'10:11:12'::time",
	"'10:11:12+02'::timetz", "'1 month -2 days 03:04:05'::interval", "'{\"a\":[1,null,\"x\"]}'::jsonb", "'null'::jsonb", "'[]'::jsonb",
	"array[1,2,null]", "array[]::int[]", "array['a','b']", "'\\x00ff'::bytea", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid",
	"'10.0.0.1/8'::inet", "'::1'::inet", "B'101'", "row(1,'a')", "'ab'::char(4)", "'ab'::varchar(5)", "'x'::name", "23::oid",
}

// TestNoPanics applies every operator and every function to random samples: wrong
// types, NULLs and extreme values must give errors, never panics.
func TestNoPanics(t *testing.T) {
	eval := testEval(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	<-ctx.Done()
	eval.Context = ctx // pg_sleep and the like return at once.
	rng := rand.New(rand.NewPCG(1, 2))
	sample := func() string { return samples[rng.IntN(len(samples))] }
	check := func(e string) {
		if out := evalString(eval, e); strings.HasPrefix(out, "PANIC") {
			t.Errorf("%s: %s", e, out)
		}
	}
	ops := strings.Fields("+ - * / % ^ || & | # << >> = <> < <= > >= ~ !~ ~* -> ->> #> #>> @> <@ ? ?| ?& && #- // >>=")
	ops = append(ops, "like", "not ilike", "similar to", "is distinct from", "is not distinct from", "and", "or")
	for _, op := range ops {
		for range 120 {
			check("(" + sample() + ") " + op + " (" + sample() + ")")
		}
	}
	for _, a := range samples {
		for _, form := range []string{
			"-(%s)", "~(%s)", "not (%s)", "(%s) is null", "(%s) is not null", "(%s)[1]", "(%s)[1:2]", "case when true then %s else 1 end",
			"coalesce(%s, 'x')", "array[%s, 1]", "nullif(%s, 1)", "(%s) between 1 and 'b'", "(%s) in (1, 'a', null)", "(%s) = any(array[1,2])",
			"1 = any(%s)", "'a' = all(%s)", "(%s, 1) = (1, 2)", "(%s)::text", "extract(year from %s)", "(%s) at time zone 'UTC'", "(%s) is true",
		} {
			check(fmt.Sprintf(form, a))
		}
		for _, typ := range []string{
			"int2", "int4", "int8", "float4", "float8", "numeric", "numeric(3,1)", "text", "varchar(2)", "char(3)", "bool", "date", "timestamp(0)",
			"timestamptz", "time", "timetz", "interval", "jsonb", "bytea", "uuid", "inet", "bit(4)", "varbit", "int[]", "text[]", "oid", "regclass", "name",
		} {
			check(fmt.Sprintf("(%s)::%s", a, typ))
		}
	}
	for _, name := range Names() {
		if strings.HasPrefix(name, "crdb_internal.") || name == "repeat" || name == "lpad" || name == "rpad" {
			continue // The last three may well make large strings.
		}
		call := name
		if i := strings.LastIndexByte(name, '.'); i < 0 {
			call = QuoteIdent(name)
			if quotedWords[name] {
				call = name
			}
		}
		check(call + "()")
		for n := 1; n <= 4; n++ {
			for range 25 {
				args := make([]string, n)
				for i := range args {
					args[i] = sample()
				}
				check(call + "(" + strings.Join(args, ", ") + ")")
			}
		}
	}
}

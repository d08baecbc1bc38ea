package builtins

import (
	"context"
	"errors"
	"regexp"
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/pgwire/pgerror"
	cerrors "github.com/cockroachdb/errors"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// MapError turns an error of the parser's packages into the *pgerr.Error that
// PostgreSQL would send. Errors of other packages pass unchanged, also when the
// parser's evaluator has wrapped them with a function's name.
func MapError(err error) error {
	if err == nil {
		return nil
	}
	var pe *pgerr.Error
	if errors.As(err, &pe) {
		// The evaluator puts "name(): " in front of errors of functions.
		return pe
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	code := pgErrCode(err)
	if code == "" || code == pgerr.Uncategorized || code == pgerr.Internal {
		// Without a code it is not the parser's, or an assertion: let the caller see it.
		root := cerrors.UnwrapAll(err)
		if _, ours := root.(interface{ IsTransactionError() bool }); ours {
			return root
		}
		if m, c, ok := rewriteMessage(err.Error()); ok {
			return pgerr.Newf(c, "%s", m)
		}
		return err
	}
	msg := err.Error()
	if m, c, ok := rewriteMessage(msg); ok {
		msg = m
		if c != "" {
			code = c
		}
	}
	e := pgerr.New(code, msg)
	if hint := cerrors.FlattenHints(err); hint != "" && code != pgerr.UndefinedFunction {
		e.Hint = hint
	}
	if detail := cerrors.FlattenDetails(err); detail != "" {
		e.Detail = detail
	}
	return e
}

func asPGErr(err error, target **pgerr.Error) bool { return errors.As(err, target) }

// pgErrCode finds the code that the parser's packages attached to err.
func pgErrCode(err error) pgerr.Code {
	var pe *pgerr.Error
	if errors.As(err, &pe) {
		return pe.Code
	}
	return pgerr.Code(pgerror.GetPGCode(err))
}

type rewrite struct {
	re   *regexp.Regexp
	to   string
	code pgerr.Code
}

// rewrites turns the parser's texts into PostgreSQL's.
var rewrites = []rewrite{
	{regexp.MustCompile(`^(?:\w+\(\): )?could not parse "((?s:.*))" as type (\w+)(?::.*)?$`), "invalid input syntax for type $2: \"$1\"", "22P02"},
	{regexp.MustCompile(`^(?:\w+\(\): )?could not parse '((?s:.*))' as type (\w+)(?::.*)?$`), "invalid input syntax for type $2: \"$1\"", "22P02"},
	{regexp.MustCompile(`^parsing as type (\w+): .*"((?s:.*))".*$`), "invalid input syntax for type $1: \"$2\"", "22007"},
	{regexp.MustCompile(`^(?:zero modulus|division by zero)$`), "division by zero", "22012"},
	{regexp.MustCompile(`^integer out of range$`), "bigint out of range", "22003"},
	{regexp.MustCompile(`^float out of range$`), "value out of range: overflow", "22003"},
	{regexp.MustCompile(`^decimal out of range$`), "value overflows numeric format", "22003"},
	{regexp.MustCompile(`^numeric constant out of int64 range$`), "bigint out of range", "22003"},
	{regexp.MustCompile(`^could not evaluate \S+ as Datum type DDecimal from string .*$`), "value overflows numeric format", "22003"},
	{regexp.MustCompile(`^date is out of range$`), "date out of range", "22008"},
	{regexp.MustCompile(`^could not determine data type of placeholder (\$\d+)$`), "could not determine data type of parameter $1", "42P18"},
	{regexp.MustCompile(`^unknown function: (.*)\(\).*$`), "function $1() does not exist", "42883"},
	{regexp.MustCompile(`^no value provided for placeholder: (\$\d+)$`), "there is no parameter $1", "42P02"},
	{regexp.MustCompile(`^cannot (AND|OR|XOR) bit strings of different sizes$`), "cannot $1 bit strings of different sizes", "22026"},
}

func rewriteMessage(msg string) (string, pgerr.Code, bool) {
	for _, r := range rewrites {
		if r.re.MatchString(msg) {
			out := r.re.ReplaceAllString(msg, r.to)
			return pgTypeWords.Replace(out), r.code, true
		}
	}
	return "", "", false
}

// pgTypeWords names the parser's types as PostgreSQL does in "invalid input
// syntax for type …".
var pgTypeWords = strings.NewReplacer(
	"for type int:", "for type integer:", "for type int8:", "for type bigint:", "for type decimal:", "for type numeric:",
	"for type float:", "for type double precision:", "for type bool:", "for type boolean:", "for type bytes:", "for type bytea:",
	"for type timestamp:", "for type timestamp:", "for type jsonb:", "for type json:", "for type string:", "for type text:",
)

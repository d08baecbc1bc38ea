package sql

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"

	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/parser"
)

// viewText is a view's query as PostgreSQL shows it: with the view's own names of
// the columns.
func viewText(t *catalog.Table) string {
	text := pgTypes(strings.TrimSuffix(t.Proto().ViewQuery, ";"))
	if !viewNamesColumns(t) {
		names := make([]string, 0, len(t.Columns()))
		for _, c := range t.Columns() {
			if !c.Hidden {
				names = append(names, quoteIdent(c.Name))
			}
		}
		text = "SELECT " + strings.Join(names, ", ") + " FROM (" + text + ") AS q (" + strings.Join(names, ", ") + ")"
	}
	return " " + text + ";"
}

// viewNamesColumns says whether a view's query alone gives its columns their names.
func viewNamesColumns(t *catalog.Table) bool {
	stmt, err := parser.ParseOne(t.Proto().ViewQuery)
	if err != nil {
		return true
	}
	sel, ok := stmt.AST.(*tree.Select)
	if !ok {
		return true
	}
	body := sel.Select
	for {
		switch b := body.(type) {
		case *tree.ParenSelect:
			body = b.Select.Select
		case *tree.UnionClause:
			body = b.Left.Select
		case *tree.SelectClause:
			var names []string
			for _, c := range t.Columns() {
				if !c.Hidden {
					names = append(names, c.Name)
				}
			}
			for i, e := range b.Exprs {
				switch n := e.Expr.(type) {
				case tree.UnqualifiedStar:
					return true
				case *tree.UnresolvedName:
					if n.Star {
						return true
					}
				}
				name := string(e.As)
				if name == "" {
					name = exprName(e.Expr)
				}
				if i >= len(names) || name != names[i] && (e.As != "" || name != "expr") {
					return false
				}
			}
			return true
		default:
			return false // VALUES
		}
	}
}

// pgTypeNames are PostgreSQL's names of the types that the parser prints by names
// of its own.
var pgTypeNames = map[string]string{
	"STRING": "text", "INT8": "bigint", "INT4": "integer", "INT2": "smallint", "VARCHAR": "character varying", "CHAR": "character",
	"TIMESTAMPTZ": "timestamp with time zone", "TIMESTAMP": "timestamp without time zone", "TIMETZ": "time with time zone",
	"TIME": "time without time zone", "DECIMAL": "numeric", "FLOAT8": "double precision", "FLOAT4": "real", "BOOL": "boolean", "DATE": "date",
	"JSONB": "jsonb", "UUID": "uuid", "BYTES": "bytea", "REGCLASS": "regclass", "REGTYPE": "regtype", "INTERVAL": "interval", "BIT": "bit",
	"VARBIT": "bit varying", "INET": "inet", "NAME": "name", "OID": "oid",
}

var bareFunctions = map[string]bool{
	"current_timestamp": true, "current_date": true, "current_time": true, "localtimestamp": true, "localtime": true, "current_user": true,
	"session_user": true, "current_role": true, "current_catalog": true,
}

func wordByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c >= 0x80
}

// pgTypes rewrites the types of an expression or query as the parser prints it to
// PostgreSQL's names: after :: and :::, and in CAST. What stands in quotes stays.
func pgTypes(s string) string {
	var b strings.Builder
	var casts []int // depths of the parentheses of open CASTs
	depth := 0
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case c == '\'' || c == '"':
			j := quotedEnd(s, i, false)
			b.WriteString(s[i:j])
			i = j
			continue
		case (c == 'e' || c == 'b') && strings.HasPrefix(s[i+1:], "'") && (i == 0 || !wordByte(s[i-1])):
			j := quotedEnd(s, i+1, true)
			b.WriteString(pgLiteral(s[i:j]))
			i = j
			continue
		case c >= 'a' && c <= 'z' && (i == 0 || !wordByte(s[i-1])):
			// Functions that PostgreSQL writes without parentheses.
			j := i
			for j < len(s) && wordByte(s[j]) {
				j++
			}
			b.WriteString(s[i:j])
			if bareFunctions[s[i:j]] && strings.HasPrefix(s[j:], "()") {
				j += len("()")
			}
			i = j
			continue
		case strings.HasPrefix(s[i:], ":::"):
			// An annotation tells the type checker what it would find itself; of numbers
			// it would only add noise.
			if name := typeWord(s[i+3:]); name == "INT8" || name == "DECIMAL" || name == "FLOAT8" {
				i += 3 + len(name)
				continue
			}
			i++
			continue
		case strings.HasPrefix(s[i:], "::"):
			b.WriteString("::")
			i += 2
			i += writeType(&b, s[i:])
			continue
		case c == '(':
			depth++
			if strings.HasSuffix(s[:i], "CAST") {
				casts = append(casts, depth)
			}
		case c == ')':
			if len(casts) > 0 && casts[len(casts)-1] == depth {
				casts = casts[:len(casts)-1]
			}
			depth--
		case strings.HasPrefix(s[i:], " AS ") && len(casts) > 0 && casts[len(casts)-1] == depth:
			b.WriteString(" AS ")
			i += len(" AS ")
			i += writeType(&b, s[i:])
			continue
		}
		b.WriteByte(s[i])
		i++
	}
	return b.String()
}

// pgLiteral is a literal with escapes, e'…' or b'…', as PostgreSQL writes it. What
// has other escapes than those of quotes and backslashes keeps its form.
func pgLiteral(lit string) string {
	raw, ok := unescape(lit[2 : len(lit)-1])
	switch {
	case !ok:
		return lit
	case lit[0] == 'b':
		return fmt.Sprintf("'\\x%x'::bytea", raw)
	}
	for _, r := range raw {
		if r < ' ' {
			return lit
		}
	}
	return "'" + strings.ReplaceAll(raw, "'", "''") + "'"
}

// unescape takes the backslashes out of a literal as the parser prints it.
func unescape(s string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		i++
		if i == len(s) {
			return "", false
		}
		if j := strings.IndexByte("abfnrtv\\'\"", s[i]); j >= 0 {
			b.WriteByte("\a\b\f\n\r\t\v\\'\""[j])
			continue
		}
		base, digits := 8, 3
		if s[i] == 'x' {
			base, digits, i = 16, 2, i+1
		}
		if i+digits > len(s) {
			return "", false
		}
		n, err := strconv.ParseUint(s[i:i+digits], base, 8)
		if err != nil {
			return "", false
		}
		b.WriteByte(byte(n))
		i += digits - 1
	}
	return b.String(), true
}

// quotedEnd is where the quoted text that begins at i ends.
func quotedEnd(s string, i int, escapes bool) int {
	q := s[i]
	for j := i + 1; j < len(s); j++ {
		switch {
		case s[j] == '\\' && escapes:
			j++
		case s[j] == q && j+1 < len(s) && s[j+1] == q:
			j++
		case s[j] == q:
			return j + 1
		}
	}
	return len(s)
}

// typeWord is the upper-case word at the start of s.
func typeWord(s string) string {
	n := 0
	for n < len(s) && (s[n] >= 'A' && s[n] <= 'Z' || n > 0 && s[n] >= '0' && s[n] <= '9') {
		n++
	}
	return s[:n]
}

// writeType writes the type at the start of s by PostgreSQL's name and returns how
// many bytes of s that was.
func writeType(b *strings.Builder, s string) int {
	name := typeWord(s)
	pg, ok := pgTypeNames[name]
	if !ok {
		return 0
	}
	n := len(name)
	if strings.HasPrefix(s[n:], "(") {
		// The precision of times stands before their zone.
		if end := strings.IndexByte(s[n:], ')'); end > 0 {
			mod := s[n : n+end+1]
			if base, zone, ok := strings.Cut(pg, " with"); ok {
				pg = base + mod + " with" + zone
			} else {
				if name == "STRING" {
					pg = "character varying"
				}
				pg += mod
			}
			n += end + 1
		}
	}
	b.WriteString(pg)
	return n
}

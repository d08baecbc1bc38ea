package parser

import (
	"strings"
)

// recordFunc rewrites json_to_recordset(j) AS t (a int, …) and its like, whose
// columns are defined where they are used, as the query that they stand for.
func (w *rewrites) recordFunc(name string) bool {
	f := w.f
	if !w.tok(1).op("(") {
		return false
	}
	end := f.skipParens(w.i + 1)
	if end > w.hi {
		return false
	}
	// [AS] [alias] (column type, …)
	at := end
	if at < w.hi && f.toks[at].is("as") {
		at++
	}
	alias := `"` + name + `"`
	if at < w.hi && f.toks[at].isName() && !f.toks[at].op("(") {
		alias = f.src[f.toks[at].pos:f.toks[at].end]
		at++
	}
	if at >= w.hi || !f.toks[at].op("(") {
		return false
	}
	stop := f.skipParens(at)
	if stop > w.hi {
		return false
	}
	const value = `"json value"`
	var cols []string
	saved := f.i
	defer func() { f.i = saved }()
	for f.i = at + 1; f.i < stop-1; f.i++ {
		comma := min(f.until(func(i int) bool { return f.toks[i].op(",") }), stop-1)
		if comma < f.i+2 || !f.toks[f.i].isName() {
			return false // Names of columns, without types.
		}
		cols = append(cols, recordColumn(value, f.toks[f.i].str, f.text(f.i+1, comma)))
		f.i = comma
	}
	open := "(SELECT " + strings.Join(cols, ", ") + " FROM "
	tail := "::jsonb) AS " + `"json rows"(` + value + ")) AS " + alias
	if strings.HasSuffix(name, "set") {
		open += "jsonb_array_elements("
	} else {
		open += "(SELECT "
	}
	if !w.tok(-1).is("lateral") {
		open = "LATERAL " + open
	}
	if w.later == nil {
		w.later = map[int]func(){}
	}
	w.put(1, open)
	n := stop - end
	if end >= w.hi {
		return false
	}
	w.later[end] = func() { w.put(n, tail) }
	return true
}

// recordColumn is the expression of one column: the member of that name, as its
// type.
func recordColumn(value, name, typ string) string {
	key := "'" + strings.ReplaceAll(name, "'", "''") + "'"
	out := ` AS "` + strings.ReplaceAll(name, `"`, `""`) + `"`
	lower := strings.ToLower(strings.TrimSpace(typ))
	if elem, ok := strings.CutSuffix(lower, "[]"); ok {
		return "CASE WHEN jsonb_typeof(" + value + "->" + key + ") = 'array' THEN ARRAY(SELECT x::" + elem +
			" FROM jsonb_array_elements_text(" + value + "->" + key + ") AS t(x)) ELSE (" + value + "->>" + key + ")::" + typ + " END" + out
	}
	if lower == "json" || lower == "jsonb" {
		return "(" + value + "->" + key + ")" + out
	}
	return "(" + value + "->>" + key + ")::" + typ + out
}

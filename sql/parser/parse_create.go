package parser

import (
	"fmt"
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// create takes the CREATE statements that the module lacks.
func (f *front) create() tree.Statement {
	f.expect("create")
	t := f.peek()
	switch {
	case f.accept("schedule"):
		return f.createSchedule()
	case f.accept("external", "connection"):
		return f.createConnection()
	case f.accept("schema"):
		return f.createSchema()
	case f.accept("type"):
		return f.createType()
	case f.accept("database"):
		return f.createDatabase()
	case f.accept("role"), f.accept("group"):
		return f.createRole(false)
	case f.accept("user"):
		return f.createRole(true)
	case f.accept("sequence"):
		return f.createSequence(false)
	case f.accept("temp", "sequence"), f.accept("temporary", "sequence"):
		return f.createSequence(true)
	case f.looking("or"), f.looking("view"), f.looking("materialized"), f.looking("recursive"), f.looking("temp", "view"), f.looking("temporary", "view"):
		return f.createView()
	case f.looking("index"), f.looking("unique"), f.looking("inverted"):
		return f.createIndex()
	case f.looking("table"), f.looking("temp"), f.looking("temporary"), f.looking("unlogged"), f.looking("local"), f.looking("global"):
		return f.createTable()
	case f.accept("extension"):
		return f.createExtension()
	case f.looking("statistics"):
		return nil
	case t.is("function"), t.is("procedure"), t.is("trigger"), t.is("domain"), t.is("aggregate"), t.is("cast"), t.is("collation"),
		t.is("conversion"), t.is("rule"), t.is("operator"), t.is("policy"), t.is("publication"), t.is("subscription"),
		t.is("server"), t.is("foreign"), t.is("language"), t.is("text"), t.is("access"), t.is("event"), t.is("tablespace"),
		t.is("transform"), t.is("constraint"), t.is("trusted"), t.is("procedural"):
		what := upper(t.str)
		if t.is("event") || t.is("access") || t.is("foreign") || t.is("text") {
			what += " " + upper(f.at(1).str)
		}
		f.unsupported(t, "CREATE %s is not supported", what)
	}
	return nil
}

func (f *front) createExtension() tree.Statement {
	f.ifNotExists()
	t := f.next()
	switch t.str {
	case "plpgsql", "uuid-ossp", "pgcrypto", "citext", "btree_gin", "btree_gist", "pg_stat_statements":
		return &NoOp{node: f.node(tree.DDL, "CREATE EXTENSION"),
			Notice: fmt.Sprintf("extension \"%s\" needs no installation: what is supported of it is built in", t.str)}
	}
	f.unsupported(t, "extension \"%s\" is not available", t.str)
	return nil
}

func (f *front) createSchema() tree.Statement {
	n := &CreateSchema{IfNotExists: f.ifNotExists()}
	if !f.looking("authorization") {
		n.Name = f.schemaName()
	}
	if f.accept("authorization") {
		n.AuthRole = f.role()
		if n.Name.Schema == "" {
			n.Name.Schema = tree.Name(n.AuthRole)
		}
	}
	if !f.eof() && (f.looking("create") || f.looking("grant")) {
		f.unsupported(f.peek(), "CREATE SCHEMA with schema elements is not supported")
	}
	f.done()
	n.node = f.node(tree.DDL, "CREATE SCHEMA")
	return n
}

func (f *front) createType() tree.Statement {
	n := &CreateType{IfNotExists: f.ifNotExists()}
	n.Name = f.object()
	if !f.accept("as", "enum") {
		f.unsupported(f.peek(), "only CREATE TYPE ... AS ENUM is supported")
	}
	f.expectOp("(")
	for !f.peek().op(")") {
		n.Labels = append(n.Labels, f.str())
		if !f.acceptOp(",") {
			break
		}
	}
	f.expectOp(")")
	f.done()
	n.node = f.node(tree.DDL, "CREATE TYPE")
	return n
}

// optionValue takes [=] value of a database option.
func (f *front) optionValue() string {
	f.acceptOp("=")
	if f.peek().op("-") {
		return fmt.Sprint(f.integer())
	}
	t := f.next()
	if !t.isName() && t.kind != tokString && t.kind != tokNumber {
		f.i--
		f.fail("expected a value")
	}
	return t.str
}

func (f *front) createDatabase() tree.Statement {
	n := &CreateDatabase{CreateDatabase: &tree.CreateDatabase{}, Options: map[string]string{}}
	n.IfNotExists = f.ifNotExists()
	n.Name = tree.Name(f.name())
	f.accept("with")
	for !f.eof() {
		switch {
		case f.accept("encoding"):
			n.Encoding = f.optionValue()
		case f.accept("template"):
			n.Template = f.optionValue()
		case f.accept("lc_collate"):
			n.Collate = f.optionValue()
		case f.accept("lc_ctype"):
			n.CType = f.optionValue()
		case f.accept("owner"):
			n.Owner = f.optionValue()
		case f.accept("connection", "limit"):
			n.Options["connection_limit"] = f.optionValue()
		case f.accept("primary", "region"):
			f.acceptOp("=")
			n.PrimaryRegion = tree.Name(f.next().str)
		case f.accept("regions"), f.accept("region"):
			f.acceptOp("=")
			n.Regions = append(n.Regions, tree.Name(f.next().str))
			for f.acceptOp(",") {
				n.Regions = append(n.Regions, tree.Name(f.next().str))
			}
		case f.accept("survive"):
			n.SurvivalGoal = upper(f.anyName())
			f.expect("failure")
		case f.accept("placement"):
			n.Placement = upper(f.anyName())
		case f.peek().isName():
			switch o := f.next().str; o {
			case "tablespace", "allow_connections", "is_template", "oid", "locale", "locale_provider", "icu_locale", "strategy", "collation_version", "connection_limit":
				n.Options[o] = f.optionValue()
			default:
				f.i--
				f.fail("")
			}
		default:
			f.fail("")
		}
	}
	if n.Owner == "" && len(n.Options) == 0 && n.PrimaryRegion == "" && len(n.Regions) == 0 && n.SurvivalGoal == "" && n.Placement == "" {
		return n.CreateDatabase
	}
	return n
}

func (f *front) createSequence(temp bool) tree.Statement {
	n := &tree.CreateSequence{IfNotExists: f.ifNotExists(), Temporary: temp}
	n.Name = f.object().ToTableName()
	n.Options = f.sequenceOptions()
	f.done()
	return n
}

// sequenceOptions takes the options of sequences and of identity columns.
func (f *front) sequenceOptions() tree.SequenceOptions {
	var out tree.SequenceOptions
	put := func(name string, v *int64) { out = append(out, tree.SequenceOption{Name: name, IntVal: v}) }
	value := func() *int64 { v := f.integer(); return &v }
	for !f.eof() {
		t := f.peek()
		switch {
		case f.accept("as"):
			bits := int64(64)
			switch w := f.next(); w.str {
			case "smallint", "int2":
				bits = 16
			case "integer", "int", "int4":
				bits = 32
			case "bigint", "int8", "int64":
			default:
				f.i--
				bail(locate(pgerr.New("22023", "sequence type must be smallint, integer, or bigint"), f.src, w.pos))
			}
			put(SeqOptAs, &bits)
		case f.accept("increment"):
			f.accept("by")
			put(tree.SeqOptIncrement, value())
		case f.accept("minvalue"):
			put(tree.SeqOptMinValue, value())
		case f.accept("no", "minvalue"):
			put(tree.SeqOptMinValue, nil)
		case f.accept("maxvalue"):
			put(tree.SeqOptMaxValue, value())
		case f.accept("no", "maxvalue"):
			put(tree.SeqOptMaxValue, nil)
		case f.accept("start"):
			f.accept("with")
			put(tree.SeqOptStart, value())
		case f.accept("restart"):
			if f.accept("with") || f.peek().kind == tokNumber || f.peek().op("-") {
				put(SeqOptRestart, value())
			} else {
				put(SeqOptRestart, nil)
			}
		case f.accept("cache"):
			put(tree.SeqOptCache, value())
		case f.accept("per", "node", "cache"):
			put(tree.SeqOptCache, value())
		case f.accept("cycle"):
			put(tree.SeqOptCycle, nil)
		case f.accept("no", "cycle"):
			put(tree.SeqOptNoCycle, nil)
		case f.accept("virtual"):
			put(tree.SeqOptVirtual, nil)
		case f.accept("sequence", "name"):
			f.object() // Of identity columns in dumps; the sequence gets its usual name.
		case f.accept("owned", "by"):
			o := tree.SequenceOption{Name: tree.SeqOptOwnedBy}
			if !f.accept("none") {
				parts := f.dotted(4)
				if len(parts) < 2 {
					bail(f.errorAt(t, "OWNED BY takes table.column or NONE"))
				}
				col := parts[len(parts)-1]
				tn := objectName(parts[:len(parts)-1])
				o.ColumnItemVal = &tree.ColumnItem{TableName: tn, ColumnName: tree.Name(col)}
			}
			out = append(out, o)
		default:
			f.fail("")
		}
	}
	return out
}

// createView takes CREATE [OR REPLACE] [TEMP] [MATERIALIZED] VIEW.
func (f *front) createView() tree.Statement {
	n := &CreateView{}
	if f.accept("or") {
		f.expect("replace")
		n.Replace = true
	}
	if !f.looking("view") && !f.looking("temp") && !f.looking("temporary") && !f.looking("materialized") && !f.looking("recursive") {
		f.unsupported(f.peek(), "CREATE OR REPLACE %s is not supported", upper(f.peek().str))
	}
	temp := f.accept("temp") || f.accept("temporary")
	if f.looking("recursive") {
		f.unsupported(f.peek(), "CREATE RECURSIVE VIEW is not supported; use WITH RECURSIVE in the view's query")
	}
	n.Materialized = f.accept("materialized")
	f.expect("view")
	v := &tree.CreateView{Temporary: temp, IfNotExists: f.ifNotExists()}
	v.Name = f.object().ToTableName()
	if f.acceptOp("(") {
		v.ColumnNames = f.nameList()
		f.expectOp(")")
	}
	if f.accept("using") {
		f.name()
	}
	if f.looking("with") && f.at(1).op("(") {
		f.next()
		f.i = f.skipParens(f.i) // security_barrier and the like
	}
	if f.accept("tablespace") {
		f.name()
	}
	f.expect("as")
	end := len(f.toks)
	switch {
	case f.wordsAt(end-3, "with", "no", "data"):
		n.NoData = true
		end -= 3
	case f.wordsAt(end-2, "with", "data"):
		end -= 2
	case f.wordsAt(end-4, "with", "cascaded", "check", "option"), f.wordsAt(end-4, "with", "local", "check", "option"):
		f.unsupported(f.toks[end-4], "WITH CHECK OPTION is not supported: views cannot be written to")
	case f.wordsAt(end-3, "with", "check", "option"):
		f.unsupported(f.toks[end-3], "WITH CHECK OPTION is not supported: views cannot be written to")
	}
	if end <= f.i {
		f.fail("expected a query")
	}
	v.AsSource = f.selectRange(end)
	n.CreateView = v
	if !n.Replace && !n.Materialized {
		return v
	}
	return n
}

// createIndex takes CREATE INDEX with predicate, expressions, operator classes and
// storage parameters.
func (f *front) createIndex() tree.Statement {
	on := f.until(func(i int) bool { return f.toks[i].is("on") })
	if on >= len(f.toks) {
		return nil
	}
	f.i = on + 1
	f.accept("only")
	f.object()
	access := ""
	var b strings.Builder
	b.WriteString(f.text(0, on+1))
	nameStart := on + 1
	if f.toks[nameStart].is("only") {
		nameStart++
	}
	b.WriteString(" " + f.text(nameStart, f.i))
	if f.accept("using") {
		access = f.anyName()
		switch access {
		case "gin":
			b.WriteString(" USING gin")
		case "gist", "spgist", "brin":
			f.i--
			f.unsupported(f.peek(), "index method \"%s\" is not supported", access)
		}
	}
	if !f.peek().op("(") {
		return nil
	}
	end := f.skipParens(f.i)
	if end > len(f.toks) || !f.toks[end-1].op(")") {
		return nil
	}
	n := &CreateIndex{}
	cols, exprs := f.indexElems(f.i+1, end-1)
	b.WriteString(" (" + cols + ")")
	f.i = end
	rest := f.i
	where := f.until(func(i int) bool { return f.toks[i].is("where") })
	// Storage parameters mean nothing here.
	stop := where
	for i := rest; i < where; i++ {
		if f.toks[i].is("with") && i+1 < where && f.toks[i+1].op("(") {
			stop = i
			break
		}
		if f.toks[i].is("tablespace") {
			stop = i
			break
		}
	}
	text := f.text(rest, stop)
	text = strings.Replace(text, "NULLS NOT DISTINCT", "", 1)
	b.WriteString(" " + text)
	if where < len(f.toks) {
		f.i = where + 1
		n.Predicate = f.exprRange(len(f.toks))
	}
	src := b.String()
	sub := &front{src: src, toks: scanAll(src), side: f.side}
	ci, ok := sub.delegate("", 0, len(sub.toks), "").(*tree.CreateIndex)
	if !ok {
		return nil
	}
	n.CreateIndex, n.Exprs = ci, exprs
	any := n.Predicate != nil
	for _, e := range exprs {
		any = any || e != nil
	}
	if !any {
		return ci
	}
	return n
}

// indexElems reads the elements of an index and returns their text for the
// module, where expressions are stand-in names, and the expressions.
func (f *front) indexElems(lo, hi int) (string, []tree.Expr) {
	var cols []string
	var exprs []tree.Expr
	for f.i = lo; f.i < hi; {
		end := min(f.until(func(i int) bool { return f.toks[i].op(",") }), hi)
		stop := end
		dir, nulls := "", ""
		for stop > f.i {
			t, prev := f.toks[stop-1], token{}
			if stop-2 >= f.i {
				prev = f.toks[stop-2]
			}
			switch {
			case (t.is("first") || t.is("last")) && prev.is("nulls"):
				nulls = t.str
				stop -= 2
				continue
			case t.is("asc") || t.is("desc"):
				dir = t.str
				stop--
				continue
			case t.kind == tokIdent && strings.HasSuffix(t.str, "_ops") && stop-1 > f.i:
				stop--
				if f.toks[stop-1].op(".") {
					stop -= 2
				}
				continue
			}
			break
		}
		if stop <= f.i {
			f.fail("expected a column")
		}
		// COLLATE of a column: dropped by the rewrites when it is the order of bytes.
		col := stop
		if f.toks[f.i].isName() && f.i+1 < stop && f.toks[f.i+1].is("collate") {
			col = f.i + 1
		}
		var text string
		var e tree.Expr
		if f.toks[f.i].isName() && col == f.i+1 {
			t := f.toks[f.i]
			text = f.src[t.pos:t.end]
			if reserved(t.str) && t.kind == tokIdent {
				f.fail("expected a column")
			}
			if t.kind == tokIdent && (t.str == "index" || t.str == "family" || t.str == "nothing") {
				text = `"` + t.str + `"`
			}
		} else {
			e = f.parseExpr(f.i, stop)
			text = fmt.Sprintf(`"__expr_%d"`, len(exprs))
			for {
				p, ok := e.(*tree.ParenExpr)
				if !ok {
					break
				}
				e = p.Expr
			}
			if u, ok := e.(*tree.UnresolvedName); ok && u.NumParts == 1 && !u.Star {
				// (a) is the column a.
				n := tree.Name(u.Parts[0])
				text, e = n.String(), nil
			}
		}
		exprs = append(exprs, e)
		if dir != "" {
			text += " " + dir
		}
		if nulls == "first" && dir != "desc" || nulls == "last" && dir == "desc" {
			text += " nulls " + nulls
		}
		cols = append(cols, text)
		f.i = end
		if f.i < hi {
			f.i++
		}
	}
	return strings.Join(cols, ", "), exprs
}

// createTable takes what the module lacks of CREATE TABLE: LIKE, LOCALITY, WITH NO
// DATA, types of our own, and column names that its grammar reserves.
func (f *front) createTable() tree.Statement {
	n := &CreateTable{}
	for !f.accept("table") {
		if f.eof() {
			return nil
		}
		f.next()
	}
	f.ifNotExists()
	f.object()
	if f.looking("partition", "of") {
		f.unsupported(f.peek(), "table inheritance is not supported")
	}
	if !f.peek().op("(") {
		return f.createTableAs(n)
	}
	open := f.i
	end := f.skipParens(open)
	if end > len(f.toks) || !f.toks[end-1].op(")") {
		return nil
	}
	if !f.tail(end, "locality") && f.tail(end, "as") {
		return f.createTableAs(n)
	}
	for i := end; i < len(f.toks); i++ {
		if f.toks[i].is("inherits") || f.wordsAt(i, "partition", "of") {
			f.unsupported(f.toks[i], "table inheritance is not supported")
		}
	}
	toks, likes := f.tableElems(open, end)
	tailEnd := f.tableTail(n, end)
	for i := end; i < tailEnd; i++ {
		n.PartitionAll = n.PartitionAll || f.wordsAt(i, "partition", "all", "by")
		if f.toks[i].is("all") && f.wordsAt(i-1, "partition", "all", "by") {
			continue
		}
		if f.wordsAt(i, "by", "hash") || f.bodylessPartitions(i) {
			f.unsupported(f.toks[i], "tables of partitions are not supported; PARTITION BY LIST and RANGE name parts of one table, in parentheses after the columns")
		}
		toks = append(toks, f.toks[i])
	}
	sub := &front{src: f.src, toks: toks, side: f.side}
	ct, ok := sub.delegateTokens().(*tree.CreateTable)
	if !ok {
		return nil
	}
	for _, l := range likes {
		at := min(l.at, len(ct.Defs))
		ct.Defs = append(ct.Defs[:at:at], append(tree.TableDefs{l.def}, ct.Defs[at:]...)...)
	}
	n.CreateTable = ct
	if n.Locality == nil && !n.NoData && !n.PartitionAll {
		return ct
	}
	return n
}

// bodylessPartitions says whether BY LIST (…) or BY RANGE (…) stands at index i and
// no partitions follow, as PostgreSQL has it.
func (f *front) bodylessPartitions(i int) bool {
	if !f.wordsAt(i, "by", "list") && !f.wordsAt(i, "by", "range") || i+2 >= len(f.toks) || !f.toks[i+2].op("(") {
		return false
	}
	end := f.skipParens(i + 2)
	return end >= len(f.toks) || !f.toks[end].op("(")
}

// tail says whether the word occurs at depth 0 from index i on.
func (f *front) tail(i int, word string) bool {
	for ; i < len(f.toks); i++ {
		if f.toks[i].op("(") {
			i = f.skipParens(i) - 1
			continue
		}
		if f.toks[i].is(word) {
			return true
		}
	}
	return false
}

func (f *front) createTableAs(n *CreateTable) tree.Statement {
	hi := len(f.toks)
	switch {
	case f.wordsAt(hi-3, "with", "no", "data"):
		n.NoData = true
		hi -= 3
	case f.wordsAt(hi-2, "with", "data"):
		hi -= 2
	}
	if !n.NoData {
		if hi == len(f.toks) {
			return nil
		}
		return f.delegate("", 0, hi, "")
	}
	ct, ok := f.delegate("", 0, hi, "").(*tree.CreateTable)
	if !ok {
		return nil
	}
	n.CreateTable = ct
	return n
}

type likeAt struct {
	at  int
	def tree.TableDef
}

// indexDef reads an INDEX element with a predicate or expressions; nil leaves it to
// the module.
func (f *front) indexDef(stop int) tree.TableDef {
	i := f.i
	if f.toks[i].is("unique") {
		i++
	}
	if !f.toks[i].is("index") {
		return nil
	}
	i++
	named := i
	if i < stop && f.toks[i].isName() {
		i++
	}
	if i >= stop || !f.toks[i].op("(") {
		return nil
	}
	end := f.skipParens(i)
	if end > stop {
		return nil
	}
	own := false
	for j := i + 1; j < end-1; j++ {
		own = own || f.toks[j].op("(") && !f.toks[j-1].is("using")
	}
	for j := end; j < stop; j++ {
		own = own || f.toks[j].is("where")
	}
	if !own {
		return nil
	}
	src := "CREATE " + f.text(f.i, named) + " " + f.text(named, i) + " ON t " + f.text(i, stop)
	sub := &front{src: src, toks: scanAll(src), side: f.side}
	switch ci := sub.createIndex().(type) {
	case *CreateIndex:
		return &IndexDef{CreateIndex: ci}
	case *tree.CreateIndex:
		return &IndexDef{CreateIndex: &CreateIndex{CreateIndex: ci}}
	}
	return nil
}

// synthetic marks tokens whose text is not in the source; str is the text then.
const synthetic = -1

// tableElems returns the tokens up to and including the column list, with types
// of our own and reserved names replaced, and the LIKE elements taken out.
func (f *front) tableElems(open, end int) ([]token, []likeAt) {
	toks := append([]token(nil), f.toks[:open+1]...)
	var likes []likeAt
	elem := 0
	f.i = open + 1
	for f.i < end-1 {
		stop := min(f.until(func(i int) bool { return f.toks[i].op(",") }), end-1)
		if f.looking("like") && f.at(1).isName() {
			likes = append(likes, likeAt{at: elem, def: f.likeDef(stop)})
			f.i = stop
			if f.i < end-1 {
				f.i++
			} else if n := len(toks); toks[n-1].op(",") {
				toks = toks[:n-1]
			}
			elem++
			continue
		}
		f.next2(stop)
		if d := f.indexDef(stop); d != nil {
			likes = append(likes, likeAt{at: elem, def: d})
			f.i = stop
			if f.i < end-1 {
				f.i++
			} else if n := len(toks); toks[n-1].op(",") {
				toks = toks[:n-1]
			}
			elem++
			continue
		}
		toks = append(toks, f.columnTokens(stop)...)
		elem++
		f.i = stop
		if f.i < end-1 {
			toks = append(toks, f.toks[f.i])
			f.i++
		}
	}
	return append(toks, f.toks[end-1]), likes
}

// next2 reports an empty element.
func (f *front) next2(stop int) {
	if f.i >= stop {
		f.fail("expected a column or constraint")
	}
}

func (f *front) likeDef(stop int) *LikeTableDef {
	f.next()
	d := &LikeTableDef{Name: f.object(), Including: map[string]bool{}}
	for f.i < stop {
		on := f.accept("including")
		if !on {
			f.expect("excluding")
		}
		w := upper(f.anyName())
		if w == "ALL" {
			for _, o := range []string{"COMMENTS", "COMPRESSION", "CONSTRAINTS", "DEFAULTS", "GENERATED", "IDENTITY", "INDEXES", "STATISTICS", "STORAGE"} {
				d.Including[o] = on
			}
			continue
		}
		d.Including[w] = on
	}
	return d
}

// columnTokens returns the tokens of one element of CREATE TABLE, or of a column
// being added, with the type replaced if it is our own.
func (f *front) columnTokens(stop int) []token {
	toks := append([]token(nil), f.toks[f.i:stop]...)
	if len(toks) < 2 || !toks[0].isName() {
		return toks
	}
	first, second := toks[0], toks[1]
	if first.kind == tokIdent {
		switch first.str {
		case "constraint", "primary", "foreign", "unique", "check", "inverted", "exclude":
			if first.str == "exclude" {
				f.unsupported(first, "EXCLUDE constraints are not supported")
			}
			if first.str != "inverted" || second.is("index") {
				return toks
			}
		case "index", "family":
			if second.op("(") || second.isName() && len(toks) > 2 && toks[2].op("(") && !moduleType(second) {
				return toks // INDEX name (…), FAMILY name (…)
			}
			toks[0] = token{kind: tokQuoted, str: `"` + first.str + `"`, pos: synthetic, end: first.pos}
		}
	}
	if !second.isName() {
		return toks
	}
	n := 2
	for n+1 < len(toks) && toks[n].op(".") && toks[n+1].isName() {
		n += 2
	}
	name := make([]string, 0, 3)
	for k := 1; k < n; k += 2 {
		name = append(name, toks[k].str)
	}
	if len(name) == 2 && name[0] == "pg_catalog" && moduleType(toks[3]) {
		return append(toks[:1:1], toks[3:]...)
	}
	if len(name) == 1 {
		if second.kind == tokQuoted && typeWords[second.str] && second.str != "char" {
			toks[1] = token{kind: tokIdent, str: second.str, pos: synthetic, end: second.pos}
			return toks
		}
		if moduleType(second) || second.kind == tokIdent && (second.str == "national" || reserved(second.str)) {
			return toks
		}
	}
	k := len(f.side.types)
	f.side.types = append(f.side.types, udtRef{name: strings.Join(name, "\x00")})
	stand := token{kind: tokIdent, str: fmt.Sprintf("VARBIT(%d)", udtWidth+k), pos: synthetic, end: second.pos}
	return append(append(toks[:1:1], stand), toks[n:]...)
}

// tableTail takes the clauses after the columns and returns the end of those
// that the module knows.
func (f *front) tableTail(n *CreateTable, end int) int {
	for i := end; i < len(f.toks); i++ {
		if f.toks[i].op("(") {
			i = f.skipParens(i) - 1
			continue
		}
		if f.toks[i].is("locality") {
			f.i = i + 1
			l := f.locality()
			f.done()
			n.Locality = &l
			return i
		}
	}
	return len(f.toks)
}

// locality takes GLOBAL | REGIONAL [BY TABLE] [IN …] | REGIONAL BY ROW [AS col].
func (f *front) locality() (l Locality) {
	switch {
	case f.accept("global"):
		l.Global = true
	case f.accept("regional", "by", "row"):
		l.RegionalByRow = true
		if f.accept("as") {
			l.As = tree.Name(f.name())
		}
	case f.accept("regional"):
		f.accept("by", "table")
		if f.accept("in") && !f.accept("primary", "region") {
			l.Region = tree.Name(f.name())
		}
	default:
		f.fail("expected GLOBAL or REGIONAL")
	}
	return l
}

// delegateTokens gives tokens to the module that may hold synthetic ones: their
// text is put together first.
func (f *front) delegateTokens() (stmt tree.Statement) {
	var b strings.Builder
	starts := make([]int, len(f.toks))
	for i, t := range f.toks {
		if i > 0 {
			b.WriteByte(' ')
		}
		starts[i] = b.Len()
		if t.pos == synthetic {
			b.WriteString(t.str)
		} else {
			b.WriteString(f.src[t.pos:t.end])
		}
	}
	src := b.String()
	sub := &front{src: src, toks: scanAll(src), side: f.side}
	defer func() {
		r := recover()
		if r == nil {
			return
		}
		if e, ok := r.(*pgerr.Error); ok && e.Position > 0 {
			// From the place in src to that of the token it lies in.
			pos := f.endPos()
			if at := e.Position - 1; at < len(src) {
				for i, start := range starts {
					if start > at {
						break
					}
					if pos = f.toks[i].pos; pos == synthetic {
						pos = f.toks[i].end // The place of what it replaced.
					}
				}
			}
			locate(e, f.src, pos)
		}
		panic(r)
	}()
	return sub.delegate("", 0, len(sub.toks), "")
}

func (f *front) createRole(isUser bool) tree.Statement {
	n := &CreateRole{IsUser: isUser, IfNotExists: f.ifNotExists()}
	n.Name = f.role()
	f.accept("with")
	for !f.eof() {
		switch {
		case f.accept("in", "role"), f.accept("in", "group"):
			n.InRoles = append(n.InRoles, f.roles()...)
		case f.accept("role"), f.accept("user"):
			n.Members = append(n.Members, f.roles()...)
		case f.accept("admin"):
			n.Admins = append(n.Admins, f.roles()...)
		default:
			n.Options = append(n.Options, f.roleOption())
		}
	}
	tag := "CREATE ROLE"
	n.node = f.node(tree.DDL, tag)
	n.node.text = redactPasswords(f)
	return n
}

// redactPasswords returns the statement with the values of PASSWORD replaced.
func redactPasswords(f *front) string {
	var b strings.Builder
	last := f.toks[0].pos
	for i, t := range f.toks {
		if i > 0 && f.toks[i-1].is("password") && t.kind == tokString {
			b.WriteString(f.src[last:t.pos] + "'*****'")
			last = t.end
		}
	}
	b.WriteString(f.src[last:f.endPos()])
	return b.String()
}

func (f *front) roleOption() RoleOption {
	t := f.peek()
	nullOrStr := func() tree.Expr {
		if f.accept("null") {
			return nil
		}
		return f.strOrParam()
	}
	switch {
	case f.accept("encrypted", "password"), f.accept("password"):
		return RoleOption{Name: "PASSWORD", Value: nullOrStr()}
	case f.accept("valid", "until"):
		return RoleOption{Name: "VALID UNTIL", Value: nullOrStr()}
	case f.accept("subject"):
		return RoleOption{Name: "SUBJECT", Value: nullOrStr()}
	case f.accept("connection", "limit"):
		return RoleOption{Name: "CONNECTION LIMIT", Value: tree.NewDInt(tree.DInt(f.integer()))}
	case f.accept("sysid"):
		f.integer()
		return RoleOption{Name: "SYSID"}
	}
	if !t.isName() {
		f.fail("expected a role option")
	}
	f.next()
	return RoleOption{Name: upper(t.str)}
}

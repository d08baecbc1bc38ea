package parser

import (
	"regexp"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
)

// own parses a statement that the module's grammar lacks or says differently. It
// returns nil to leave the statement to the module.
func (f *front) own() tree.Statement {
	first := f.peek()
	if first.kind != tokIdent {
		return nil
	}
	switch first.str {
	case "with":
		return f.with()
	case "select":
		return f.selectInto()
	case "values", "update", "commit", "end", "rollback", "savepoint", "release", "abort", "execute", "deallocate", "table", "upsert":
		return f.transactionEnd(first.str)
	case "insert":
		return f.insert()
	case "delete":
		return f.delete()
	case "begin", "start":
		return f.begin()
	case "backup":
		return f.backup()
	case "restore":
		return f.restore()
	case "show":
		return f.show()
	case "pause", "resume", "cancel":
		return f.controlJobs()
	case "create":
		return f.create()
	case "drop":
		return f.drop()
	case "alter":
		return f.alter()
	case "copy":
		return f.copyStmt()
	case "comment":
		return f.comment()
	case "grant", "revoke":
		return f.grant()
	case "set", "reset":
		return f.set()
	case "declare":
		return f.declare()
	case "fetch", "move":
		return f.fetch()
	case "close":
		return f.closeCursor()
	case "vacuum", "analyze", "analyse":
		return f.vacuum()
	case "truncate":
		return f.truncate()
	case "checkpoint", "cluster", "reindex", "load", "security":
		tag := first.str
		n := &NoOp{node: f.node(tree.Ack, upper(tag))}
		if tag == "security" {
			n.tag = "SECURITY LABEL"
		}
		return n
	case "listen", "unlisten", "notify":
		return f.listen()
	case "lock":
		return f.lock()
	case "explain":
		return f.explain()
	case "discard":
		return f.discard()
	case "prepare":
		return f.prepare()
	case "reassign":
		return f.reassign()
	case "refresh":
		return f.refresh()
	case "check":
		return f.checkConnection()
	case "do":
		return f.do()
	case "call":
		f.unsupported(first, "CALL is not supported: there are no procedures")
	case "merge":
		f.unsupported(first, "MERGE is not supported; use INSERT ... ON CONFLICT")
	case "import":
		f.unsupported(first, "IMPORT is not supported; use COPY")
	}
	return nil
}

// transactionEnd takes AND [NO] CHAIN and two-phase forms; everything else of
// these statements is the module's.
func (f *front) transactionEnd(word string) tree.Statement {
	switch word {
	case "commit", "end", "rollback", "abort":
	default:
		return nil
	}
	f.next()
	if f.looking("prepared") {
		f.unsupported(f.peek(), "two-phase commit is not supported")
	}
	if !f.accept("work") {
		f.accept("transaction")
	}
	chain := false
	if f.accept("and") {
		chain = !f.accept("no")
		f.expect("chain")
	}
	if !f.eof() {
		return nil // ROLLBACK TO
	}
	if chain {
		n := &TransactionChain{Commit: word == "commit" || word == "end"}
		n.node = f.node(tree.Ack, "ROLLBACK")
		if n.Commit {
			n.tag = "COMMIT"
		}
		return n
	}
	if word == "commit" || word == "end" {
		return &tree.CommitTransaction{}
	}
	return &tree.RollbackTransaction{}
}

// begin takes BEGIN and START TRANSACTION with PostgreSQL's modes.
func (f *front) begin() tree.Statement {
	start := f.next().str == "start"
	if start {
		f.expect("transaction")
	} else if !f.accept("transaction") {
		f.accept("work")
	}
	modes, ok := f.transactionModes()
	if !ok {
		return nil
	}
	return &tree.BeginTransaction{Modes: modes}
}

// transactionModes takes the modes up to the end; ok is false if the module should.
func (f *front) transactionModes() (m tree.TransactionModes, ok bool) {
	for !f.eof() {
		switch {
		case f.acceptOp(","):
		case f.accept("isolation", "level", "serializable"),
			f.accept("isolation", "level", "repeatable", "read"),
			f.accept("isolation", "level", "snapshot"),
			f.accept("isolation", "level", "read", "committed"),
			f.accept("isolation", "level", "read", "uncommitted"):
			// All levels are served by the strongest one.
			m.Isolation = tree.SerializableIsolation
		case f.accept("read", "only"):
			m.ReadWriteMode = tree.ReadOnly
		case f.accept("read", "write"):
			m.ReadWriteMode = tree.ReadWrite
		case f.accept("not", "deferrable"), f.accept("deferrable"):
		case f.accept("priority", "low"):
			m.UserPriority = tree.Low
		case f.accept("priority", "normal"):
			m.UserPriority = tree.Normal
		case f.accept("priority", "high"):
			m.UserPriority = tree.High
		case f.looking("as", "of", "system", "time"):
			f.i += 4
			m.AsOf.Expr = f.exprUntil()
		default:
			f.fail("expected a transaction mode")
		}
	}
	return m, true
}

// with takes WITH … before a DELETE or INSERT that is ours.
func (f *front) with() tree.Statement {
	i := f.until(func(i int) bool {
		return i > 0 && f.toks[i-1].op(")") && (f.toks[i].is("delete") || f.toks[i].is("insert"))
	})
	switch {
	case i >= len(f.toks):
		return f.selectInto()
	case !f.needsOwn(i, len(f.toks)):
		return nil
	case f.toks[i].is("delete"):
		f.i = i
		return f.delete()
	case f.toks[i].is("insert"):
		return f.insert()
	}
	return nil
}

// selectInto takes SELECT … INTO t …, which is CREATE TABLE t AS SELECT … ….
func (f *front) selectInto() tree.Statement {
	f.i = 0
	into := f.until(func(i int) bool {
		return i > 0 && f.toks[i].is("into") && !f.toks[i-1].is("insert") && !f.toks[i-1].is("upsert") && !f.toks[i-1].op(".") && !f.toks[i-1].is("as")
	})
	if into >= len(f.toks) {
		return nil
	}
	f.i = into + 1
	kind := ""
	switch {
	case f.accept("temporary"), f.accept("temp"), f.accept("local", "temporary"), f.accept("local", "temp"):
		kind = "TEMPORARY "
	case f.accept("unlogged"):
		kind = "UNLOGGED "
	}
	f.accept("table")
	name := f.i
	f.object()
	src := "CREATE " + kind + "TABLE " + f.text(name, f.i) + " AS " + f.text(0, into) + " " + f.text(f.i, len(f.toks))
	sub := &front{src: src, toks: scanAll(src), side: f.side}
	if n := sub.create(); n != nil {
		return n
	}
	return sub.delegate("", 0, len(sub.toks), "")
}

// insert takes INSERT … OVERRIDING.
func (f *front) insert() tree.Statement {
	for i := range f.toks {
		if !f.toks[i].is("overriding") || !f.wordsAt(i+2, "value") {
			continue
		}
		if !f.wordsAt(i+1, "system") && !f.wordsAt(i+1, "user") {
			continue
		}
		system := f.toks[i+1].is("system")
		rest := append(append([]token(nil), f.toks[:i]...), f.toks[i+3:]...)
		// The words are cut out of the text by blanks, so that positions stay.
		src := []byte(f.src)
		for k := f.toks[i].pos; k < f.toks[i+2].end; k++ {
			src[k] = ' '
		}
		sub := &front{src: string(src), toks: rest, side: f.side}
		ins, ok := sub.delegate("", 0, len(rest), "").(*tree.Insert)
		if !ok {
			return nil
		}
		return &InsertOverriding{Insert: ins, System: system}
	}
	return nil
}

// delete takes DELETE … USING.
func (f *front) delete() tree.Statement {
	using := f.until(func(i int) bool { return f.toks[i].is("using") || f.toks[i].is("where") || f.toks[i].is("returning") })
	if using >= len(f.toks) || !f.toks[using].is("using") {
		return nil
	}
	f.i = using + 1
	end := f.until(func(i int) bool {
		t := f.toks[i]
		return t.is("where") || t.is("returning") || t.is("limit") || f.wordsAt(i, "order", "by")
	})
	sel, ok := f.delegate("SELECT 1 FROM ", using+1, end, "").(*tree.Select)
	if !ok {
		return nil
	}
	clause, ok := sel.Select.(*tree.SelectClause)
	if !ok {
		return nil
	}
	src := []byte(f.src)
	for k := f.toks[using].pos; k < f.toks[end-1].end; k++ {
		src[k] = ' '
	}
	rest := append(append([]token(nil), f.toks[:using]...), f.toks[end:]...)
	sub := &front{src: string(src), toks: rest, side: f.side}
	del, ok := sub.delegate("", 0, len(rest), "").(*tree.Delete)
	if !ok {
		return nil
	}
	return &DeleteUsing{Delete: del, Using: clause.From.Tables}
}

// set takes what the module lacks of SET and RESET.
func (f *front) set() tree.Statement {
	reset := f.next().str == "reset"
	if reset {
		switch {
		case f.accept("all"):
			f.done()
			return &ResetAll{node: f.node(tree.Ack, "RESET")}
		case f.accept("role"), f.accept("session", "authorization"):
			f.done()
			name := f.toks[1].str
			if name == "session" {
				name = "session_authorization"
			}
			return &tree.SetVar{Name: name, Values: tree.Exprs{tree.DefaultVal{}}}
		}
		return f.resetVar()
	}
	switch {
	case f.accept("constraints"):
		return &NoOp{node: f.node(tree.Ack, "SET CONSTRAINTS")}
	case f.accept("transaction", "snapshot"):
		// pg_export_snapshot gives the time of the transaction.
		id := f.str()
		f.done()
		return &tree.SetTransaction{Modes: tree.TransactionModes{AsOf: tree.AsOfClause{Expr: tree.NewStrVal(id)}}}
	case f.accept("transaction"):
		modes, ok := f.transactionModes()
		if !ok {
			return nil
		}
		return &tree.SetTransaction{Modes: modes}
	case f.accept("session", "characteristics"):
		f.expect("as", "transaction")
		modes, ok := f.transactionModes()
		if !ok {
			return nil
		}
		return &tree.SetSessionCharacteristics{Modes: modes}
	case f.looking("local"):
		f.next()
		if s := f.setRole(); s != nil {
			return &SetLocal{SetVar: s}
		}
		stmt := f.delegate("SET ", f.i, len(f.toks), "")
		switch s := stmt.(type) {
		case *tree.SetVar:
			return &SetLocal{SetVar: s}
		case *tree.SetTransaction:
			return s
		}
		return nil
	}
	f.accept("session")
	if s := f.setRole(); s != nil {
		return s
	}
	return nil
}

// setRole takes ROLE r and [SESSION] AUTHORIZATION r.
func (f *front) setRole() *tree.SetVar {
	name := ""
	switch {
	case f.looking("role") && !f.at(1).op("=") && !f.at(1).is("to"):
		f.next()
		name = "role"
	case f.accept("authorization"), f.accept("session", "authorization"):
		name = "session_authorization"
	default:
		return nil
	}
	if f.accept("default") {
		f.done()
		return &tree.SetVar{Name: name, Values: tree.Exprs{tree.DefaultVal{}}}
	}
	t := f.next()
	if !t.isName() && t.kind != tokString {
		f.i--
		f.fail("expected a role name")
	}
	f.done()
	return &tree.SetVar{Name: name, Values: tree.Exprs{tree.NewStrVal(t.str)}}
}

// resetVar takes RESET a.b, which the module knows for plain names only.
func (f *front) resetVar() tree.Statement {
	if f.at(1).op(".") && f.at(2).isName() {
		name := f.next().str
		for f.acceptOp(".") {
			name += "." + f.anyName()
		}
		f.done()
		return &tree.SetVar{Name: name, Values: tree.Exprs{tree.DefaultVal{}}}
	}
	return nil
}

// ResetAll is RESET ALL.
type ResetAll struct{ node }

func (f *front) declare() tree.Statement {
	f.expect("declare")
	c := &DeclareCursor{Name: tree.Name(f.name())}
	for !f.accept("cursor") {
		switch {
		case f.accept("binary"):
			c.Binary = true
		case f.accept("insensitive"):
			c.Insensitive = true
		case f.accept("asensitive"):
		case f.accept("no", "scroll"):
			c.NoScroll = true
		case f.accept("scroll"):
			c.Scroll = true
		default:
			f.fail("expected CURSOR")
		}
	}
	if f.accept("with") {
		f.expect("hold")
		c.Hold = true
	} else if f.accept("without") {
		f.expect("hold")
	}
	f.expect("for")
	c.Query = f.selectRest()
	c.node = f.node(tree.Ack, "DECLARE CURSOR")
	return c
}

func (f *front) fetch() tree.Statement {
	c := &FetchCursor{Move: f.next().str == "move", Direction: "NEXT", Count: 1}
	count := func() {
		if f.accept("all") {
			c.All = true
		} else if t := f.peek(); t.kind == tokNumber || t.op("-") || t.op("+") {
			c.Count = f.integer()
		}
	}
	switch {
	case f.accept("next"):
	case f.accept("prior"):
		c.Direction = "PRIOR"
	case f.accept("first"):
		c.Direction = "FIRST"
	case f.accept("last"):
		c.Direction = "LAST"
	case f.accept("absolute"):
		c.Direction, c.Count = "ABSOLUTE", f.integer()
	case f.accept("relative"):
		c.Direction, c.Count = "RELATIVE", f.integer()
	case f.accept("forward"):
		c.Direction = "FORWARD"
		count()
	case f.accept("backward"):
		c.Direction = "BACKWARD"
		count()
	case f.looking("all"), f.peek().kind == tokNumber, f.peek().op("-"):
		c.Direction = "FORWARD"
		count()
	}
	if !f.accept("from") {
		f.accept("in")
	}
	c.Name = tree.Name(f.name())
	f.done()
	c.node = f.node(tree.Rows, "FETCH")
	if c.Move {
		c.node = f.node(tree.RowsAffected, "MOVE")
	}
	return c
}

func (f *front) closeCursor() tree.Statement {
	f.expect("close")
	c := &CloseCursor{}
	if f.accept("all") {
		c.All = true
		c.node = f.node(tree.Ack, "CLOSE CURSOR ALL")
	} else {
		c.Name = tree.Name(f.name())
		c.node = f.node(tree.Ack, "CLOSE CURSOR")
	}
	f.done()
	return c
}

func (f *front) vacuum() tree.Statement {
	word := f.next().str
	analyze := false
	if f.peek().op("(") {
		end := f.skipParens(f.i)
		for ; f.i < end; f.i++ {
			analyze = analyze || f.peek().is("analyze")
		}
	}
	for {
		switch {
		case f.accept("full"), f.accept("freeze"), f.accept("verbose"):
			continue
		case f.accept("analyze"), f.accept("analyse"):
			analyze = true
			continue
		}
		break
	}
	var tables []*tree.UnresolvedObjectName
	for !f.eof() {
		f.accept("only")
		tables = append(tables, f.object())
		if f.peek().op("(") {
			f.i = f.skipParens(f.i)
		}
		if !f.acceptOp(",") {
			break
		}
	}
	f.done()
	if word == "vacuum" {
		return &Vacuum{node: f.node(tree.Ack, "VACUUM"), Analyze: analyze, Tables: tables}
	}
	return &Analyze{node: f.node(tree.Ack, "ANALYZE"), Tables: tables}
}

func (f *front) truncate() tree.Statement {
	f.expect("truncate")
	f.accept("table")
	t := &tree.Truncate{}
	for {
		f.accept("only")
		n := f.object()
		f.acceptOp("*")
		t.Tables = append(t.Tables, n.ToTableName())
		if !f.acceptOp(",") {
			break
		}
	}
	restart := f.accept("restart", "identity")
	if !restart {
		f.accept("continue", "identity")
	}
	t.DropBehavior = f.dropBehavior()
	f.done()
	if restart {
		return &Truncate{Truncate: t, RestartIdentity: true}
	}
	return t
}

// doGuarded is the one block that migration tools send: a statement that may fail
// because what it makes is there.
var doGuarded = regexp.MustCompile(`(?is)^\s*BEGIN\s+((?:CREATE\s+TYPE|ALTER\s+TABLE\s+\S+\s+ADD\s+CONSTRAINT)\s[^;]*);?\s*EXCEPTION\s+WHEN\s+duplicate_object\s+THEN\s+(?:NULL\s*;)?\s*END\s*;?\s*$`)

// severalActions matches an ALTER TABLE that may have done something before it fails.
var severalActions = regexp.MustCompile(`(?i),\s*(ADD|ALTER|DROP|VALIDATE|SET|RESET|OWNER|RENAME)\b`)

func (f *front) do() tree.Statement {
	first := f.next()
	n := &Do{}
	if f.accept("language") {
		f.name()
	}
	if f.peek().kind == tokString {
		if m := doGuarded.FindStringSubmatch(f.str()); m != nil && !severalActions.MatchString(m[1]) {
			n.SQL = m[1]
		}
	}
	if n.SQL == "" {
		f.unsupported(first, "DO blocks are not supported: there is no procedural language")
	}
	if f.accept("language") {
		f.name()
	}
	f.done()
	n.node = f.node(tree.Ack, "DO")
	return n
}

func (f *front) listen() tree.Statement {
	switch f.next().str {
	case "listen":
		n := &Listen{Channel: tree.Name(f.name())}
		f.done()
		n.node = f.node(tree.Ack, "LISTEN")
		return n
	case "unlisten":
		n := &Unlisten{}
		if f.acceptOp("*") {
			n.All = true
		} else {
			n.Channel = tree.Name(f.name())
		}
		f.done()
		n.node = f.node(tree.Ack, "UNLISTEN")
		return n
	}
	n := &Notify{Channel: tree.Name(f.name())}
	if f.acceptOp(",") {
		n.Payload = f.str()
	}
	f.done()
	n.node = f.node(tree.Ack, "NOTIFY")
	return n
}

func (f *front) lock() tree.Statement {
	f.expect("lock")
	f.accept("table")
	f.accept("only")
	n := &LockTable{Tables: f.objects(), Mode: "ACCESS EXCLUSIVE"}
	if f.accept("in") {
		n.Mode = ""
		for !f.accept("mode") {
			if n.Mode != "" {
				n.Mode += " "
			}
			n.Mode += upper(f.anyName())
		}
	}
	n.NoWait = f.accept("nowait")
	f.done()
	n.node = f.node(tree.Ack, "LOCK TABLE")
	return n
}

func (f *front) discard() tree.Statement {
	f.expect("discard")
	n := &Discard{}
	switch {
	case f.accept("all"):
		n.Mode = "ALL"
	case f.accept("plans"):
		n.Mode = "PLANS"
	case f.accept("sequences"):
		n.Mode = "SEQUENCES"
	case f.accept("temp"), f.accept("temporary"):
		n.Mode = "TEMP"
	default:
		f.fail("expected ALL, PLANS, SEQUENCES or TEMP")
	}
	f.done()
	n.node = f.node(tree.Ack, "DISCARD "+n.Mode)
	return n
}

// explain takes EXPLAIN in PostgreSQL's forms. The statement may be one of ours.
func (f *front) explain() tree.Statement {
	f.expect("explain")
	n := &Explain{Options: map[string]string{}}
	if f.peek().op("(") && !f.at(1).is("select") && !f.at(1).op("(") && !f.at(1).is("with") && !f.at(1).is("values") {
		f.next()
		for {
			opt := f.anyName()
			val := ""
			if t := f.peek(); !t.op(",") && !t.op(")") {
				val = lower(f.next().str)
			}
			n.Options[opt] = val
			on := val == "" || val == "true" || val == "on" || val == "1"
			switch opt {
			case "analyze":
				n.Analyze = on
			case "verbose":
				n.Verbose = on
			}
			if !f.acceptOp(",") {
				break
			}
		}
		f.expectOp(")")
	} else {
		for {
			if f.accept("analyze") || f.accept("analyse") {
				n.Analyze = true
			} else if f.accept("verbose") {
				n.Verbose = true
			} else {
				break
			}
		}
		if n.Analyze && f.peek().op("(") {
			f.i = f.skipParens(f.i)
		}
	}
	if f.eof() {
		f.fail("expected a statement to explain")
	}
	n.Statement = f.sub(f.i, len(f.toks)).statement()
	n.node = f.node(tree.Rows, "EXPLAIN")
	return n
}

// prepare takes PREPARE of statements that our own grammar parses.
func (f *front) prepare() tree.Statement {
	f.expect("prepare")
	if f.looking("transaction") {
		f.unsupported(f.peek(), "two-phase commit is not supported")
	}
	p := &tree.Prepare{Name: tree.Name(f.name())}
	if f.peek().op("(") {
		end := f.skipParens(f.i)
		f.next()
		for f.i < end-1 {
			stop := f.until(func(i int) bool { return f.toks[i].op(",") })
			p.Types = append(p.Types, f.parseType(f.i, stop))
			f.i = stop
			f.acceptOp(",")
		}
		f.expectOp(")")
	}
	f.expect("as")
	if f.eof() {
		f.fail("expected a statement to prepare")
	}
	p.Statement = f.sub(f.i, len(f.toks)).statement()
	return p
}

func (f *front) reassign() tree.Statement {
	f.expect("reassign", "owned", "by")
	n := &ReassignOwned{From: f.roles()}
	f.expect("to")
	n.To = f.role()
	f.done()
	n.node = f.node(tree.DDL, "REASSIGN OWNED")
	return n
}

func (f *front) refresh() tree.Statement {
	f.expect("refresh", "materialized", "view")
	n := &RefreshView{Concurrently: f.accept("concurrently")}
	n.Name = f.object()
	if f.accept("with", "no", "data") {
		n.NoData = true
	} else {
		f.accept("with", "data")
	}
	f.done()
	n.node = f.node(tree.DDL, "REFRESH MATERIALIZED VIEW")
	return n
}

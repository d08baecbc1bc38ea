package parser

import (
	"slices"
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// drop takes the DROP statements that the module lacks.
func (f *front) drop() tree.Statement {
	f.expect("drop")
	t := f.peek()
	switch {
	case f.accept("schema"):
		n := &DropSchema{IfExists: f.ifExists()}
		n.Names = append(n.Names, f.schemaName())
		for f.acceptOp(",") {
			n.Names = append(n.Names, f.schemaName())
		}
		n.DropBehavior = f.dropBehavior()
		f.done()
		n.node = f.node(tree.DDL, "DROP SCHEMA")
		return n
	case f.accept("type"):
		n := &DropType{IfExists: f.ifExists()}
		n.Names = f.objects()
		n.DropBehavior = f.dropBehavior()
		f.done()
		n.node = f.node(tree.DDL, "DROP TYPE")
		return n
	case f.accept("role"), f.accept("user"), f.accept("group"):
		n := &DropRole{IfExists: f.ifExists()}
		n.Names = f.roles()
		f.done()
		n.node = f.node(tree.DDL, "DROP ROLE")
		return n
	case f.accept("owned", "by"):
		n := &DropOwned{Roles: f.roles()}
		n.DropBehavior = f.dropBehavior()
		f.done()
		n.node = f.node(tree.DDL, "DROP OWNED")
		return n
	case f.accept("schedule"):
		n := &ControlSchedules{Command: DropCmd, Schedules: oneValue(f.exprUntil())}
		f.done()
		n.node = f.node(tree.RowsAffected, "DROP SCHEDULES")
		return n
	case f.accept("schedules"):
		n := &ControlSchedules{Command: DropCmd, Schedules: f.selectRest()}
		n.node = f.node(tree.RowsAffected, "DROP SCHEDULES")
		return n
	case f.accept("external", "connection"):
		n := &DropExternalConnection{Name: f.nameOrStr()}
		f.done()
		n.node = f.node(tree.DDL, "DROP EXTERNAL CONNECTION")
		return n
	case f.accept("materialized", "view"):
		return f.dropKind(KindMaterializedView, "DROP MATERIALIZED VIEW")
	case f.accept("extension"):
		return f.dropKind(KindExtension, "DROP EXTENSION")
	case f.accept("function"):
		return f.dropKind(KindFunction, "DROP FUNCTION")
	case f.accept("procedure"):
		return f.dropKind(KindProcedure, "DROP PROCEDURE")
	case f.accept("database"):
		if f.accept("if", "exists") {
			f.name()
			// WITH (FORCE) of PostgreSQL 13.
			if f.looking("with") || f.peek().op("(") {
				return f.delegate("", 0, f.i, "")
			}
			return nil
		}
		f.name()
		if f.looking("with") || f.peek().op("(") {
			return f.delegate("", 0, f.i, "")
		}
		return nil
	case f.looking("table"), f.looking("view"), f.looking("sequence"), f.looking("index"):
		return nil
	case t.kind == tokIdent:
		switch t.str {
		case "trigger", "domain", "aggregate", "cast", "collation", "conversion", "rule", "operator", "policy",
			"publication", "subscription", "server", "foreign", "language", "text", "access", "event", "tablespace", "statistics", "routine":
			// DROP … IF EXISTS of what cannot exist is no error.
			for i := range f.toks {
				if f.wordsAt(i, "if", "exists") {
					return &NoOp{node: f.node(tree.DDL, "DROP "+upper(t.str)),
						Notice: lower(t.str) + " does not exist, skipping"}
				}
			}
			f.unsupported(t, "DROP %s is not supported", upper(t.str))
		}
	}
	return nil
}

func (f *front) dropKind(kind ObjectKind, tag string) tree.Statement {
	n := &Drop{Kind: kind, IfExists: f.ifExists()}
	for {
		n.Names = append(n.Names, f.object())
		if f.peek().op("(") {
			f.i = f.skipParens(f.i) // argument types
		}
		if !f.acceptOp(",") {
			break
		}
	}
	n.DropBehavior = f.dropBehavior()
	f.done()
	n.node = f.node(tree.DDL, tag)
	return n
}

// alter takes the ALTER statements that the module lacks.
func (f *front) alter() tree.Statement {
	f.expect("alter")
	t := f.peek()
	switch {
	case f.accept("backup", "schedule"):
		return f.alterSchedule()
	case f.accept("backup"):
		bail(locate(pgerr.New(pgerr.FeatureNotSupported, "unimplemented: ALTER BACKUP").
			WithHint("Backups are not encrypted by this version: there are no keys to add."), f.src, t.pos))
	case f.accept("external", "connection"):
		f.unsupported(t, "unimplemented: external connections")
	case f.accept("job"):
		n := &AlterJobOwner{Job: oneJob(f.exprUntil("owner"))}
		f.expect("owner", "to")
		n.Owner = f.role()
		f.done()
		n.node = f.node(tree.DDL, "ALTER JOB")
		return n
	case f.accept("role"), f.accept("user"), f.accept("group"):
		return f.alterRole()
	case f.accept("schema"):
		return f.alterSchema()
	case f.accept("type"):
		return f.alterType()
	case f.accept("default", "privileges"):
		return f.alterDefaultPrivileges()
	case f.accept("sequence"):
		return f.alterSequence()
	case f.accept("database"):
		return f.alterDatabase()
	case f.accept("materialized", "view"):
		return f.alterOther(KindMaterializedView)
	case f.accept("view"):
		return f.alterOther(KindView)
	case f.accept("table"):
		return f.alterTable()
	case f.accept("function"), f.accept("procedure"), f.accept("extension"), f.accept("language"), f.accept("domain"),
		f.accept("aggregate"), f.accept("operator"), f.accept("publication"), f.accept("subscription"), f.accept("policy"),
		f.accept("trigger"), f.accept("server"), f.accept("foreign"), f.accept("event"), f.accept("large"), f.accept("text"), f.accept("tablespace"):
		f.unsupported(t, "ALTER %s is not supported", upper(t.str))
	case f.looking("system") && f.at(1).is("set"), f.looking("system") && f.at(1).is("reset"):
		f.unsupported(t, "ALTER SYSTEM is not supported; use SET CLUSTER SETTING")
	case f.accept("index"):
		return f.alterIndex()
	case f.looking("range") && (f.at(1).is("relocate") || f.at(2).is("relocate")):
		f.next()
		return f.alterRangeRelocate()
	}
	return nil
}

func (f *front) alterIndex() tree.Statement {
	ifExists := f.ifExists()
	nameAt := f.i
	name := f.object()
	switch {
	case f.looking("set") && f.at(1).op("("), f.looking("reset") && f.at(1).op("("), f.looking("set", "tablespace"),
		f.looking("attach"), f.looking("alter"), f.looking("depends"), f.looking("no", "depends"):
		return &NoOp{node: f.node(tree.DDL, "ALTER INDEX")}
	case f.accept("owner", "to"):
		return f.owner(KindIndex, name, ifExists, "ALTER INDEX")
	}
	for i := f.i; i < len(f.toks) && i < f.i+3; i++ { // Behind @index.
		if f.toks[i].is("relocate") {
			head := "ALTER INDEX " + f.text(nameAt, i)
			f.i = i + 1
			return f.relocate(head)
		}
	}
	return nil
}

func (f *front) owner(kind ObjectKind, name *tree.UnresolvedObjectName, ifExists bool, tag string) tree.Statement {
	n := &AlterOwner{Kind: kind, Name: name, IfExists: ifExists, Owner: f.role()}
	f.done()
	n.node = f.node(tree.DDL, tag)
	return n
}

func (f *front) setSchema(kind ObjectKind, name *tree.UnresolvedObjectName, ifExists bool, tag string) tree.Statement {
	n := &AlterSetSchema{Kind: kind, Name: name, IfExists: ifExists, Schema: tree.Name(f.name())}
	f.done()
	n.node = f.node(tree.DDL, tag)
	return n
}

// alterOther takes OWNER TO and SET SCHEMA of views; renaming is the module's.
func (f *front) alterOther(kind ObjectKind) tree.Statement {
	tag := "ALTER " + string(kind)
	ifExists := f.ifExists()
	name := f.object()
	switch {
	case f.accept("owner", "to"):
		return f.owner(kind, name, ifExists, tag)
	case f.accept("set", "schema"):
		return f.setSchema(kind, name, ifExists, tag)
	case f.accept("rename", "to"):
		n := &tree.RenameTable{Name: name, NewName: objectName([]string{f.name()}), IfExists: ifExists, IsView: true}
		f.done()
		return n
	}
	return nil
}

func (f *front) alterSchema() tree.Statement {
	n := &AlterSchema{Name: f.schemaName()}
	if f.accept("rename", "to") {
		n.NewName = tree.Name(f.name())
	} else {
		f.expect("owner", "to")
		n.Owner = f.role()
	}
	f.done()
	n.node = f.node(tree.DDL, "ALTER SCHEMA")
	return n
}

func (f *front) alterType() tree.Statement {
	n := &AlterType{Name: f.object()}
	switch {
	case f.accept("add", "value"):
		n.HasAddValue, n.IfNotExists = true, f.ifNotExists()
		n.AddValue = f.str()
		switch {
		case f.accept("before"):
			n.HasPlace, n.PlaceBefore, n.Before = true, true, f.str()
		case f.accept("after"):
			n.HasPlace, n.After = true, f.str()
		}
	case f.accept("rename", "value"):
		n.HasRenameValue = true
		n.RenameValue = f.str()
		f.expect("to")
		n.RenameValueTo = f.str()
	case f.accept("drop", "value"):
		n.HasDropValue = true
		n.DropValue = f.str()
	case f.accept("rename", "to"):
		n.NewName = tree.Name(f.name())
	case f.accept("set", "schema"):
		n.Schema = tree.Name(f.name())
	case f.accept("owner", "to"):
		n.Owner = f.role()
	default:
		f.fail("expected ADD VALUE, RENAME, DROP VALUE, SET SCHEMA or OWNER TO")
	}
	f.done()
	n.node = f.node(tree.DDL, "ALTER TYPE")
	return n
}

func (f *front) alterSequence() tree.Statement {
	ifExists := f.ifExists()
	name := f.object()
	switch {
	case f.accept("owner", "to"):
		return f.owner(KindSequence, name, ifExists, "ALTER SEQUENCE")
	case f.accept("set", "schema"):
		return f.setSchema(KindSequence, name, ifExists, "ALTER SEQUENCE")
	case f.looking("rename"):
		return nil
	}
	n := &tree.AlterSequence{Name: name, IfExists: ifExists, Options: f.sequenceOptions()}
	f.done()
	return n
}

func (f *front) alterDatabase() tree.Statement {
	name := f.object()
	switch {
	case f.accept("owner", "to"):
		return f.owner(KindDatabase, name, false, "ALTER DATABASE")
	case f.looking("set", "tablespace"), f.looking("connection"), f.looking("allow_connections"), f.looking("is_template"), f.looking("refresh"),
		f.looking("with"):
		return &NoOp{node: f.node(tree.DDL, "ALTER DATABASE")}
	case f.looking("primary"), f.looking("add"), f.looking("survive"), f.looking("placement"), f.looking("alter"),
		f.looking("set", "primary"), f.looking("set", "secondary"), f.looking("drop"):
		f.unsupported(f.peek(), "multi-region databases are not supported")
	case f.looking("set"), f.looking("reset"):
		n := &AlterRoleSet{Database: tree.Name(partsOf(name)[0])}
		f.roleSetting(n)
		n.node = f.node(tree.DDL, "ALTER DATABASE")
		return n
	}
	return nil
}

func (f *front) alterRole() tree.Statement {
	ifExists := f.ifExists()
	all := f.looking("all") && (f.at(1).is("set") || f.at(1).is("reset") || f.at(1).is("in"))
	name := ""
	if all {
		f.next()
	} else {
		name = f.role()
	}
	if f.accept("rename", "to") {
		n := &AlterRoleRename{Name: name, NewName: f.role()}
		f.done()
		n.node = f.node(tree.DDL, "ALTER ROLE")
		return n
	}
	db := tree.Name("")
	if f.accept("in", "database") {
		db = tree.Name(f.name())
	}
	if f.looking("set") || f.looking("reset") {
		n := &AlterRoleSet{Role: name, AllRoles: all, Database: db}
		f.roleSetting(n)
		n.node = f.node(tree.DDL, "ALTER ROLE")
		return n
	}
	f.accept("with")
	n := &AlterRole{Name: name, IfExists: ifExists}
	for !f.eof() {
		n.Options = append(n.Options, f.roleOption())
	}
	n.node = f.node(tree.DDL, "ALTER ROLE")
	n.node.text = redactPasswords(f)
	return n
}

// roleSetting takes SET var {=|TO} values and RESET var | ALL.
func (f *front) roleSetting(n *AlterRoleSet) {
	n.Reset = f.next().str == "reset"
	if n.Reset && f.accept("all") {
		f.done()
		return
	}
	if f.accept("time", "zone") {
		n.Var = "timezone"
	} else {
		n.Var = f.anyName()
		for f.acceptOp(".") {
			n.Var += "." + f.anyName()
		}
		if !n.Reset && !f.acceptOp("=") {
			f.expect("to")
		}
	}
	if n.Reset {
		f.done()
		return
	}
	if f.accept("default") {
		f.done()
		n.Reset = true
		return
	}
	s, ok := f.delegate("SET x = ", f.i, len(f.toks), "").(*tree.SetVar)
	if !ok {
		f.fail("expected a value")
	}
	n.Values = s.Values
	f.i = len(f.toks)
}

// alterTable takes ALTER TABLE command by command: each goes to the module unless
// it is one of ours.
func (f *front) alterTable() tree.Statement {
	ifExists := f.ifExists()
	if f.looking("only") && f.at(1).isName() && !f.at(1).is("add") {
		f.next()
	}
	nameAt := f.i
	name := f.object()
	nameEnd := f.i
	f.acceptOp("*")
	switch {
	case f.accept("owner", "to"):
		return f.owner(KindTable, name, ifExists, "ALTER TABLE")
	case f.accept("set", "schema"):
		return f.setSchema(KindTable, name, ifExists, "ALTER TABLE")
	case f.accept("set", "locality"):
		n := &AlterTableLocality{Name: name, IfExists: ifExists, Locality: f.locality()}
		f.done()
		n.node = f.node(tree.DDL, "ALTER TABLE")
		return n
	case f.accept("relocate"):
		return f.relocate("ALTER TABLE " + f.text(nameAt, nameEnd))
	case f.looking("partition", "all", "by"):
		// The module has the same without ALL.
		sub := &front{src: f.src, toks: slices.Delete(slices.Clone(f.toks), f.i+1, f.i+2), side: f.side}
		at, ok := sub.delegateTokens().(*tree.AlterTable)
		if !ok {
			f.fail("expected LIST, RANGE or NOTHING")
		}
		by := at.Cmds[0].(*tree.AlterTablePartitionBy)
		at.Cmds[0] = &AlterTablePartitionAllBy{By: by.PartitionBy}
		return at
	case f.looking("rename"), f.looking("split"), f.looking("unsplit"), f.looking("scatter"), f.looking("configure"),
		f.looking("experimental_relocate"), f.looking("partition"), f.looking("inject"), f.eof():
		return nil
	case f.looking("attach", "partition"), f.looking("detach", "partition"), f.looking("inherit"), f.looking("no", "inherit"):
		f.unsupported(f.peek(), "table inheritance is not supported")
	}
	head := "ALTER TABLE " + f.text(nameAt, nameEnd) + " "
	out := &tree.AlterTable{Table: name, IfExists: ifExists}
	for {
		stop := f.until(func(i int) bool { return f.toks[i].op(",") })
		if stop == f.i {
			f.fail("expected a command")
		}
		out.Cmds = append(out.Cmds, f.alterCmds(head, stop)...)
		f.i = stop
		if !f.acceptOp(",") {
			break
		}
	}
	f.done()
	return out
}

// relocateSubject takes what a RELOCATE moves.
func (f *front) relocateSubject() RelocateSubject {
	switch {
	case f.accept("lease"):
		return RelocateLease
	case f.accept("nonvoters"), f.accept("non_voters"):
		return RelocateNonVoters
	}
	f.accept("voters")
	return RelocateVoters
}

// relocate takes what follows ALTER TABLE|INDEX name RELOCATE.
func (f *front) relocate(head string) tree.Statement {
	// The module knows an older form of the same with the same name in it.
	old, ok := f.delegate(head+" EXPERIMENTAL_RELOCATE VALUES (ARRAY[1], 1)", f.i, f.i, "").(*tree.Relocate)
	if !ok {
		f.fail("expected a table or an index")
	}
	n := &Relocate{TableOrIndex: old.TableOrIndex, Subject: f.relocateSubject()}
	n.Rows = f.selectRest()
	n.node = f.node(tree.Rows, "RELOCATE")
	return n
}

// alterRangeRelocate takes what follows ALTER RANGE.
func (f *front) alterRangeRelocate() tree.Statement {
	n := &AlterRangeRelocate{}
	if !f.looking("relocate") {
		n.Ranges = oneValue(f.exprUntil("relocate"))
	}
	f.expect("relocate")
	n.Subject = f.relocateSubject()
	if n.Subject != RelocateLease {
		f.expect("from")
		n.From = f.exprUntil("to")
	}
	f.expect("to")
	n.To = f.exprUntil("for")
	if n.Ranges == nil {
		f.expect("for")
		n.Ranges = f.selectRest()
	}
	f.done()
	n.node = f.node(tree.Rows, "RELOCATE RANGE")
	return n
}

// alterCmds parses the command toks[f.i:stop].
func (f *front) alterCmds(head string, stop int) tree.AlterTableCmds {
	c := f.sub(f.i, stop)
	if cmd := c.ownAlterCmd(); cmd != nil {
		return tree.AlterTableCmds{cmd}
	}
	// A column being added may have a type of ours.
	c.i = 0
	var toks []token
	if c.accept("add") {
		c.accept("column")
		c.ifNotExists()
		toks = append(append(toks, c.toks[:c.i]...), c.columnTokens(len(c.toks))...)
	} else if i := c.typeClause(); i > 0 {
		toks = append(toks, c.toks[:i]...)
		c.i = i - 1 // The token before the type plays the column's name.
		toks = append(toks, c.columnTokens(len(c.toks))[1:]...)
	} else {
		toks = c.toks
	}
	headToks := scanAll(head)
	for i := range headToks {
		headToks[i].str, headToks[i].end = head[headToks[i].pos:headToks[i].end], f.toks[f.i].pos
		headToks[i].pos = synthetic
	}
	sub := &front{src: f.src, toks: append(headToks, toks...), side: f.side}
	stmt := sub.delegateTokens()
	at, ok := stmt.(*tree.AlterTable)
	if !ok {
		bail(f.errorAt(f.toks[f.i], "this command must stand alone"))
	}
	return at.Cmds
}

// typeClause returns the index of the type in ALTER [COLUMN] c [SET DATA] TYPE t.
func (f *front) typeClause() int {
	f.i = 0
	if !f.accept("alter") {
		return 0
	}
	f.accept("column")
	if !f.peek().isName() {
		return 0
	}
	f.next()
	f.accept("set", "data")
	if f.accept("type") {
		return f.i
	}
	return 0
}

// ownAlterCmd parses a command that the module lacks, or returns nil.
func (f *front) ownAlterCmd() tree.AlterTableCmd {
	noop := func() tree.AlterTableCmd { return &AlterTableNoOp{What: f.all()} }
	switch {
	case f.looking("set") && f.at(1).op("("):
		f.next()
		f.expectOp("(")
		c := &AlterTableSetParams{Params: f.storageParams()}
		f.expectOp(")")
		f.done()
		return c
	case f.looking("reset") && f.at(1).op("("):
		f.next()
		f.expectOp("(")
		c := &AlterTableResetParams{}
		for {
			c.Params = append(c.Params, f.paramName())
			if !f.acceptOp(",") {
				break
			}
		}
		f.expectOp(")")
		f.done()
		return c
	case f.looking("cluster"), f.looking("set", "without"), f.looking("set", "with"), f.looking("set", "tablespace"),
		f.looking("set", "logged"), f.looking("set", "unlogged"), f.looking("set", "access"), f.looking("replica", "identity"),
		f.looking("enable"), f.looking("disable"), f.looking("force", "row"), f.looking("no", "force"):
		if f.looking("enable", "row", "level") || f.looking("force", "row") {
			f.unsupported(f.peek(), "row level security is not supported")
		}
		return noop()
	case f.looking("add"):
		return f.alterAdd()
	case f.looking("alter"):
		return f.alterColumn(noop)
	}
	return nil
}

func (f *front) paramName() tree.Name {
	if t := f.peek(); t.kind == tokString {
		f.next()
		return tree.Name(t.str)
	}
	n := f.anyName()
	for f.acceptOp(".") {
		n += "." + f.anyName()
	}
	return tree.Name(n)
}

func (f *front) storageParams() tree.StorageParams {
	var out tree.StorageParams
	for {
		p := tree.StorageParam{Key: f.paramName()}
		if f.acceptOp("=") {
			if t := f.peek(); t.is("on") || t.is("off") {
				f.next()
				p.Value = tree.NewStrVal(t.str)
			} else {
				p.Value = f.exprUntil()
			}
		}
		out = append(out, p)
		if !f.acceptOp(",") {
			return out
		}
	}
}

// alterAdd takes ADD CONSTRAINT c {UNIQUE|PRIMARY KEY} USING INDEX i.
func (f *front) alterAdd() tree.AlterTableCmd {
	f.next()
	c := &AlterTableAddConstraintUsingIndex{}
	if f.accept("constraint") {
		c.Name = tree.Name(f.name())
	}
	switch {
	case f.accept("unique", "using", "index"):
	case f.accept("primary", "key", "using", "index"):
		c.PrimaryKey = true
	case f.looking("exclude"):
		f.unsupported(f.peek(), "EXCLUDE constraints are not supported")
	default:
		return nil
	}
	c.Index = tree.Name(f.name())
	f.accept("not", "deferrable")
	f.accept("initially", "immediate")
	f.done()
	if c.Name == "" {
		c.Name = c.Index
	}
	return c
}

// alterColumn takes ALTER [COLUMN] c with actions that the module lacks.
func (f *front) alterColumn(noop func() tree.AlterTableCmd) tree.AlterTableCmd {
	f.next()
	if f.looking("constraint") {
		f.unsupported(f.peek(), "ALTER CONSTRAINT is not supported")
	}
	if f.looking("primary", "key") {
		return nil
	}
	f.accept("column")
	if !f.peek().isName() {
		return nil
	}
	col := tree.Name(f.next().str)
	identity := func() (always bool) {
		if f.accept("always") {
			return true
		}
		f.expect("by", "default")
		return false
	}
	options := func() tree.SequenceOptions {
		if !f.acceptOp("(") {
			return nil
		}
		end := f.skipParens(f.i - 1)
		o := f.sub(f.i, end-1).sequenceOptions()
		f.i = end
		return o
	}
	switch {
	case f.accept("add", "generated"):
		c := &AlterTableAddIdentity{Column: col}
		c.Identity.Always = identity()
		f.expect("as", "identity")
		c.Identity.Options = options()
		f.done()
		return c
	case f.accept("drop", "identity"):
		c := &AlterTableDropIdentity{Column: col, IfExists: f.ifExists()}
		f.done()
		return c
	case f.looking("set", "generated"):
		f.i += 2
		always := identity()
		f.done()
		return &AlterTableSetGenerated{Column: col, Always: &always}
	case f.looking("set", "statistics"), f.looking("set", "storage"), f.looking("set", "compression"),
		f.looking("set") && f.at(1).op("("), f.looking("reset") && f.at(1).op("("):
		return noop()
	case f.looking("restart"):
		return &AlterTableSetGenerated{Column: col, Options: f.sequenceOptions()}
	case f.looking("set") && (f.at(1).is("increment") || f.at(1).is("start") || f.at(1).is("minvalue") || f.at(1).is("maxvalue") ||
		f.at(1).is("cache") || f.at(1).is("cycle") || f.at(1).is("no") || f.at(1).is("restart")):
		var toks []token
		for _, t := range f.toks[f.i:] {
			if !t.is("set") {
				toks = append(toks, t)
			}
		}
		return &AlterTableSetGenerated{Column: col, Options: (&front{src: f.src, toks: toks, side: f.side}).sequenceOptions()}
	}
	return nil
}

// comment takes COMMENT ON.
func (f *front) comment() tree.Statement {
	f.expect("comment", "on")
	n := &CommentOn{}
	switch {
	case f.looking("database"), f.looking("table"), f.looking("column"), f.looking("index"):
		return f.commentBasic()
	case f.accept("schema"):
		n.Kind = KindSchema
	case f.accept("sequence"):
		n.Kind = KindSequence
	case f.accept("materialized", "view"):
		n.Kind = KindMaterializedView
	case f.accept("view"):
		n.Kind = KindView
	case f.accept("type"):
		n.Kind = KindType
	case f.accept("constraint"):
		n.Kind = KindConstraint
	case f.accept("extension"):
		n.Kind = KindExtension
	case f.accept("role"):
		n.Kind = KindRole
	case f.accept("function"), f.accept("procedure"), f.accept("aggregate"), f.accept("routine"):
		n.Kind = KindFunction
	case f.accept("language"), f.accept("procedural", "language"):
		n.Kind = KindLanguage
	default:
		n.Kind = KindOther
		f.next()
	}
	t := f.peek()
	n.Name = objectName(f.commentName())
	if f.peek().op("(") {
		f.i = f.skipParens(f.i)
	}
	if f.accept("on") {
		f.accept("domain")
		n.Table = f.object()
	} else if n.Kind == KindConstraint {
		bail(f.errorAt(t, "COMMENT ON CONSTRAINT c ON t"))
	}
	f.expect("is")
	n.Comment = f.commentText()
	n.node = f.node(tree.DDL, "COMMENT")
	return n
}

func (f *front) commentName() []string {
	parts := []string{f.anyName()}
	for len(parts) < 3 && f.acceptOp(".") {
		parts = append(parts, f.anyName())
	}
	return parts
}

func (f *front) commentText() *string {
	var s *string
	if !f.accept("null") {
		v := f.str()
		s = &v
	}
	f.done()
	return s
}

// commentBasic takes the kinds that have trees in the module.
func (f *front) commentBasic() tree.Statement {
	kind := f.next().str
	switch kind {
	case "database":
		n := &tree.CommentOnDatabase{Name: tree.Name(f.name())}
		f.expect("is")
		n.Comment = f.commentText()
		return n
	case "table":
		n := &tree.CommentOnTable{Table: f.object()}
		f.expect("is")
		n.Comment = f.commentText()
		return n
	case "column":
		parts := f.dotted(4)
		if len(parts) < 2 {
			f.fail("COMMENT ON COLUMN table.column")
		}
		n := &tree.CommentOnColumn{ColumnItem: &tree.ColumnItem{
			TableName: objectName(parts[:len(parts)-1]), ColumnName: tree.Name(parts[len(parts)-1])}}
		f.expect("is")
		n.Comment = f.commentText()
		return n
	}
	name := f.object()
	ti := tree.TableIndexName{Index: tree.UnrestrictedName(partsOf(name)[name.NumParts-1])}
	if f.acceptOp("@") {
		ti.Table = name.ToTableName()
		ti.Index = tree.UnrestrictedName(f.anyName())
	} else if parts := partsOf(name); len(parts) > 1 {
		ti.Table.ExplicitSchema = true
		ti.Table.SchemaName = tree.Name(parts[len(parts)-2])
		if len(parts) > 2 {
			ti.Table.ExplicitCatalog = true
			ti.Table.CatalogName = tree.Name(parts[0])
		}
	}
	n := &tree.CommentOnIndex{Index: ti}
	f.expect("is")
	n.Comment = f.commentText()
	return n
}

// copyStmt takes COPY in all forms.
func (f *front) copyStmt() tree.Statement {
	f.expect("copy")
	n := &Copy{}
	f.accept("binary")
	if f.peek().op("(") && (f.at(1).is("select") || f.at(1).is("with") || f.at(1).is("values") || f.at(1).is("table") ||
		f.at(1).is("insert") || f.at(1).is("update") || f.at(1).is("delete") || f.at(1).op("(") || f.at(1).is("show")) {
		end := f.skipParens(f.i)
		if end > len(f.toks) || end-1 <= f.i+1 {
			f.fail("expected a query")
		}
		n.Query = f.sub(f.i+1, end-1).statement()
		f.i = end
	} else {
		n.Table = f.object()
		if f.acceptOp("(") {
			n.Columns = f.nameList()
			f.expectOp(")")
		}
	}
	switch {
	case f.accept("from"):
		if n.Query != nil {
			f.i--
			f.fail("COPY FROM takes a table")
		}
		n.From = true
		if !f.accept("stdin") {
			f.copyPlace()
		}
	case f.accept("to"):
		if !f.accept("stdout") {
			f.copyPlace()
		}
	default:
		f.fail("expected FROM or TO")
	}
	f.copyOptions(n)
	if f.accept("where") {
		if !n.From {
			f.i--
			f.fail("WHERE is only for COPY FROM")
		}
		n.Options.Where = f.exprRange(len(f.toks))
	}
	f.done()
	n.Options.defaults(f)
	typ := tree.CopyIn
	if !n.From {
		typ = tree.RowsAffected
	}
	n.node = f.node(typ, "COPY")
	return n
}

func (f *front) copyPlace() {
	t := f.peek()
	if t.is("program") || t.kind == tokString {
		bail(locate(pgerr.New(pgerr.InsufficientPrivilege, "COPY to or from a file or program of the server is not allowed"), f.src, t.pos).
			WithHint("Use COPY ... FROM STDIN or TO STDOUT, or psql's \\copy."))
	}
	f.fail("expected STDIN or STDOUT")
}

// copyOptions takes [WITH] (name value, …) and the old form without parentheses.
func (f *front) copyOptions(n *Copy) {
	o := &n.Options
	with := f.accept("with")
	if f.peek().op("(") {
		f.next()
		given := map[string]bool{}
		for {
			t := f.peek()
			if name := lower(t.str); given[name] {
				bail(locate(pgerr.New(pgerr.SyntaxError, "conflicting or redundant options"), f.src, t.pos))
			} else {
				given[name] = true
			}
			f.copyOption(o)
			if !f.acceptOp(",") {
				break
			}
		}
		f.expectOp(")")
		return
	}
	_ = with
	for !f.eof() && !f.looking("where") {
		f.copyOldOption(o)
	}
}

func (f *front) copyChar(what string) string {
	t := f.peek()
	s := f.str()
	if len(s) != 1 {
		bail(locate(pgerr.Newf(pgerr.FeatureNotSupported, "COPY %s must be a single one-byte character", what), f.src, t.pos))
	}
	return s
}

// encoding checks the name of a character set: data comes and goes as UTF-8.
func (f *front) encoding(t token) string {
	switch name := strings.NewReplacer("-", "", "_", "", " ", "").Replace(strings.ToLower(t.str)); name {
	case "utf8", "unicode", "sqlascii":
	case "latin1", "latin2", "latin3", "latin4", "latin5", "latin6", "latin7", "latin8", "latin9", "latin10", "win1250", "win1251",
		"win1252", "win1253", "win1254", "win1255", "win1256", "win1257", "win1258", "win866", "win874", "koi8r", "koi8u", "eucjp",
		"euckr", "euccn", "euctw", "sjis", "shiftjis", "big5", "gbk", "gb18030", "uhc", "johab", "iso88591", "iso88592", "iso885915",
		"windows1250", "windows1251", "windows1252":
		bail(locate(pgerr.Newf(pgerr.FeatureNotSupported, "encoding \"%s\" is not supported", t.str), f.src, t.pos).
			WithHint("Data is read and written as UTF8."))
	default:
		bail(locate(pgerr.New(pgerr.InvalidParameterValue, "argument to option \"encoding\" must be a valid encoding name"), f.src, t.pos))
	}
	return t.str
}

// flag takes an optional boolean; bare means true.
func (f *front) flag() bool {
	if f.peek().op(",") || f.peek().op(")") || f.eof() {
		return true
	}
	t := f.peek()
	v, ok := f.boolean()
	if !ok {
		bail(f.errorAt(t, "expected a boolean"))
	}
	return v
}

func (f *front) copyColumns() tree.NameList {
	f.expectOp("(")
	l := f.nameList()
	f.expectOp(")")
	return l
}

func (f *front) copyOption(o *CopyOptions) {
	t := f.peek()
	switch name := f.anyName(); name {
	case "format":
		v := lower(f.next().str)
		switch v {
		case "text", "csv", "binary":
			o.Format = CopyFormat(v)
		default:
			bail(locate(pgerr.Newf(pgerr.InvalidParameterValue, "COPY format \"%s\" not recognized", v), f.src, t.pos))
		}
	case "freeze":
		o.Freeze = f.flag()
	case "delimiter":
		o.Delimiter = f.copyChar("delimiter")
	case "null":
		o.Null, o.nullSet = f.str(), true
	case "header":
		if f.accept("match") {
			o.Header, o.HeaderMatch = true, true
		} else {
			o.Header = f.flag()
		}
	case "quote":
		o.Quote = f.copyChar("quote")
	case "escape":
		o.Escape = f.copyChar("escape")
	case "force_quote":
		if f.acceptOp("*") {
			o.ForceAll = true
		} else {
			o.ForceQuote = f.copyColumns()
		}
	case "force_not_null":
		o.ForceNotNull = f.copyColumns()
	case "force_null":
		o.ForceNull = f.copyColumns()
	case "encoding":
		t := f.next()
		if t.kind != tokString && !t.isName() {
			f.i--
			f.fail("expected an encoding")
		}
		o.Encoding = f.encoding(t)
	default:
		bail(locate(pgerr.Newf(pgerr.SyntaxError, "option \"%s\" not recognized", name), f.src, t.pos))
	}
}

func (f *front) copyOldOption(o *CopyOptions) {
	columns := func() tree.NameList { return f.nameList() }
	switch {
	case f.accept("binary"):
		o.Format = CopyBinary
	case f.accept("csv"):
		o.Format = CopyCSV
	case f.accept("freeze"):
		o.Freeze = true
	case f.accept("header"):
		o.Header = true
	case f.accept("delimiter"), f.accept("delimiters"):
		f.accept("as")
		o.Delimiter = f.copyChar("delimiter")
	case f.accept("using", "delimiters"):
		o.Delimiter = f.copyChar("delimiter")
	case f.accept("null"):
		f.accept("as")
		o.Null, o.nullSet = f.str(), true
	case f.accept("quote"):
		f.accept("as")
		o.Quote = f.copyChar("quote")
	case f.accept("escape"):
		f.accept("as")
		o.Escape = f.copyChar("escape")
	case f.accept("force", "quote"):
		if f.acceptOp("*") {
			o.ForceAll = true
		} else {
			o.ForceQuote = columns()
		}
	case f.accept("force", "not", "null"):
		o.ForceNotNull = columns()
	case f.accept("force", "null"):
		o.ForceNull = columns()
	case f.accept("encoding"):
		t := f.peek()
		f.str()
		o.Encoding = f.encoding(t)
	default:
		f.fail("")
	}
}

// defaults fills in what was not given and checks what does not go together.
func (o *CopyOptions) defaults(f *front) {
	bad := func(code pgerr.Code, format string, args ...any) {
		bail(pgerr.Newf(code, format, args...))
	}
	if o.Format == "" {
		o.Format = CopyText
	}
	if o.Format == CopyBinary {
		switch {
		case o.Delimiter != "":
			bad(pgerr.SyntaxError, "cannot specify DELIMITER in BINARY mode")
		case o.nullSet:
			bad(pgerr.SyntaxError, "cannot specify NULL in BINARY mode")
		case o.Header:
			bad(pgerr.FeatureNotSupported, "cannot specify HEADER in BINARY mode")
		}
	}
	if o.Format != CopyCSV {
		switch {
		case o.Quote != "":
			bad(pgerr.FeatureNotSupported, "COPY quote available only in CSV mode")
		case o.Escape != "":
			bad(pgerr.FeatureNotSupported, "COPY escape available only in CSV mode")
		case o.ForceAll || len(o.ForceQuote) > 0:
			bad(pgerr.FeatureNotSupported, "COPY force quote available only in CSV mode")
		case len(o.ForceNotNull) > 0:
			bad(pgerr.FeatureNotSupported, "COPY force not null available only in CSV mode")
		case len(o.ForceNull) > 0:
			bad(pgerr.FeatureNotSupported, "COPY force null available only in CSV mode")
		}
	}
	if o.Delimiter == "" {
		o.Delimiter = "\t"
		if o.Format == CopyCSV {
			o.Delimiter = ","
		}
	}
	if !o.nullSet && o.Format == CopyText {
		o.Null = `\N`
	}
	if o.Format == CopyCSV {
		if o.Quote == "" {
			o.Quote = `"`
		}
		if o.Escape == "" {
			o.Escape = o.Quote
		}
		if o.Delimiter == o.Quote {
			bad(pgerr.InvalidParameterValue, "COPY delimiter and quote must be different")
		}
	}
	if strings.ContainsAny(o.Delimiter, "\r\n") {
		bad(pgerr.InvalidParameterValue, "COPY delimiter cannot be newline or carriage return")
	}
	if o.Format == CopyText && strings.Contains(`\.abcdefghijklmnopqrstuvwxyz0123456789`, o.Delimiter) {
		bad(pgerr.InvalidParameterValue, "COPY delimiter cannot be \"%s\"", o.Delimiter)
	}
	if strings.ContainsAny(o.Null, "\r\n") {
		bad(pgerr.InvalidParameterValue, "COPY null representation cannot use newline or carriage return")
	}
}

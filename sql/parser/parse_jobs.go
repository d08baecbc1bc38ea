package parser

import (
	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
)

// oneValue returns VALUES (e).
func oneValue(e tree.Expr) *tree.Select {
	return &tree.Select{Select: &tree.ValuesClause{Rows: []tree.Exprs{{e}}}}
}

// oneJob returns VALUES (e) for a job id. What has no type of its own is read as
// an integer, so 'abc' is an integer with a mistake and not a text.
func oneJob(e tree.Expr) *tree.Select {
	switch e.(type) {
	case *tree.StrVal, *tree.Placeholder:
		e = &tree.CastExpr{Expr: e, Type: types.Int, SyntaxMode: tree.CastShort}
	default:
		if e == tree.DNull {
			e = &tree.CastExpr{Expr: e, Type: types.Int, SyntaxMode: tree.CastShort}
		}
	}
	return oneValue(e)
}

// selectUntil parses a query up to the words at depth 0.
func (f *front) selectUntil(words ...string) *tree.Select {
	end := f.until(func(i int) bool { return i > f.i && f.wordsAt(i, words...) })
	return f.selectRange(end)
}

// controlJobs takes PAUSE, RESUME and CANCEL. CANCEL QUERY and CANCEL SESSION are
// the module's.
func (f *front) controlJobs() tree.Statement {
	cmd := JobCommand(upper(f.next().str))
	switch {
	case f.accept("schedule"):
		n := &ControlSchedules{Command: cmd, Schedules: oneValue(f.exprUntil())}
		f.done()
		n.node = f.node(tree.RowsAffected, string(cmd)+" SCHEDULES")
		return n
	case f.accept("schedules"):
		n := &ControlSchedules{Command: cmd, Schedules: f.selectRest()}
		n.node = f.node(tree.RowsAffected, string(cmd)+" SCHEDULES")
		return n
	}
	n := &ControlJobs{Command: cmd}
	tag := string(cmd) + " JOBS"
	switch {
	case f.accept("all"):
		n.Type = upper(f.anyName())
		switch n.Type {
		case "BACKUP", "RESTORE", "IMPORT", "CHANGEFEED":
		default:
			f.i--
			f.fail("expected BACKUP, RESTORE, IMPORT or CHANGEFEED")
		}
		f.expect("jobs")
	case f.accept("job"):
		n.Jobs = oneJob(f.exprUntil("with"))
	case f.accept("jobs", "for", "schedule"):
		n.Schedules = oneValue(f.exprUntil("with"))
		tag = string(cmd) + " JOBS FOR SCHEDULES"
	case f.accept("jobs", "for", "schedules"):
		n.Schedules = f.selectUntil("with", "reason")
		tag = string(cmd) + " JOBS FOR SCHEDULES"
	case f.accept("jobs"):
		n.Jobs = f.selectUntil("with", "reason")
	default:
		if cmd == CancelCmd {
			return nil
		}
		f.fail("try \\h %s JOBS", cmd)
	}
	if f.accept("with", "reason") {
		if cmd != PauseCmd {
			f.i -= 2
			f.fail("only PAUSE takes a reason")
		}
		f.expectOp("=")
		n.Reason = f.strOrParam()
	}
	f.done()
	n.node = f.node(tree.RowsAffected, tag)
	return n
}

// showJobs takes SHOW [AUTOMATIC] JOB[S] …; SHOW is taken.
func (f *front) showJobs() tree.Statement {
	n := &ShowJobs{Automatic: f.accept("automatic")}
	execution := func() {
		if f.accept("with", "execution", "details") {
			n.ExecutionDetails = true
		}
	}
	switch {
	case f.accept("job"):
		n.Single = true
		n.WhenComplete = f.accept("when", "complete")
		n.Jobs = oneJob(f.exprUntil("with"))
	case f.accept("jobs", "for", "schedule"):
		n.Schedules = oneValue(f.exprUntil("with"))
	case f.accept("jobs", "for", "schedules"):
		n.Schedules = f.selectUntil("with", "execution")
	default:
		f.expect("jobs")
		n.WhenComplete = f.accept("when", "complete")
		if !f.eof() && !f.looking("with", "execution") {
			n.Jobs = f.selectUntil("with", "execution")
		} else if n.WhenComplete {
			f.fail("expected a query")
		}
	}
	execution()
	f.done()
	n.node = f.node(tree.Rows, "SHOW JOBS")
	return n
}

// createSchedule takes CREATE SCHEDULE …; the words are taken.
func (f *front) createSchedule() tree.Statement {
	n := &CreateSchedule{IfNotExists: f.ifNotExists()}
	if !f.looking("for", "backup") {
		if t := f.peek(); t.isName() {
			f.next()
			n.Label = tree.NewStrVal(t.str)
		} else {
			n.Label = f.strOrParam()
		}
	}
	f.expect("for", "backup")
	b := &Backup{Targets: f.targets()}
	f.expect("into")
	f.backupInto(b)
	f.withOptions(func() { f.backupOption(&b.Options) })
	n.Backup = b
	if f.accept("recurring") {
		n.Recurrence = f.strOrParam()
	}
	if f.accept("full", "backup") {
		if f.accept("always") {
			n.FullAlways = true
		} else {
			n.FullBackup = f.strOrParam()
		}
	}
	if f.accept("with", "schedule", "options") {
		n.Options = f.scheduleOptions()
	}
	f.done()
	n.node = f.node(tree.Rows, "CREATE SCHEDULE")
	n.node.text = tree.AsString(b)
	return n
}

func (f *front) scheduleOptions() []ScheduleOption {
	paren := f.acceptOp("(")
	var out []ScheduleOption
	for {
		out = append(out, f.scheduleOption())
		if !f.acceptOp(",") {
			break
		}
	}
	if paren {
		f.expectOp(")")
	}
	return out
}

func (f *front) scheduleOption() ScheduleOption {
	o := ScheduleOption{}
	if t := f.peek(); t.kind == tokString {
		f.next()
		o.Name = t.str
	} else {
		o.Name = f.anyName()
	}
	if f.acceptOp("=") {
		o.Value = f.exprUntil()
	}
	return o
}

// alterSchedule takes ALTER BACKUP SCHEDULE …; the words are taken.
func (f *front) alterSchedule() tree.Statement {
	n := &AlterBackupSchedule{ID: f.exprUntil("set", "execute")}
	for {
		var c AlterScheduleCmd
		switch {
		case f.accept("set", "label"):
			c = AlterScheduleCmd{Name: "LABEL", Value: f.strOrParam()}
		case f.accept("set", "into"):
			c = AlterScheduleCmd{Name: "INTO", Into: f.uris()}
		case f.accept("set", "with"):
			c = AlterScheduleCmd{Name: "WITH", With: &BackupOptions{}}
			f.backupOption(c.With)
		case f.accept("set", "recurring"):
			c = AlterScheduleCmd{Name: "RECURRING", Value: f.strOrParam()}
		case f.accept("set", "full", "backup", "always"):
			c = AlterScheduleCmd{Name: "FULL BACKUP", FullAlways: true}
		case f.accept("set", "full", "backup"):
			c = AlterScheduleCmd{Name: "FULL BACKUP", Value: f.strOrParam()}
		case f.accept("set", "schedule", "option"):
			o := f.scheduleOption()
			c = AlterScheduleCmd{Name: "SCHEDULE OPTION", ScheduleOption: &o}
		case f.accept("execute", "full", "immediately"):
			c = AlterScheduleCmd{Name: "EXECUTE", ExecuteFull: true}
		case f.accept("execute", "immediately"):
			c = AlterScheduleCmd{Name: "EXECUTE"}
		default:
			f.fail("expected SET or EXECUTE")
		}
		n.Cmds = append(n.Cmds, c)
		if !f.acceptOp(",") {
			break
		}
	}
	f.done()
	n.node = f.node(tree.Rows, "ALTER BACKUP SCHEDULE")
	return n
}

// showSchedules takes SHOW [RUNNING|PAUSED] SCHEDULES …; SHOW is taken.
func (f *front) showSchedules() tree.Statement {
	n := &ShowSchedules{}
	switch {
	case f.accept("running"):
		n.Which = "RUNNING"
	case f.accept("paused"):
		n.Which = "PAUSED"
	}
	if f.accept("schedule") {
		n.ID = f.exprUntil()
	} else {
		f.expect("schedules")
		if f.accept("for") {
			switch {
			case f.accept("backup"):
				n.For = "BACKUP"
			case f.accept("sql", "statistics"):
				n.For = "SQL STATISTICS"
			case f.accept("changefeed"):
				n.For = "CHANGEFEED"
			default:
				f.fail("expected BACKUP, SQL STATISTICS or CHANGEFEED")
			}
		}
	}
	f.done()
	n.node = f.node(tree.Rows, "SHOW SCHEDULES")
	return n
}

// nameOrStr takes a name or a string, as external connections have.
func (f *front) nameOrStr() tree.Expr {
	if t := f.peek(); t.isName() {
		f.next()
		return tree.NewStrVal(t.str)
	}
	return f.strOrParam()
}

// createConnection takes CREATE EXTERNAL CONNECTION …; the words are taken.
func (f *front) createConnection() tree.Statement {
	n := &CreateExternalConnection{IfNotExists: f.ifNotExists(), Name: f.nameOrStr()}
	f.expect("as")
	n.As = f.strOrParam()
	f.done()
	n.node = f.node(tree.DDL, "CREATE EXTERNAL CONNECTION")
	n.node.text = "CREATE EXTERNAL CONNECTION " + tree.AsString(n.Name) + " AS '*****'"
	return n
}

func (f *front) checkConnection() tree.Statement {
	f.expect("check", "external", "connection")
	n := &CheckExternalConnection{URI: f.strOrParam()}
	if f.accept("with") {
		f.accept("options")
		n.Options = f.scheduleOptions()
	}
	f.done()
	n.node = f.node(tree.Rows, "CHECK EXTERNAL CONNECTION")
	n.node.text = "CHECK EXTERNAL CONNECTION '*****'"
	return n
}

package parser

import (
	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
)

// show takes the SHOW statements that the module lacks or says differently.
func (f *front) show() tree.Statement {
	f.expect("show")
	switch {
	case f.accept("backups"):
		f.expect("in")
		n := &ShowBackups{In: f.uris()}
		f.done()
		n.node = f.node(tree.Rows, "SHOW BACKUPS")
		return n
	case f.accept("backup"):
		return f.showBackup()
	case f.looking("job"), f.looking("jobs"), f.looking("automatic", "jobs"):
		return f.showJobs()
	case f.looking("schedule"), f.looking("schedules"), f.looking("running", "schedules"), f.looking("paused", "schedules"):
		return f.showSchedules()
	case f.accept("external", "connections"):
		f.done()
		return &ShowExternalConnections{node: f.node(tree.Rows, "SHOW EXTERNAL CONNECTIONS")}
	case f.accept("external", "connection"):
		n := &ShowExternalConnections{Name: f.nameOrStr()}
		f.done()
		n.node = f.node(tree.Rows, "SHOW EXTERNAL CONNECTIONS")
		return n
	case f.accept("create"):
		return f.showCreate()
	case f.accept("types"):
		n := &ShowTypes{From: f.showFrom()}
		f.done()
		n.node = f.node(tree.Rows, "SHOW TYPES")
		return n
	case f.accept("enums"):
		n := &ShowEnums{From: f.showFrom()}
		f.done()
		n.node = f.node(tree.Rows, "SHOW ENUMS")
		return n
	case f.accept("functions"):
		n := &ShowFunctions{From: f.showFrom()}
		f.done()
		n.node = f.node(tree.Rows, "SHOW FUNCTIONS")
		return n
	case f.accept("tables"):
		n := &ShowTables{From: f.showFrom()}
		n.WithComment = f.accept("with", "comment")
		f.done()
		n.node = f.node(tree.Rows, "SHOW TABLES")
		return n
	case f.accept("sequences"):
		n := &ShowSequences{From: f.showFrom()}
		f.done()
		n.node = f.node(tree.Rows, "SHOW SEQUENCES")
		return n
	case f.looking("cluster", "ranges"), f.looking("ranges"):
		return f.showRanges()
	case f.looking("range", "from"):
		return f.showRangeForRow()
	case f.looking("grants"), f.looking("system", "grants"):
		return f.showGrants()
	case f.accept("default", "privileges"):
		return f.showDefaultPrivileges()
	case f.looking("regions"):
		return f.showRegions()
	case f.accept("survival", "goal", "from", "database"):
		n := &ShowSurvivalGoal{}
		if !f.eof() {
			n.Database = tree.Name(f.name())
		}
		f.done()
		n.node = f.node(tree.Rows, "SHOW SURVIVAL GOAL")
		return n
	case f.accept("locality"):
		f.done()
		return &tree.ShowVar{Name: "locality"}
	case f.accept("all", "zone", "configurations"), f.looking("zone", "configurations"):
		return &tree.ShowZoneConfig{}
	case f.accept("zone", "configuration"):
		return f.showZone()
	case f.looking("cluster", "statements"), f.looking("local", "statements"), f.looking("statements"), f.looking("all", "statements"):
		n := &tree.ShowQueries{Cluster: !f.looking("local")}
		return n
	case f.showsTransactions():
		n := &ShowTransactions{All: f.accept("all")}
		if n.Local = f.accept("local"); !n.Local {
			f.accept("cluster")
		}
		f.expect("transactions")
		f.done()
		n.node = f.node(tree.Rows, "SHOW TRANSACTIONS")
		return n
	case f.looking("cluster", "setting", "all"), f.looking("all", "cluster", "settings"):
		return &tree.ShowClusterSettingList{All: true}
	case f.looking("cluster", "settings"), f.looking("public", "cluster", "settings"):
		return &tree.ShowClusterSettingList{}
	case f.accept("cluster", "setting"):
		name := f.anyName()
		for f.acceptOp(".") {
			name += "." + f.anyName()
		}
		f.done()
		return &tree.ShowClusterSetting{Name: name}
	case f.accept("transaction", "isolation", "level"):
		f.done()
		return &tree.ShowVar{Name: "transaction_isolation"}
	case f.accept("session", "authorization"):
		f.done()
		return &tree.ShowVar{Name: "session_authorization"}
	case f.accept("time", "zone"):
		f.done()
		return &tree.ShowVar{Name: "timezone"}
	}
	// A variable, perhaps with dots in its name.
	if !f.eof() && f.peek().isName() {
		name := f.next().str
		for f.acceptOp(".") {
			name += "." + f.anyName()
		}
		if f.eof() && !showWords[name] {
			return &tree.ShowVar{Name: name}
		}
	}
	return nil
}

// showsTransactions says whether [ALL] [CLUSTER|LOCAL] TRANSACTIONS follows.
func (f *front) showsTransactions() bool {
	return f.looking("transactions") || f.looking("cluster", "transactions") || f.looking("local", "transactions") ||
		f.looking("all", "transactions") || f.looking("all", "cluster", "transactions") || f.looking("all", "local", "transactions")
}

// showWords are the SHOW statements of one word that the module has.
var showWords = map[string]bool{
	"databases": true, "schemas": true, "users": true, "roles": true, "sessions": true, "queries": true,
	"savepoint": true, "trace": true, "columns": true, "indexes": true, "index": true, "keys": true, "constraints": true,
}

// showFrom takes [{FROM|IN} db[.schema]]. A single name may be either: it is in
// Schema, with Database empty.
func (f *front) showFrom() SchemaName {
	if !f.accept("from") && !f.accept("in") {
		return SchemaName{}
	}
	return f.schemaName()
}

func (f *front) showCreate() tree.Statement {
	switch {
	case f.accept("all", "schedules"):
		f.done()
		return &ShowCreateSchedules{node: f.node(tree.Rows, "SHOW CREATE SCHEDULES")}
	case f.accept("schedule"):
		n := &ShowCreateSchedules{ID: f.exprUntil()}
		f.done()
		n.node = f.node(tree.Rows, "SHOW CREATE SCHEDULES")
		return n
	case f.accept("all", "external", "connections"):
		f.done()
		return &ShowExternalConnections{node: f.node(tree.Rows, "SHOW CREATE EXTERNAL CONNECTIONS"), Create: true}
	case f.accept("external", "connection"):
		n := &ShowExternalConnections{Create: true, Name: f.nameOrStr()}
		f.done()
		n.node = f.node(tree.Rows, "SHOW CREATE EXTERNAL CONNECTIONS")
		return n
	case f.looking("all"):
		f.next()
		n := &ShowCreateAll{What: upper(f.anyName())}
		f.done()
		switch n.What {
		case "TABLES", "SCHEMAS", "TYPES":
		default:
			f.i--
			f.fail("expected TABLES, SCHEMAS or TYPES")
		}
		n.node = f.node(tree.Rows, "SHOW CREATE ALL")
		return n
	case f.looking("database") && f.at(1).isName():
		f.next()
		n := &ShowCreateDatabase{Name: tree.Name(f.name())}
		f.done()
		n.node = f.node(tree.Rows, "SHOW CREATE DATABASE")
		return n
	case f.looking("type") && f.at(1).isName():
		f.next()
		return f.showCreateKind(KindType)
	case f.looking("schema") && f.at(1).isName():
		f.next()
		return f.showCreateKind(KindSchema)
	case f.looking("index") && f.at(1).isName(), f.looking("indexes", "from"):
		f.next()
		f.accept("from")
		return f.showCreateKind(KindIndex)
	case f.looking("function") && f.at(1).isName():
		f.next()
		return f.showCreateKind(KindFunction)
	}
	for _, w := range []string{"table", "view", "sequence"} {
		if f.looking(w) && f.at(1).isName() {
			f.next()
			break
		}
	}
	n := &tree.ShowCreate{Name: f.object()}
	f.done()
	return n
}

func (f *front) showCreateKind(kind ObjectKind) tree.Statement {
	n := &ShowCreate{Kind: kind, Name: f.object()}
	f.done()
	n.node = f.node(tree.Rows, "SHOW CREATE")
	return n
}

func (f *front) showRanges() tree.Statement {
	n := &ShowRanges{}
	if f.accept("cluster") {
		n.From = RangesFromCluster
	}
	f.expect("ranges")
	if n.From == "" && f.accept("from") {
		switch {
		case f.accept("current_catalog"):
		case f.accept("database"):
			n.From, n.Database = RangesFromDatabase, tree.Name(f.name())
		case f.accept("table"):
			n.From, n.Table = RangesFromTable, f.object()
		case f.accept("index"):
			n.From = RangesFromIndex
			n.Table, n.Index = f.tableIndex()
		default:
			f.fail("expected DATABASE, TABLE, INDEX or CURRENT_CATALOG")
		}
	}
	if f.accept("with") {
		for {
			switch {
			case f.accept("tables"):
				n.Tables = true
			case f.accept("indexes"):
				n.Indexes = true
			case f.accept("details"):
				n.Details = true
			case f.accept("keys"):
				n.Keys = true
			case f.accept("explain"):
				n.Explain = true
			default:
				f.fail("expected TABLES, INDEXES, DETAILS, KEYS or EXPLAIN")
			}
			if !f.acceptOp(",") {
				break
			}
		}
		if n.Tables && n.Indexes {
			f.i--
			f.fail("TABLES and INDEXES exclude each other")
		}
	}
	f.done()
	n.node = f.node(tree.Rows, "SHOW RANGES")
	return n
}

// tableIndex takes table@index; without @, the name is that of an index.
func (f *front) tableIndex() (*tree.UnresolvedObjectName, tree.Name) {
	n := f.object()
	if f.acceptOp("@") {
		return n, tree.Name(f.anyName())
	}
	parts := partsOf(n)
	if len(parts) == 1 {
		return nil, tree.Name(parts[0])
	}
	return objectName(parts[:len(parts)-1]), tree.Name(parts[len(parts)-1])
}

func (f *front) showRangeForRow() tree.Statement {
	f.expect("range", "from")
	n := &ShowRangeForRow{}
	if f.accept("table") {
		n.Table = f.object()
	} else {
		f.expect("index")
		n.Table, n.Index = f.tableIndex()
	}
	f.expect("for", "row")
	if !f.peek().op("(") {
		f.fail("expected a row")
	}
	end := f.skipParens(f.i)
	n.Row = f.parseExprs(f.i+1, end-1)
	f.i = end
	f.done()
	n.node = f.node(tree.Rows, "SHOW RANGE")
	return n
}

func (f *front) showGrants() tree.Statement {
	n := &ShowGrants{}
	if f.accept("system") {
		n.Kind = KindSystem
	}
	f.expect("grants")
	if n.Kind == "" && f.accept("on") {
		if f.looking("role") && (f.at(1).kind == tokEOF || f.at(1).is("for")) {
			f.next()
			n.Kind = KindRole
		} else {
			t := f.grantTarget()
			n.Kind, n.Tables, n.Names = t.Kind, t.Tables, t.Names
		}
	}
	if f.accept("for") {
		n.Grantees = f.roles()
	}
	f.done()
	n.node = f.node(tree.Rows, "SHOW GRANTS")
	return n
}

func (f *front) showDefaultPrivileges() tree.Statement {
	n := &ShowDefaultPrivileges{}
	if f.accept("for") {
		switch {
		case f.accept("all", "roles"):
			n.AllRoles = true
		case f.accept("grantee"):
			n.Grantees = f.roles()
		default:
			if !f.accept("role") {
				f.expect("user")
			}
			n.Roles = f.roles()
		}
	}
	if f.accept("in", "schema") {
		s := f.schemaName()
		n.Schema = &s
	}
	f.done()
	n.node = f.node(tree.Rows, "SHOW DEFAULT PRIVILEGES")
	return n
}

func (f *front) showRegions() tree.Statement {
	f.expect("regions")
	n := &ShowRegions{}
	if f.accept("from") {
		switch {
		case f.accept("cluster"):
			n.From = "CLUSTER"
		case f.accept("all", "databases"):
			n.From = "ALL DATABASES"
		case f.accept("database"):
			n.From = "DATABASE"
			if !f.eof() {
				n.Database = tree.Name(f.name())
			}
		default:
			f.fail("expected CLUSTER, DATABASE or ALL DATABASES")
		}
	}
	f.done()
	n.node = f.node(tree.Rows, "SHOW REGIONS")
	return n
}

// showZone takes {FROM|FOR} target.
func (f *front) showZone() tree.Statement {
	if !f.accept("from") {
		f.expect("for")
	}
	n := &tree.ShowZoneConfig{}
	z := &n.ZoneSpecifier
	switch {
	case f.accept("range"):
		z.NamedZone = tree.UnrestrictedName(f.anyName())
	case f.accept("database"):
		z.Database = tree.Name(f.name())
	case f.accept("table"):
		z.TableOrIndex.Table = f.object().ToTableName()
		if f.accept("partition") {
			z.Partition = tree.Name(f.name())
		}
	case f.accept("index"):
		f.zoneIndex(z)
		if f.accept("partition") {
			z.Partition = tree.Name(f.name())
		}
	case f.accept("partition"):
		z.Partition = tree.Name(f.name())
		f.expect("of")
		if f.accept("table") {
			z.TableOrIndex.Table = f.object().ToTableName()
		} else {
			f.expect("index")
			f.zoneIndex(z)
		}
	default:
		f.fail("expected RANGE, DATABASE, TABLE, INDEX or PARTITION")
	}
	f.done()
	return n
}

func (f *front) zoneIndex(z *tree.ZoneSpecifier) {
	t, x := f.tableIndex()
	if t != nil {
		z.TableOrIndex.Table = t.ToTableName()
	}
	z.TableOrIndex.Index = tree.UnrestrictedName(x)
}

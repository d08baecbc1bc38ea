package sql

import (
	"context"
	"fmt"
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/parser"
)

// SHOW statements are of two kinds: most are queries over virtual tables
// (delegate), the rest produce their rows here and in show_*.go (sourceOf).

// sqlText quotes a string literal.
func sqlText(s string) string { return tree.NewDString(s).String() }

// scopeOf resolves FROM x of SHOW TABLES and its like: a database, a schema of the
// current database, or both. schema "" means all.
func (p *planner) scopeOf(ctx context.Context, from parser.SchemaName) (db, schema string, _ error) {
	db, schema = string(from.Database), string(from.Schema)
	if db == "" && schema != "" {
		cur := p.s.data.Database
		if cur != "" {
			if _, ok, err := p.resolver().FindSchema(ctx, "", schema); err == nil && ok {
				return cur, schema, nil
			}
		}
		db, schema = schema, ""
	}
	if db == "" {
		db = p.s.data.Database
	}
	if db == "" {
		return "", "", pgerr.New(pgerr.InvalidCatalogName, "no database specified")
	}
	if _, err := p.cat.MustDatabase(ctx, db); err != nil {
		return "", "", err
	}
	if schema != "" {
		if _, ok, err := p.resolver().FindSchema(ctx, db, schema); err != nil {
			return "", "", err
		} else if !ok {
			return "", "", pgerr.Newf(pgerr.InvalidSchemaName, "schema \"%s\" does not exist", schema)
		}
	}
	return db, schema, nil
}

// schemaFilter is the condition on a schema name column.
func schemaFilter(column, schema string) string {
	if schema != "" {
		return column + " = " + sqlText(schema)
	}
	return column + " NOT IN ('pg_catalog', 'information_schema', 'crdb_internal', 'pg_extension')"
}

// delegate rewrites a statement as a query over virtual tables, or returns "".
func (p *planner) delegate(ctx context.Context, stmt tree.Statement) (string, error) {
	switch n := stmt.(type) {
	case *tree.ShowDatabases:
		q := `SELECT d.name AS database_name, d.owner, d.primary_region, d.secondary_region, d.regions, d.survival_goal`
		if n.WithComment {
			q += `, shobj_description(d.id::OID, 'pg_database') AS comment`
		}
		return q + ` FROM crdb_internal.databases d ORDER BY 1`, nil
	case *tree.ShowTables:
		from := parser.SchemaName{Schema: n.SchemaName}
		if n.ExplicitCatalog {
			from.Database = n.CatalogName
		}
		return p.showTables(ctx, from, n.WithComment)
	case *parser.ShowTables:
		return p.showTables(ctx, n.From, n.WithComment)
	case *tree.ShowSchemas:
		db, _, err := p.scopeOf(ctx, parser.SchemaName{Database: n.Database})
		if err != nil {
			return "", err
		}
		return `SELECT nspname AS schema_name, pg_get_userbyid(nspowner) AS owner FROM ` + quoteIdent(db) + `.pg_catalog.pg_namespace ORDER BY 1`, nil
	case *tree.ShowSequences:
		return p.showSequences(ctx, parser.SchemaName{Database: n.Database})
	case *parser.ShowSequences:
		return p.showSequences(ctx, n.From)
	case *parser.ShowEnums:
		db, schema, err := p.scopeOf(ctx, n.From)
		if err != nil {
			return "", err
		}
		pg := quoteIdent(db) + ".pg_catalog."
		return `SELECT n.nspname AS schema, t.typname AS name, array_agg(e.enumlabel::TEXT ORDER BY e.enumsortorder) AS values, pg_get_userbyid(t.typowner) AS owner FROM ` +
			pg + `pg_type t JOIN ` + pg + `pg_namespace n ON n.oid = t.typnamespace JOIN ` + pg + `pg_enum e ON e.enumtypid = t.oid WHERE ` +
			schemaFilter("n.nspname", schema) + ` GROUP BY n.nspname, t.typname, t.typowner ORDER BY 1, 2`, nil
	case *parser.ShowTypes:
		db, schema, err := p.scopeOf(ctx, n.From)
		if err != nil {
			return "", err
		}
		pg := quoteIdent(db) + ".pg_catalog."
		return `SELECT n.nspname AS schema, t.typname AS name, pg_get_userbyid(t.typowner) AS owner FROM ` + pg + `pg_type t JOIN ` + pg +
			`pg_namespace n ON n.oid = t.typnamespace WHERE t.typtype = 'e' AND ` + schemaFilter("n.nspname", schema) + ` ORDER BY 1, 2`, nil
	case *parser.ShowFunctions:
		return `SELECT ''::TEXT AS schema_name, ''::TEXT AS function_name, ''::TEXT AS result_data_type, ''::TEXT AS argument_data_types, ''::TEXT AS function_type, ''::TEXT AS volatility WHERE false`, nil
	case *tree.ShowUsers, *tree.ShowRoles:
		return "", nil
	case *tree.ShowClusterSettingList:
		if n.All {
			return `SELECT variable, value, type AS setting_type, public, description, default_value, origin FROM crdb_internal.cluster_settings ORDER BY variable`, nil
		}
		return `SELECT variable, value, type AS setting_type, description, default_value, origin FROM crdb_internal.cluster_settings WHERE public ORDER BY variable`, nil
	case *tree.ShowVar:
		if strings.EqualFold(n.Name, "all") {
			return `SELECT variable, value FROM crdb_internal.session_variables WHERE NOT hidden ORDER BY variable`, nil
		}
	case *tree.ShowSessions:
		table := "cluster_sessions"
		if !n.Cluster {
			table = "node_sessions"
		}
		q := `SELECT node_id, session_id, user_name, client_address, application_name, active_queries, last_active_query, session_start, active_query_start, num_txns_executed, trace_id, goroutine_id FROM crdb_internal.` + table
		if !n.All {
			q += ` WHERE application_name NOT LIKE '$ %'`
		}
		return q, nil
	case *tree.ShowQueries:
		table := "cluster_queries"
		if !n.Cluster {
			table = "node_queries"
		}
		return `SELECT query_id, node_id, session_id, user_name, start, query, client_address, application_name, distributed, phase FROM crdb_internal.` + table, nil
	case *parser.ShowTransactions:
		table := "cluster_transactions"
		if n.Local {
			table = "node_transactions"
		}
		q := `SELECT node_id, id AS txn_id, application_name, num_stmts, num_retries, num_auto_retries FROM crdb_internal.` + table
		if !n.All {
			q += ` WHERE application_name NOT LIKE '$ %'`
		}
		return q, nil
	case *parser.ShowRegions:
		switch n.From {
		case "CLUSTER":
			return `SELECT region, zones FROM crdb_internal.regions ORDER BY region`, nil
		case "DATABASE":
			return `SELECT ''::TEXT AS database, ''::TEXT AS region, false AS primary, false AS secondary, ARRAY[]::TEXT[] AS zones WHERE false`, nil
		case "ALL DATABASES":
			return `SELECT name AS database_name, regions, primary_region, secondary_region FROM crdb_internal.databases ORDER BY 1`, nil
		}
		return `SELECT region, zones, ARRAY[]::TEXT[] AS database_names, ARRAY[]::TEXT[] AS primary_region_of, ARRAY[]::TEXT[] AS secondary_region_of FROM crdb_internal.regions ORDER BY region`, nil
	case *parser.ShowSurvivalGoal:
		return `SELECT ''::TEXT AS database, ''::TEXT AS survival_goal WHERE false`, nil
	case *tree.ShowPartitions:
		return "", nil
	case *tree.ShowTableStats:
		t, err := p.resolveTable(ctx, n.Table)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf(`SELECT name AS statistics_name, "columnIDs" AS column_names, "createdAt" AS created, "rowCount" AS row_count, "distinctCount" AS distinct_count, "nullCount" AS null_count, 0::INT8 AS avg_size, 0::INT8 AS histogram_id FROM system.table_statistics WHERE "tableID" = %d`, t.ID()), nil
	case *parser.ShowJobs:
		if n.WhenComplete {
			return "", nil
		}
		return p.showJobs(n)
	case *tree.ShowJobs:
		if n.Block {
			return "", nil
		}
		return p.showJobs(&parser.ShowJobs{Automatic: n.Automatic, Jobs: n.Jobs})
	}
	return "", nil
}

func (p *planner) showTables(ctx context.Context, from parser.SchemaName, comment bool) (string, error) {
	db, schema, err := p.scopeOf(ctx, from)
	if err != nil {
		return "", err
	}
	pg := quoteIdent(db) + ".pg_catalog."
	q := `SELECT n.nspname AS schema_name, c.relname AS table_name, CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'S' THEN 'sequence' ELSE 'table' END AS type, ` +
		`pg_get_userbyid(c.relowner) AS owner, CASE WHEN c.reltuples < 0 THEN 0 ELSE c.reltuples::INT8 END AS estimated_row_count, NULL::TEXT AS locality`
	if comment {
		q += `, COALESCE(obj_description(c.oid, 'pg_class'), '') AS comment`
	}
	return q + ` FROM ` + pg + `pg_class c JOIN ` + pg + `pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'v', 'm', 'S') AND ` +
		schemaFilter("n.nspname", schema) + ` ORDER BY 1, 2`, nil
}

func (p *planner) showSequences(ctx context.Context, from parser.SchemaName) (string, error) {
	db, schema, err := p.scopeOf(ctx, from)
	if err != nil {
		return "", err
	}
	return `SELECT sequence_schema, sequence_name FROM ` + quoteIdent(db) + `.information_schema.sequences WHERE ` + schemaFilter("sequence_schema", schema) + ` ORDER BY 1, 2`, nil
}

// jobColumns are the columns of SHOW JOBS; the description is cut in lists.
func jobColumns(full bool) string {
	desc := "description"
	if !full {
		desc = "CASE WHEN length(description) > 100 THEN substr(description, 1, 97) || '...' ELSE description END AS description"
	}
	return `job_id, job_type, ` + desc + `, statement, user_name, status, running_status, created, started, finished, modified, fraction_completed, error, coordinator_id, trace_id, execution_errors`
}

func (p *planner) showJobs(n *parser.ShowJobs) (string, error) {
	extra := ""
	if n.ExecutionDetails {
		extra = `, NULL::TEXT AS plan_diagram, NULL::TEXT AS per_node_fraction_progressed`
	}
	q := `SELECT ` + jobColumns(n.Single) + extra + ` FROM crdb_internal.jobs`
	order := ` ORDER BY COALESCE(finished, now()) DESC, started DESC`
	switch {
	case n.Schedules != nil:
		return q + ` WHERE job_id IN (SELECT id FROM system.jobs WHERE created_by_type = 'crdb_schedule' AND created_by_id IN (` + tree.AsString(n.Schedules) + `))` + order, nil
	case n.Jobs != nil:
		return q + ` WHERE job_id IN (` + tree.AsString(n.Jobs) + `)` + order, nil
	}
	kinds := `job_type NOT IN ('SCHEMA CHANGE GC', 'AUTO CREATE STATS')`
	if n.Automatic {
		kinds = `job_type IN ('SCHEMA CHANGE GC', 'AUTO CREATE STATS')`
	}
	return q + ` WHERE ` + kinds + ` AND (finished IS NULL OR finished > now() - INTERVAL '12 hours')` + order, nil
}

// source makes a rowSource from column definitions "name type" and a function
// that yields rows.
func source(def string, run vsource) *rowSource {
	src := &rowSource{}
	var conv []func(any) tree.Datum
	for _, c := range strings.Split(def, ",") {
		name, typ, _ := strings.Cut(strings.TrimSpace(c), " ")
		t := vtypeByName(typ)
		src.columns = append(src.columns, MakeResultColumn(name, t))
		conv = append(conv, vconverter(t))
	}
	src.run = func(ctx context.Context, p *planner, addRow func(...tree.Datum) error) error {
		row := make(tree.Datums, len(conv))
		return run(ctx, p, func(vals ...any) error {
			for i := range row {
				row[i] = tree.DNull
				if i < len(vals) && vals[i] != nil {
					row[i] = conv[i](vals[i])
				}
			}
			return addRow(row...)
		})
	}
	return src
}

// vsource yields rows as Go values.
type vsource func(ctx context.Context, p *planner, add func(...any) error) error

// sourceOf returns the rows of a statement that is not a query: SHOW and its
// like. It reports nil for others. The columns must be known without running it,
// for Describe.
func (p *planner) sourceOf(ctx context.Context, stmt tree.Statement) (*rowSource, error) {
	switch n := stmt.(type) {
	case *tree.ShowVar:
		return p.showVar(n.Name)
	case *tree.ShowTransactionStatus:
		return p.showVar("transaction_status")
	case *tree.ShowClusterSetting:
		return p.showClusterSetting(ctx, n.Name)
	case *tree.ShowColumns:
		return p.showColumns(ctx, n)
	case *tree.ShowIndexes:
		t, err := p.resolveTable(ctx, n.Table)
		if err != nil {
			return nil, err
		}
		return showIndexes([]*catalog.Table{t}), p.checkAnyTablePrivilege(ctx, t)
	case *tree.ShowDatabaseIndexes:
		db, err := p.cat.MustDatabase(ctx, string(n.Database))
		if err != nil {
			return nil, err
		}
		d, err := p.allDescs(ctx)
		if err != nil {
			return nil, err
		}
		return showIndexes(d.inDB(db)), nil
	case *tree.ShowConstraints:
		return p.showConstraints(ctx, n)
	case *tree.ShowCreate:
		return p.showCreate(ctx, n.Name)
	case *parser.ShowCreate:
		return p.showCreateKind(ctx, n)
	case *parser.ShowCreateDatabase:
		db, err := p.cat.MustDatabase(ctx, string(n.Name))
		if err != nil {
			return nil, err
		}
		return source("database_name text, create_statement text", func(_ context.Context, _ *planner, add func(...any) error) error {
			return add(db.Name(), "CREATE DATABASE "+quoteIdent(db.Name()))
		}), nil
	case *parser.ShowCreateAll:
		return p.showCreateAll(n.What), nil
	case *tree.ShowUsers, *tree.ShowRoles:
		return showRoles(), nil
	case *parser.ShowGrants:
		return p.showGrants(ctx, n)
	case *tree.ShowGrants:
		return p.showGrants(ctx, &parser.ShowGrants{Grantees: n.Grantees.ToStrings()})
	case *tree.ShowRoleGrants:
		return showRoleGrants(n.Roles.ToStrings(), n.Grantees.ToStrings()), nil
	case *parser.ShowDefaultPrivileges:
		return p.showDefaultPrivileges(ctx, n)
	case *tree.ShowPartitions:
		return p.showPartitions(ctx, n)
	case *tree.ShowZoneConfig:
		return p.showZone(ctx, n)
	case *parser.ShowRanges:
		return p.showRanges(ctx, n)
	case *tree.ShowRanges:
		return p.showRanges(ctx, &parser.ShowRanges{})
	case *tree.Split:
		return p.splitAt(ctx, n)
	case *tree.Unsplit:
		return p.unsplitAt(ctx, n)
	case *tree.Scatter:
		return p.scatterRanges(ctx, n)
	case *tree.Relocate:
		r := &parser.Relocate{TableOrIndex: n.TableOrIndex, Rows: n.Rows, Subject: parser.RelocateVoters}
		if n.RelocateLease {
			r.Subject = parser.RelocateLease
		}
		return p.relocateRows(ctx, r)
	case *parser.Relocate:
		return p.relocateRows(ctx, n)
	case *parser.AlterRangeRelocate:
		return p.alterRangeRelocate(ctx, n)
	case *parser.ShowRangeForRow:
		return p.showRangeForRow(ctx, n)
	case *tree.ShowSavepointStatus:
		return source("savepoint_name text, is_initial_savepoint boolean", func(_ context.Context, p *planner, add func(...any) error) error {
			for _, sp := range p.s.tx.savepoints {
				if err := add(sp.name, sp.restart); err != nil {
					return err
				}
			}
			return nil
		}), nil
	case *tree.ShowFingerprints:
		return p.showFingerprints(ctx, n)
	case *parser.ShowJobs:
		if n.WhenComplete {
			return p.showJobsWhenComplete(ctx, n.Jobs)
		}
	case *tree.ShowJobs:
		if n.Block {
			return p.showJobsWhenComplete(ctx, n.Jobs)
		}
	case *parser.ControlJobs:
		return p.controlJobs(ctx, n)
	case *tree.CancelQueries:
		return p.cancelQueries(ctx, n.Queries, n.IfExists, false, "CANCEL QUERIES")
	case *tree.CancelSessions:
		return p.cancelQueries(ctx, n.Sessions, n.IfExists, true, "CANCEL SESSIONS")
	case *parser.AlterJobOwner:
		return p.alterJobOwner(n)
	case *parser.ShowSchedules, *parser.CreateSchedule, *parser.ControlSchedules, *parser.ShowCreateSchedules, *parser.AlterBackupSchedule:
		return nil, pgerr.New(pgerr.FeatureNotSupported, "unimplemented: schedules").
			WithHint("Let cron or a systemd timer run BACKUP … INTO and BACKUP … INTO LATEST IN.")
	case *parser.ShowExternalConnections, *parser.CreateExternalConnection, *parser.DropExternalConnection, *parser.CheckExternalConnection:
		return nil, errNoExternalConnections()
	}
	return p.backupSource(stmt)
}

func errNoExternalConnections() error {
	return pgerr.New(pgerr.FeatureNotSupported, "unimplemented: external connections").
		WithHint("Write the URI of the storage itself in BACKUP, RESTORE and SHOW BACKUP.")
}

// showVar shows one session variable, in a column of its name.
func (p *planner) showVar(name string) (*rowSource, error) {
	if _, ok := p.s.getVar(name); !ok {
		return nil, errUnknownVar(strings.ToLower(name))
	}
	_, canonical, _ := varByName(name)
	title := canonical
	if t, ok := map[string]string{"timezone": "TimeZone", "datestyle": "DateStyle", "intervalstyle": "IntervalStyle"}[canonical]; ok {
		title = t
	}
	src := source("x text", func(_ context.Context, p *planner, add func(...any) error) error {
		v, _ := p.s.getVar(canonical)
		return add(v)
	})
	src.columns[0].Name, src.tag = title, "SHOW"
	return src, nil
}

func (p *planner) showClusterSetting(ctx context.Context, name string) (*rowSource, error) {
	name = strings.ToLower(name)
	s, ok := p.srv.settings.Lookup(name)
	if !ok {
		return nil, pgerr.Newf(pgerr.UndefinedObject, "unknown cluster setting '%s'", name)
	}
	if err := p.checkSettingPrivilege(ctx, name, "show"); err != nil {
		return nil, err
	}
	kind := map[string]string{"b": "boolean", "i": "int", "f": "float"}[string(s.Kind())]
	if kind == "" {
		kind = "text"
	}
	src := source("x "+kind, func(_ context.Context, _ *planner, add func(...any) error) error {
		if s.Kind() == "b" {
			return add(s.String() == "true")
		}
		return add(s.String())
	})
	src.columns[0].Name, src.tag = name, "SHOW CLUSTER SETTING"
	return src, nil
}

func (p *planner) showColumns(ctx context.Context, n *tree.ShowColumns) (*rowSource, error) {
	ref, err := p.resolver().Table(ctx, n.Table, catalog.Flags{})
	if err != nil {
		return nil, err
	}
	def := "column_name text, data_type text, is_nullable boolean, column_default text, generation_expression text, indices text[], is_hidden boolean"
	if n.WithComment {
		def += ", comment text"
	}
	if ref.Table == nil {
		vt := p.srv.virtualTableByName(ref.Schema.Name, ref.Name)
		return source(def, func(_ context.Context, _ *planner, add func(...any) error) error {
			for _, c := range vt.visible() {
				if err := add(c.name, catalog.SQLTypeName(c.typ, nil), true, nil, "", []string{}, c.hidden); err != nil {
					return err
				}
			}
			return nil
		}), nil
	}
	t := ref.Table
	if err := p.checkAnyTablePrivilege(ctx, t); err != nil {
		return nil, err
	}
	return source(def, func(ctx context.Context, p *planner, add func(...any) error) error {
		d, err := p.allDescs(ctx)
		if err != nil {
			return err
		}
		for _, c := range t.Columns() {
			if c.Inaccessible {
				continue
			}
			var dflt any
			if c.DefaultExpr != "" {
				dflt = c.DefaultExpr
			}
			indices := []string{}
			if !t.IsSequence() {
				for _, x := range t.PublicIndexes() {
					for _, k := range append(append(x.FullKeyColumns(), x.StoredColumns...), []*catalog.Column(nil)...) {
						if k == c {
							indices = append(indices, x.Name)
							break
						}
					}
				}
			}
			if err := add(c.Name, catalog.SQLTypeName(c.Type, d.enums), c.Nullable, dflt, c.ComputeExpr, indices, c.Hidden,
				d.comments[commentKey{commentColumn, int64(t.ID()), int64(c.ID)}]); err != nil {
				return err
			}
		}
		return nil
	}), nil
}

func showIndexes(tables []*catalog.Table) *rowSource {
	return source("table_name text, index_name text, non_unique boolean, seq_in_index int, column_name text, definition text, direction text, storing boolean, implicit boolean, visible boolean",
		func(_ context.Context, _ *planner, add func(...any) error) error {
			for _, t := range tables {
				if t.IsSequence() || !t.HasData() {
					continue
				}
				for _, x := range t.PublicIndexes() {
					seq := 0
					row := func(c *catalog.Column, dir string, storing, implicit bool) error {
						seq++
						return add(t.Name(), x.Name, !x.Unique, seq, c.Name, indexElem(c, nil), dir, storing, implicit, true)
					}
					for i, c := range x.KeyColumns {
						if err := row(c, x.KeyDirections[i].String(), false, false); err != nil {
							return err
						}
					}
					for _, c := range x.StoredColumns {
						if err := row(c, "N/A", true, false); err != nil {
							return err
						}
					}
					for _, c := range x.SuffixColumns {
						if err := row(c, "ASC", x.Unique, true); err != nil {
							return err
						}
					}
				}
			}
			return nil
		})
}

func (p *planner) showConstraints(ctx context.Context, n *tree.ShowConstraints) (*rowSource, error) {
	t, err := p.resolveTable(ctx, n.Table)
	if err != nil {
		return nil, err
	}
	if err := p.checkAnyTablePrivilege(ctx, t); err != nil {
		return nil, err
	}
	return source("table_name text, constraint_name text, constraint_type text, details text, validated boolean",
		func(ctx context.Context, p *planner, add func(...any) error) error {
			d, err := p.allDescs(ctx)
			if err != nil {
				return err
			}
			type con struct {
				name, typ, details string
				ok                 bool
			}
			var all []con
			if t.IsTable() {
				for _, x := range t.PublicIndexes() {
					if !x.Unique || x.Primary && t.HasImplicitPrimaryKey() {
						if x.Primary {
							all = append(all, con{x.Name, "PRIMARY KEY", "PRIMARY KEY (" + directedColumns(x) + ")", true})
						}
						continue
					}
					kind := "UNIQUE"
					if x.Primary {
						kind = "PRIMARY KEY"
					}
					all = append(all, con{x.Name, kind, kind + " (" + directedColumns(x) + ")", true})
				}
			}
			for _, fk := range t.OutboundFKs() {
				all = append(all, con{fk.Name, "FOREIGN KEY", d.fkDef(t, fk, false), fk.Validity == 0})
			}
			for _, c := range t.Checks() {
				all = append(all, con{c.Name, "CHECK", "CHECK (" + parenthesized(c.Expr) + ")", c.Validity == 0})
			}
			for i := range all {
				for j := i + 1; j < len(all); j++ {
					if all[j].name < all[i].name {
						all[i], all[j] = all[j], all[i]
					}
				}
			}
			for _, c := range all {
				if err := add(t.Name(), c.name, c.typ, c.details, c.ok); err != nil {
					return err
				}
			}
			return nil
		}), nil
}

// showCreate shows a relation.
func (p *planner) showCreate(ctx context.Context, name *tree.UnresolvedObjectName) (*rowSource, error) {
	t, err := p.resolveTable(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := p.checkAnyTablePrivilege(ctx, t); err != nil {
		return nil, err
	}
	return source("table_name text, create_statement text", func(ctx context.Context, p *planner, add func(...any) error) error {
		d, err := p.allDescs(ctx)
		if err != nil {
			return err
		}
		zones, warning, err := p.partitionZoneStatements(ctx, t)
		if err != nil {
			return err
		}
		return add(t.Name(), d.showCreate(t, true)+zones+";"+warning)
	}), nil
}

func (p *planner) showCreateKind(ctx context.Context, n *parser.ShowCreate) (*rowSource, error) {
	switch n.Kind {
	case parser.KindType:
		t, err := p.mustType(ctx, n.Name)
		if err != nil {
			return nil, err
		}
		return source("type_name text, create_statement text", func(_ context.Context, p *planner, add func(...any) error) error {
			return add(t.Name(), createTypeSQL(t, ""))
		}), nil
	case parser.KindSchema:
		return source("schema_name text, create_statement text", func(_ context.Context, _ *planner, add func(...any) error) error {
			return add(n.Name.Parts[0], "CREATE SCHEMA "+quoteIdent(n.Name.Parts[0]))
		}), nil
	case parser.KindIndex:
		t, err := p.resolveTable(ctx, n.Name)
		if err != nil {
			return nil, err
		}
		return source("index_name text, create_statement text", func(ctx context.Context, p *planner, add func(...any) error) error {
			d, err := p.allDescs(ctx)
			if err != nil {
				return err
			}
			for _, x := range visibleIndexes(t) {
				if err := add(x.Name, d.indexDef(t, x)); err != nil {
					return err
				}
			}
			return nil
		}), nil
	case parser.KindTable, parser.KindView, parser.KindSequence, parser.KindMaterializedView:
		return p.showCreate(ctx, n.Name)
	}
	return nil, pgerr.Newf(pgerr.FeatureNotSupported, "unimplemented: SHOW CREATE %s", n.Kind)
}

func createTypeSQL(t *catalog.Type, schema string) string {
	labels := make([]string, len(t.Proto().EnumMembers))
	for i, m := range t.Proto().EnumMembers {
		labels[i] = sqlText(m.LogicalRepresentation)
	}
	name := quoteIdent(t.Name())
	if schema != "" {
		name = quoteIdent(schema) + "." + name
	}
	return "CREATE TYPE " + name + " AS ENUM (" + strings.Join(labels, ", ") + ")"
}

// showCreateAll shows what makes the current database anew, in an order that
// works.
func (p *planner) showCreateAll(what string) *rowSource {
	return source("create_statement text", func(ctx context.Context, p *planner, add func(...any) error) error {
		d, err := p.allDescs(ctx)
		if err != nil {
			return err
		}
		db := d.dbByName[p.s.data.Database]
		if db == nil {
			return pgerr.New(pgerr.InvalidCatalogName, "no database specified")
		}
		switch strings.ToUpper(what) {
		case "SCHEMAS":
			for _, s := range d.schemasIn(db) {
				if err := add("CREATE SCHEMA " + quoteIdent(s.Name()) + ";"); err != nil {
					return err
				}
			}
			return nil
		case "TYPES":
			for _, t := range d.types {
				if t.ParentID() == db.ID() && t.IsEnum() {
					schema := ""
					if s := d.schemas[t.ParentSchemaID()]; s != nil {
						schema = s.Name()
					}
					if err := add(createTypeSQL(t, schema) + ";"); err != nil {
						return err
					}
				}
			}
			return nil
		}
		tables := d.inDB(db)
		for pass := range 3 { // sequences, tables, views
			for _, t := range tables {
				rank := 1
				if t.IsSequence() {
					rank = 0
				} else if t.IsView() {
					rank = 2
				}
				if rank == pass {
					if err := add(d.showCreate(t, false) + ";"); err != nil {
						return err
					}
				}
			}
		}
		any := false
		for _, t := range tables {
			for _, fk := range t.OutboundFKs() {
				any = true
				if err := add("ALTER TABLE " + quoteIdent(d.schemaOf(t)) + "." + quoteIdent(t.Name()) + " ADD CONSTRAINT " + quoteIdent(fk.Name) + " " + d.fkDef(t, fk, true) + ";"); err != nil {
					return err
				}
			}
		}
		if !any {
			return nil
		}
		if err := add("-- Validate foreign key constraints. These can fail if there was unvalidated data during the SHOW CREATE ALL TABLES"); err != nil {
			return err
		}
		for _, t := range tables {
			for _, fk := range t.OutboundFKs() {
				if err := add("ALTER TABLE " + quoteIdent(d.schemaOf(t)) + "." + quoteIdent(t.Name()) + " VALIDATE CONSTRAINT " + quoteIdent(fk.Name) + ";"); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

package sql

import (
	"context"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/parser"
)

// execSchema runs statements that change the schema or privileges. It reports
// whether stmt was one of them.
//
// Every one of them is part of the session's transaction: it can be rolled back,
// and nobody sees it before the commit. What has to read or write all rows of a
// table is in ddl_alter_apply.go and index_build.go; data that is no longer
// wanted goes to schema_gc.go.
func (p *planner) execSchema(ctx context.Context, stmt tree.Statement, res ResultWriter) (bool, error) {
	run, tag := p.schemaStatement(stmt)
	if run == nil {
		return false, nil
	}
	if p.preparing {
		return true, nil
	}
	if _, lock := stmt.(*parser.LockTable); lock {
		// A lock changes nothing: pg_dump takes them in a read-only transaction.
	} else if err := p.checkWritable(tag); err != nil {
		return true, err
	}
	p.res = res
	done, err := run(ctx)
	if err != nil {
		return true, err
	}
	if done != "" {
		tag = done
	}
	res.Complete(tag)
	return true, nil
}

// runner runs a statement and returns its tag, or "" for the usual one.
type runner func(ctx context.Context) (string, error)

// plain is for statements whose tag is always the same.
func plain(fn func(ctx context.Context) error) runner {
	return func(ctx context.Context) (string, error) { return "", fn(ctx) }
}

func anyNames(ns []*tree.UnresolvedObjectName) []any {
	out := make([]any, len(ns))
	for i, n := range ns {
		out[i] = n
	}
	return out
}

func tableNames(ns tree.TableNames) []any {
	out := make([]any, len(ns))
	for i := range ns {
		out[i] = &ns[i]
	}
	return out
}

// schemaStatement finds what runs a statement, nil if it is not one of these.
func (p *planner) schemaStatement(stmt tree.Statement) (runner, string) {
	tag := stmt.StatementTag()
	switch n := stmt.(type) {
	// CREATE
	case *tree.CreateDatabase:
		return plain(func(ctx context.Context) error {
			return p.createDatabase(ctx, &parser.CreateDatabase{CreateDatabase: n})
		}), tag
	case *parser.CreateDatabase:
		return plain(func(ctx context.Context) error { return p.createDatabase(ctx, n) }), tag
	case *tree.CreateSchema:
		return plain(func(ctx context.Context) error {
			return p.createSchema(ctx, &parser.CreateSchema{Name: parser.SchemaName{Schema: tree.Name(n.Schema)}, IfNotExists: n.IfNotExists})
		}), tag
	case *parser.CreateSchema:
		return plain(func(ctx context.Context) error { return p.createSchema(ctx, n) }), tag
	case *tree.CreateTable:
		return func(ctx context.Context) (string, error) {
			return p.createTable(ctx, &parser.CreateTable{CreateTable: n})
		}, "CREATE TABLE"
	case *parser.CreateTable:
		return func(ctx context.Context) (string, error) { return p.createTable(ctx, n) }, "CREATE TABLE"
	case *tree.CreateIndex:
		return plain(func(ctx context.Context) error { return p.createIndex(ctx, n) }), "CREATE INDEX"
	case *parser.CreateIndex:
		return plain(func(ctx context.Context) error { return p.createIndexExt(ctx, n) }), "CREATE INDEX"
	case *tree.CreateView:
		return plain(func(ctx context.Context) error { return p.createView(ctx, &parser.CreateView{CreateView: n}) }), "CREATE VIEW"
	case *parser.CreateView:
		if n.Materialized {
			return func(ctx context.Context) (string, error) { return p.createMaterializedView(ctx, n) }, "CREATE MATERIALIZED VIEW"
		}
		return plain(func(ctx context.Context) error { return p.createView(ctx, n) }), "CREATE VIEW"
	case *parser.RefreshView:
		return plain(func(ctx context.Context) error { return p.refreshView(ctx, n) }), "REFRESH MATERIALIZED VIEW"
	case *tree.CreateSequence:
		return plain(func(ctx context.Context) error { return p.createSequence(ctx, n) }), "CREATE SEQUENCE"
	case *parser.CreateType:
		return plain(func(ctx context.Context) error { return p.createType(ctx, n) }), "CREATE TYPE"
	case *parser.CreateRole:
		return plain(func(ctx context.Context) error { return p.createRole(ctx, n) }), "CREATE ROLE"

	// ALTER
	case *tree.AlterTable:
		return plain(func(ctx context.Context) error { return p.alterTable(ctx, n) }), "ALTER TABLE"
	case *parser.AlterTableLocality:
		return plain(func(context.Context) error {
			return pgerr.New(pgerr.ObjectNotInPrerequisiteState, "cannot alter a table's LOCALITY if its database is not multi-region enabled")
		}), "ALTER TABLE"
	case *tree.AlterSequence:
		return plain(func(ctx context.Context) error { return p.alterSequence(ctx, n) }), "ALTER SEQUENCE"
	case *parser.AlterType:
		return plain(func(ctx context.Context) error { return p.alterType(ctx, n) }), "ALTER TYPE"
	case *parser.AlterSchema:
		return plain(func(ctx context.Context) error { return p.alterSchema(ctx, n) }), "ALTER SCHEMA"
	case *parser.AlterOwner:
		return plain(func(ctx context.Context) error { return p.alterOwner(ctx, n) }), "ALTER " + string(n.Kind)
	case *parser.AlterSetSchema:
		return plain(func(ctx context.Context) error { return p.alterSetSchema(ctx, n) }), "ALTER " + string(n.Kind)
	case *parser.AlterRole:
		return plain(func(ctx context.Context) error { return p.alterRole(ctx, n) }), "ALTER ROLE"
	case *parser.AlterRoleSet:
		if n.Role == "" && !n.AllRoles {
			tag = "ALTER DATABASE"
		} else {
			tag = "ALTER ROLE"
		}
		return plain(func(ctx context.Context) error { return p.alterRoleSet(ctx, n) }), tag
	case *parser.AlterRoleRename:
		return plain(func(ctx context.Context) error { return p.renameRole(ctx, n) }), "ALTER ROLE"
	case *tree.RenameDatabase:
		return plain(func(ctx context.Context) error { return p.renameDatabase(ctx, n) }), "ALTER DATABASE"
	case *tree.RenameTable:
		tag = "ALTER TABLE"
		if n.IsView {
			tag = "ALTER VIEW"
		} else if n.IsSequence {
			tag = "ALTER SEQUENCE"
		}
		return plain(func(ctx context.Context) error { return p.renameTable(ctx, n) }), tag
	case *tree.RenameColumn:
		return plain(func(ctx context.Context) error { return p.renameColumnStmt(ctx, n) }), "ALTER TABLE"
	case *tree.AlterIndex:
		return plain(func(ctx context.Context) error { return p.alterIndex(ctx, n) }), "ALTER INDEX"
	case *tree.RenameIndex:
		return plain(func(ctx context.Context) error { return p.renameIndex(ctx, n) }), "ALTER INDEX"
	case *tree.SetZoneConfig:
		return func(ctx context.Context) (string, error) { return p.setZone(ctx, n) }, "CONFIGURE ZONE"

	// DROP
	case *tree.DropDatabase:
		return plain(func(ctx context.Context) error { return p.dropDatabase(ctx, n) }), "DROP DATABASE"
	case *parser.DropSchema:
		return plain(func(ctx context.Context) error { return p.dropSchemas(ctx, n) }), "DROP SCHEMA"
	case *tree.DropTable:
		return p.dropStatement(tableNames(n.Names), kindTable, n.IfExists, n.DropBehavior), "DROP TABLE"
	case *tree.DropView:
		return p.dropStatement(tableNames(n.Names), kindView, n.IfExists, n.DropBehavior), "DROP VIEW"
	case *tree.DropSequence:
		return p.dropStatement(tableNames(n.Names), kindSequence, n.IfExists, n.DropBehavior), "DROP SEQUENCE"
	case *tree.DropIndex:
		return plain(func(ctx context.Context) error { return p.dropIndexes(ctx, n) }), "DROP INDEX"
	case *parser.DropType:
		return plain(func(ctx context.Context) error { return p.dropTypes(ctx, n) }), "DROP TYPE"
	case *parser.DropRole:
		return plain(func(ctx context.Context) error { return p.dropRoles(ctx, n) }), "DROP ROLE"
	case *parser.Drop:
		return p.dropOther(n), "DROP " + string(n.Kind)
	case *tree.Truncate:
		return plain(func(ctx context.Context) error { return p.truncate(ctx, n, false) }), "TRUNCATE TABLE"
	case *parser.Truncate:
		return plain(func(ctx context.Context) error { return p.truncate(ctx, n.Truncate, n.RestartIdentity) }), "TRUNCATE TABLE"

	// Privileges, comments
	case *parser.Grant:
		return plain(func(ctx context.Context) error { return p.grant(ctx, n) }), grantTag(n.Revoke)
	case *parser.GrantRole:
		return plain(func(ctx context.Context) error { return p.grantRole(ctx, n) }), grantTag(n.Revoke)
	case *parser.AlterDefaultPrivileges:
		return plain(func(ctx context.Context) error { return p.alterDefaultPrivileges(ctx, n) }), "ALTER DEFAULT PRIVILEGES"
	case *parser.ReassignOwned:
		return plain(func(ctx context.Context) error { return p.reassignOwned(ctx, n) }), "REASSIGN OWNED"
	case *parser.DropOwned:
		return plain(func(ctx context.Context) error { return p.dropOwned(ctx, n) }), "DROP OWNED"
	case *tree.CommentOnTable:
		return plain(func(ctx context.Context) error { return p.commentOnTable(ctx, n.Table, kindAny, n.Comment) }), "COMMENT"
	case *tree.CommentOnColumn:
		return plain(func(ctx context.Context) error { return p.commentOnColumn(ctx, n.ColumnItem, n.Comment) }), "COMMENT"
	case *tree.CommentOnIndex:
		return plain(func(ctx context.Context) error { return p.commentOnIndex(ctx, &n.Index, n.Comment) }), "COMMENT"
	case *tree.CommentOnDatabase:
		return plain(func(ctx context.Context) error { return p.commentOnDatabase(ctx, string(n.Name), n.Comment) }), "COMMENT"
	case *parser.CommentOn:
		return plain(func(ctx context.Context) error { return p.commentOnOther(ctx, n) }), "COMMENT"

	// What needs no work here
	case *parser.NoOp:
		return plain(func(context.Context) error {
			if n.Notice != "" {
				p.notice("%s", n.Notice)
			}
			return nil
		}), tag
	case *parser.Vacuum:
		return plain(func(ctx context.Context) error { return p.checkRelations(ctx, n.Tables) }), "VACUUM"
	case *parser.Analyze:
		return plain(func(ctx context.Context) error { return p.checkRelations(ctx, n.Tables) }), "ANALYZE"
	case *parser.Do:
		return plain(func(ctx context.Context) error {
			_, err := p.execTag(ctx, n.SQL)
			if pgerr.GetCode(err) == pgerr.DuplicateObject {
				return nil // It is found before anything is written.
			}
			return err
		}), "DO"
	case *parser.Listen:
		return plain(func(context.Context) error { return errNoNotifications("LISTEN") }), "LISTEN"
	case *parser.Unlisten:
		return plain(func(context.Context) error { return nil }), "UNLISTEN"
	case *parser.Notify:
		return plain(func(context.Context) error { return errNoNotifications("NOTIFY") }), "NOTIFY"
	case *parser.LockTable:
		return plain(func(ctx context.Context) error { return p.lockTables(ctx, n) }), "LOCK TABLE"
	}
	return nil, ""
}

// errNoNotifications refuses what would otherwise wait for ever. UNLISTEN, which
// connection pools send, is always true.
func errNoNotifications(what string) error {
	return pgerr.Newf(pgerr.FeatureNotSupported, "%s is not supported", what).
		WithHint("There are no notifications between sessions; poll a table instead.")
}

func grantTag(revoke bool) string {
	if revoke {
		return "REVOKE"
	}
	return "GRANT"
}

func (p *planner) dropStatement(names []any, kind relKind, ifExists bool, behavior tree.DropBehavior) runner {
	return plain(func(ctx context.Context) error { return p.dropRelations(ctx, names, kind, ifExists, behavior) })
}

// dropOther is DROP of what the module's grammar lacks.
func (p *planner) dropOther(n *parser.Drop) runner {
	return plain(func(ctx context.Context) error {
		switch n.Kind {
		case parser.KindMaterializedView:
			return p.dropRelations(ctx, anyNames(n.Names), kindMatView, n.IfExists, n.DropBehavior)
		case parser.KindView:
			return p.dropRelations(ctx, anyNames(n.Names), kindView, n.IfExists, n.DropBehavior)
		case parser.KindTable:
			return p.dropRelations(ctx, anyNames(n.Names), kindTable, n.IfExists, n.DropBehavior)
		case parser.KindSequence:
			return p.dropRelations(ctx, anyNames(n.Names), kindSequence, n.IfExists, n.DropBehavior)
		}
		for _, name := range n.Names {
			if !n.IfExists {
				return pgerr.Newf(pgerr.UndefinedObject, "%s \"%s\" does not exist", lowerKind(n.Kind), name.String())
			}
			p.notice("%s \"%s\" does not exist, skipping", lowerKind(n.Kind), name.String())
		}
		return nil
	})
}

// renameTable runs ALTER {TABLE|VIEW|SEQUENCE} … RENAME TO.
func (p *planner) renameTable(ctx context.Context, n *tree.RenameTable) error {
	kind := kindAny
	switch {
	case n.IsView:
		kind = kindView
	case n.IsSequence:
		kind = kindSequence
	}
	t, err := p.resolveRelation(ctx, n.Name, kind, n.IfExists)
	if err != nil {
		// ALTER TABLE … RENAME TO also renames indexes.
		if pgerr.GetCode(err) == pgerr.UndefinedTable && kind == kindAny && n.Name.NumParts == 1 {
			idx := &tree.TableIndexName{Index: tree.UnrestrictedName(n.Name.Parts[0])}
			if _, _, ferr := p.findIndex(ctx, idx); ferr == nil {
				return p.renameIndex(ctx, &tree.RenameIndex{Index: idx, NewName: tree.UnrestrictedName(n.NewName.Parts[0])})
			}
		}
		return err
	}
	if t == nil {
		return nil
	}
	if err := p.checkOwner(ctx, t); err != nil {
		return err
	}
	if n.NewName.NumParts > 1 {
		// db.schema.t may be given again, but the table stays where it is.
		ref, name, err := p.resolver().Target(ctx, n.NewName)
		if err != nil {
			return err
		}
		if ref.Database.ID() != t.ParentID() || ref.ID != t.ParentSchemaID() {
			return pgerr.New(pgerr.FeatureNotSupported, "a relation cannot move by renaming").WithHint("Use ALTER ... SET SCHEMA.")
		}
		return p.renameRelation(ctx, t, name)
	}
	return p.renameRelation(ctx, t, n.NewName.Parts[0])
}

func (p *planner) renameColumnStmt(ctx context.Context, n *tree.RenameColumn) error {
	return p.alterTable(ctx, &tree.AlterTable{
		IfExists: n.IfExists, Table: n.Table.ToUnresolvedObjectName(),
		Cmds: tree.AlterTableCmds{&tree.AlterTableRenameColumn{Column: n.Name, NewName: n.NewName}},
	})
}

// checkRelations makes VACUUM and ANALYZE fail on names that do not exist.
func (p *planner) checkRelations(ctx context.Context, names []*tree.UnresolvedObjectName) error {
	for _, n := range names {
		if ref, err := p.resolver().FindTable(ctx, n, catalog.Flags{}); err != nil || ref != nil && ref.Table == nil {
			if err != nil {
				return err
			}
			continue // A system catalog has nothing to look after.
		}
		if _, err := p.resolveTable(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// lockTables runs LOCK TABLE. Modes that keep out readers keep the table to this
// transaction; weaker ones are what serializable transactions give anyway.
func (p *planner) lockTables(ctx context.Context, n *parser.LockTable) error {
	if !p.s.tx.explicit() {
		return pgerr.New(pgerr.NoActiveSQLTransaction, "LOCK TABLE can only be used in transaction blocks")
	}
	for _, name := range n.Tables {
		t, err := p.resolveTable(ctx, name)
		if err != nil {
			return err
		}
		if n.Mode == "" || n.Mode == "ACCESS EXCLUSIVE" {
			if err := p.lockTable(ctx, t.ID()); err != nil {
				return err
			}
		}
	}
	return nil
}

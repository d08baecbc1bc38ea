package backupccl

import (
	"fmt"
	"sort"
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"

	"github.com/holdfastdb/holdfast/backupccl/backuppb"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/parser"
)

// targetsFromAST keeps the names of a statement for the job record.
func targetsFromAST(t *parser.Targets) (*backuppb.Targets, error) {
	out := &backuppb.Targets{Cluster: t.Cluster(), SystemUsers: t.SystemUsers}
	if t.Tenant != "" {
		return nil, pgerr.New(pgerr.FeatureNotSupported, "only the system tenant can backup other tenants").
			WithHint("There are no virtual clusters: back up the cluster, databases or tables.")
	}
	for _, n := range t.Databases {
		out.Databases = append(out.Databases, string(n))
	}
	for _, p := range t.Tables {
		pattern, err := p.NormalizeTablePattern()
		if err != nil {
			return nil, err
		}
		var pb backuppb.TablePattern
		var prefix tree.TableNamePrefix
		switch n := pattern.(type) {
		case *tree.TableName:
			prefix = n.TableNamePrefix
		case *tree.AllTablesSelector:
			prefix = n.TableNamePrefix
			pb.All = true
		default:
			return nil, pgerr.Newf(pgerr.SyntaxError, "%s is not a table pattern", tree.AsString(p))
		}
		if prefix.ExplicitCatalog {
			pb.Parts = append(pb.Parts, prefix.Catalog())
		}
		if prefix.ExplicitSchema {
			pb.Parts = append(pb.Parts, prefix.Schema())
		}
		if n, ok := pattern.(*tree.TableName); ok {
			pb.Parts = append(pb.Parts, n.Table())
		}
		out.Tables = append(out.Tables, &pb)
	}
	return out, nil
}

func patternString(p *backuppb.TablePattern) string {
	s := strings.Join(p.Parts, ".")
	switch {
	case p.All && s == "":
		return "*"
	case p.All:
		return s + ".*"
	}
	return s
}

// nameContext says how unqualified names are read.
type nameContext struct {
	database   string
	searchPath []string
	// timed adds to "does not exist" that the time may be the reason.
	timed bool
}

const timedSuffix = ", or invalid RESTORE timestamp: supplied backups do not cover requested time"

func (n nameContext) errNoDatabase(name string) error {
	suffix := ""
	if n.timed {
		suffix = timedSuffix
	}
	return pgerr.Newf(pgerr.InvalidCatalogName, "database %q does not exist%s", name, suffix)
}

func (n nameContext) errNoTable(name string) error {
	suffix := ""
	if n.timed {
		suffix = timedSuffix
	}
	return pgerr.Newf(pgerr.UndefinedTable, "table %q does not exist%s", name, suffix)
}

// selection is what targets mean in a schema.
type selection struct {
	tables []*catalog.Table    // by id
	dbs    []*catalog.Database // complete ones, by id
	// patternDBs are databases that a pattern db.* named.
	patternDBs map[uint32]bool
	// skipped says what was taken off the selection, for the user.
	skipped []string
}

// selectTargets resolves targets in s.
func (s *schema) selectTargets(t *backuppb.Targets, nc nameContext) (*selection, error) {
	sel := &selection{patternDBs: map[uint32]bool{}}
	tables := map[uint32]*catalog.Table{}
	dbs := map[uint32]*catalog.Database{}
	switch {
	case t.Cluster:
		for _, db := range s.dbs {
			if db.ID() != catalog.SystemDatabaseID {
				dbs[db.ID()] = db
			}
		}
	case t.SystemUsers:
	default:
		for _, name := range t.Databases {
			db := s.dbs[name]
			if db == nil {
				return nil, nc.errNoDatabase(name)
			}
			dbs[db.ID()] = db
		}
		for _, p := range t.Tables {
			found, db, err := s.match(p, nc)
			if err != nil {
				return nil, err
			}
			if db != nil {
				dbs[db.ID()], sel.patternDBs[db.ID()] = db, true
			}
			for _, tbl := range found {
				tables[tbl.ID()] = tbl
			}
		}
	}
	for id, db := range dbs {
		sel.dbs = append(sel.dbs, db)
		for _, tbl := range s.tablesOf(id, "") {
			if t.Cluster || !tbl.Proto().Temporary {
				tables[tbl.ID()] = tbl
			}
		}
	}
	for _, t := range s.offline {
		if dbs[t.ParentID()] != nil {
			sel.skipped = append(sel.skipped, fmt.Sprintf("table %q is offline (%s) and is left out", t.Name(), t.OfflineReason()))
		}
	}
	for _, tbl := range tables {
		sel.tables = append(sel.tables, tbl)
	}
	sort.Slice(sel.tables, func(i, j int) bool { return sel.tables[i].ID() < sel.tables[j].ID() })
	sort.Slice(sel.dbs, func(i, j int) bool { return sel.dbs[i].ID() < sel.dbs[j].ID() })
	return sel, nil
}

// match returns the tables of a pattern; for db.* also the database, which is
// complete then.
func (s *schema) match(p *backuppb.TablePattern, nc nameContext) ([]*catalog.Table, *catalog.Database, error) {
	if p.All {
		return s.matchAll(p, nc)
	}
	if t := s.lookupTable(p.Parts, nc); t != nil && !t.Proto().Temporary {
		return []*catalog.Table{t}, nil, nil
	}
	return nil, nil, nc.errNoTable(patternString(p))
}

func (s *schema) matchAll(p *backuppb.TablePattern, nc nameContext) ([]*catalog.Table, *catalog.Database, error) {
	permanent := func(ts []*catalog.Table) []*catalog.Table {
		var out []*catalog.Table
		for _, t := range ts {
			if !t.Proto().Temporary {
				out = append(out, t)
			}
		}
		return out
	}
	current := s.dbs[nc.database]
	switch len(p.Parts) {
	case 0:
		if current == nil {
			return nil, nil, nc.errNoDatabase(nc.database)
		}
		var out []*catalog.Table
		for _, sc := range nc.searchPath {
			if _, ok := s.schemas[current.ID()][sc]; ok {
				out = append(out, s.tablesOf(current.ID(), sc)...)
			}
		}
		return permanent(out), nil, nil
	case 1:
		if current != nil {
			if _, ok := s.schemas[current.ID()][p.Parts[0]]; ok {
				return permanent(s.tablesOf(current.ID(), p.Parts[0])), nil, nil
			}
		}
		if db := s.dbs[p.Parts[0]]; db != nil {
			return permanent(s.tablesOf(db.ID(), "")), db, nil
		}
	case 2:
		if db := s.dbs[p.Parts[0]]; db != nil {
			if _, ok := s.schemas[db.ID()][p.Parts[1]]; ok {
				return permanent(s.tablesOf(db.ID(), p.Parts[1])), nil, nil
			}
		}
	}
	return nil, nil, nc.errNoTable(patternString(p))
}

// lookupTable finds a table, view or sequence by a name of one to three parts,
// or returns nil.
func (s *schema) lookupTable(parts []string, nc nameContext) *catalog.Table {
	in := func(db *catalog.Database, schemaName, name string) *catalog.Table {
		if db == nil {
			return nil
		}
		sid, ok := s.schemas[db.ID()][schemaName]
		if !ok {
			return nil
		}
		t, _ := s.objects[objectKey(db.ID(), sid)][name].(*catalog.Table)
		return t
	}
	switch len(parts) {
	case 1:
		for _, sc := range nc.searchPath {
			if t := in(s.dbs[nc.database], sc, parts[0]); t != nil {
				return t
			}
		}
	case 2:
		if t := in(s.dbs[nc.database], parts[0], parts[1]); t != nil {
			return t
		}
		return in(s.dbs[parts[0]], catalog.PublicSchemaName, parts[1])
	case 3:
		return in(s.dbs[parts[0]], parts[1], parts[2])
	}
	return nil
}

// closure returns the ids of all descriptors that a selection needs: the
// tables, their databases, schemas and types, and everything in complete
// databases.
func (s *schema) closure(sel *selection) []uint32 {
	want := map[uint32]bool{}
	complete := map[uint32]bool{}
	for _, db := range sel.dbs {
		want[db.ID()], complete[db.ID()] = true, true
	}
	for _, t := range sel.tables {
		want[t.ID()], want[t.ParentID()], want[t.ParentSchemaID()] = true, true, true
		for _, id := range s.typeIDs(t) {
			want[id] = true
			if typ := s.byID[id]; typ != nil {
				want[typ.ParentSchemaID()] = true
			}
		}
	}
	for id, d := range s.byID {
		if complete[d.ParentID()] && d.Kind() != catalog.TableKind {
			want[id] = true
		}
	}
	var ids []uint32
	for id := range want {
		if s.byID[id] != nil {
			ids = append(ids, id)
		}
	}
	sort.Slice(ids, func(i, j int) bool { return ids[i] < ids[j] })
	return ids
}

package sql

import (
	"context"
	"sort"
	"strings"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/systables"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
)

// descSet is all descriptors, as one transaction sees them. Dropped ones are left
// out; offline ones are apart.
type descSet struct {
	databases []*catalog.Database // by name
	dbByName  map[string]*catalog.Database
	dbByID    map[catalog.ID]*catalog.Database
	schemas   map[catalog.ID]*catalog.Schema
	tables    []*catalog.Table // by id
	tableByID map[catalog.ID]*catalog.Table
	types     []*catalog.Type
	typeByID  map[catalog.ID]*catalog.Type
	enums     catalog.EnumSet
	comments  map[commentKey]string
	owners    map[string]int64 // OIDs of roles by name
	dropped   []*catalog.Table
	// inPath says whether a schema is in the search path for which the set was made:
	// definitions show its objects unqualified.
	inPath func(schema string) bool
	path   string
	// offline are the objects that a restore is making. They have names and can be
	// found by id; no listing shows them before they are published.
	offline []catalog.Descriptor
}

type commentKey struct {
	typ, object, sub int64
}

// Types of comments in system.comments.
const (
	commentDatabase int64 = iota
	commentTable
	commentColumn
	commentIndex
	commentSchema
	commentConstraint
	commentType
)

// allDescs reads every descriptor. Statements on virtual tables use it; they may
// read several of them, so the planner keeps the result while the transaction
// writes nothing.
func (p *planner) allDescs(ctx context.Context) (*descSet, error) {
	path := strings.Join(p.s.searchPath(), "\x00")
	if p.descs != nil && p.descsSeq == p.s.tx.schemaSeq && p.descs.path == path {
		return p.descs, nil
	}
	s := &descSet{
		dbByName: map[string]*catalog.Database{}, dbByID: map[catalog.ID]*catalog.Database{}, schemas: map[catalog.ID]*catalog.Schema{},
		tableByID: map[catalog.ID]*catalog.Table{}, typeByID: map[catalog.ID]*catalog.Type{}, enums: catalog.EnumSet{},
		comments: map[commentKey]string{}, owners: map[string]int64{},
		inPath: p.s.inPath, path: path,
	}
	err := p.scanSystemAt(ctx, systables.Descriptor, func(row systables.Row, ts hlc.Timestamp) error {
		b, ok := row[1].([]byte)
		if !ok {
			return nil
		}
		d, err := p.srv.decodeDesc(catalog.ID(row[0].(int64)), b, ts)
		if err != nil {
			return err
		}
		if d.State() == catalogpb.State_OFFLINE {
			s.offline = append(s.offline, d)
		}
		public := d.State() != catalogpb.State_OFFLINE
		switch d := d.(type) {
		case *catalog.Database:
			if d.State() != catalogpb.State_DROP {
				if public {
					s.databases = append(s.databases, d)
				}
				s.dbByName[d.Name()], s.dbByID[d.ID()] = d, d
			}
		case *catalog.Schema:
			if d.State() != catalogpb.State_DROP {
				s.schemas[d.ID()] = d
			}
		case *catalog.Table:
			if d.State() == catalogpb.State_DROP {
				s.dropped = append(s.dropped, d)
			} else if d.State() != catalogpb.State_ADD {
				if public {
					s.tables = append(s.tables, d)
				}
				s.tableByID[d.ID()] = d
			}
		case *catalog.Type:
			if d.State() != catalogpb.State_DROP {
				if public {
					s.types = append(s.types, d)
				}
				s.typeByID[d.ID()] = d
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	sort.Slice(s.databases, func(i, j int) bool { return s.databases[i].Name() < s.databases[j].Name() })
	for _, t := range s.typeByID {
		if t.IsEnum() {
			db, schema := "", ""
			if d := s.dbByID[t.ParentID()]; d != nil {
				db = d.Name()
			}
			if sc := s.schemas[t.ParentSchemaID()]; sc != nil {
				schema = sc.Name()
			}
			e := catalog.NewEnum(t.Proto(), db, schema)
			s.enums[e.OID] = e.Visible(p.s.inPath(schema))
		}
	}
	if err := p.scanSystem(ctx, systables.Comments, func(row systables.Row) error {
		s.comments[commentKey{row[0].(int64), row[1].(int64), row[2].(int64)}], _ = row[3].(string)
		return nil
	}); err != nil {
		return nil, err
	}
	for _, sc := range s.schemas {
		k := commentKey{commentSchema, int64(sc.ID()), 0}
		if _, ok := s.comments[k]; !ok && sc.Name() == catalog.PublicSchemaName {
			s.comments[k] = "standard public schema" // as in every database of PostgreSQL
		}
	}
	if err := p.scanSystem(ctx, systables.Users, func(row systables.Row) error {
		s.owners[row[0].(string)], _ = row[3].(int64)
		return nil
	}); err != nil {
		return nil, err
	}
	// Roles that clients can look up own what the node made.
	s.owners[catalog.NodeUser] = rootOID
	p.descs, p.descsSeq = s, p.s.tx.schemaSeq
	return s, nil
}

// schemaOf returns the name of a relation's schema.
func (s *descSet) schemaOf(t *catalog.Table) string {
	if sc := s.schemas[t.ParentSchemaID()]; sc != nil {
		return sc.Name()
	}
	return catalog.PublicSchemaName
}

// inDB returns the relations of a database, by id.
func (s *descSet) inDB(db *catalog.Database) []*catalog.Table {
	if db == nil {
		return nil
	}
	var out []*catalog.Table
	for _, t := range s.tables {
		if t.ParentID() == db.ID() {
			out = append(out, t)
		}
	}
	return out
}

// schemasIn returns the schemas of a database by name.
func (s *descSet) schemasIn(db *catalog.Database) []*catalog.Schema {
	if db == nil {
		return nil
	}
	var out []*catalog.Schema
	for _, sc := range s.schemas {
		if sc.ParentID() == db.ID() && sc.State() != catalogpb.State_OFFLINE {
			out = append(out, sc)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name() < out[j].Name() })
	return out
}

// scanSystem reads all rows of a system table in the transaction.
func (p *planner) scanSystem(ctx context.Context, t *systables.Table, fn func(systables.Row) error) error {
	return p.scanSystemAt(ctx, t, func(row systables.Row, _ hlc.Timestamp) error { return fn(row) })
}

// scanSystemAt is scanSystem with the time of each row's last change.
func (p *planner) scanSystemAt(ctx context.Context, t *systables.Table, fn func(systables.Row, hlc.Timestamp) error) error {
	span := t.Span()
	return p.scanKeys(ctx, span.Key, span.EndKey, func(pair kv.KeyValue) error {
		row, err := t.Decode(pair.Key, pair.Value)
		if err != nil {
			return err
		}
		return fn(row, pair.Timestamp)
	})
}

package sql

import (
	"sort"

	"github.com/holdfastdb/holdfast/sql/catalog"
)

// CreateStatements returns what renders each of descs as SQL, as SHOW CREATE
// does, and "" for what has no such form. The objects may come from a backup:
// only descs themselves are looked at.
func CreateStatements(descs []catalog.Descriptor) func(catalog.Descriptor) string {
	s := &descSet{
		dbByName: map[string]*catalog.Database{}, dbByID: map[catalog.ID]*catalog.Database{}, schemas: map[catalog.ID]*catalog.Schema{},
		tableByID: map[catalog.ID]*catalog.Table{}, typeByID: map[catalog.ID]*catalog.Type{}, enums: catalog.EnumSet{},
		comments: map[commentKey]string{}, owners: map[string]int64{},
	}
	for _, d := range descs {
		switch d := d.(type) {
		case *catalog.Database:
			s.databases = append(s.databases, d)
			s.dbByName[d.Name()], s.dbByID[d.ID()] = d, d
		case *catalog.Schema:
			s.schemas[d.ID()] = d
		case *catalog.Table:
			s.tables = append(s.tables, d)
			s.tableByID[d.ID()] = d
		case *catalog.Type:
			s.types = append(s.types, d)
			s.typeByID[d.ID()] = d
		}
	}
	sort.Slice(s.tables, func(i, j int) bool { return s.tables[i].ID() < s.tables[j].ID() })
	for _, t := range s.types {
		if t.IsEnum() {
			db, schema := "", ""
			if d := s.dbByID[t.ParentID()]; d != nil {
				db = d.Name()
			}
			if sc := s.schemas[t.ParentSchemaID()]; sc != nil {
				schema = sc.Name()
			}
			e := catalog.NewEnum(t.Proto(), db, schema)
			s.enums[e.OID] = e
		}
	}
	return func(d catalog.Descriptor) string {
		switch d := d.(type) {
		case *catalog.Database:
			return "CREATE DATABASE " + quoteIdent(d.Name())
		case *catalog.Schema:
			return "CREATE SCHEMA " + quoteIdent(d.Name())
		case *catalog.Table:
			return s.showCreate(d, true)
		}
		return ""
	}
}

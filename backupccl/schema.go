package backupccl

import (
	"context"
	"fmt"
	"sort"

	"github.com/lib/pq/oid"

	"github.com/holdfastdb/holdfast/backupccl/backuppb"
	"github.com/holdfastdb/holdfast/backupccl/manifest"
	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/internal/systables"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
)

// schema is the set of public descriptors at one time, of a cluster or of a
// backup, with their names.
type schema struct {
	at      hlc.Timestamp
	byID    map[uint32]catalog.Descriptor
	dbs     map[string]*catalog.Database
	schemas map[uint32]map[string]uint32             // database → schema name → id
	objects map[uint32]map[string]catalog.Descriptor // (database, schema) → tables and types
	// entries are the bytes as stored, by id.
	entries map[uint32][]byte
	// offline are the tables that were being restored or imported.
	offline []*catalog.Table
}

func newSchema(at hlc.Timestamp) *schema {
	return &schema{
		at: at, byID: map[uint32]catalog.Descriptor{}, dbs: map[string]*catalog.Database{},
		schemas: map[uint32]map[string]uint32{}, objects: map[uint32]map[string]catalog.Descriptor{},
		entries: map[uint32][]byte{},
	}
}

// add decodes a descriptor that was written at ts, zero if that is not known,
// and takes it in if it is public.
func (s *schema) add(b []byte, ts hlc.Timestamp) error {
	d, err := catalog.UnmarshalAt(b, ts)
	if err != nil {
		return err
	}
	if d.State() != catalogpb.State_PUBLIC {
		if t, ok := d.(*catalog.Table); ok && d.State() == catalogpb.State_OFFLINE {
			s.offline = append(s.offline, t)
		}
		return nil
	}
	s.byID[d.ID()], s.entries[d.ID()] = d, b
	return nil
}

// index builds the lookups by name once everything is in.
func (s *schema) index() {
	for id, d := range s.byID {
		switch d := d.(type) {
		case *catalog.Database:
			s.dbs[d.Name()] = d
			if s.schemas[id] == nil {
				s.schemas[id] = map[string]uint32{}
			}
			if sid, ok := d.SchemaID(catalog.PublicSchemaName); ok {
				s.schemas[id][catalog.PublicSchemaName] = sid
			}
		case *catalog.Schema:
			if s.schemas[d.ParentID()] == nil {
				s.schemas[d.ParentID()] = map[string]uint32{}
			}
			s.schemas[d.ParentID()][d.Name()] = id
		}
	}
	for _, d := range s.byID {
		if d.Kind() != catalog.TableKind && d.Kind() != catalog.TypeKind {
			continue
		}
		sid := d.ParentSchemaID()
		if sid == catalog.PublicSchemaID {
			sid = s.schemas[d.ParentID()][catalog.PublicSchemaName]
		}
		key := objectKey(d.ParentID(), sid)
		if s.objects[key] == nil {
			s.objects[key] = map[string]catalog.Descriptor{}
		}
		s.objects[key][d.Name()] = d
	}
}

// objectKey tells schemas apart; only the shared old public schema needs its
// database for that.
func objectKey(db, schemaID uint32) uint32 {
	if schemaID == catalog.PublicSchemaID {
		return db
	}
	return schemaID
}

// ids returns all ids in order.
func (s *schema) ids() []uint32 {
	ids := make([]uint32, 0, len(s.byID))
	for id := range s.byID {
		ids = append(ids, id)
	}
	sort.Slice(ids, func(i, j int) bool { return ids[i] < ids[j] })
	return ids
}

// tablesOf returns the tables of a database, or of one schema of it, by id.
func (s *schema) tablesOf(db uint32, schemaName string) []*catalog.Table {
	var out []*catalog.Table
	for _, id := range s.ids() {
		t, ok := s.byID[id].(*catalog.Table)
		if !ok || t.ParentID() != db {
			continue
		}
		if schemaName != "" && s.schemaName(t) != schemaName {
			continue
		}
		out = append(out, t)
	}
	return out
}

// schemaName returns the name of an object's schema.
func (s *schema) schemaName(d catalog.Descriptor) string {
	if sc, ok := s.byID[d.ParentSchemaID()].(*catalog.Schema); ok {
		return sc.Name()
	}
	return catalog.PublicSchemaName
}

// dbName returns the name of an object's database.
func (s *schema) dbName(d catalog.Descriptor) string {
	if db, ok := s.byID[d.ParentID()].(*catalog.Database); ok {
		return db.Name()
	}
	return ""
}

// qualified returns database.schema.name.
func (s *schema) qualified(d catalog.Descriptor) string {
	return s.dbName(d) + "." + s.schemaName(d) + "." + d.Name()
}

// loadSchema reads the descriptors of this cluster as they were at ts.
func loadSchema(ctx context.Context, db *kv.DB, ts hlc.Timestamp) (*schema, error) {
	s := newSchema(ts)
	span := systables.Descriptor.Span()
	for span.Key.Less(span.EndKey) {
		res, err := db.Scan(ctx, span.Key, span.EndKey, ts, kv.ScanOptions{MaxKeys: 10000})
		if err != nil {
			return nil, fmt.Errorf("reading descriptors: %w", err)
		}
		for _, pair := range res.KVs {
			_, b, err := decodeDescriptorRow(pair.Key, pair.Value)
			if err != nil {
				return nil, err
			}
			if err := s.add(append([]byte(nil), b...), pair.Timestamp); err != nil {
				return nil, err
			}
		}
		if res.Resume == nil {
			break
		}
		span.Key = res.Resume.Key
	}
	s.index()
	return s, nil
}

func decodeDescriptorRow(key keys.Key, value []byte) (uint32, []byte, error) {
	row, err := systables.Descriptor.Decode(key, value)
	if err != nil {
		return 0, nil, pgerr.Newf(pgerr.DataCorrupted, "descriptor row: %w", err)
	}
	id, _ := row[0].(int64)
	b, _ := row[1].([]byte)
	return uint32(id), b, nil
}

// schemaOfEntries builds the schema of a backup.
func schemaOfEntries(at hlc.Timestamp, entries []*backuppb.DescriptorEntry) (*schema, error) {
	s := newSchema(at)
	for _, e := range entries {
		if err := s.add(e.Desc, manifest.Time(e.Time)); err != nil {
			return nil, err
		}
	}
	s.index()
	return s, nil
}

// dataSpans returns the spans that hold a table's data: its public indexes, or
// a sequence's one value.
func dataSpans(t *catalog.Table) []keys.Span {
	switch {
	case t.Proto().ExcludeDataFromBackup, !t.HasData():
		return nil
	case t.IsSequence():
		return []keys.Span{keys.IndexSpan(t.ID(), 1)}
	}
	var out []keys.Span
	for _, x := range t.PublicIndexes() {
		out = append(out, x.Span())
	}
	return out
}

// isPrimary says whether an index holds the rows themselves.
func isPrimary(t *catalog.Table, indexID uint32) bool {
	if t == nil || t.IsSequence() || t.PrimaryIndex() == nil {
		return indexID == 1
	}
	return t.PrimaryIndex().ID == indexID
}

// typeIDs returns the ids of the user-defined types that a table's columns use,
// with their array types.
func (s *schema) typeIDs(t *catalog.Table) []uint32 {
	seen := map[uint32]bool{}
	var out []uint32
	var add func(id uint32)
	add = func(id uint32) {
		if seen[id] {
			return
		}
		seen[id] = true
		out = append(out, id)
		if typ, ok := s.byID[id].(*catalog.Type); ok && typ.Proto().ArrayTypeId != 0 {
			add(typ.Proto().ArrayTypeId)
		}
	}
	for _, o := range t.EnumOIDs() {
		if id, ok := catalog.TypeIDFromOID(oid.Oid(o)); ok {
			add(id)
		}
	}
	for _, id := range t.Proto().DependsOnTypes {
		add(id)
	}
	return out
}

package sql

import (
	"hash/fnv"

	"github.com/lib/pq/oid"

	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
)

// Objects with a descriptor have its id as OID, types 100000 more. What lives
// inside of a table gets an OID built from the table's id and its own, so that
// OIDs are stable and no two kinds meet:
//
//	0x40000000 | table<<10 | index        indexes
//	0x80000000 | table<<10 | constraint   constraints
//	0xc0000000 | table<<10 | column       defaults
//	0x20000000 | hash                     functions without a number in PostgreSQL
const (
	oidIndexBase      = 0x40000000
	oidConstraintBase = 0x80000000
	oidDefaultBase    = 0xc0000000
	oidFunctionBase   = 0x20000000

	oidPgCatalog         oid.Oid = 11
	oidInformationSchema oid.Oid = 13
	oidCrdbInternal      oid.Oid = 14
	oidPgExtension       oid.Oid = 15
)

// wellKnownClassOIDs are the OIDs of catalogs that clients write as numbers.
var wellKnownClassOIDs = map[string]oid.Oid{
	"pg_class": 1259, "pg_type": 1247, "pg_attribute": 1249, "pg_proc": 1255, "pg_database": 1262, "pg_authid": 1260,
	"pg_namespace": 2615, "pg_constraint": 2606, "pg_attrdef": 2604, "pg_trigger": 2620, "pg_rewrite": 2618, "pg_index": 2610,
	"pg_tablespace": 1213, "pg_description": 2609, "pg_extension": 3079, "pg_enum": 3501, "pg_operator": 2617, "pg_am": 2601,
	"pg_language": 2612, "pg_collation": 3456, "pg_cast": 2605, "pg_opclass": 2616, "pg_opfamily": 2753, "pg_sequence": 2224,
	"pg_depend": 2608, "pg_shdepend": 1214, "pg_shdescription": 2396, "pg_auth_members": 1261, "pg_inherits": 2611, "pg_aggregate": 2600,
}

func scopedOID(base uint32, table catalog.ID, id uint32) oid.Oid {
	if table < 1<<20 && id < 1<<10 {
		return oid.Oid(base | table<<10 | id)
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte{byte(table), byte(table >> 8), byte(table >> 16), byte(table >> 24), byte(id), byte(id >> 8), byte(id >> 16), byte(id >> 24)})
	return oid.Oid(base | h.Sum32()&0x3fffffff)
}

func indexOID(table catalog.ID, index uint32) oid.Oid { return scopedOID(oidIndexBase, table, index) }

func defaultOID(table catalog.ID, column uint32) oid.Oid {
	return scopedOID(oidDefaultBase, table, column)
}

// constraintOID numbers a constraint; those of old descriptors have no id and go
// by name.
func constraintOID(table catalog.ID, id uint32, name string) oid.Oid {
	if id != 0 {
		return scopedOID(oidConstraintBase, table, id)
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	return scopedOID(oidConstraintBase, table, h.Sum32()|1<<10)
}

func fkOID(fk *catalogpb.ForeignKeyConstraint) oid.Oid {
	return constraintOID(fk.OriginTableId, fk.ConstraintId, fk.Name)
}

func nameOID(base uint32, name string) oid.Oid {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	return oid.Oid(base | h.Sum32()&0x0fffffff)
}

// Package systables holds the tables of database system that are read below the
// SQL layer: their fixed schemas and a codec without SQL datums.
//
// A Table encodes a Row to the same bytes that the SQL layer would write, so
// SELECT on system.jobs and the job registry see one table. The row encoding is
// that of docs/format; a test beside the SQL codec compares the two.
//
// Start reading at Table, then tables.go; codec.go follows the row encoding.
package systables

import (
	"fmt"

	"github.com/holdfastdb/holdfast/internal/keys"
)

// Type is the SQL type of a column and the Go type of its values.
type Type int

const (
	Int         Type = iota // INT8: int64
	Bool                    // BOOL: bool
	Float                   // FLOAT8: float64; not in keys
	String                  // STRING: string
	Bytes                   // BYTES: []byte
	Timestamp               // TIMESTAMP: time.Time in UTC
	TimestampTZ             // TIMESTAMPTZ: time.Time in UTC
	UUID                    // UUID: [16]byte
	Decimal                 // DECIMAL: *apd.Decimal; not in keys
	OID                     // OID: int64
	StringArray             // STRING[]: []string; not in keys
)

func (t Type) String() string {
	return [...]string{"INT8", "BOOL", "FLOAT8", "STRING", "BYTES", "TIMESTAMP", "TIMESTAMPTZ", "UUID", "DECIMAL", "OID", "STRING[]"}[t]
}

// Column describes a column. Column ids start at 1 and are never used again.
type Column struct {
	ID       uint32
	Name     string
	Type     Type
	Nullable bool
	Default  string // SQL expression, "" for none
}

// Index is a non-unique secondary index.
type Index struct {
	ID      uint32
	Name    string
	Columns []int // positions in Table.Columns, ascending order
	Storing []int
}

// Table is the schema of one system table. It has one column family, and index 1
// is its primary index.
type Table struct {
	ID         uint32
	Name       string
	Columns    []Column
	PrimaryKey []int // positions in Columns, ascending order
	Indexes    []Index
}

// Row holds one value per column, nil for NULL; see Type for the Go types.
type Row []any

// Col returns the position of a column. A wrong name is a bug of the caller.
func (t *Table) Col(name string) int {
	for i := range t.Columns {
		if t.Columns[i].Name == name {
			return i
		}
	}
	panic(fmt.Sprintf("system.%s has no column %s", t.Name, name))
}

func (t *Table) columnByID(id uint32) int {
	for i := range t.Columns {
		if t.Columns[i].ID == id {
			return i
		}
	}
	return -1
}

func (t *Table) isPrimary(col int) bool {
	for _, c := range t.PrimaryKey {
		if c == col {
			return true
		}
	}
	return false
}

func (t *Table) primaryValues(row Row) []any {
	vals := make([]any, len(t.PrimaryKey))
	for i, c := range t.PrimaryKey {
		vals[i] = row[c]
	}
	return vals
}

// check refuses rows that no statement could have written.
func (t *Table) check(row Row) error {
	if len(row) != len(t.Columns) {
		return fmt.Errorf("system.%s: row of %d values, want %d", t.Name, len(row), len(t.Columns))
	}
	for i, c := range t.Columns {
		if row[i] == nil && !c.Nullable {
			return fmt.Errorf("system.%s: null value in column %q", t.Name, c.Name)
		}
	}
	return nil
}

// Change returns the writes that turn old into new. A nil old inserts, a nil new
// deletes. Both must have the same primary key.
func (t *Table) Change(old, new Row) (put []KV, del []keys.Key, err error) {
	var before, after []KV
	if old != nil {
		if before, err = t.Encode(old); err != nil {
			return nil, nil, err
		}
	}
	if new != nil {
		if after, err = t.Encode(new); err != nil {
			return nil, nil, err
		}
	}
	kept := make(map[string]bool, len(after))
	for _, kv := range after {
		kept[string(kv.Key)] = true
	}
	for _, kv := range before {
		if !kept[string(kv.Key)] {
			del = append(del, kv.Key)
		}
	}
	return after, del, nil
}

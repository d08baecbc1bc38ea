package protectedts

import (
	"reflect"
	"testing"

	"github.com/holdfastdb/holdfast/internal/hlc"
)

func ts(wall int64) hlc.Timestamp { return hlc.Timestamp{WallTime: wall, Logical: 3} }

func TestRecordSurvivesItsRow(t *testing.T) {
	for _, want := range []Record{
		{ID: [16]byte{1}, Timestamp: ts(5), Target: Target{Cluster: true}, MetaType: "jobs", Meta: []byte("7")},
		{ID: [16]byte{2, 9}, Timestamp: ts(1 << 60), Target: Target{DatabaseIDs: []uint32{104}, TableIDs: []uint32{105, 1 << 31}}},
	} {
		pair, err := encode(want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decode(pair)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v; want %+v", got, err, want)
		}
	}
}

func TestEarliest(t *testing.T) {
	s := State{Records: []Record{
		{Timestamp: ts(50), Target: Target{Cluster: true}},
		{Timestamp: ts(30), Target: Target{DatabaseIDs: []uint32{104}}},
		{Timestamp: ts(20), Target: Target{TableIDs: []uint32{200}}},
	}}
	for _, c := range []struct {
		name            string
		table, database uint32
		want            int64
	}{
		{"a table that a record names", 200, 110, 20},
		{"a table of a database that a record names", 201, 104, 30},
		{"a table of another database", 201, 110, 50},
		{"a table whose database is not known", 201, 0, 30},
		{"descriptors are needed by every read", 3, 1, 20},
	} {
		if got, ok := s.Earliest(c.table, c.database); !ok || got != ts(c.want) {
			t.Errorf("%s: got %s, %t; want %s", c.name, got, ok, ts(c.want))
		}
	}
	if _, ok := (State{}).Earliest(200, 104); ok {
		t.Error("no record protects, yet Earliest found one")
	}
}

package sql

import (
	"fmt"
	"strings"
	"testing"

	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/zones"
	"github.com/holdfastdb/holdfast/sql/partition"
)

// TestZonePieces: neighbours with the same zone share a range; a table or an index
// with one of its own has ranges of its own.
func TestZonePieces(t *testing.T) {
	conf := func(n int32) zones.Config { return zones.Config{NumReplicas: &n} }
	var pieces []zonePiece
	add := func(id uint32, n int32, own bool, subzones ...zones.Subzone) {
		parts := func(index uint32) []partition.Piece {
			at := func(suffix byte) keys.Key { return append(keys.IndexPrefix(id, index), suffix) }
			return []partition.Piece{{Start: keys.IndexPrefix(id, index)}, {Start: at(140), Name: "a"}, {Start: at(141), Name: "b"},
				{Start: at(142), Name: "c"}, {Start: at(143)}}
		}
		pieces = append(pieces, tablePieces(id, conf(n), own, subzones, parts)...)
	}
	add(1, 5, false)
	add(3, 5, false) // the gap between is theirs
	add(100, 3, false)
	add(101, 3, false, zones.Subzone{IndexID: 2, Config: conf(7)})
	add(102, 3, true)
	add(105, 4, false)
	add(107, 3, false, zones.Subzone{IndexID: 1, Partition: "b", Config: conf(8)})
	add(108, 3, false, zones.Subzone{IndexID: 2, Partition: "a", Config: conf(8)}, zones.Subzone{IndexID: 2, Config: conf(7)})
	add(109, 3, false, zones.Subzone{IndexID: 2, Partition: "gone", Config: conf(8)})
	starts, configs := joinPieces(conf(9), conf(3), pieces)
	var got []string
	for i := range starts {
		got = append(got, fmt.Sprintf("%s %d", starts[i], *configs[i].NumReplicas))
	}
	want := "/Min 9, /Table/1 5, /Table/4 3, /Table/101/2 7, /Table/101/3 3, /Table/102 3, /Table/103 3, /Table/105 4, /Table/106 3, " +
		"/Table/107/1/5 8, /Table/107/1/6 3, /Table/108/2 7, /Table/108/2/4 8, /Table/108/2/5 7, /Table/108/3 3"
	if s := strings.Join(got, ", "); s != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
}

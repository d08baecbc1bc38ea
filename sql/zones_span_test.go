package sql

import (
	"fmt"
	"strings"
	"testing"

	"github.com/holdfastdb/holdfast/internal/zones"
)

// TestZonePieces: neighbours with the same zone share a range; a table or an index
// with one of its own has ranges of its own.
func TestZonePieces(t *testing.T) {
	conf := func(n int32) zones.Config { return zones.Config{NumReplicas: &n} }
	var pieces []zonePiece
	add := func(id uint32, n int32, own bool, subzones ...zones.Subzone) {
		pieces = append(pieces, tablePieces(id, conf(n), own, subzones)...)
	}
	add(1, 5, false)
	add(3, 5, false) // the gap between is theirs
	add(100, 3, false)
	add(101, 3, false, zones.Subzone{IndexID: 2, Config: conf(7)})
	add(102, 3, true)
	add(105, 4, false)
	starts, configs := joinPieces(conf(9), conf(3), pieces)
	var got []string
	for i := range starts {
		got = append(got, fmt.Sprintf("%s %d", starts[i], *configs[i].NumReplicas))
	}
	want := "/Min 9, /Table/1 5, /Table/4 3, /Table/101/2 7, /Table/101/3 3, /Table/102 3, /Table/103 3, /Table/105 4, /Table/106 3"
	if s := strings.Join(got, ", "); s != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
}

package sql

import (
	"encoding/hex"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/sessiondata"
	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/sql/pgcodec"
)

func splitAddr(addr string) (string, int) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr, 0
	}
	n, _ := strconv.Atoi(port)
	return host, n
}

func formatUUID(id [16]byte) string {
	h := hex.EncodeToString(id[:])
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}

// localityValue finds a tier in "region=eu,zone=a".
func localityValue(locality, key string) (string, bool) {
	for _, tier := range strings.Split(locality, ",") {
		if k, v, ok := strings.Cut(tier, "="); ok && k == key {
			return v, true
		}
	}
	return "", false
}

// random is the session's random(), which setseed() makes repeatable.
func (s *Session) random() float64 {
	if s.rng == nil {
		return rand.Float64()
	}
	return s.rng.Float64()
}

func (s *Session) setSeed(seed float64) {
	s.rng = rand.New(rand.NewPCG(uint64(int64(seed*(1<<62))), 0))
}

// rowIDs makes unique_rowid().
type rowIDs struct {
	mu   sync.Mutex
	last uint64
}

const rowIDEpoch = 1420070400 * 100_000 // 2015-01-01 in units of 10 µs

func (r *rowIDs) next(node int32) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := uint64(time.Now().UnixNano()/10_000 - rowIDEpoch)
	if t <= r.last {
		t = r.last + 1
	}
	r.last = t
	return int64(t<<15 ^ uint64(node)&(1<<15-1))
}

func (s *Server) uniqueRowID() int64 { return s.rowIDs.next(s.cfg.NodeID) }

// datumToText prints a value as a client would see it.
func datumToText(d tree.Datum, t *types.T, data *sessiondata.SessionData) string {
	if d == tree.DNull {
		return "NULL"
	}
	c := pgcodec.Make(t, t.Oid(), t.TypeModifier())
	set := pgcodec.DefaultSettings()
	if data.DataConversion.Location != nil {
		set.Location = data.DataConversion.Location
	}
	return string(c.AppendText(nil, d, set))
}

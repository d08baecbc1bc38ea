package kvserver

import (
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/holdfastdb/holdfast/internal/chance"
	"github.com/holdfastdb/holdfast/kv/kvpb"
)

var (
	simSeeds = flag.Int("sim.seeds", 4, "how many seeds TestSimulation runs, from -chaos.seed on")
	simTrace = flag.String("sim.trace", "", "file that gets every message of TestSimulation")
)

// simulation is a network in virtual time. How long a message takes follows from the
// seed, from what it says, and from how often that was said before; hardly two things
// happen at the same instant, so that what comes after what follows from the seed, too.
type simulation struct {
	seed  uint64
	mu    sync.Mutex
	sent  map[uint64]uint64
	trace io.Writer
	hash  interface{ Sum64() uint64 }
	lines int
}

func newSimulation(seed uint64, trace io.Writer) *simulation {
	h := fnv.New64a()
	return &simulation{seed: seed, sent: map[uint64]uint64{}, hash: h, trace: io.MultiWriter(h, trace)}
}

// delay returns how long a message takes: mostly a millisecond or two, now and then
// much longer.
func (s *simulation) delay(from, to kvpb.NodeID, what string) time.Duration {
	h := fnv.New64a()
	fmt.Fprintf(h, "%d %d %s", from, to, what)
	id := h.Sum64()
	s.mu.Lock()
	s.sent[id]++
	n := s.sent[id]
	s.mu.Unlock()
	rng := rand.New(rand.NewPCG(s.seed+n, id))
	if from == to {
		return time.Duration(1 + rng.Int64N(int64(50*time.Microsecond)))
	}
	d := 100*time.Microsecond + time.Duration(rng.Int64N(int64(2*time.Millisecond)))
	if rng.IntN(100) == 0 {
		d += time.Duration(rng.Int64N(int64(100 * time.Millisecond)))
	}
	return d
}

// note writes down what arrived.
func (s *simulation) note(from, to kvpb.NodeID, what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines++
	fmt.Fprintf(s.trace, "%s n%d>n%d %s\n", time.Now().Format("04:05.000000000"), from, to, what)
}

// request takes as long as a request does to get there, and answer as long as its
// answer. A nil simulation takes no time.
func (s *simulation) request(from, to kvpb.NodeID, ba *kvpb.BatchRequest) {
	if s != nil {
		s.travel(from, to, fmt.Sprintf("r%d %s %s, %d more", ba.RangeID, ba.Requests[0].Op, ba.Requests[0].Key, len(ba.Requests)-1))
	}
}

func (s *simulation) answer(from, to kvpb.NodeID, err error) {
	if s != nil {
		s.travel(from, to, fmt.Sprintf("answer %T", err))
	}
}

func (s *simulation) snapshot(from, to kvpb.NodeID, rangeID int64) {
	if s != nil {
		s.travel(from, to, fmt.Sprintf("r%d snapshot", rangeID))
	}
}

func (s *simulation) travel(from, to kvpb.NodeID, what string) {
	time.Sleep(s.delay(from, to, what))
	s.note(from, to, what)
}

// raft returns a function that waits until a message that is sent now arrives.
func (s *simulation) raft(from, to kvpb.NodeID, rangeID int64, m *pb.Message) (arrive func()) {
	if s == nil {
		return func() {}
	}
	what := fmt.Sprintf("r%d %s term %d index %d, %d entries", rangeID, m.GetType(), m.GetTerm(), m.GetIndex(), len(m.GetEntries()))
	due := time.Now().Add(s.delay(from, to, what))
	return func() {
		time.Sleep(time.Until(due))
		s.note(from, to, what)
	}
}

// think is what a client does between two requests.
func (s *simulation) think(rng *rand.Rand) {
	if s != nil {
		time.Sleep(time.Duration(rng.Int64N(int64(10 * time.Millisecond))))
	}
}

// drift keeps the ticks of the nodes apart.
func (s *simulation) drift(id kvpb.NodeID) {
	if s != nil {
		time.Sleep(time.Duration(id) * 1234567)
	}
}

// odd keeps ticks of different lengths from coming together.
func (s *simulation) odd() time.Duration {
	if s == nil {
		return 0
	}
	return 1237
}

// TestSimulation is TestChaos in virtual time: a minute of it takes seconds. Nearly all
// of what happens follows from the seed; where it does not (the order of what happens
// at one instant), two runs of a seed part after some seconds: -sim.trace shows where.
func TestSimulation(t *testing.T) {
	seed := *chaosSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	for i := range uint64(*simSeeds) {
		t.Run(fmt.Sprint(seed+i), func(t *testing.T) { simulate(t, seed+i) })
	}
}

func simulate(t *testing.T, seed uint64) {
	// One thing at a time, and nothing in between.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(2 << 30))
	defer chance.Repeat(seed)()
	cryptotest.SetGlobalRandom(t, seed)
	var trace io.Writer = io.Discard
	if *simTrace != "" {
		f, err := os.OpenFile(*simTrace, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		trace = f
	}
	sim := newSimulation(seed, trace)
	start := time.Now()
	synctest.Test(t, func(t *testing.T) { chaos(t, seed, nil, sim) })
	t.Logf("%d messages, %x, in %s", sim.lines, sim.hash.Sum64(), time.Since(start).Round(time.Millisecond))
}

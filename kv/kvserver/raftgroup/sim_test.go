package raftgroup

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv/storage"
)

var (
	simPrefix = append(keys.LocalRangeIDPrefix.Clone(), 9)
	simData   = keys.Key("\xa0data")
)

// simMachine keeps the commands it was given, in the engine, under their index.
type simMachine struct {
	eng   *storage.Engine
	mu    sync.Mutex
	acked map[uint64]bool // commands of which a replica said that they are applied
	stage []uint64
}

func commandKey(index uint64) keys.Key { return binary.BigEndian.AppendUint64(simData.Clone(), index) }

func (m *simMachine) Apply(b *storage.Batch, c Command) error {
	if len(c.Data) == 0 {
		return nil
	}
	if _, ok, err := b.Get(commandKey(c.Index)); err != nil || ok {
		return fmt.Errorf("entry %d is applied twice (%v)", c.Index, err)
	}
	m.stage = append(m.stage, binary.BigEndian.Uint64(c.Data))
	return b.Put(commandKey(c.Index), c.Data)
}

func (m *simMachine) Alone(c Command) bool { return c.Index%7 == 0 }

func (m *simMachine) ApplyConfChange(*storage.Batch, Command) (bool, error) { return true, nil }

func (m *simMachine) Applied(uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range m.stage {
		m.acked[id] = true
	}
	m.stage = nil
}

func (m *simMachine) StateChanged(Status) {}

func (m *simMachine) Stopped(error) {}

type simSnapshot struct{ snap *storage.Snapshot }

func (s simSnapshot) Close() error { return s.snap.Close() }

func (s simSnapshot) WriteTo(w io.Writer) (int64, error) {
	return 0, s.snap.Scan(simData, simData.PrefixEnd(), func(k keys.Key, v []byte) (bool, error) {
		_, err := w.Write(append(append([]byte{byte(len(k)), byte(len(v))}, k...), v...))
		return err == nil, err
	})
}

func (m *simMachine) OpenSnapshot() (Snapshot, error) { return simSnapshot{m.eng.NewSnapshot()}, nil }

func (m *simMachine) InstallSnapshot(b *storage.Batch, received any) error {
	if err := b.ClearRange(simData, simData.PrefixEnd()); err != nil {
		return err
	}
	for data := received.([]byte); len(data) > 0; {
		k, v := data[2:2+data[0]], data[2+data[0]:2+int(data[0])+int(data[1])]
		if err := b.Put(k, v); err != nil {
			return err
		}
		data = data[2+len(k)+len(v):]
	}
	return b.Commit(true)
}

// simNode is one store with one replica.
type simNode struct {
	id      uint64
	fs      *vfs.MemFS
	eng     *storage.Engine
	sched   *Scheduler
	group   *Group
	machine *simMachine
}

// simNet connects the nodes and misbehaves.
type simNet struct {
	t    *testing.T
	log  *slog.Logger
	mu   sync.Mutex
	rng  *rand.Rand
	node map[uint64]*simNode
	// cut are pairs between which nothing passes, in that direction.
	cut    map[[2]uint64]bool
	faulty bool
	wg     sync.WaitGroup

	acked     map[uint64]bool
	ackedLock sync.Mutex
	snapshots int
	sent      atomic.Int64
}

func (n *simNet) intN(max int) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.rng.IntN(max)
}

// Send implements Transport for all nodes.
func (n *simNet) Send(rangeID int64, m *pb.Message) {
	n.sent.Add(1)
	m = proto.CloneOf(m)
	n.mu.Lock()
	copies, delay := 1, time.Duration(0)
	if n.faulty {
		switch n.rng.IntN(20) {
		case 0:
			copies = 0
		case 1:
			copies = 2
		case 2, 3:
			delay = time.Duration(n.rng.IntN(20)) * time.Millisecond
		}
	}
	n.mu.Unlock()
	for range copies {
		if delay == 0 {
			n.deliver(rangeID, m)
			continue
		}
		n.wg.Go(func() { time.Sleep(delay); n.deliver(rangeID, m) })
	}
}

func (n *simNet) deliver(rangeID int64, m *pb.Message) {
	if to := n.reach(m); to != nil {
		to.sched.Step(rangeID, m)
	}
}

func (n *simNet) reach(m *pb.Message) *simNode {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cut[[2]uint64{m.GetFrom(), m.GetTo()}] {
		return nil
	}
	return n.node[m.GetTo()]
}

// SendSnapshot implements Transport.
func (n *simNet) SendSnapshot(_ context.Context, rangeID int64, m *pb.Message, snap Snapshot) error {
	var buf bytes.Buffer
	if _, err := snap.WriteTo(&buf); err != nil {
		return err
	}
	to := n.reach(m)
	n.mu.Lock()
	fail := n.faulty && n.rng.IntN(4) == 0
	n.snapshots++
	n.mu.Unlock()
	if to == nil || fail {
		return errors.New("the stream broke")
	}
	if g := to.sched.Group(rangeID); g != nil {
		g.StepSnapshot(proto.CloneOf(m), buf.Bytes())
	}
	return nil
}

func (n *simNet) start(id uint64, fs *vfs.MemFS, first bool) *simNode {
	cfg := storage.DefaultConfig("store")
	cfg.FS, cfg.ReserveBytes, cfg.MemTableBytes = fs, 0, 1<<20
	eng, err := storage.Open(cfg)
	if err != nil {
		n.t.Fatal(err)
	}
	if first {
		b := eng.NewWriteBatch()
		if err := Bootstrap(b, simPrefix, 10, 5, &pb.ConfState{Voters: []uint64{1, 2, 3}}); err != nil {
			n.t.Fatal(err)
		}
		if err := b.Commit(true); err != nil {
			n.t.Fatal(err)
		}
		b.Close()
	}
	rc := DefaultConfig()
	rc.Engine, rc.Transport, rc.Log = eng, n, n.log.With("n", id)
	rc.TickInterval, rc.ElectionTicks, rc.HeartbeatTicks, rc.Workers = 5*time.Millisecond, 10, 2, 2
	rc.MaxLogBytes, rc.CacheBytes = 2000, 500
	s, err := NewScheduler(rc)
	if err != nil {
		n.t.Fatal(err)
	}
	node := &simNode{id: id, fs: fs, eng: eng, sched: s, machine: &simMachine{eng: eng, acked: map[uint64]bool{}}}
	node.group, err = s.Add(Options{RangeID: 1, ReplicaID: id, Prefix: simPrefix, Machine: node.machine})
	if err != nil {
		n.t.Fatal(err)
	}
	n.mu.Lock()
	n.node[id] = node
	n.mu.Unlock()
	return node
}

// stop takes a node off the net and ends it. What it acknowledged counts.
func (n *simNet) stop(id uint64) *simNode {
	n.mu.Lock()
	node := n.node[id]
	delete(n.node, id)
	n.mu.Unlock()
	if node == nil {
		return nil
	}
	node.sched.Close()
	node.machine.mu.Lock()
	n.ackedLock.Lock()
	for c := range node.machine.acked {
		n.acked[c] = true
	}
	n.ackedLock.Unlock()
	node.machine.mu.Unlock()
	return node
}

// crash loses what was not synced, or some of it, and starts again.
func (n *simNet) crash(id uint64) {
	node := n.stop(id)
	n.mu.Lock()
	cfg := vfs.CrashCloneCfg{UnsyncedDataPercent: n.rng.IntN(101), RNG: rand.New(rand.NewPCG(n.rng.Uint64(), 1))}
	n.mu.Unlock()
	fs := node.fs.CrashClone(cfg)
	_ = node.eng.Close()
	n.start(id, fs, false)
}

func (n *simNet) leader() *simNode {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, node := range n.node {
		if node.group.Status().IsLeader() {
			return node
		}
	}
	return nil
}

// sequence returns what a node applied, in order.
func (node *simNode) sequence(t *testing.T) (ids []uint64) {
	t.Helper()
	err := node.eng.Scan(simData, simData.PrefixEnd(), func(_ keys.Key, v []byte) (bool, error) {
		ids = append(ids, binary.BigEndian.Uint64(v))
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// Over lost, repeated and reordered messages, partitions, crashes and snapshots,
// all replicas apply the same commands, each once, and none that was acknowledged
// is lost.
func TestReplicasAgree(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	n := &simNet{
		t: t, log: slog.New(slog.DiscardHandler), rng: rand.New(rand.NewPCG(seed, 0)), node: map[uint64]*simNode{},
		cut: map[[2]uint64]bool{}, faulty: true, acked: map[uint64]bool{},
	}
	for id := uint64(1); id <= 3; id++ {
		n.start(id, vfs.NewCrashableMem(), true)
	}
	duration := 6 * time.Second
	if testing.Short() {
		duration = 2 * time.Second
	}
	proposed := uint64(0)
	for end := time.Now().Add(duration); time.Now().Before(end); {
		if l := n.leader(); l != nil {
			for range 5 {
				proposed++
				data := append(binary.BigEndian.AppendUint64(nil, proposed), make([]byte, n.intN(100))...)
				l.group.Propose(Proposal{Data: data, Dropped: func(error) {}})
			}
		}
		n.mu.Lock()
		what, a, b := n.rng.IntN(60), 1+n.rng.Uint64N(3), 1+n.rng.Uint64N(3)
		switch what {
		case 0, 1:
			n.cut[[2]uint64{a, b}] = true
		case 2:
			n.cut[[2]uint64{a, b}], n.cut[[2]uint64{b, a}] = true, true
		case 3, 4, 5, 6:
			clear(n.cut)
		}
		n.mu.Unlock()
		switch what {
		case 7:
			n.crash(a)
		case 8:
			if l := n.leader(); l != nil {
				l.group.TransferLeader(a)
			}
		}
		time.Sleep(time.Duration(1+n.intN(5)) * time.Millisecond)
	}
	n.mu.Lock()
	n.faulty = false
	clear(n.cut)
	n.mu.Unlock()

	deadline := time.Now().Add(30 * time.Second)
	for {
		var seq [][]uint64
		for id := uint64(1); id <= 3; id++ {
			seq = append(seq, n.node[id].sequence(t))
		}
		same := fmt.Sprint(seq[0]) == fmt.Sprint(seq[1]) && fmt.Sprint(seq[1]) == fmt.Sprint(seq[2])
		st := [3]Status{n.node[1].group.Status(), n.node[2].group.Status(), n.node[3].group.Status()}
		if same && st[0].Applied == st[1].Applied && st[1].Applied == st[2].Applied && n.leader() != nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("replicas do not agree: %d, %d and %d commands; %+v", len(seq[0]), len(seq[1]), len(seq[2]), st)
		}
		time.Sleep(20 * time.Millisecond)
	}
	for id := uint64(1); id <= 3; id++ {
		node := n.stop(id)
		if node.group.err != nil {
			t.Errorf("n%d: %v", id, node.group.err)
		}
		if id == 1 {
			defer node.eng.Close()
			count := map[uint64]int{}
			for _, c := range node.sequence(t) {
				count[c]++
			}
			defer func() {
				for c := range n.acked {
					if count[c] != 1 {
						t.Errorf("acknowledged command %d is there %d times", c, count[c])
					}
				}
				t.Logf("%d proposed, %d applied, %d acknowledged, %d snapshots", proposed, len(count), len(n.acked), n.snapshots)
				if len(n.acked) == 0 || n.snapshots == 0 {
					t.Error("the test shows nothing")
				}
			}()
			continue
		}
		_ = node.eng.Close()
	}
	n.wg.Wait()
}

// A group that nobody uses says nothing, and works again when it is used, also if
// its leader is gone.
func TestQuiescence(t *testing.T) {
	n := &simNet{
		t: t, log: slog.New(slog.DiscardHandler), rng: rand.New(rand.NewPCG(1, 0)), node: map[uint64]*simNode{},
		cut: map[[2]uint64]bool{}, acked: map[uint64]bool{},
	}
	for id := uint64(1); id <= 3; id++ {
		n.start(id, vfs.NewCrashableMem(), true)
	}
	propose := func(id uint64) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			if l := n.leader(); l != nil {
				l.group.Propose(Proposal{Data: binary.BigEndian.AppendUint64(nil, id), Dropped: func(error) {}})
				for range 50 {
					l.machine.mu.Lock()
					done := l.machine.acked[id]
					l.machine.mu.Unlock()
					if done {
						return
					}
					time.Sleep(2 * time.Millisecond)
				}
			}
			if time.Now().After(deadline) {
				t.Fatalf("command %d is not applied", id)
			}
			for _, node := range n.node {
				node.group.Wake()
			}
		}
	}
	asleep := func() {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			all := true
			for _, node := range n.node {
				all = all && node.group.quiesced.Load()
			}
			if all {
				return
			}
			if time.Now().After(deadline) {
				t.Fatal("the group does not quiesce")
			}
		}
	}
	propose(1)
	asleep()
	before := n.sent.Load()
	time.Sleep(200 * time.Millisecond) // 40 ticks
	if sent := n.sent.Load() - before; sent > 0 {
		t.Errorf("%d messages of an idle group", sent)
	}
	propose(2)
	asleep()
	leader := n.leader().id
	node := n.stop(leader)
	defer node.eng.Close()
	propose(3)
	for id := range n.node {
		defer n.stop(id).eng.Close()
	}
}

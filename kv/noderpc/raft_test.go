package noderpc

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/kv/kvpb"
)

func raftMessage(index uint64, data []byte) *pb.Message {
	return &pb.Message{
		Type: pb.MsgApp.Enum(), To: proto.Uint64(2), From: proto.Uint64(1), Term: proto.Uint64(7), Index: proto.Uint64(index),
		Entries: []*pb.Entry{{Term: proto.Uint64(7), Index: proto.Uint64(index + 1), Data: data}},
	}
}

func TestRaftMessagesKeepTheirOrder(t *testing.T) {
	const perPeer, ranges = 10000, 20
	type from struct {
		to, from kvpb.NodeID
		rangeID  int64
	}
	var mu sync.Mutex
	next, total := map[from]uint64{}, 0
	c := newCluster(t, 0, nil)
	for id := kvpb.NodeID(1); id <= 3; id++ {
		c.add(id, 1, handlerFuncs{raft: func(f kvpb.NodeID, rangeID int64, m *pb.Message) {
			mu.Lock()
			defer mu.Unlock()
			key := from{to: id, from: f, rangeID: rangeID}
			if m.GetIndex() != next[key] || string(m.GetEntries()[0].GetData()) != "data" {
				t.Errorf("n%d got %v of r%d from n%d instead of %d", id, m, rangeID, f, next[key])
			}
			next[key] = m.GetIndex() + 1
			total++
		}})
	}
	c.faults.Set(func(m Message) Fault {
		if m.To == 3 && m.Kind == KindRaft {
			return Fault{Delay: 20 * time.Millisecond}
		}
		return Fault{}
	})
	for i := range perPeer {
		for _, to := range []kvpb.NodeID{1, 2, 3} {
			c.nodes[1].SendRaft(to, int64(i%ranges), raftMessage(uint64(i/ranges), []byte("data")))
		}
		if i == perPeer/2 {
			c.nodes[2].SendRaft(1, 1, raftMessage(0, []byte("data")))
		}
	}
	eventually(t, "all have arrived", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return total == 3*perPeer+1
	})
	if n := c.nodes[1].RaftDropped(); n != 0 {
		t.Errorf("%d were lost", n)
	}
}

func TestRaftNeverWaits(t *testing.T) {
	release, arrived := make(chan struct{}), atomic.Int64{}
	c := newCluster(t, 1, handlerFuncs{})
	c.add(2, 1, handlerFuncs{raft: func(kvpb.NodeID, int64, *pb.Message) {
		<-release
		arrived.Add(1)
	}})
	n1 := c.nodes[1]
	n1.Dialer.cfg.RaftQueueBytes = 8 << 20
	data := make([]byte, 64<<10)
	const messages = 4000 // 250 MiB
	var slowest time.Duration
	for i := range messages {
		start := time.Now()
		n1.SendRaft(2, 1, raftMessage(uint64(i), data))
		slowest = max(slowest, time.Since(start))
		if i%100 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	if slowest > 200*time.Millisecond {
		t.Errorf("sending took up to %s", slowest)
	}
	q := &n1.peer(2).raft
	q.mu.Lock()
	if q.mu.bytes > 8<<20 || q.mu.bytes < 4<<20 {
		t.Errorf("%d bytes wait", q.mu.bytes)
	}
	q.mu.Unlock()
	close(release)
	eventually(t, "each message has arrived or is lost", func() bool { return arrived.Load()+n1.RaftDropped() == messages })
	q.mu.Lock()
	if q.mu.bytes != 0 || q.mu.count != 0 {
		t.Errorf("the queue counts %d messages, %d bytes when it is empty", q.mu.count, q.mu.bytes)
	}
	q.mu.Unlock()
	if n := arrived.Load(); n < 8<<20/int64(len(data)) {
		t.Errorf("only %d arrived", n)
	}

	// By number, too.
	c.faults.Set(func(Message) Fault { return Fault{Delay: 5 * time.Second} })
	n1.Dialer.cfg.RaftQueueMessages = 100
	before := n1.RaftDropped()
	for range 300 {
		n1.SendRaft(2, 1, raftMessage(1, nil))
	}
	if n := n1.RaftDropped() - before; n < 190 || n > 201 {
		t.Errorf("%d were lost of 300 with room for 100", n)
	}
}

// A peer that restarts gets messages again, without help.
func TestRaftSurvivesRestarts(t *testing.T) {
	var got atomic.Int64
	h := handlerFuncs{raft: func(kvpb.NodeID, int64, *pb.Message) { got.Add(1) }}
	c := newCluster(t, 2, h)
	for range 3 {
		got.Store(0)
		eventually(t, "messages arrive", func() bool {
			c.nodes[1].SendRaft(2, 1, raftMessage(1, nil))
			return got.Load() > 0
		})
		c.nodes[2].stop()
		for range 20 {
			c.nodes[1].SendRaft(2, 1, raftMessage(1, nil))
			time.Sleep(time.Millisecond)
		}
		eventually(t, "nothing is waiting", func() bool {
			q := &c.nodes[1].peer(2).raft
			q.mu.Lock()
			defer q.mu.Unlock()
			return q.mu.count == 0 && q.mu.bytes == 0
		})
		c.nodes[2].serve(h)
	}
}

// Messages of one sender come one at a time, and none of an older connection
// after one of a newer.
func TestOnlyTheNewestRaftStreamCounts(t *testing.T) {
	var inside, newer atomic.Int64
	entered, release := make(chan struct{}), make(chan struct{})
	c := newCluster(t, 1, handlerFuncs{})
	c.add(2, 1, handlerFuncs{raft: func(_ kvpb.NodeID, rangeID int64, m *pb.Message) {
		if inside.Add(1) > 1 {
			t.Error("two messages of one sender at a time")
		}
		defer inside.Add(-1)
		switch {
		case rangeID == 1 && m.GetIndex() == 0:
			close(entered)
			<-release
		case rangeID == 1:
			t.Error("a message came on an old stream after a newer one had begun")
		case rangeID == 2:
			newer.Add(1)
		}
	}})
	old, source := c.nodes[1], c.nodes[2].server.raftSource(1)
	old.SendRaft(2, 1, raftMessage(0, nil))
	<-entered
	for i := range 10 { // They wait on the old stream, as frames of their own.
		old.SendRaft(2, 1, raftMessage(uint64(i+1), nil))
		time.Sleep(2 * time.Millisecond)
	}
	restarted := NewDialer(old.cfg)
	defer restarted.Close()
	restarted.SendRaft(2, 2, raftMessage(0, nil))
	eventually(t, "the newer stream has begun", func() bool { return source.newest.Load() == 2 })
	close(release)
	eventually(t, "the newer message arrives", func() bool {
		restarted.SendRaft(2, 2, raftMessage(1, nil))
		return newer.Load() > 0
	})
}

package noderpc

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeebo/xxh3"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv/noderpc/noderpcpb"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// testSnapshot writes bytes that depend on their position only.
type testSnapshot struct {
	bytes   int
	written atomic.Int64
	sum     xxh3.Hasher
	fail    func() error // after all bytes
}

func (s *testSnapshot) WriteTo(w io.Writer) (int64, error) {
	rng := rand.NewChaCha8([32]byte{1})
	buf := make([]byte, 100<<10)
	for left := s.bytes; left > 0; {
		b := buf[:min(left, len(buf))]
		_, _ = rng.Read(b)
		_, _ = s.sum.Write(b)
		if n, err := w.Write(b); err != nil {
			return s.written.Add(int64(n)), err
		}
		clear(b) // The writer must not keep it.
		left -= len(b)
		s.written.Add(int64(len(b)))
	}
	if s.fail != nil {
		return s.written.Load(), s.fail()
	}
	return s.written.Load(), nil
}

func snapMessage() *pb.Message {
	return &pb.Message{
		Type: pb.MsgSnap.Enum(), To: proto.Uint64(2), From: proto.Uint64(1),
		Snapshot: &pb.Snapshot{Metadata: &pb.SnapshotMetadata{Index: proto.Uint64(42), Term: proto.Uint64(3)}},
	}
}

func TestSnapshotsStreamInBoundedMemory(t *testing.T) {
	const size = 100 << 20
	reading, goOn := make(chan struct{}), make(chan struct{})
	var sum uint64
	var peak uint64
	c := newCluster(t, 2, handlerFuncs{snapshot: func(_ context.Context, rangeID int64, m *pb.Message, body io.Reader) error {
		if rangeID != 5 || !proto.Equal(m, snapMessage()) {
			t.Errorf("got r%d, %v", rangeID, m)
		}
		h := xxh3.New()
		if _, err := io.CopyN(h, body, 1<<20); err != nil {
			return err
		}
		close(reading)
		<-goOn
		buf := make([]byte, 32<<10)
		for i := 0; ; i++ {
			n, err := body.Read(buf)
			_, _ = h.Write(buf[:n])
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			if i%1000 == 0 {
				var ms runtime.MemStats
				runtime.ReadMemStats(&ms)
				peak = max(peak, ms.HeapAlloc)
			}
		}
		sum = h.Sum64()
		return nil
	}})
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	snap := &testSnapshot{bytes: size}
	done := make(chan error, 1)
	go func() { done <- c.nodes[1].SendSnapshot(testContext(t), 2, 5, snapMessage(), snap) }()
	<-reading
	// The receiver does not read on, so the sender must come to rest.
	for last := int64(-1); snap.written.Load() != last; time.Sleep(100 * time.Millisecond) {
		last = snap.written.Load()
	}
	if n := snap.written.Load(); n > 1<<20+2*streamWindow {
		t.Errorf("%d bytes were sent to a receiver that does not read", n)
	}
	close(goOn)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if sum != snap.sum.Sum64() {
		t.Error("other bytes arrived than were sent")
	}
	if peak > before.HeapAlloc+48<<20 {
		t.Errorf("the heap grew from %d to %d MiB", before.HeapAlloc>>20, peak>>20)
	}
}

func TestSnapshotsEndWithWhatWentWrong(t *testing.T) {
	ctx := testContext(t)
	var handle func(io.Reader) error
	c := newCluster(t, 2, handlerFuncs{snapshot: func(_ context.Context, _ int64, _ *pb.Message, body io.Reader) error { return handle(body) }})
	send := func(s *testSnapshot) error { return c.nodes[1].SendSnapshot(ctx, 2, 5, snapMessage(), s) }

	for _, size := range []int{0, 1, snapshotChunk, snapshotChunk + 1} {
		handle = func(body io.Reader) error {
			if b, err := io.ReadAll(body); err != nil || len(b) != size {
				t.Errorf("got %d bytes of %d, %v", len(b), size, err)
			}
			return nil
		}
		if err := send(&testSnapshot{bytes: size}); err != nil {
			t.Error(err)
		}
	}
	// The receiver has enough before the end.
	handle = func(io.Reader) error {
		return storage.Mark(pgerr.New(pgerr.DiskFull, "no room").WithHint("h"), storage.ErrDiskFull)
	}
	for _, size := range []int{10, 50 << 20} {
		err := send(&testSnapshot{bytes: size})
		if !errors.Is(err, storage.ErrDiskFull) || pgerr.Flatten(err).Hint != "h" || !strings.Contains(err.Error(), "r5 to n2") {
			t.Errorf("got %v", err)
		}
	}
	handle = func(body io.Reader) error {
		_, err := io.CopyN(io.Discard, body, 5)
		return err
	}
	if err := send(&testSnapshot{bytes: 10}); err == nil || !strings.Contains(err.Error(), "not read to its end") {
		t.Errorf("got %v", err)
	}
	// The sender breaks off: the receiver must not take it for the end.
	began, saw := make(chan struct{}), make(chan error, 1)
	handle = func(body io.Reader) error {
		close(began)
		_, err := io.Copy(io.Discard, body)
		saw <- err
		return err
	}
	boom := errors.New("boom")
	fail := func() error { <-began; return boom }
	if err := send(&testSnapshot{bytes: 3 * snapshotChunk, fail: fail}); !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
	if err := <-saw; err == nil {
		t.Error("the receiver took a part of a snapshot for all of it")
	}
	// The receiver dies.
	handle = func(body io.Reader) error {
		go c.nodes[2].stop()
		_, err := io.Copy(io.Discard, &slowReader{body})
		return err
	}
	if err := send(&testSnapshot{bytes: 50 << 20}); err == nil {
		t.Error("a node that died took a snapshot")
	}
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	if err := c.nodes[1].SendSnapshot(ctx, 2, 5, snapMessage(), &testSnapshot{}); err != context.Canceled {
		t.Errorf("got %v", err)
	}
}

type slowReader struct{ io.Reader }

func (r *slowReader) Read(b []byte) (int, error) {
	time.Sleep(time.Millisecond)
	return r.Reader.Read(b)
}

// parts is a stream of parts that were prepared.
type parts struct {
	grpc.ServerStream
	list []*noderpcpb.SnapshotPart
}

func (p *parts) Recv() (*noderpcpb.SnapshotPart, error) {
	if len(p.list) == 0 {
		return nil, io.EOF
	}
	part := p.list[0]
	p.list = p.list[1:]
	return part, nil
}

func (p *parts) SendAndClose(*noderpcpb.SnapshotAnswer) error { return nil }

func TestDamagedSnapshotsAreNoticed(t *testing.T) {
	a, b := []byte("aaaa"), []byte("bbbb")
	sum := xxh3.HashString("aaaabbbb")
	for name, tc := range map[string]struct {
		parts []*noderpcpb.SnapshotPart
		want  error
	}{
		"whole":      {[]*noderpcpb.SnapshotPart{{Data: a}, {Data: b, Last: true, Sum: sum}}, nil},
		"part lost":  {[]*noderpcpb.SnapshotPart{{Data: b, Last: true, Sum: sum}}, storage.ErrCorrupt},
		"other data": {[]*noderpcpb.SnapshotPart{{Data: b}, {Data: b, Last: true, Sum: sum}}, storage.ErrCorrupt},
		"no end":     {[]*noderpcpb.SnapshotPart{{Data: a}, {Data: b}}, io.ErrUnexpectedEOF},
	} {
		_, err := io.ReadAll(&snapshotReader{stream: &parts{list: tc.parts}})
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, want %v", name, err, tc.want)
		}
	}
}

package noderpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/storage"
)

var _ kv.Transport = (*Dialer)(nil)

func TestBatchesAreAnswered(t *testing.T) {
	ctx := testContext(t)
	fail := error(nil)
	c := newCluster(t, 2, handlerFuncs{batch: func(ctx context.Context, ba *kvpb.BatchRequest) (*kvpb.BatchResponse, error) {
		if fail != nil {
			return nil, fail
		}
		return echo(ctx, ba)
	}})
	for _, to := range []kvpb.NodeID{1, 2} {
		br, err := c.nodes[1].SendTo(ctx, kvpb.ReplicaDescriptor{NodeID: to, ReplicaID: 1}, get("k"))
		if err != nil || string(br.Responses[0].KVs[0].Value) != "k" {
			t.Errorf("n%d: %v, %v", to, br, err)
		}
	}
	for _, fail = range []error{
		&kvpb.RangeNotFoundError{RangeID: 1},
		&kvpb.AmbiguousResultError{Cause: &kvpb.TxnAbortedError{Reason: kvpb.RetryDeadlock}},
	} {
		_, err := c.nodes[1].SendBatch(ctx, 2, put("k"))
		if !reflect.DeepEqual(err, fail) {
			t.Errorf("got %#v, want %#v", err, fail)
		}
	}
	fail = storage.Mark(pgerr.New(pgerr.DiskFull, "no room").WithHint("make some"), storage.ErrDiskFull)
	_, err := c.nodes[1].SendBatch(ctx, 2, put("k"))
	var se *SendError
	if !errors.Is(err, storage.ErrDiskFull) || pgerr.Flatten(err).Hint != "make some" || errors.As(err, &se) {
		t.Errorf("got %#v", err)
	}
	// A node that goes down has no answer, whatever it was doing.
	stopped := pgerr.New(pgerr.AdminShutdown, "the node is shutting down")
	for _, fail = range []error{stopped, fmt.Errorf("evaluating: %w", &kvpb.AmbiguousResultError{Cause: stopped})} {
		for _, ba := range []*kvpb.BatchRequest{get("k"), put("k")} {
			var u kv.UnreachableError
			_, err := c.nodes[1].SendBatch(ctx, 2, ba)
			if !errors.As(err, &u) || u.MayHaveHappened() != (ba.Requests[0].Op == kvpb.OpPut) {
				t.Errorf("got %v", err)
			}
		}
	}
	if _, err := c.nodes[1].SendBatch(ctx, 7, put("k")); !errors.As(err, &se) || se.MaybeApplied || !strings.Contains(err.Error(), "n7 is unknown") {
		t.Errorf("got %v", err)
	}
}

func TestManyBatchesAtOnce(t *testing.T) {
	ctx := testContext(t)
	c := newCluster(t, 2, handlerFuncs{batch: func(ctx context.Context, ba *kvpb.BatchRequest) (*kvpb.BatchResponse, error) {
		select {
		case <-time.After(time.Duration(rand.IntN(1000)) * time.Microsecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		return echo(ctx, ba)
	}})
	var wg sync.WaitGroup
	var canceled atomic.Int64
	for g := range 32 {
		wg.Go(func() {
			for i := range 100 {
				ctx, cancel := context.WithCancel(ctx)
				if (g+i)%3 == 0 {
					time.AfterFunc(time.Duration(rand.IntN(800))*time.Microsecond, cancel)
				}
				key := fmt.Sprint(g, "/", i)
				br, err := c.nodes[1].SendBatch(ctx, 2, get(key))
				switch {
				case errors.Is(err, context.Canceled) && ctx.Err() != nil:
					canceled.Add(1)
				case err != nil:
					t.Errorf("%s: %v", key, err)
				case string(br.Responses[0].KVs[0].Key) != key:
					t.Errorf("%s got the answer of %s", key, br.Responses[0].KVs[0].Key)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if canceled.Load() == 0 {
		t.Error("no request was canceled")
	}
}

func TestCancellationAndDeadlinesReachTheServer(t *testing.T) {
	began, ended := make(chan struct{}, 1), make(chan error, 1)
	c := newCluster(t, 2, handlerFuncs{batch: func(ctx context.Context, ba *kvpb.BatchRequest) (*kvpb.BatchResponse, error) {
		if d, ok := ctx.Deadline(); ok {
			return &kvpb.BatchResponse{Timestamp: hlc.FromTime(d)}, nil
		}
		began <- struct{}{}
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	}})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-began
		cancel()
	}()
	var u kv.UnreachableError
	if _, err := c.nodes[1].SendBatch(ctx, 2, put("k")); !errors.Is(err, context.Canceled) || !errors.As(err, &u) || !u.MayHaveHappened() {
		t.Errorf("got %v", err)
	}
	if err := <-ended; err != context.Canceled {
		t.Errorf("the server saw %v", err)
	}

	ctx = testContext(t)
	br, err := c.nodes[1].SendBatch(ctx, 2, put("k"))
	if err != nil {
		t.Fatal(err)
	}
	if want, _ := ctx.Deadline(); want.Sub(br.Timestamp.Time()).Abs() > 5*time.Second {
		t.Errorf("the server's deadline is %s, the client's %s", br.Timestamp.Time(), want)
	}
	ctx, cancel = context.WithDeadline(ctx, time.Now())
	defer cancel()
	if _, err := c.nodes[1].SendBatch(ctx, 2, put("k")); err != context.DeadlineExceeded {
		t.Errorf("got %v", err)
	}
}

func TestLargeBatches(t *testing.T) {
	ctx := testContext(t)
	c := newCluster(t, 2, handlerFuncs{batch: func(_ context.Context, ba *kvpb.BatchRequest) (*kvpb.BatchResponse, error) {
		sst := ba.Requests[0].Args.(*kvpb.AddSSTableArgs).SST
		return &kvpb.BatchResponse{Responses: []kvpb.Response{{Reply: &kvpb.ExportReply{SST: sst}}}}, nil
	}})
	sst := bytes.Repeat([]byte("a page of an sstable, more or less"), 2<<20) // 68 MiB
	ba := &kvpb.BatchRequest{Requests: []kvpb.Request{{Op: kvpb.OpAddSSTable, Args: &kvpb.AddSSTableArgs{SST: sst}}}}
	br, err := c.nodes[1].SendBatch(ctx, 2, ba)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(br.Responses[0].Reply.(*kvpb.ExportReply).SST, sst) {
		t.Error("the sstable changed on its way")
	}
	ba.Requests[0].Args = &kvpb.AddSSTableArgs{SST: make([]byte, MaxMessageBytes)}
	var se *SendError
	if _, err := c.nodes[1].SendBatch(ctx, 2, ba); !errors.As(err, &se) || se.MaybeApplied {
		t.Errorf("got %v", err)
	}
}

func TestWhatWasInFlightMayHaveHappened(t *testing.T) {
	ctx := testContext(t)
	began := make(chan struct{}, 2)
	block := handlerFuncs{batch: func(ctx context.Context, ba *kvpb.BatchRequest) (*kvpb.BatchResponse, error) {
		if string(ba.Requests[0].Key) == "are you there?" {
			return echo(ctx, ba)
		}
		began <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	c := newCluster(t, 2, block)
	n1, n2 := c.nodes[1], c.nodes[2]
	for _, tc := range []struct {
		ba    *kvpb.BatchRequest
		maybe bool
	}{{get("k"), false}, {put("k"), true}} {
		eventually(t, "the node answers", func() bool {
			_, err := n1.SendBatch(ctx, 2, get("are you there?"))
			return err == nil
		})
		// Its process dies with the request in hand. The handler only ends then, so
		// nothing it says can come.
		go func() {
			<-began
			n2.stop()
		}()
		_, err := n1.SendBatch(ctx, 2, tc.ba)
		var se *SendError
		if !errors.As(err, &se) || se.MaybeApplied != tc.maybe {
			t.Errorf("%s: got %v", tc.ba.Requests[0].Op, err)
		}
		// It is down: that is known at once.
		eventually(t, "it is known that the node is down", func() bool {
			start := time.Now()
			_, err = n1.SendBatch(ctx, 2, tc.ba)
			return errors.As(err, &se) && !se.MaybeApplied && time.Since(start) < 100*time.Millisecond
		})
		n2.serve(block)
	}
	n2.stop()
	n2.serve(handlerFuncs{batch: echo})
	start := time.Now()
	eventually(t, "the restarted node answers", func() bool {
		_, err := n1.SendBatch(ctx, 2, put("k"))
		return err == nil
	})
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("that took %s", d)
	}
}

func TestStrangersAreRefused(t *testing.T) {
	ctx := testContext(t)
	called := atomic.Bool{}
	c := newCluster(t, 2, handlerFuncs{batch: func(ctx context.Context, ba *kvpb.BatchRequest) (*kvpb.BatchResponse, error) {
		called.Store(true)
		return echo(ctx, ba)
	}})
	other := c.add(3, 2, handlerFuncs{batch: echo})
	refused := func(err error, words ...string) {
		t.Helper()
		var se *SendError
		if !errors.Is(err, ErrWrongPeer) || !errors.As(err, &se) || se.MaybeApplied {
			t.Errorf("got %v", err)
			return
		}
		for _, w := range words {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%q is not in %q", w, err)
			}
		}
	}
	_, err := other.SendBatch(ctx, 2, put("k"))
	refused(err, "n2 of cluster 01000000-", "is of cluster 02000000-")
	if log := c.nodes[2].log.String(); !strings.Contains(log, "was refused") {
		t.Errorf("the refusal is not in the log: %s", log)
	}
	_, err = c.nodes[1].SendBatch(ctx, 3, put("k"))
	refused(err, "n3 of cluster 02000000-", "is of cluster 01000000-")

	// An address that belongs to another node by now.
	c.nodes[4] = c.nodes[2]
	_, err = c.nodes[1].SendBatch(ctx, 4, put("k"))
	refused(err, "this is n2", "wants n4")

	// A stream on a connection whose other end became somebody else.
	if _, err := c.nodes[1].SendBatch(ctx, 2, get("k")); err != nil {
		t.Fatal(err)
	}
	called.Store(false)
	known, err := c.nodes[1].peer(2).get(ctx)
	if err != nil {
		t.Fatal(err)
	}
	stranger := &conn{cc: known.cc, client: known.client, header: other.header(2), life: known.life}
	m, err := kvpb.RequestToWire(put("k"))
	if err != nil {
		t.Fatal(err)
	}
	if _, sent, err := stranger.roundTrip(ctx, m); !errors.Is(err, ErrWrongPeer) || sent || called.Load() {
		t.Errorf("sent %v, called %v, %v", sent, called.Load(), err)
	}

	// A node that has no identity yet.
	c.nodes[2].id = 0
	c.nodes[2].stop()
	c.nodes[2].serve(handlerFuncs{batch: echo})
	eventually(t, "the connection is lost", func() bool {
		_, err = c.nodes[1].SendBatch(ctx, 2, get("k"))
		return errors.Is(err, ErrWrongPeer)
	})
	refused(err, "not part of a cluster yet")
}

func TestClocksFollowEachOther(t *testing.T) {
	ctx := testContext(t)
	c := newCluster(t, 2, handlerFuncs{batch: echo})
	n1, n2 := c.nodes[1], c.nodes[2]
	n2.skew.Store(int64(300 * time.Millisecond))
	if _, err := n1.SendBatch(ctx, 2, get("k")); err != nil {
		t.Fatal(err)
	}
	if ahead := time.Duration(n1.cfg.Clock.Now().WallTime - n1.cfg.Clock.PhysicalNow()); ahead < 200*time.Millisecond {
		t.Errorf("an answer moved the clock to %s ahead", ahead)
	}
	eventually(t, "the offset is known", func() bool {
		off, ok := n1.Offsets()[2]
		return ok && (off-300*time.Millisecond).Abs() < 50*time.Millisecond
	})

	// Too far ahead: neither does it get an answer, nor is its answer taken.
	n2.skew.Store(int64(2 * time.Second))
	for from, to := range map[*testNode]kvpb.NodeID{n1: 2, n2: 1} {
		eventually(t, "the clock is refused", func() bool {
			_, err := from.SendBatch(ctx, to, put("k"))
			return errors.Is(err, ErrClockOffset) && strings.Contains(err.Error(), "maximum offset")
		})
	}
	if ahead := time.Duration(n1.cfg.Clock.Now().WallTime - n1.cfg.Clock.PhysicalNow()); ahead > 500*time.Millisecond {
		t.Errorf("the clock was dragged %s ahead", ahead)
	}
	// Both know by how much, so that the one that is wrong can find out.
	for from, want := range map[*testNode]time.Duration{n1: 2 * time.Second, n2: -2 * time.Second} {
		eventually(t, "the offset of a refused clock is known", func() bool {
			off, ok := from.Offsets()[3-from.id]
			return ok && (off-want).Abs() < 50*time.Millisecond
		})
	}
}

func TestFaults(t *testing.T) {
	ctx := testContext(t)
	var applied atomic.Int64
	c := newCluster(t, 2, handlerFuncs{batch: func(ctx context.Context, ba *kvpb.BatchRequest) (*kvpb.BatchResponse, error) {
		applied.Add(1)
		return echo(ctx, ba)
	}})
	n1 := c.nodes[1]
	send := func(ba *kvpb.BatchRequest) (*SendError, time.Duration) {
		start := time.Now()
		_, err := n1.SendBatch(ctx, 2, ba)
		var se *SendError
		if err != nil && !errors.As(err, &se) {
			t.Fatal(err)
		}
		return se, time.Since(start)
	}

	c.faults.Set(func(m Message) Fault { return Fault{Delay: 30 * time.Millisecond} })
	send(get("k")) // connects
	if err, d := send(get("k")); err != nil || d < 60*time.Millisecond {
		t.Errorf("%v after %s", err, d)
	}
	if rtt := n1.RoundTrips()[2]; rtt < 60*time.Millisecond {
		t.Errorf("a round trip takes %s", rtt)
	}

	boom := errors.New("boom")
	c.faults.Set(func(m Message) Fault {
		if m == (Message{From: 1, To: 2, Kind: KindBatch}) {
			return Fault{Err: boom}
		}
		return Fault{}
	})
	if err, _ := send(put("k")); !errors.Is(err, boom) || err.MaybeApplied {
		t.Errorf("got %v", err)
	}

	// One way is cut: requests arrive, answers do not.
	applied.Store(0)
	c.faults.Set(func(m Message) Fault { return Fault{Drop: m.From == 2} })
	if err, d := send(put("k")); err == nil || !err.MaybeApplied || d > 5*time.Second {
		t.Errorf("%v after %s", err, d)
	}
	if applied.Load() != 1 {
		t.Errorf("applied %d times", applied.Load())
	}
	if err, d := send(put("k")); err == nil || err.MaybeApplied || d > 200*time.Millisecond {
		t.Errorf("%v after %s", err, d)
	}
	// The other way, too.
	c.faults.Set(nil)
	eventually(t, "they talk again", func() bool { err, _ := send(get("k")); return err == nil })
	c.faults.Set(func(m Message) Fault { return Fault{Drop: m.To == 2} })
	if err, d := send(put("k")); err == nil || err.MaybeApplied || d > 5*time.Second {
		t.Errorf("%v after %s", err, d)
	}
	for range 20 { // No request waits for the attempts that go on meanwhile.
		if err, d := send(put("k")); err == nil || err.MaybeApplied || d > 200*time.Millisecond {
			t.Errorf("%v after %s", err, d)
		}
		time.Sleep(20 * time.Millisecond)
	}
	c.faults.Set(nil)
	start := time.Now()
	eventually(t, "they talk again", func() bool { err, _ := send(get("k")); return err == nil })
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("that took %s", d)
	}
}

func TestClosedDialer(t *testing.T) {
	ctx := testContext(t)
	began := make(chan struct{})
	c := newCluster(t, 2, handlerFuncs{batch: func(ctx context.Context, _ *kvpb.BatchRequest) (*kvpb.BatchResponse, error) {
		close(began)
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	go func() {
		<-began
		c.nodes[1].Close()
	}()
	if _, err := c.nodes[1].SendBatch(ctx, 2, put("k")); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v", err)
	}
	if _, err := c.nodes[1].SendBatch(ctx, 2, put("k")); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v", err)
	}
}

func TestJoin(t *testing.T) {
	ctx := testContext(t)
	want := JoinRequest{
		ClusterID: [16]byte{1}, NodeID: 5, StoreID: 6, Address: "a:1", SQLAddress: "a:2", Locality: "region=r", Attrs: []string{"ssd"}, Version: "v1",
	}
	answer := JoinResponse{ClusterID: [16]byte{1}, NodeID: 9, StoreID: 10, FirstRange: []byte("desc")}
	fail := error(nil)
	c := newCluster(t, 1, handlerFuncs{join: func(_ context.Context, req JoinRequest) (JoinResponse, error) {
		if !reflect.DeepEqual(req, want) {
			t.Errorf("got %+v, want %+v", req, want)
		}
		return answer, fail
	}})
	fresh := c.add(0, 0, handlerFuncs{})
	address := *c.nodes[1].address.Load()
	if got, err := fresh.Join(ctx, address, want); err != nil || !reflect.DeepEqual(got, answer) {
		t.Errorf("got %+v, %v", got, err)
	}
	fail = pgerr.New(pgerr.CannotConnectNow, "not now").WithHint("later")
	if _, err := fresh.Join(ctx, address, want); pgerr.Flatten(err).Hint != "later" {
		t.Errorf("got %v", err)
	}
	want.ClusterID = [16]byte{3}
	if _, err := fresh.Join(ctx, address, want); !errors.Is(err, ErrWrongPeer) || !strings.Contains(err.Error(), "01000000-") {
		t.Errorf("got %v", err)
	}
	c.nodes[1].stop()
	if _, err := fresh.Join(ctx, address, want); err == nil {
		t.Error("joined through nobody")
	}
}

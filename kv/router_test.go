package kv_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/kvtest"
)

// oneRange is a directory of one range with three replicas.
type oneRange struct{}

func (oneRange) LookupRange(context.Context, keys.Key, bool) (*kvpb.RangeDescriptor, error) {
	d := &kvpb.RangeDescriptor{RangeID: 1, StartKey: keys.MinKey, EndKey: keys.MaxKey}
	for i := int32(1); i <= 3; i++ {
		d.Replicas = append(d.Replicas, kvpb.ReplicaDescriptor{NodeID: kvpb.NodeID(i), StoreID: kvpb.StoreID(i), ReplicaID: i})
	}
	return d, nil
}

// transportFunc is a transport.
type transportFunc func(context.Context, kvpb.ReplicaDescriptor, *kvpb.BatchRequest) (*kvpb.BatchResponse, error)

func (f transportFunc) SendTo(ctx context.Context, to kvpb.ReplicaDescriptor, ba *kvpb.BatchRequest) (*kvpb.BatchResponse, error) {
	return f(ctx, to, ba)
}

// noAnswer is what a transport says of a node that did not answer.
type noAnswer struct{ cause error }

func (e *noAnswer) Error() string         { return "no answer: " + e.cause.Error() }
func (e *noAnswer) Unwrap() error         { return e.cause }
func (e *noAnswer) MayHaveHappened() bool { return true }

// TestRouterSendsAgainOnlyWhatIsRepeatable loses the answer of the first replica
// that is asked.
func TestRouterSendsAgainOnlyWhatIsRepeatable(t *testing.T) {
	txn := &kvpb.Transaction{ID: kvpb.TxnID{1}, Key: key("a")}
	for _, c := range []struct {
		name   string
		txn    *kvpb.Transaction
		req    kvpb.Request
		repeat bool
	}{
		{"get", nil, kvpb.Request{Op: kvpb.OpGet, Key: key("a")}, true},
		{"put", nil, kvpb.Request{Op: kvpb.OpPut, Key: key("a"), Value: val("1")}, false},
		{"put of a transaction", txn, kvpb.Request{Op: kvpb.OpPut, Key: key("a"), Value: val("1")}, true},
		{"rollback", txn, kvpb.Request{Op: kvpb.OpEndTxn, Key: key("a"), Args: &kvpb.EndTxnArgs{}}, true},
		{"commit", txn, kvpb.Request{Op: kvpb.OpEndTxn, Key: key("a"), Args: &kvpb.EndTxnArgs{Commit: true}}, false},
		{"clear", nil, kvpb.Request{Op: kvpb.OpClearRange, Key: key("a"), EndKey: key("b")}, false},
		{"range tombstone", nil, kvpb.Request{Op: kvpb.OpDeleteRangeTombstone, Key: key("a"), EndKey: key("b")}, false},
		{"sstable", nil, kvpb.Request{Op: kvpb.OpAddSSTable, Key: key("a"), EndKey: key("b"), Args: &kvpb.AddSSTableArgs{}}, false},
		{"gc", nil, kvpb.Request{Op: kvpb.OpGC, Key: key("a"), EndKey: key("b")}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			sent := 0
			r := kv.NewRouter(oneRange{}, transportFunc(func(_ context.Context, _ kvpb.ReplicaDescriptor, ba *kvpb.BatchRequest) (*kvpb.BatchResponse, error) {
				if sent++; sent == 1 {
					return nil, &noAnswer{errors.New("it broke")}
				}
				return &kvpb.BatchResponse{Responses: make([]kvpb.Response, len(ba.Requests))}, nil
			}))
			ba := &kvpb.BatchRequest{Header: kvpb.Header{Txn: c.txn}}
			ba.Add(c.req)
			_, err := r.Send(ctx, ba)
			var unknown *kvpb.AmbiguousResultError
			switch {
			case c.repeat && (err != nil || sent != 2):
				t.Errorf("sent %d times: %v", sent, err)
			case !c.repeat && (!errors.As(err, &unknown) || sent != 1):
				t.Errorf("sent %d times: %v, want that the result is unknown", sent, err)
			}
		})
	}
}

// TestCommitOfWhichTheAnswerIsNotAwaited gives up while another node commits: the
// outcome is unknown, and the transaction does not say otherwise.
func TestCommitOfWhichTheAnswerIsNotAwaited(t *testing.T) {
	n := kvtest.New(t, kvtest.Options{})
	commits := 0
	sender := transportFunc(func(ctx context.Context, _ kvpb.ReplicaDescriptor, ba *kvpb.BatchRequest) (*kvpb.BatchResponse, error) {
		last := ba.Requests[len(ba.Requests)-1]
		args, ends := last.Args.(*kvpb.EndTxnArgs)
		resp, err := n.Store.Sender().Send(context.WithoutCancel(ctx), ba)
		if ends && args.Commit {
			if commits++; err != nil {
				t.Error(err)
			}
			return nil, &noAnswer{context.Canceled} // It was on its way.
		}
		return resp, err
	})
	clock := hlc.NewSystemClock(0)
	db := kv.NewDB(kv.Config{Sender: kv.NewRouter(oneRange{}, sender), Clock: clock})
	for _, name := range []string{"one", "two"} {
		txn := db.NewTxn(ctx, name)
		b := txn.NewBatch()
		b.Put(key("%s", name), val("1"))
		err := error(nil)
		if name == "one" {
			err = txn.CommitInBatch(ctx, b)
		} else {
			ok(t, txn.Run(ctx, b))
			err = txn.Commit(ctx)
		}
		var unknown *kvpb.AmbiguousResultError
		if !errors.As(err, &unknown) || !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want that the result is unknown", name, err)
		}
		if err := txn.Put(ctx, key("later"), val("1")); err == nil {
			t.Errorf("%s: the transaction goes on", name)
		}
		ok(t, txn.Rollback(ctx))
		if txn.IsCommitted() {
			t.Errorf("%s: it says that it is committed", name)
		}
		if got := get(t, n.DB, key("%s", name)); got != "1" {
			t.Errorf("%s: what was committed is %q after the rollback", name, got)
		}
	}
	if commits != 2 {
		t.Errorf("%d commits were sent", commits)
	}
}

// lateRecords is a directory whose records learn of a split late.
type lateRecords struct {
	old, new kvpb.RangeDescriptor
	lookups  int
}

func (l *lateRecords) LookupRange(context.Context, keys.Key, bool) (*kvpb.RangeDescriptor, error) {
	if l.lookups++; l.lookups > 4 {
		return &l.new, nil
	}
	return &l.old, nil
}

// TestRouterWithDescriptorsThatOverlap: the left half of a split is known, the records
// still have the whole under the same id. A batch over both halves finds its way, in
// the order of its requests.
func TestRouterWithDescriptorsThatOverlap(t *testing.T) {
	replicas := []kvpb.ReplicaDescriptor{{NodeID: 1, StoreID: 1, ReplicaID: 1}}
	left := kvpb.RangeDescriptor{RangeID: 5, StartKey: keys.MinKey, EndKey: key("m"), Generation: 2, Replicas: replicas}
	l := &lateRecords{
		old: kvpb.RangeDescriptor{RangeID: 5, StartKey: keys.MinKey, EndKey: keys.MaxKey, Generation: 1, Replicas: replicas},
		new: kvpb.RangeDescriptor{RangeID: 6, StartKey: key("m"), EndKey: keys.MaxKey, Generation: 2, Replicas: replicas},
	}
	var sent []int32
	r := kv.NewRouter(l, transportFunc(func(_ context.Context, _ kvpb.ReplicaDescriptor, ba *kvpb.BatchRequest) (*kvpb.BatchResponse, error) {
		d := &left
		if ba.RangeID == 6 {
			d = &l.new
		}
		if !d.ContainsSpan(ba.Span()) {
			return nil, &kvpb.RangeKeyMismatchError{Descriptor: left}
		}
		resp := &kvpb.BatchResponse{}
		for _, q := range ba.Requests {
			sent = append(sent, q.Sequence)
			resp.Responses = append(resp.Responses, kvpb.Response{Count: int64(q.Sequence)})
		}
		return resp, nil
	}))
	ba := &kvpb.BatchRequest{}
	for i, k := range []string{"p", "a", "q", "b"} {
		ba.Add(kvpb.Request{Op: kvpb.OpGet, Key: key("%s", k), Sequence: int32(i)})
	}
	resp, err := r.Send(ctx, ba)
	if err != nil {
		t.Fatal(err)
	}
	for i := range ba.Requests {
		if len(sent) != 4 || sent[i] != int32(i) || resp.Responses[i].Count != int64(i) {
			t.Fatalf("sent %v, answers %v", sent, resp.Responses)
		}
	}
}

// TestRouterDoesNotSpin: what looks like the only replica says that it is not the one
// to ask, and nobody knows better.
func TestRouterDoesNotSpin(t *testing.T) {
	l := &lateRecords{old: kvpb.RangeDescriptor{
		RangeID: 5, StartKey: keys.MinKey, EndKey: keys.MaxKey, Generation: 1,
		Replicas: []kvpb.ReplicaDescriptor{{NodeID: 1, StoreID: 1, ReplicaID: 1}},
	}}
	l.new = l.old
	asked := 0
	r := kv.NewRouter(l, transportFunc(func(context.Context, kvpb.ReplicaDescriptor, *kvpb.BatchRequest) (*kvpb.BatchResponse, error) {
		asked++
		return nil, &kvpb.NotLeaseholderError{RangeID: 5, Descriptor: l.old}
	}))
	ctx, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	ba := &kvpb.BatchRequest{}
	ba.Add(kvpb.Request{Op: kvpb.OpGet, Key: key("a")})
	if _, err := r.Send(ctx, ba); !errors.Is(err, context.DeadlineExceeded) || asked > 50 {
		t.Errorf("asked %d times: %v", asked, err)
	}
}

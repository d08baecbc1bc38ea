package liveness

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/kvtest"
)

const testTTL = 300 * time.Millisecond

// process is a node's Liveness that runs.
type process struct {
	*Liveness
	stop func() error // returns what Run did
}

func newProcess(t *testing.T, db *kv.DB, id kvpb.NodeID, started int64, address string) *process {
	l := New(Config{
		DB: db, NodeID: id, Started: started, Address: address, Interval: testTTL / 10, TTL: testTTL,
		DeadAfter: func() time.Duration { return 2 * testTTL },
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	p := &process{Liveness: l, stop: sync.OnceValue(func() error { cancel(); return <-done })}
	t.Cleanup(func() { _ = p.stop() })
	return p
}

// ends returns what Run returns by itself.
func (p *process) ends(t *testing.T) error {
	t.Helper()
	done := make(chan error, 1)
	// stop would hide that Run has not ended, so the record must have stopped first.
	go func() { time.Sleep(testTTL); done <- p.stop() }()
	return <-done
}

func (p *process) await(t *testing.T) {
	t.Helper()
	select {
	case <-p.Begun():
	case <-time.After(10 * time.Second):
		t.Fatal("the record is not renewed")
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not in time: %s", what)
}

func TestAliveUntilItStops(t *testing.T) {
	db := kvtest.NewDB(t)
	n1, n2 := newProcess(t, db, 1, 1, "a:1"), newProcess(t, db, 2, 1, "a:2")
	n2.await(t)
	eventually(t, "n1 hears of n2", func() bool { return n1.IsLive(2) && n1.IsLive(1) })
	if n1.IsLive(3) || n1.IsDead(3) {
		t.Error("an unknown node is neither alive nor dead")
	}
	if err := n2.stop(); err != nil {
		t.Fatal(err)
	}
	stopped := time.Now()
	eventually(t, "n2's record expires", func() bool { return !n1.IsLive(2) })
	if n1.IsDead(2) {
		t.Error("dead at once")
	}
	eventually(t, "n2 is dead", func() bool { return n1.IsDead(2) })
	if d := time.Since(stopped); d < 2*testTTL {
		t.Errorf("dead after %s", d)
	}
	if !n1.IsLive(1) {
		t.Error("n1 itself is not alive any more")
	}
}

func TestTwoProcessesOfOneNode(t *testing.T) {
	db, ctx := kvtest.NewDB(t), context.Background()
	first := newProcess(t, db, 7, 100, "a:1")
	first.await(t)
	// A copy of its directory, started elsewhere.
	if err := newProcess(t, db, 7, 200, "b:1").ends(t); !errors.Is(err, ErrReplaced) {
		t.Fatalf("a copy ended with %v", err)
	}
	r, err := Read(ctx, db, 7)
	if err != nil || r.Started != 100 || r.Epoch != 1 {
		t.Fatalf("record %+v, %v", r, err)
	}
	if err := CheckStart(r, "b:1", time.Now()); !errors.Is(err, ErrReplaced) {
		t.Errorf("a copy may start: %v", err)
	}
	// A process at the same address can only be there if the first has ended, even if
	// it hangs and will wake up again.
	second := newProcess(t, db, 7, 300, "a:1")
	second.await(t)
	if err := first.ends(t); !errors.Is(err, ErrReplaced) {
		t.Errorf("the first process ended with %v", err)
	}
	// After an orderly end nobody waits.
	if err := second.stop(); err != nil {
		t.Fatal(err)
	}
	if err := second.End(ctx); err != nil {
		t.Fatal(err)
	}
	third := newProcess(t, db, 7, 400, "c:1")
	third.await(t)
	if r, _ := third.Record(7); r.Epoch != 3 || r.Address != "c:1" {
		t.Errorf("record %+v", r)
	}
}

func TestExpiredRecordIsTakenOver(t *testing.T) {
	db := kvtest.NewDB(t)
	first := newProcess(t, db, 1, 100, "a:1")
	first.await(t)
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the record expires", func() bool { return !first.IsLive(1) })
	second := newProcess(t, db, 1, 200, "b:1")
	second.await(t)
	if r, _ := second.Record(1); r.Epoch != 2 {
		t.Errorf("record %+v", r)
	}
}

// A process died without a word, and the next one is at another address before its
// record has expired.
func TestFormerProcessIsAwaited(t *testing.T) {
	db := kvtest.NewDB(t)
	first := newProcess(t, db, 1, 100, "a:1")
	first.await(t)
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	r, _ := first.Record(1)
	second := newProcess(t, db, 1, 200, "b:1")
	second.await(t)
	if time.Now().Before(r.Expiration) {
		t.Error("the record was taken over before it had expired")
	}
	if r, _ := second.Record(1); r.Epoch != 2 || r.Address != "b:1" {
		t.Errorf("record %+v", r)
	}
}

func TestMembership(t *testing.T) {
	db, ctx := kvtest.NewDB(t), context.Background()
	if _, err := setMembership(ctx, db, 1, Decommissioning); !errors.Is(err, ErrNoRecord) {
		t.Fatalf("an unknown node: %v", err)
	}
	n1 := newProcess(t, db, 1, 100, "a:1")
	n1.await(t)
	steps := []struct {
		to Membership
		ok bool
	}{{Decommissioned, false}, {Active, true}, {Decommissioning, true}, {Decommissioning, true}, {Active, true}, {Decommissioning, true}}
	for i, s := range steps {
		if _, err := setMembership(ctx, db, 1, s.to); (err == nil) != s.ok {
			t.Fatalf("step %d to %s: %v", i, s.to, err)
		}
	}
	// Renewals keep what others wrote, and the other way round.
	if err := n1.SetDraining(ctx, true); err != nil {
		t.Fatal(err)
	}
	time.Sleep(testTTL / 2)
	if r, err := Read(ctx, db, 1); err != nil || r.Membership != Decommissioning || !r.Draining {
		t.Fatalf("record %+v, %v", r, err)
	}
	if _, err := setMembership(ctx, db, 1, Decommissioned); err != nil {
		t.Fatal(err)
	}
	if err := n1.ends(t); !errors.Is(err, ErrDecommissioned) {
		t.Errorf("a node that was decommissioned ended with %v", err)
	}
	if _, err := setMembership(ctx, db, 1, Active); err == nil {
		t.Error("a node that was decommissioned is active again")
	}
}

// Answers come in any order: what is known of a node is the newest of them, and a
// change that was made here is known at once.
func TestNewestRecordIsKept(t *testing.T) {
	db, ctx := kvtest.NewDB(t), context.Background()
	n1 := newProcess(t, db, 1, 100, "a:1")
	n1.await(t)
	if err := n1.stop(); err != nil {
		t.Fatal(err)
	}
	l := New(Config{DB: db, NodeID: 2})
	before, err := l.ReadAll(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := setMembership(ctx, db, 1, Decommissioning); err != nil { // By somebody else.
		t.Fatal(err)
	}
	if r, _ := l.Record(1); r.Membership != Active {
		t.Fatalf("nobody has said so yet: %+v", r)
	}
	written, err := l.SetMembership(ctx, 1, Decommissioned)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range before {
		l.remember(r) // It was on its way for long.
	}
	if r, _ := l.Record(1); r != *written || r.Membership != Decommissioned {
		t.Errorf("known is %+v, written was %+v", r, *written)
	}
	after, err := l.ReadAll(ctx)
	if err != nil || len(after) != 1 || after[0].Written != written.Written || !before[0].Written.Less(written.Written) {
		t.Errorf("read %+v, %v, written was %+v", after, err, *written)
	}
}

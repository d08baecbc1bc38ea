package noderpc

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/holdfastdb/holdfast/kv/kvpb"
)

// Kind says what a message is.
type Kind string

// The kinds of messages.
const (
	KindBatch          Kind = "batch"
	KindBatchAnswer    Kind = "batch answer"
	KindRaft           Kind = "raft"
	KindSnapshot       Kind = "snapshot" // its first part
	KindSnapshotAnswer Kind = "snapshot answer"
	KindPing           Kind = "ping"
	KindPingAnswer     Kind = "ping answer"
	KindService        Kind = "service" // the begin of a call of another package's service
	KindServiceAnswer  Kind = "service answer"
)

// Message is what a fault can befall.
type Message struct {
	From, To kvpb.NodeID
	Kind     Kind
}

// Fault is what happens to a message. The zero Fault lets it pass.
type Fault struct {
	Delay time.Duration
	Drop  bool  // nobody hears of it again
	Err   error // its sender is told
}

// Faults befall messages before they leave their sender: a test's partitions, the
// distances of a simulated map. A nil *Faults has none.
type Faults struct {
	f atomic.Pointer[func(Message) Fault]
}

// Set makes f decide from now on; nil ends all faults. f is called by many
// goroutines.
func (fs *Faults) Set(f func(Message) Fault) {
	if f == nil {
		fs.f.Store(nil)
		return
	}
	fs.f.Store(&f)
}

func (fs *Faults) of(m Message) Fault {
	if fs == nil {
		return Fault{}
	}
	if f := fs.f.Load(); f != nil {
		return (*f)(m)
	}
	return Fault{}
}

func (f Fault) none() bool { return f.Delay <= 0 && !f.Drop && f.Err == nil }

// pass is befall with what befalls m.
func (fs *Faults) pass(ctx context.Context, m Message) error { return fs.of(m).befall(ctx) }

// befall returns after the delay. What is dropped waits for the end of ctx: so
// does the sender of a message that is lost.
func (f Fault) befall(ctx context.Context) error {
	if f.Drop {
		<-ctx.Done()
		return ctx.Err()
	}
	if f.Delay > 0 {
		t := time.NewTimer(f.Delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return f.Err
}

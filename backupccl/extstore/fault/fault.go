// Package fault makes external storage fail on purpose.
//
// Store wraps an extstore.Store and asks a Plan before each operation what
// should go wrong: refuse it, lose its answer after doing it, break a body in
// the middle, or wait. Tests walk a Plan over every operation of a job and
// require an honest error or a correct result each time.
package fault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/holdfastdb/holdfast/backupccl/extstore"
)

// ErrInjected is what an injected failure looks like: transient.
var ErrInjected = errors.New("injected storage fault")

// Op is one operation about to happen.
type Op struct {
	N    int    // how many operations came before
	Kind string // put, open, read, list, delete, size
	Name string
}

// Action says what happens to an operation.
type Action int

const (
	Pass       Action = iota
	Refuse            // fail before doing anything
	LoseAnswer        // do it, then report failure
	Tear              // break the body half-way
)

// Plan decides about operations. It is called with the Store's lock held.
type Plan func(Op) Action

// Store wraps another store with faults.
type Store struct {
	extstore.Store
	// Err is returned by injected failures; ErrInjected unless set.
	Err error

	mu struct {
		sync.Mutex
		plan Plan
		n    int
		log  []string
	}
}

// New returns s with faults according to plan; nil passes everything.
func New(s extstore.Store, plan Plan) *Store {
	f := &Store{Store: s, Err: ErrInjected}
	f.mu.plan = plan
	return f
}

// SetPlan replaces the plan.
func (s *Store) SetPlan(p Plan) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.plan = p
}

// Log returns the operations so far, as "kind name".
func (s *Store) Log() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.mu.log...)
}

// Count returns the number of operations so far.
func (s *Store) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.n
}

func (s *Store) decide(kind, name string) Action {
	s.mu.Lock()
	defer s.mu.Unlock()
	op := Op{N: s.mu.n, Kind: kind, Name: name}
	s.mu.n++
	s.mu.log = append(s.mu.log, kind+" "+name)
	if s.mu.plan == nil {
		return Pass
	}
	return s.mu.plan(op)
}

func (s *Store) fail(kind, name string) error {
	return fmt.Errorf("%s %s: %w", kind, name, s.Err)
}

// run does an operation without a body.
func (s *Store) run(kind, name string, op func() error) error {
	switch s.decide(kind, name) {
	case Refuse, Tear:
		return s.fail(kind, name)
	case LoseAnswer:
		if err := op(); err != nil {
			return err
		}
		return s.fail(kind, name)
	}
	return op()
}

func (s *Store) Put(ctx context.Context, name string, body io.Reader) error {
	switch s.decide("put", name) {
	case Refuse:
		return s.fail("put", name)
	case Tear:
		return s.Store.Put(ctx, name, &tornReader{r: body, left: 100, err: s.fail("put", name)})
	case LoseAnswer:
		if err := s.Store.Put(ctx, name, body); err != nil {
			return err
		}
		return s.fail("put", name)
	}
	return s.Store.Put(ctx, name, body)
}

func (s *Store) Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	action := s.decide("open", name)
	if action == Refuse || action == LoseAnswer {
		return nil, s.fail("open", name)
	}
	r, err := s.Store.Open(ctx, name, offset, length)
	if err != nil || action != Tear {
		return r, err
	}
	return struct {
		io.Reader
		io.Closer
	}{&tornReader{r: r, left: 100, err: s.fail("read", name)}, r}, nil
}

func (s *Store) List(ctx context.Context, prefix, delimiter string, fn func(string) error) error {
	return s.run("list", prefix, func() error { return s.Store.List(ctx, prefix, delimiter, fn) })
}

func (s *Store) Delete(ctx context.Context, name string) error {
	return s.run("delete", name, func() error { return s.Store.Delete(ctx, name) })
}

func (s *Store) Size(ctx context.Context, name string) (n int64, err error) {
	err = s.run("size", name, func() error {
		n, err = s.Store.Size(ctx, name)
		return err
	})
	return n, err
}

// tornReader fails after some bytes.
type tornReader struct {
	r    io.Reader
	left int
	err  error
}

func (r *tornReader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, r.err
	}
	n, err := r.r.Read(p[:min(len(p), r.left)])
	r.left -= n
	if err == io.EOF {
		// A short body tears at its end.
		r.left = 0
		return n, r.err
	}
	return n, err
}

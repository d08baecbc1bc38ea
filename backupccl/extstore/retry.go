package extstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"time"
)

// RetryPolicy says how often and how patiently a failed operation is repeated.
type RetryPolicy struct {
	MaxAttempts    int
	InitialBackoff time.Duration
	MaxBackoff     time.Duration
}

// DefaultRetryPolicy bridges a restart or a throttling episode of a service:
// about 20 s in all.
var DefaultRetryPolicy = RetryPolicy{MaxAttempts: 8, InitialBackoff: 100 * time.Millisecond, MaxBackoff: 5 * time.Second}

// retrying repeats what can be repeated. A Put is repeated if its body can be
// rewound; a read continues at the byte where it broke.
type retrying struct {
	Store
	policy RetryPolicy
	log    *slog.Logger
}

// WithRetries returns s with transient errors hidden behind repeated attempts.
func WithRetries(s Store, p RetryPolicy, log *slog.Logger) Store {
	return &retrying{Store: s, policy: p, log: log}
}

// do runs op until it succeeds, fails for good or runs out of attempts.
func (s *retrying) do(ctx context.Context, what, name string, op func(attempt int) error) error {
	backoff := s.policy.InitialBackoff
	for attempt := 1; ; attempt++ {
		err := op(attempt)
		if err == nil || !IsRetryable(err) || ctx.Err() != nil {
			return err
		}
		if attempt >= s.policy.MaxAttempts {
			return fmt.Errorf("gave up after %d attempts: %w", attempt, err)
		}
		s.log.WarnContext(ctx, "storage operation failed; will retry",
			"op", what, "name", name, "store", s.String(), "attempt", attempt, "err", err)
		wait := backoff/2 + rand.N(backoff/2+1)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
		backoff = min(2*backoff, s.policy.MaxBackoff)
	}
}

func (s *retrying) Put(ctx context.Context, name string, body io.Reader) error {
	seeker, ok := body.(io.ReadSeeker)
	if !ok {
		return s.Store.Put(ctx, name, body)
	}
	return s.do(ctx, "put", name, func(attempt int) error {
		if _, err := seeker.Seek(0, io.SeekStart); err != nil {
			return err
		}
		err := s.Store.Put(ctx, name, seeker)
		if attempt > 1 && errors.Is(err, ErrExists) {
			// The earlier attempt may have arrived although its answer was lost.
			if same, cmpErr := s.holds(ctx, name, seeker); cmpErr != nil {
				return cmpErr
			} else if same {
				return nil
			}
		}
		return err
	})
}

// holds says whether the file under name has exactly the bytes of want.
func (s *retrying) holds(ctx context.Context, name string, want io.ReadSeeker) (bool, error) {
	if _, err := want.Seek(0, io.SeekStart); err != nil {
		return false, err
	}
	r, err := s.Store.Open(ctx, name, 0, -1)
	if err != nil {
		return false, err
	}
	defer r.Close()
	a, b := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, errA := io.ReadFull(want, a)
		m, errB := io.ReadFull(r, b)
		if errB != nil && errB != io.EOF && errB != io.ErrUnexpectedEOF {
			return false, errB
		}
		if !bytes.Equal(a[:n], b[:m]) {
			return false, nil
		}
		if errA != nil || errB != nil {
			return (errA != nil) == (errB != nil), nil
		}
	}
}

func (s *retrying) Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	r := &resumingReader{s: s, ctx: ctx, name: name, offset: offset, length: length}
	err := s.do(ctx, "open", name, func(int) (err error) {
		r.r, err = s.Store.Open(ctx, name, offset, length)
		return err
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// resumingReader opens the file again where a read broke.
type resumingReader struct {
	s              *retrying
	ctx            context.Context
	name           string
	offset, length int64 // what is left to read; length below zero: to the end
	r              io.ReadCloser
}

func (r *resumingReader) Read(p []byte) (n int, err error) {
	if r.length == 0 {
		return 0, io.EOF
	}
	eof := false
	err = r.s.do(r.ctx, "read", r.name, func(int) error {
		if r.r == nil {
			var err error
			if r.r, err = r.s.Store.Open(r.ctx, r.name, r.offset, r.length); err != nil {
				return err
			}
		}
		var err error
		n, err = r.r.Read(p)
		if err == nil || err == io.EOF {
			eof = err == io.EOF
			return nil
		}
		_ = r.r.Close() // It is broken already.
		r.r = nil
		if n > 0 {
			return nil // Hand over what arrived; the next Read opens again.
		}
		return err
	})
	r.offset += int64(n)
	if r.length > 0 {
		r.length -= int64(n)
	}
	if err == nil && eof {
		err = io.EOF
	}
	return n, err
}

func (r *resumingReader) Close() error {
	if r.r == nil {
		return nil
	}
	return r.r.Close()
}

func (s *retrying) List(ctx context.Context, prefix, delimiter string, fn func(string) error) error {
	// Names are ordered, so a repeated listing skips what was delivered.
	last, any := "", false
	return s.do(ctx, "list", prefix, func(int) error {
		var fnErr error
		err := s.Store.List(ctx, prefix, delimiter, func(name string) error {
			if any && name <= last {
				return nil
			}
			last, any = name, true
			fnErr = fn(name)
			return fnErr
		})
		if fnErr != nil && err != nil {
			return Permanent(err) // The caller's own error is not ours to repeat.
		}
		return err
	})
}

func (s *retrying) Delete(ctx context.Context, name string) error {
	return s.do(ctx, "delete", name, func(int) error { return s.Store.Delete(ctx, name) })
}

func (s *retrying) Size(ctx context.Context, name string) (size int64, err error) {
	err = s.do(ctx, "size", name, func(int) (err error) {
		size, err = s.Store.Size(ctx, name)
		return err
	})
	return size, err
}

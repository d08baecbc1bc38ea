package extstore

import (
	"context"
	"io"

	"golang.org/x/time/rate"
)

// limitChunk is the most that is read between two looks at the limiter.
const limitChunk = 64 << 10

// NewLimiter returns a limiter of bytes per second, or nil for no limit.
func NewLimiter(bytesPerSecond, burstBytes int64) *rate.Limiter {
	if bytesPerSecond <= 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(bytesPerSecond), int(max(burstBytes, bytesPerSecond/4, limitChunk)))
}

// limited slows transfers down to a node's share of the bandwidth.
type limited struct {
	Store
	read, write *rate.Limiter // nil: unlimited
}

// WithLimits returns s with its transfers held to the limiters, each of which
// may be nil. Stores of one node share their limiters.
func WithLimits(s Store, read, write *rate.Limiter) Store {
	if read == nil && write == nil {
		return s
	}
	return &limited{Store: s, read: read, write: write}
}

func (s *limited) Put(ctx context.Context, name string, body io.Reader) error {
	if s.write == nil {
		return s.Store.Put(ctx, name, body)
	}
	return s.Store.Put(ctx, name, &limitedReader{ctx: ctx, r: body, limiter: s.write})
}

func (s *limited) Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	r, err := s.Store.Open(ctx, name, offset, length)
	if err != nil || s.read == nil {
		return r, err
	}
	return struct {
		io.Reader
		io.Closer
	}{&limitedReader{ctx: ctx, r: r, limiter: s.read}, r}, nil
}

type limitedReader struct {
	ctx     context.Context
	r       io.Reader
	limiter *rate.Limiter
}

func (r *limitedReader) Read(p []byte) (int, error) {
	p = p[:min(len(p), limitChunk)]
	n, err := r.r.Read(p)
	if n > 0 {
		if waitErr := r.limiter.WaitN(r.ctx, n); waitErr != nil {
			return 0, waitErr
		}
	}
	return n, err
}

package extstore

import (
	"context"
	"io"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts what goes to and comes from external storage, per scheme.
type Metrics struct {
	ops       *prometheus.CounterVec // scheme, op, outcome
	bytes     *prometheus.CounterVec // scheme, direction
	durations *prometheus.HistogramVec
}

// NewMetrics returns metrics registered with reg; a nil reg keeps them private.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		ops: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cloudstorage_operations_total", Help: "Operations on external storage.",
		}, []string{"scheme", "op", "outcome"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cloudstorage_bytes_total", Help: "Bytes read from and written to external storage.",
		}, []string{"scheme", "direction"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "cloudstorage_operation_seconds", Help: "Duration of operations on external storage.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 10),
		}, []string{"scheme", "op"}),
	}
	if reg != nil {
		reg.MustRegister(m.ops, m.bytes, m.durations)
	}
	return m
}

type metered struct {
	Store
	m      *Metrics
	scheme string
}

// WithMetrics returns s with its operations counted.
func WithMetrics(s Store, m *Metrics, scheme string) Store {
	if m == nil {
		return s
	}
	return &metered{Store: s, m: m, scheme: scheme}
}

func (s *metered) done(op string, start time.Time, err error) {
	outcome := "ok"
	if err != nil {
		outcome = "error"
	}
	s.m.ops.WithLabelValues(s.scheme, op, outcome).Inc()
	s.m.durations.WithLabelValues(s.scheme, op).Observe(time.Since(start).Seconds())
}

type countingReader struct {
	io.Reader
	n prometheus.Counter
}

func (r countingReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.n.Add(float64(n))
	return n, err
}

func (s *metered) Put(ctx context.Context, name string, body io.Reader) (err error) {
	start := time.Now()
	defer func() { s.done("put", start, err) }()
	return s.Store.Put(ctx, name, countingReader{body, s.m.bytes.WithLabelValues(s.scheme, "write")})
}

func (s *metered) Open(ctx context.Context, name string, offset, length int64) (_ io.ReadCloser, err error) {
	start := time.Now()
	defer func() { s.done("open", start, err) }()
	r, err := s.Store.Open(ctx, name, offset, length)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{countingReader{r, s.m.bytes.WithLabelValues(s.scheme, "read")}, r}, nil
}

func (s *metered) List(ctx context.Context, prefix, delimiter string, fn func(string) error) (err error) {
	start := time.Now()
	defer func() { s.done("list", start, err) }()
	return s.Store.List(ctx, prefix, delimiter, fn)
}

func (s *metered) Delete(ctx context.Context, name string) (err error) {
	start := time.Now()
	defer func() { s.done("delete", start, err) }()
	return s.Store.Delete(ctx, name)
}

func (s *metered) Size(ctx context.Context, name string) (_ int64, err error) {
	start := time.Now()
	defer func() { s.done("size", start, err) }()
	return s.Store.Size(ctx, name)
}

package extstore

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/holdfastdb/holdfast/internal/settings"
)

const (
	// limitChunk is the most that is read between two looks at the limiter.
	limitChunk = 64 << 10
	// minBurst is what a limiter lets through at once, whatever is set.
	minBurst = 4 << 10
)

// providers are the names of the schemes in the settings of this package.
var providers = map[string]string{"s3": "s3", "nodelocal": "nodelocal", "null": "nullsink"}

// Limiter holds all transfers in one direction to a node's share of the
// bandwidth. A nil Limiter lets everything pass.
type Limiter struct {
	// bytesPerSecond and burstBytes are asked again and again: they may be
	// cluster settings. A rate of 0 is no limit, a burst of 0 a quarter of a second.
	bytesPerSecond, burstBytes func() int64

	mu          sync.Mutex
	rate, burst int64 // of limiter
	limiter     *rate.Limiter
}

// NewLimiter returns a limiter of bytes per second, or nil for no limit.
func NewLimiter(bytesPerSecond, burstBytes int64) *Limiter {
	if bytesPerSecond <= 0 {
		return nil
	}
	return &Limiter{bytesPerSecond: func() int64 { return bytesPerSecond }, burstBytes: func() int64 { return burstBytes }}
}

// LimiterOf returns a limiter of what bytesPerSecond says at the time.
func LimiterOf(bytesPerSecond func() int64) *Limiter {
	return &Limiter{bytesPerSecond: bytesPerSecond, burstBytes: func() int64 { return 0 }}
}

// Wait waits until n more bytes may pass.
func (l *Limiter) Wait(ctx context.Context, n int) error {
	for n > 0 {
		limiter, most := l.current()
		if limiter == nil {
			return nil
		}
		part := min(n, most)
		if err := limiter.WaitN(ctx, part); err != nil {
			return err
		}
		n -= part
	}
	return nil
}

// current returns the limiter for the present rate, nil for no limit, and how
// much can be asked of it at once.
func (l *Limiter) current() (*rate.Limiter, int) {
	perSecond, burst := l.bytesPerSecond(), l.burstBytes()
	if perSecond <= 0 {
		return nil, limitChunk
	}
	if burst <= 0 {
		burst = max(perSecond/4, limitChunk)
	}
	burst = max(burst, minBurst)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.limiter == nil {
		l.limiter = rate.NewLimiter(rate.Limit(perSecond), int(burst))
	} else if l.rate != perSecond || l.burst != burst {
		l.limiter.SetLimit(rate.Limit(perSecond))
		l.limiter.SetBurst(int(burst))
	}
	l.rate, l.burst = perSecond, burst
	return l.limiter, int(min(burst, limitChunk))
}

// Settings are the cluster settings of this package, by provider.
type Settings struct {
	read, write map[string]*Limiter
	timeout     *settings.Duration
	customCA    *settings.String
	partBytes   *settings.ByteSize
}

// RegisterSettings defines the cluster settings of this package in reg.
func RegisterSettings(reg *settings.Registry) *Settings {
	s := &Settings{
		read: map[string]*Limiter{}, write: map[string]*Limiter{},
		timeout: reg.Duration("cloudstorage.timeout",
			"longest time that one request to external storage may take, and each wait for bytes", defaultTimeout, settings.PositiveDuration),
		customCA: reg.String("cloudstorage.http.custom_ca",
			"certificates, in PEM, that vouch for storage services besides those that the system trusts", "", checkCertificates),
		partBytes: reg.ByteSize("cloudstorage.write_chunk.size",
			"size of the parts in which large files are uploaded", uploadPartBytes, func(n int64) error {
				if n < minPartBytes || n > maxPartBytes {
					return fmt.Errorf("must be between %d and %d bytes, is %d", minPartBytes, maxPartBytes, n)
				}
				return nil
			}),
	}
	const inert = "; has no effect in this version"
	reg.Bool("cloudstorage.s3.buffer_and_put_uploads.enabled",
		"upload each file to S3 in one request, as those of up to 16 MiB always are"+inert, false)
	reg.Int("cloudstorage.azure.concurrent_upload_buffers", "parts of a file that are uploaded to Azure at once"+inert, 1, settings.Positive)
	reg.Bool("cloudstorage.s3.session_reuse.enabled", "share connections between uses of a bucket; each job has its own"+inert, true)
	reg.Bool("cloudstorage.gs.chunking.enabled", "upload to Google Cloud Storage in parts"+inert, true)
	reg.Duration("cloudstorage.gs.chunking.per_chunk_retry.timeout", "time in which a part is tried again"+inert, time.Minute, settings.PositiveDuration)
	for _, name := range []string{"gs", "azure", "http", "userfile"} {
		for _, direction := range []string{"read", "write"} {
			for _, what := range []string{"rate", "burst"} {
				reg.ByteSize("cloudstorage."+name+"."+direction+".node_"+what+"_limit",
					what+" limit on "+direction+"s of "+name+" storage"+inert, 0, settings.NonNegative)
			}
		}
	}
	for scheme, name := range providers {
		for direction, limiters := range map[string]map[string]*Limiter{"read": s.read, "write": s.write} {
			prefix := "cloudstorage." + name + "." + direction
			limiters[scheme] = &Limiter{
				bytesPerSecond: reg.ByteSize(prefix+".node_rate_limit",
					"limit on bytes per second of "+direction+"s of "+name+" storage per node, 0 for none", 0, settings.NonNegative).Get,
				burstBytes: reg.ByteSize(prefix+".node_burst_limit",
					"bytes of "+direction+"s of "+name+" storage that may go at once, 0 for a quarter of the rate", 0, settings.NonNegative).Get,
			}
		}
	}
	return s
}

// defaultTimeout is how long a request may take unless set otherwise.
const defaultTimeout = 10 * time.Minute

func checkCertificates(pem string) error {
	if pem != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(pem)) {
		return errors.New("no certificate in PEM form found")
	}
	return nil
}

// limiters returns those of a scheme.
func (s *Settings) limiters(scheme string) (read, write *Limiter) {
	if s == nil {
		return nil, nil
	}
	return s.read[scheme], s.write[scheme]
}

// limited slows transfers down to a node's share of the bandwidth.
type limited struct {
	Store
	read, write *Limiter // nil: unlimited
}

// WithLimits returns s with its transfers held to the limiters, each of which
// may be nil. Stores of one node share their limiters.
func WithLimits(s Store, read, write *Limiter) Store {
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
	limiter *Limiter
}

func (r *limitedReader) Read(p []byte) (int, error) {
	limiter, most := r.limiter.current()
	if limiter != nil {
		p = p[:min(len(p), most)]
	}
	n, err := r.r.Read(p)
	if n > 0 && limiter != nil {
		if waitErr := limiter.WaitN(r.ctx, n); waitErr != nil {
			return 0, waitErr
		}
	}
	return n, err
}

package workload

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"sort"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// RunOptions say how long and how hard Run works.
type RunOptions struct {
	URLs          []string // connections are dealt to them in turn
	Concurrency   int
	Duration      time.Duration // 0: until the context ends
	MaxOps        int64         // 0: no limit
	MaxRate       float64       // operations per second; 0: no limit
	Ramp          time.Duration // over which workers start
	TolerateErrs  bool          // go on after errors
	DisplayEvery  time.Duration
	DisplayFormat string // simple or incremental-json
	Seed          uint64
	Out           io.Writer
}

// histogram counts latencies in buckets that grow by 5%.
type histogram struct {
	buckets [400]int64
	count   int64
	sum     time.Duration
	max     time.Duration
}

const bucketGrowth = 1.05

func (h *histogram) add(d time.Duration) {
	i := 0
	if us := float64(d.Nanoseconds()) / 1000; us > 1 {
		i = min(int(math.Log(us)/math.Log(bucketGrowth)), len(h.buckets)-1)
	}
	h.buckets[i]++
	h.count++
	h.sum += d
	h.max = max(h.max, d)
}

func (h *histogram) merge(o *histogram) {
	for i, n := range o.buckets {
		h.buckets[i] += n
	}
	h.count += o.count
	h.sum += o.sum
	h.max = max(h.max, o.max)
}

// quantile is in milliseconds.
func (h *histogram) quantile(q float64) float64 {
	left := int64(math.Ceil(q * float64(h.count)))
	for i, n := range h.buckets {
		if left -= n; left <= 0 && h.count > 0 {
			return min(math.Pow(bucketGrowth, float64(i+1))/1000, ms(h.max))
		}
	}
	return 0
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// meter gathers what the workers did, by operation.
type meter struct {
	mu      sync.Mutex
	tick    map[string]*histogram // since the last line
	total   map[string]*histogram
	errors  int64
	ops     int64
	lastErr error
}

func (m *meter) record(op string, d time.Duration, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.errors++
		m.lastErr = fmt.Errorf("%s: %w", op, err)
		return
	}
	m.ops++
	h := m.tick[op]
	if h == nil {
		h = &histogram{}
		m.tick[op] = h
	}
	h.add(d)
}

// Run keeps the operations of w going until the options or ctx end it.
func Run(ctx context.Context, w Workload, opts RunOptions) error {
	if err := w.Check(); err != nil {
		return err
	}
	if opts.Duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, opts.Duration)
		defer cancel()
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)

	m := &meter{tick: map[string]*histogram{}, total: map[string]*histogram{}}
	limit := newLimiter(opts.MaxRate, opts.MaxOps)
	var workers sync.WaitGroup
	for id := range opts.Concurrency {
		cfg, err := pgx.ParseConfig(opts.URLs[id%len(opts.URLs)])
		if err != nil {
			return fmt.Errorf("connection string: %w", err)
		}
		cfg.Database = w.Database()
		conn, err := pgx.ConnectConfig(ctx, cfg)
		if err != nil {
			stop(err)
			workers.Wait()
			return err
		}
		worker, delay := w.Worker(id, opts.Seed), opts.Ramp*time.Duration(id)/time.Duration(opts.Concurrency)
		workers.Go(func() {
			defer conn.Close(context.WithoutCancel(ctx))
			if !sleep(ctx, delay) {
				return
			}
			for ctx.Err() == nil && limit.next(ctx) {
				start := time.Now()
				op, err := worker.Do(ctx, conn)
				if err != nil && ctx.Err() != nil {
					return
				}
				m.record(op, time.Since(start), err)
				if err != nil && !opts.TolerateErrs {
					stop(fmt.Errorf("%s: %w", op, err))
					return
				}
				if conn.IsClosed() {
					stop(errors.New("the connection was lost"))
					return
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { // ends with the workers
		workers.Wait()
		close(done)
	}()
	m.display(done, opts)
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.DeadlineExceeded) && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// limiter hands out permissions for operations.
type limiter struct {
	mu       sync.Mutex
	interval time.Duration
	due      time.Time
	left     int64
	bounded  bool
}

func newLimiter(rate float64, maxOps int64) *limiter {
	l := &limiter{left: maxOps, bounded: maxOps > 0, due: time.Now()}
	if rate > 0 {
		l.interval = time.Duration(float64(time.Second) / rate)
	}
	return l
}

func (l *limiter) next(ctx context.Context) bool {
	l.mu.Lock()
	if l.bounded {
		if l.left == 0 {
			l.mu.Unlock()
			return false
		}
		l.left--
	}
	wait := time.Until(l.due)
	if l.interval > 0 {
		if wait < -time.Second {
			l.due = time.Now() // Do not make up for a long stall all at once.
		}
		l.due = l.due.Add(l.interval)
	}
	l.mu.Unlock()
	return l.interval == 0 || sleep(ctx, wait)
}

const (
	tickHeader  = "_elapsed___errors__ops/sec(inst)___ops/sec(cum)__p50(ms)__p95(ms)__p99(ms)_pMax(ms)"
	totalHeader = "_elapsed___errors_____ops(total)___ops/sec(cum)__avg(ms)__p50(ms)__p95(ms)__p99(ms)_pMax(ms)"
)

// display prints a line per operation and interval until done, then totals.
func (m *meter) display(done <-chan struct{}, opts RunOptions) {
	if opts.DisplayEvery <= 0 {
		opts.DisplayEvery = time.Second
	}
	start, last := time.Now(), time.Now()
	ticker := time.NewTicker(opts.DisplayEvery)
	defer ticker.Stop()
	for lines := 0; ; {
		ended := false
		select {
		case <-ticker.C:
		case <-done:
			ended = true
		}
		now := time.Now()
		m.mu.Lock()
		ops := names(m.tick, m.total)
		for _, op := range ops {
			t := m.tick[op]
			if t == nil {
				t = &histogram{}
			}
			sum := m.total[op]
			if sum == nil {
				sum = &histogram{}
				m.total[op] = sum
			}
			sum.merge(t)
			if !ended {
				if lines%20 == 0 && opts.DisplayFormat != "incremental-json" {
					fmt.Fprintln(opts.Out, tickHeader)
				}
				lines++
				m.line(opts, op, t, sum, now.Sub(start), now.Sub(last))
			}
		}
		clear(m.tick)
		last = now
		if ended {
			m.summary(opts, ops, now.Sub(start))
			m.mu.Unlock()
			return
		}
		m.mu.Unlock()
	}
}

func names(maps ...map[string]*histogram) []string {
	seen := map[string]bool{}
	var out []string
	for _, h := range maps {
		for op := range h {
			if !seen[op] {
				seen[op] = true
				out = append(out, op)
			}
		}
	}
	sort.Strings(out)
	return out
}

func (m *meter) line(opts RunOptions, op string, tick, sum *histogram, elapsed, interval time.Duration) {
	if opts.DisplayFormat == "incremental-json" {
		_ = json.NewEncoder(opts.Out).Encode(map[string]any{
			"time": time.Now().UTC(), "operation": op, "errs": m.errors, "avgt": float64(sum.count) / elapsed.Seconds(),
			"rate": float64(tick.count) / interval.Seconds(), "p50l": tick.quantile(.5), "p95l": tick.quantile(.95),
			"p99l": tick.quantile(.99), "maxl": ms(tick.max),
		})
		return
	}
	fmt.Fprintf(opts.Out, "%7.1fs %8d %14.1f %14.1f %8.1f %8.1f %8.1f %8.1f %s\n", elapsed.Seconds(), m.errors,
		float64(tick.count)/interval.Seconds(), float64(sum.count)/elapsed.Seconds(),
		tick.quantile(.5), tick.quantile(.95), tick.quantile(.99), ms(tick.max), op)
}

func (m *meter) summary(opts RunOptions, ops []string, elapsed time.Duration) {
	if opts.DisplayFormat == "incremental-json" {
		return
	}
	all := &histogram{}
	row := func(name string, h *histogram) {
		avg := 0.0
		if h.count > 0 {
			avg = ms(h.sum) / float64(h.count)
		}
		fmt.Fprintf(opts.Out, "%7.1fs %8d %14d %14.1f %8.1f %8.1f %8.1f %8.1f %8.1f  %s\n", elapsed.Seconds(), m.errors, h.count,
			float64(h.count)/elapsed.Seconds(), avg, h.quantile(.5), h.quantile(.95), h.quantile(.99), ms(h.max), name)
	}
	if m.lastErr != nil {
		fmt.Fprintf(opts.Out, "\nlast error: %v\n", m.lastErr)
	}
	for _, op := range ops {
		all.merge(m.total[op])
		fmt.Fprintf(opts.Out, "\n%s__total\n", totalHeader)
		row(op, m.total[op])
	}
	fmt.Fprintf(opts.Out, "\n%s__result\n", totalHeader)
	row("", all)
}

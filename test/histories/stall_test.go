package histories

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// stallLimit is how long writes may stand still when a minority is lost.
const stallLimit = 10 * time.Second

// probes write again and again, each to a row in a range of its own, through nodes
// that nothing befalls. They measure how long writes stand still.
type probes struct {
	mu     sync.Mutex
	hurt   map[int]bool // nodes that probes had better not ask
	acked  []time.Time  // by probe: the last time it wrote
	worst  []time.Duration
	since  time.Time     // of the measurement; zero: there is none
	late   time.Duration // how late this process itself woke up, at worst
	stalls []stall
}

type stall struct {
	fault string
	took  time.Duration
	probe int
	// late is how long this process itself had to wait for a processor: a machine that
	// is that busy says nothing about the nodes.
	late time.Duration
}

// tooBusy is how late a process may wake up on a machine whose stalls are judged.
const tooBusy = 300 * time.Millisecond

const probeCount = 8

func probeKey(i int) int { return 1 + i*(keySpace/probeCount) }

// startProbes begins to write.
func (r *round) startProbes() {
	p := &r.probes
	p.hurt = map[int]bool{}
	r.clients.Go(func() {
		for r.working.Err() == nil {
			before := time.Now()
			time.Sleep(20 * time.Millisecond)
			p.mu.Lock()
			p.late = max(p.late, time.Since(before)-20*time.Millisecond)
			p.mu.Unlock()
		}
	})
	p.acked, p.worst = make([]time.Time, probeCount), make([]time.Duration, probeCount)
	for i := range probeCount {
		p.acked[i] = time.Now()
		rng := rand.New(rand.NewPCG(r.seed, uint64(1000+i)))
		r.clients.Go(func() {
			var conn *pgx.Conn
			node := 0
			for r.working.Err() == nil {
				ctx, cancel := context.WithTimeout(r.working, 3*time.Second)
				var err error
				if conn == nil || conn.IsClosed() || !p.mayAsk(node) {
					if conn != nil {
						closeNow(conn)
					}
					for node = 1 + rng.IntN(len(r.nodes)); !p.mayAsk(node); {
						node = 1 + rng.IntN(len(r.nodes))
					}
					conn, err = pgx.Connect(ctx, r.nodes[node-1].URL("defaultdb"))
				}
				if err == nil {
					_, err = conn.Exec(ctx, "UPDATE probes SET n = n + 1 WHERE k = $1", probeKey(i))
				}
				cancel()
				if err == nil {
					p.wrote(i)
				}
				select {
				case <-time.After(50 * time.Millisecond):
				case <-r.working.Done():
				}
			}
			if conn != nil {
				closeNow(conn)
			}
		})
	}
}

func closeNow(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_ = conn.Close(ctx) // It may be broken.
}

func (p *probes) mayAsk(node int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.hurt[node]
}

func (p *probes) wrote(i int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.note(i)
	p.acked[i] = time.Now()
}

// note counts the time since the last write of probe i, as far as it is measured.
func (p *probes) note(i int) {
	if p.since.IsZero() {
		return
	}
	from := p.acked[i]
	if from.Before(p.since) {
		from = p.since
	}
	p.worst[i] = max(p.worst[i], time.Since(from))
}

// begin measures from now on, while something befalls these nodes.
func (p *probes) begin(hurt []int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range hurt {
		p.hurt[n] = true
	}
	p.since, p.late = time.Now(), 0
	clear(p.worst)
}

// end returns the longest time without a write since begin.
func (p *probes) end(fault string) stall {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := stall{fault: fault, late: p.late}
	for i := range p.worst {
		p.note(i)
		if p.worst[i] > s.took {
			s.took, s.probe = p.worst[i], i
		}
	}
	p.since = time.Time{}
	p.stalls = append(p.stalls, s)
	return s
}

// recover lets probes ask all nodes again.
func (p *probes) recover() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.hurt)
}

func (s stall) String() string {
	return fmt.Sprintf("%s: longest stall of writes %.1fs (probe %d; the machine itself made a wait of %.2fs)", s.fault, s.took.Seconds(), s.probe, s.late.Seconds())
}

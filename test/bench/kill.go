package main

import (
	"context"
	"errors"
	"log"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// killUnderLoad kills the last of nodes while clients write and read single rows
// through the others, and records the worst second.
func (b *bench) killUnderLoad(ctx context.Context, nodes []*server) error {
	const clients, before, after = 8, 5 * time.Second, 20 * time.Second
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l := &latencies{began: time.Now()}
	var wg sync.WaitGroup
	for i := range clients {
		s := nodes[i%(len(nodes)-1)]
		wg.Go(func() { l.client(ctx, s) })
	}
	time.Sleep(before)
	last := nodes[len(nodes)-1]
	if err := last.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	time.Sleep(after)
	l.mu.Lock()
	total := time.Since(l.began)
	l.mu.Unlock()
	cancel()
	wg.Wait()
	if len(l.done) == 0 {
		return errors.New("no statement succeeded while a node was killed")
	}
	quiet := l.worst(0, before)
	b.plain("p99 while a node is killed, worst second (before: yardstick)", l.worst(before, total).Seconds(), quiet.Seconds(), "s")
	log.Printf("%d statements, %d failed and were tried again", len(l.done), l.failed)
	return nil
}

// latencies are those of statements, from the first try to the success.
type latencies struct {
	began  time.Time
	mu     sync.Mutex
	done   []finished
	failed int
}

type finished struct{ at, took time.Duration } // at: since the beginning

// client writes and reads rows one after the other.
func (l *latencies) client(ctx context.Context, s *server) {
	var conn *pgx.Conn
	defer func() {
		if conn != nil {
			_ = conn.Close(context.Background()) // The figures are complete.
		}
	}()
	for n := 0; ctx.Err() == nil; n++ {
		start, k := time.Now(), 1+rand.IntN(clusterRows)
		for ctx.Err() == nil {
			var err error
			if conn == nil || conn.IsClosed() {
				conn, err = pgx.Connect(ctx, s.url)
			}
			if err == nil && n%2 == 0 {
				_, err = conn.Exec(ctx, "UPDATE kv SET v = 'y' WHERE k = $1", k)
			} else if err == nil {
				_, err = conn.Exec(ctx, "SELECT v FROM kv WHERE k = $1", k)
			}
			l.mu.Lock()
			if err == nil {
				l.done = append(l.done, finished{time.Since(l.began), time.Since(start)})
			} else if ctx.Err() == nil {
				l.failed++
			}
			l.mu.Unlock()
			if err == nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// worst returns the largest p99 of the seconds from the first to the last. A statement
// belongs to the second in which it ended.
func (l *latencies) worst(from, to time.Duration) time.Duration {
	seconds := map[int][]time.Duration{}
	for _, f := range l.done {
		if f.at >= from && f.at < to {
			i := int((f.at - from) / time.Second)
			seconds[i] = append(seconds[i], f.took)
		}
	}
	var worst time.Duration
	for _, took := range seconds {
		slices.Sort(took)
		worst = max(worst, took[len(took)*99/100])
	}
	return worst
}

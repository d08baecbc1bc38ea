package server

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// unreliable loses, doubles, delays and so disorders what a node hears.
type unreliable struct {
	mu                       sync.Mutex
	rng                      *rand.Rand
	dropped, doubled, passed atomic.Int64
}

func (u *unreliable) deliver(msg []byte, learn func([]byte)) {
	u.mu.Lock()
	fate, delay := u.rng.IntN(10), time.Duration(u.rng.IntN(1500))*time.Millisecond
	u.mu.Unlock()
	switch {
	case fate < 4:
		u.dropped.Add(1)
		return
	case fate < 6:
		u.doubled.Add(1)
		learn(msg)
	}
	u.passed.Add(1)
	time.AfterFunc(delay, func() { learn(msg) }) // What learns does not need a node that runs.
}

// TestAnswersWithBadGossip: money is moved and counted from three nodes while ranges
// are split and scattered and what nodes tell of each other comes late, twice, in
// another order or not at all. Nothing of it changes an answer.
func TestAnswersWithBadGossip(t *testing.T) {
	if testing.Short() {
		t.Skip("takes more than ten seconds")
	}
	const accounts, balance, span = 30, 100, 8 * time.Second
	u := &unreliable{rng: rand.New(rand.NewPCG(1, 2))}
	nodes := startNodes(t, 3, func(_ int, cfg *Config) { cfg.Testing.Gossip = u.deliver })
	admin := connectNode(t, nodes[0], nil)
	exec1(t, admin, "CREATE TABLE bank (id INT PRIMARY KEY, balance INT, moves INT)")
	exec1(t, admin, fmt.Sprintf("INSERT INTO bank SELECT i, %d, 0 FROM generate_series(0, %d) AS g(i)", balance, accounts-1))

	ctx, stop := context.WithTimeout(context.Background(), span)
	defer stop()
	var acked, unknown, sums atomic.Int64
	var wg sync.WaitGroup
	for i, n := range nodes {
		mover, reader := connectNode(t, n, nil), connectNode(t, n, nil)
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(3, uint64(i)))
			for ctx.Err() == nil {
				from, to := rng.IntN(accounts), rng.IntN(accounts)
				if from == to {
					continue
				}
				// Not under ctx: a statement that is cut off has an unknown outcome.
				tag, err := mover.Exec(context.Background(),
					"UPDATE bank SET balance = balance + CASE id WHEN $1 THEN -1 ELSE 1 END, moves = moves + 1 WHERE id IN ($1, $2)", from, to)
				switch {
				case err == nil && tag.RowsAffected() == 2:
					acked.Add(1)
				case pgCode(err) == "40003":
					unknown.Add(1)
				case pgCode(err) != "40001":
					t.Errorf("n%d moves money: %s %v", i+1, tag, err)
					return
				}
			}
		})
		wg.Go(func() {
			for ctx.Err() == nil {
				var sum, count int
				err := reader.QueryRow(context.Background(), "SELECT sum(balance)::INT, count(*)::INT FROM bank").Scan(&sum, &count)
				if pgCode(err) == "40001" {
					continue
				}
				if err != nil || sum != accounts*balance || count != accounts {
					t.Errorf("n%d counts %d of %d accounts: %v", i+1, sum, count, err)
					return
				}
				sums.Add(1)
			}
		})
	}
	wg.Go(func() {
		for split := 3; ctx.Err() == nil; split = (split + 7) % accounts {
			for _, stmt := range []string{fmt.Sprintf("ALTER TABLE bank SPLIT AT VALUES (%d)", split), "ALTER TABLE bank SCATTER"} {
				if _, err := admin.Exec(ctx, stmt); err != nil && ctx.Err() == nil {
					t.Logf("%s: %v", stmt, err) // It may be refused; the answers count.
				}
			}
			select {
			case <-time.After(200 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	})
	wg.Wait()
	last := connectNode(t, nodes[1], nil)
	var moves int64
	if err := last.QueryRow(context.Background(), "SELECT sum(moves)::INT / 2 FROM bank").Scan(&moves); err != nil {
		t.Fatal(err)
	}
	if moves < acked.Load() || moves > acked.Load()+unknown.Load() {
		t.Errorf("%d moves are there, %d were acknowledged and %d may have happened", moves, acked.Load(), unknown.Load())
	}
	var ranges, holders int
	if err := last.QueryRow(context.Background(), "SELECT count(*)::INT, count(DISTINCT lease_holder)::INT FROM [SHOW RANGES FROM TABLE bank WITH DETAILS]").Scan(&ranges, &holders); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d moves, %d unknown, %d sums; %d ranges on %d leaseholders; gossip: %d lost, %d doubled, %d passed",
		acked.Load(), unknown.Load(), sums.Load(), ranges, holders, u.dropped.Load(), u.doubled.Load(), u.passed.Load())
	if acked.Load() < 20 || sums.Load() < 20 || ranges < 3 || u.dropped.Load() == 0 || u.doubled.Load() == 0 {
		t.Error("too little happened to prove anything")
	}
}

package histories

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// client is one connection at a time, to any of the nodes.
type client struct {
	*round
	id   int
	rng  *rand.Rand
	node int // 1..n; of conn
	conn *pgx.Conn
	// lastErr is what the last operation failed with.
	lastErr string
}

// opTimeout is after how long a client gives up. What it asked for may happen later.
const opTimeout = 8 * time.Second

// connect makes sure of a connection. Nothing was sent when it fails.
func (c *client) connect(ctx context.Context) error {
	if c.conn != nil && !c.conn.IsClosed() && c.rng.IntN(200) > 0 {
		return nil
	}
	c.disconnect()
	c.node = 1 + c.rng.IntN(len(c.nodes))
	conn, err := pgx.Connect(ctx, c.nodes[c.node-1].URL("defaultdb"))
	if err != nil {
		return err
	}
	c.conn = conn
	return nil
}

func (c *client) disconnect() {
	if c.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	_ = c.conn.Close(ctx) // Whoever waits for what it did has its answer.
	cancel()
	c.conn = nil
}

// errNotConnected says that nothing was sent.
var errNotConnected = errors.New("no connection")

// once runs fn, which sends one statement that commits by itself.
func (c *client) once(fn func(ctx context.Context, conn *pgx.Conn) error) (interval, outcome) {
	return c.timed(func(ctx context.Context) (outcome, error) {
		if err := c.connect(ctx); err != nil {
			return failed, errNotConnected
		}
		err := fn(ctx, c.conn)
		return classify(err), err
	})
}

// txn runs fn in a transaction. Before COMMIT is sent nothing can have happened.
func (c *client) txn(fn func(ctx context.Context, tx pgx.Tx) error) (interval, outcome) {
	return c.timed(func(ctx context.Context) (outcome, error) {
		if err := c.connect(ctx); err != nil {
			return failed, errNotConnected
		}
		tx, err := c.conn.Begin(ctx)
		if err != nil {
			return failed, err
		}
		if err := fn(ctx, tx); err != nil {
			_ = tx.Rollback(ctx) // The end of the connection has the same effect.
			return failed, err
		}
		switch err = tx.Commit(ctx); {
		case errors.Is(err, pgx.ErrTxCommitRollback):
			return failed, err
		case err == nil:
			return happened, nil
		}
		return classify(err), err
	})
}

func (c *client) timed(fn func(context.Context) (outcome, error)) (interval, outcome) {
	ctx, cancel := context.WithTimeout(c.working, opTimeout)
	defer cancel()
	i := interval{Call: c.clock.now()}
	o, err := fn(ctx)
	i.Return = c.clock.now()
	if o == unknown {
		i.Return = forever
	}
	c.count(o, err)
	if c.lastErr = ""; err != nil {
		c.lastErr = fmt.Sprintf("%.300v", err)
	}
	if err != nil {
		c.pause(200 * time.Millisecond)
		if c.rng.IntN(3) == 0 {
			c.disconnect()
		}
	}
	return i, o
}

// count keeps what clients were told, for the summary.
func (r *round) count(o outcome, err error) {
	text := ""
	if err != nil {
		var pe *pgconn.PgError
		switch {
		case errors.Is(err, errNotConnected):
			text = "no connection"
		case errors.As(err, &pe):
			text = fmt.Sprintf("%s %.100s", pe.Code, pe.Message)
			if pe.Code == "40001" {
				text = pe.Code // Its reasons are many.
			}
		case pgconn.Timeout(err):
			text = "timeout"
		default:
			text = "connection lost"
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outcomes[o]++
	if text != "" {
		r.errors[text]++
	}
}

// pause waits for up to d, or until the work is to end.
func (c *client) pause(d time.Duration) {
	select {
	case <-time.After(time.Duration(c.rng.Int64N(int64(d)))):
	case <-c.working.Done():
	}
}

// work runs fn again and again in a client of its own.
func (r *round) work(fn func(c *client)) {
	r.lastClient++
	c := &client{round: r, id: r.lastClient, rng: rand.New(rand.NewPCG(r.seed, uint64(r.lastClient)))}
	r.clients.Go(func() {
		defer c.disconnect()
		for c.working.Err() == nil {
			fn(c)
			c.pause(2 * r.pace)
		}
	})
}

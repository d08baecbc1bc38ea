package histories

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	bankAccounts = 24
	bankEach     = 100
)

// tables are those of all workloads. Each has many ranges later on.
var tables = []string{
	"CREATE TABLE registers (k INT PRIMARY KEY, v INT NOT NULL, at DECIMAL)",
	"CREATE TABLE sets (s INT, e INT, PRIMARY KEY (s, e), INDEX by_element (e))",
	"CREATE TABLE lists (k INT PRIMARY KEY, v TEXT NOT NULL)",
	"CREATE TABLE bank (id INT PRIMARY KEY, balance INT NOT NULL)",
	"CREATE TABLE probes (k INT PRIMARY KEY, n INT NOT NULL)",
}

// spread turns a serial number into a key somewhere in the table, so that keys that
// are used at a time are not all in one range.
func spread(serial int) int { return serial*7919%keySpace + 1 }

// keySpace is what keys of registers, sets and lists are below.
const keySpace = 10007

// shifts lets a few keys be used at a time, and each for a bounded number of
// operations, so that histories of keys stay short.
type shifts struct {
	atOnce, each int
	n            atomic.Int64
}

func (s *shifts) key(rng *rand.Rand) int {
	turn := int(s.n.Add(1)) / s.each
	return spread(turn/s.atOnce*s.atOnce + rng.IntN(s.atOnce))
}

// startRegisters runs single statements on single keys.
func (r *round) startRegisters(n int) {
	keys := &shifts{atOnce: 4, each: 150}
	var values atomic.Int64
	for range n {
		r.work(func(c *client) {
			op := registerOp{Client: c.id, Key: keys.key(c.rng)}
			stamped := "NULL"
			if c.rng.IntN(2) == 0 {
				stamped = "cluster_logical_timestamp()"
			}
			switch c.rng.IntN(4) {
			case 0, 1:
				r.readRegisterNow(c, op.Key)
				return
			case 2:
				op.Kind, op.New = "write", int(values.Add(1))
				op.interval, op.Outcome = c.once(func(ctx context.Context, conn *pgx.Conn) error {
					_, err := conn.Exec(ctx, "UPSERT INTO registers VALUES ($1, $2, "+stamped+")", op.Key, op.New)
					return err
				})
			case 3:
				op.Kind, op.New = "cas", int(values.Add(1))
				// What somebody read a moment ago, if that was of this key.
				if last := r.lastSeen.Load(); int(last>>32) == op.Key {
					op.Old = int(last & (1<<32 - 1))
				} else {
					op.Old = op.New - 1 - c.rng.IntN(10)
				}
				if op.Old <= 0 {
					op.Old = -1 // What has no row equals nothing.
				}
				op.interval, op.Outcome = c.once(func(ctx context.Context, conn *pgx.Conn) error {
					tag, err := conn.Exec(ctx, "UPDATE registers SET v = $2, at = "+stamped+" WHERE k = $1 AND v = $3", op.Key, op.New, op.Old)
					op.Got = int(tag.RowsAffected())
					return err
				})
			}
			op.Node, op.Error = c.node, c.lastErr
			r.registers.add(op)
		})
	}
}

// readRegister reads one register, now or as of an instant.
func readRegister(ctx context.Context, conn *pgx.Conn, asOf string, into *pastRead) error {
	var at *string
	err := conn.QueryRow(ctx, fmt.Sprintf("SELECT v, at::STRING FROM registers%s WHERE k = %d", asOf, into.Key)).Scan(&into.Value, &at)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if at != nil {
		into.At = stamp(*at)
	}
	return err
}

func (r *round) readRegisterNow(c *client, key int) outcome {
	past := pastRead{Client: c.id, Key: key}
	op := registerOp{Client: c.id, Key: key, Kind: "read"}
	op.interval, op.Outcome = c.once(func(ctx context.Context, conn *pgx.Conn) error { return readRegister(ctx, conn, "", &past) })
	op.Got, op.Node, past.Node, past.interval = past.Value, c.node, c.node, op.interval
	r.registers.add(op)
	if op.Outcome == happened {
		r.past.add(past)
		if past.Value != 0 {
			r.lastSeen.Store(int64(key)<<32 | int64(past.Value))
		}
	}
	return op.Outcome
}

// startPast reads registers and the bank as of instants of the past, the same one
// through several nodes.
func (r *round) startPast(n int) {
	var sometimes atomic.Pointer[string] // an instant that others have asked for, too
	for range n {
		r.work(func(c *client) {
			// From the machine's time: the nodes' differ from it.
			ago := time.Duration(c.rng.Int64N(int64(9 * time.Second)))
			if c.rng.IntN(4) == 0 {
				ago = time.Duration(c.rng.Int64N(int64(60 * time.Second)))
			}
			instant := fmt.Sprintf("%d.%010d", time.Now().Add(-ago).UnixNano(), 0)
			if old := sometimes.Load(); old != nil && c.rng.IntN(3) > 0 {
				instant = *old
			} else {
				sometimes.Store(&instant)
			}
			if nanos, _, _ := strings.Cut(instant, "."); nanos < fmt.Sprint(r.created.UnixNano()) {
				return
			}
			asOf := " AS OF SYSTEM TIME " + instant
			if c.rng.IntN(2) == 0 {
				r.readBank(c, instant)
				return
			}
			read := pastRead{Client: c.id, AsOf: stamp(instant)}
			if last := r.lastSeen.Load(); last != 0 {
				read.Key = int(last >> 32)
			} else {
				return
			}
			var o outcome
			read.interval, o = c.once(func(ctx context.Context, conn *pgx.Conn) error { return readRegister(ctx, conn, asOf, &read) })
			read.Node = c.node
			if o == happened {
				r.past.add(read)
			}
		})
	}
}

// startSets adds elements to sets of bounded size and reads them.
func (r *round) startSets(n int) {
	var last atomic.Int64
	const size = 120
	for range n {
		r.work(func(c *client) {
			e := int(last.Load())
			op := setOp{Client: c.id, Set: spread(e / size)}
			if c.rng.IntN(5) == 0 {
				if c.rng.IntN(3) == 0 && e > size {
					op.Set = spread(c.rng.IntN(e / size)) // an old one
				}
				op.Index = c.rng.IntN(3) == 0
				r.readSet(c, &op)
			} else {
				op.Added = int(last.Add(1))
				op.interval, op.Outcome = c.once(func(ctx context.Context, conn *pgx.Conn) error {
					_, err := conn.Exec(ctx, "INSERT INTO sets VALUES ($1, $2)", op.Set, op.Added)
					return err
				})
			}
			op.Node, op.Error = c.node, c.lastErr
			r.sets.add(op)
		})
	}
}

func (r *round) readSet(c *client, op *setOp) {
	query := fmt.Sprintf("SELECT e FROM sets WHERE s = %d", op.Set)
	if op.Index {
		query = fmt.Sprintf("SELECT e FROM sets@by_element WHERE s = %d", op.Set)
	}
	op.interval, op.Outcome = c.once(func(ctx context.Context, conn *pgx.Conn) (err error) {
		rows, err := conn.Query(ctx, query)
		if err != nil {
			return err
		}
		op.Read, err = pgx.CollectRows(rows, pgx.RowTo[int])
		return err
	})
	op.Node = c.node
}

// startLists runs transactions of a few steps over a few lists.
func (r *round) startLists(n int) {
	keys := &shifts{atOnce: 6, each: 60}
	var values atomic.Int64
	for range n {
		r.work(func(c *client) {
			t := listTxn{Client: c.id}
			for range 1 + c.rng.IntN(4) {
				s := listStep{Key: keys.key(c.rng)}
				if c.rng.IntN(2) == 0 {
					s.Append = int(values.Add(1))
				}
				t.Steps = append(t.Steps, s)
			}
			t.interval, t.Outcome = c.txn(func(ctx context.Context, tx pgx.Tx) error {
				for i := range t.Steps {
					if err := listStepIn(ctx, tx, &t.Steps[i]); err != nil {
						return err
					}
				}
				return nil
			})
			t.Node, t.Error = c.node, c.lastErr
			r.lists.add(t)
		})
	}
}

func (r *round) readList(c *client, key int) outcome {
	t := listTxn{Client: c.id, Steps: []listStep{{Key: key}}}
	t.interval, t.Outcome = c.txn(func(ctx context.Context, tx pgx.Tx) error { return listStepIn(ctx, tx, &t.Steps[0]) })
	t.Node = c.node
	r.lists.add(t)
	return t.Outcome
}

func listStepIn(ctx context.Context, tx pgx.Tx, s *listStep) error {
	if s.Append != 0 {
		_, err := tx.Exec(ctx, "INSERT INTO lists VALUES ($1, $2) ON CONFLICT (k) DO UPDATE SET v = lists.v || ',' || excluded.v", s.Key, strconv.Itoa(s.Append))
		return err
	}
	var text string
	if err := tx.QueryRow(ctx, "SELECT v FROM lists WHERE k = $1", s.Key).Scan(&text); err != nil {
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	}
	for _, f := range strings.Split(text, ",") {
		v, err := strconv.Atoi(f)
		if err != nil {
			return err
		}
		s.Read = append(s.Read, v)
	}
	return nil
}

// startBank moves money between accounts and counts it.
func (r *round) startBank(n int) {
	for range n {
		r.work(func(c *client) {
			if c.rng.IntN(6) == 0 {
				r.readBank(c, "")
				return
			}
			from, to := c.rng.IntN(bankAccounts), c.rng.IntN(bankAccounts)
			amount := 1 + c.rng.IntN(30)
			lock := ""
			if c.rng.IntN(3) == 0 {
				lock = " FOR UPDATE"
			}
			if from == to {
				return
			}
			_, o := c.txn(func(ctx context.Context, tx pgx.Tx) error {
				var a, b int
				if err := tx.QueryRow(ctx, "SELECT balance FROM bank WHERE id = $1"+lock, accountKey(from)).Scan(&a); err != nil {
					return err
				}
				if err := tx.QueryRow(ctx, "SELECT balance FROM bank WHERE id = $1"+lock, accountKey(to)).Scan(&b); err != nil {
					return err
				}
				if a < amount {
					return nil
				}
				if _, err := tx.Exec(ctx, "UPDATE bank SET balance = $2 WHERE id = $1", accountKey(from), a-amount); err != nil {
					return err
				}
				_, err := tx.Exec(ctx, "UPDATE bank SET balance = $2 WHERE id = $1", accountKey(to), b+amount)
				return err
			})
			if o == happened {
				r.transfers.Add(1)
			}
		})
	}
}

func accountKey(i int) int { return 1 + i*(keySpace/bankAccounts) }

func (r *round) readBank(c *client, instant string) {
	read := bankRead{Client: c.id, AsOf: instant}
	asOf := ""
	if instant != "" {
		asOf = " AS OF SYSTEM TIME " + instant
	}
	read.interval, read.Outcome = c.once(func(ctx context.Context, conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, "SELECT balance FROM bank"+asOf+" ORDER BY id")
		if err != nil {
			return err
		}
		read.Balances, err = pgx.CollectRows(rows, pgx.RowTo[int])
		return err
	})
	read.Node = c.node
	r.bank.add(read)
}

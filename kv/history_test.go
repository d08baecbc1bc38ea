package kv_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/kvtest"
)

// seed returns the seed of a randomized test: a new one, or HOLDFAST_SEED.
func seed(t testing.TB) uint64 {
	s := uint64(time.Now().UnixNano())
	if e := os.Getenv("HOLDFAST_SEED"); e != "" {
		var err error
		if s, err = strconv.ParseUint(e, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("HOLDFAST_SEED=%d", s)
	return s
}

// TestBankKeepsItsTotal moves money between accounts from many clients. Every
// snapshot, of the present and of the past, must have the same total.
func TestBankKeepsItsTotal(t *testing.T) {
	node := kvtest.New(t, kvtest.Options{})
	db := node.DB
	s := seed(t)
	const accounts, clients, each, start = 20, 6, 60, 100
	ok(t, db.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error {
		b := txn.NewBatch()
		for i := range accounts {
			b.Put(key("%03d", i), val(fmt.Sprint(start)))
		}
		return txn.Run(ctx, b)
	}))
	ok(t, db.AdminSplit(ctx, key("%03d", accounts/2)))
	total := func(kvs []kv.KeyValue) (sum int) {
		for _, p := range kvs {
			n, err := strconv.Atoi(str(p.Value))
			ok(t, err)
			sum += n
		}
		return sum
	}
	begin := db.Clock().Now()
	var wg sync.WaitGroup
	stop := make(chan struct{})
	fail := make(chan error, 100)
	for c := range clients {
		rng := rand.New(rand.NewPCG(s, uint64(c)))
		wg.Go(func() {
			for range each {
				from, to, amount := rng.IntN(accounts), rng.IntN(accounts), rng.IntN(10)
				if from == to {
					continue
				}
				lock, batch := rng.IntN(2) == 0, rng.IntN(2) == 0
				err := db.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error {
					var n [2]int
					for i, a := range []int{from, to} {
						r, err := txn.GetWith(ctx, key("%03d", a), kv.GetOptions{ForUpdate: lock})
						if err != nil {
							return err
						}
						n[i], _ = strconv.Atoi(str(r.Value))
					}
					b := txn.NewBatch()
					b.Put(key("%03d", from), val(fmt.Sprint(n[0]-amount)))
					b.Put(key("%03d", to), val(fmt.Sprint(n[1]+amount)))
					if batch {
						return txn.CommitInBatch(ctx, b)
					}
					return txn.Run(ctx, b)
				})
				if err != nil {
					fail <- err
				}
			}
		})
	}
	var readers sync.WaitGroup
	readers.Go(func() {
		rng := rand.New(rand.NewPCG(s, 99))
		for {
			select {
			case <-stop:
				return
			default:
			}
			var got []kv.KeyValue
			if rng.IntN(2) == 0 {
				ok(t, db.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error {
					r, err := txn.Scan(ctx, key(""), key("~"), kv.ScanOptions{Reverse: rng.IntN(2) == 0})
					got = r.KVs
					return err
				}))
			} else {
				back := time.Duration(rng.Int64N(int64(time.Since(begin.Time())) + 1))
				ts := hlc.Later(begin, db.Clock().Now().Add(-back))
				r, err := db.Scan(ctx, key(""), key("~"), ts, kv.ScanOptions{})
				ok(t, err)
				got = r.KVs
			}
			if sum := total(got); sum != accounts*start {
				fail <- fmt.Errorf("a snapshot of %d accounts has total %d", len(got), sum)
				return
			}
		}
	})
	wg.Wait()
	close(stop)
	readers.Wait()
	close(fail)
	for err := range fail {
		t.Error(err)
	}
}

// op is one operation of a list-append transaction, with what it returned.
type op struct {
	list   int
	append int // the element, 0 for a read
	read   []int
}

type committed struct {
	ops        []op
	start, end time.Time
}

// TestListAppendIsStrictlySerializable lets clients read and append to lists at
// random, and looks for a cycle among the committed transactions. An element is
// appended once, so every read says which transactions came before it.
func TestListAppendIsStrictlySerializable(t *testing.T) {
	for name, lists := range map[string]int{"contended": 3, "wide": 25} {
		t.Run(name, func(t *testing.T) {
			s := seed(t)
			node := kvtest.New(t, kvtest.Options{})
			ok(t, node.DB.AdminSplit(ctx, key("l%02d", lists/2)))
			h := runListAppend(t, node.DB, s, lists)
			checkListAppend(t, node.DB, h, lists)
		})
	}
}

func runListAppend(t *testing.T, db *kv.DB, s uint64, lists int) []committed {
	const clients, each = 6, 70
	var mu sync.Mutex
	var h []committed
	next := 0
	var wg sync.WaitGroup
	for c := range clients {
		rng := rand.New(rand.NewPCG(s, uint64(c)))
		wg.Go(func() {
			for range each {
				var ops []op
				for range 1 + rng.IntN(4) {
					o := op{list: rng.IntN(lists)}
					if rng.IntN(2) == 0 {
						mu.Lock()
						next++
						o.append = next
						mu.Unlock()
					}
					ops = append(ops, o)
				}
				rec := committed{start: time.Now()}
				err := db.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error {
					rec.ops = nil
					if rng.IntN(8) == 0 {
						txn.SetPriority(kvpb.PriorityHigh)
					}
					return listTxn(ctx, txn, rng, ops, &rec)
				})
				rec.end = time.Now()
				if errors.Is(err, errGiveUp) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				h = append(h, rec)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return h
}

var errGiveUp = errors.New("client gives up")

func listTxn(ctx context.Context, txn *kv.Txn, rng *rand.Rand, ops []op, rec *committed) error {
	for i, o := range ops {
		if rng.IntN(40) == 0 {
			return errGiveUp
		}
		k := key("l%02d", o.list)
		var sp kv.Savepoint
		if rng.IntN(6) == 0 { // A detour that must leave no trace.
			var err error
			if sp, err = txn.Savepoint(ctx); err != nil {
				return err
			}
			if err := txn.Put(ctx, k, val("-1")); err != nil {
				return err
			}
			if err := txn.RollbackTo(ctx, sp); err != nil {
				return err
			}
		}
		var v []byte
		if rng.IntN(4) == 0 {
			r, err := txn.Scan(ctx, k, k.Next(), kv.ScanOptions{ForUpdate: o.append != 0 && rng.IntN(2) == 0})
			if err != nil {
				return err
			}
			if len(r.KVs) > 0 {
				v = r.KVs[0].Value
			}
		} else {
			r, err := txn.GetWith(ctx, k, kv.GetOptions{ForUpdate: o.append != 0 && rng.IntN(2) == 0})
			if err != nil {
				return err
			}
			v = r.Value
		}
		o.read = parseList(str(v))
		rec.ops = append(rec.ops, o)
		if o.append == 0 {
			continue
		}
		next := val(strings.TrimSpace(str(v) + " " + strconv.Itoa(o.append)))
		switch {
		case i == len(ops)-1 && rng.IntN(2) == 0:
			b := txn.NewBatch()
			b.CPut(k, next, v)
			return txn.CommitInBatch(ctx, b)
		case rng.IntN(2) == 0:
			if err := txn.CPut(ctx, k, next, v); err != nil {
				return err
			}
		default:
			if err := txn.Put(ctx, k, next); err != nil {
				return err
			}
		}
	}
	return nil
}

func parseList(s string) (l []int) {
	for _, f := range strings.Fields(s) {
		n, err := strconv.Atoi(f)
		if err != nil {
			panic(err)
		}
		l = append(l, n)
	}
	return l
}

// checkListAppend builds the graph of who must come before whom and fails if it
// has a cycle.
func checkListAppend(t *testing.T, db *kv.DB, h []committed, lists int) {
	t.Helper()
	final := make([][]int, lists)
	for l := range final {
		final[l] = parseList(get(t, db, key("l%02d", l)))
	}
	writer := map[int]int{} // element → transaction
	for i, c := range h {
		for _, o := range c.ops {
			if o.append != 0 {
				writer[o.append] = i
			}
		}
	}
	n := 0
	for l := range final {
		n += len(final[l])
		for _, e := range final[l] {
			if _, known := writer[e]; !known {
				t.Fatalf("list %d has %d, which nobody committed", l, e)
			}
		}
	}
	if n != len(writer) {
		t.Fatalf("%d elements were committed, the lists have %d", len(writer), n)
	}
	edges := make([]map[int]string, len(h))
	add := func(a, b int, why string) {
		if a != b {
			if edges[a] == nil {
				edges[a] = map[int]string{}
			}
			edges[a][b] = why
		}
	}
	for l := range final {
		for i := 1; i < len(final[l]); i++ {
			add(writer[final[l][i-1]], writer[final[l][i]], fmt.Sprintf("ww list %d", l))
		}
	}
	for i, c := range h {
		for _, o := range c.ops {
			f := final[o.list]
			if len(o.read) > len(f) || !slices.Equal(o.read, f[:len(o.read)]) {
				t.Fatalf("a committed transaction read %v of list %d, which is %v", o.read, o.list, f)
			}
			if len(o.read) > 0 {
				add(writer[o.read[len(o.read)-1]], i, fmt.Sprintf("wr list %d", o.list))
			}
			for _, e := range f[len(o.read):] { // the next element by another transaction
				if writer[e] != i {
					add(i, writer[e], fmt.Sprintf("rw list %d", o.list))
					break
				}
			}
		}
		for j, d := range h {
			if c.end.Before(d.start) {
				add(i, j, "real time")
			}
		}
	}
	state := make([]int8, len(h))
	var path []int
	var visit func(i int) bool
	visit = func(i int) bool {
		state[i] = 1
		path = append(path, i)
		for j, why := range edges[i] {
			if state[j] == 1 {
				t.Errorf("cycle closed by %s", why)
				for _, p := range path[slices.Index(path, j):] {
					t.Errorf("  %+v", h[p])
				}
				return true
			}
			if state[j] == 0 && visit(j) {
				return true
			}
		}
		path = path[:len(path)-1]
		state[i] = 2
		return false
	}
	for i := range h {
		if state[i] == 0 && visit(i) {
			return
		}
	}
	t.Logf("%d transactions, %d elements, no cycle", len(h), n)
}

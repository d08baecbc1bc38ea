package oracle

import (
	"fmt"
	"maps"
	"math/rand"
	"slices"
	"sync"
	"time"

	"github.com/holdfastdb/holdfast/test/node"
)

// writers change two tables of one database all the time, in transactions that
// stay open for a while, beside everything else that happens. Each owns its keys,
// so their journals say what the tables held at any instant.
type writers struct {
	n    *node.Node
	stop chan struct{}
	wg   sync.WaitGroup

	// gate is held by each transaction, and by whoever needs them all to rest.
	gate sync.RWMutex

	mu      sync.Mutex
	cond    *sync.Cond
	journal []commit // of all writers
	begun   []int    // transactions that each began …
	ended   []int    // … and knows the outcome of
	err     error
}

// commit is one transaction of a writer.
type commit struct {
	ts      timestamp
	changes []change
}

// change is what a transaction made of one key; a nil row is a deletion.
type change struct {
	table int // of writersTables
	key   string
	row   []string
}

const writerCount = 3

// writersTables is how the tables begin. Steps may add columns and indexes.
var writersTables = []struct {
	key, create string
	table       table
}{
	{"w.kv", "CREATE TABLE w.kv (pk INT, writer INT, v TEXT, n BIGINT, CONSTRAINT kv_pkey PRIMARY KEY (pk))", table{
		pk: 1, fixed: 4, columns: []column{{name: "pk", typ: "INT"}, {name: "writer", typ: "INT"}, {name: "v", typ: "TEXT"}, {name: "n", typ: "BIGINT"}},
		indexes: []index{{name: "kv_pkey", columns: []string{"pk"}}, {name: "kv_v", columns: []string{"v"}}, {name: "kv_n", columns: []string{"n"}, unique: true}},
	}},
	{"w.pad", "CREATE TABLE w.pad (pk INT, writer INT, v TEXT, n BIGINT, CONSTRAINT pad_pkey PRIMARY KEY (writer, pk))", table{
		pk: 2, fixed: 4, columns: []column{{name: "pk", typ: "INT"}, {name: "writer", typ: "INT"}, {name: "v", typ: "TEXT"}, {name: "n", typ: "BIGINT"}},
		indexes: []index{{name: "pad_pkey", columns: []string{"writer", "pk"}}, {name: "pad_v", columns: []string{"v"}, storing: []string{"n"}}},
	}},
}

var writersIndexes = []string{"CREATE INDEX kv_v ON w.kv (v)", "CREATE UNIQUE INDEX kv_n ON w.kv (n)", "CREATE INDEX pad_v ON w.pad (v) INCLUDE (n)"}

func startWriters(n *node.Node, seed int64) *writers {
	w := &writers{n: n, stop: make(chan struct{}), begun: make([]int, writerCount), ended: make([]int, writerCount)}
	w.cond = sync.NewCond(&w.mu)
	for i := range writerCount {
		w.wg.Go(func() { w.run(i, rand.New(rand.NewSource(seed+int64(i)))) })
	}
	return w
}

func (w *writers) finish() {
	close(w.stop)
	w.wg.Wait()
}

func (w *writers) run(id int, rng *rand.Rand) {
	c := newClient(w.n)
	defer c.close()
	live := []map[string][]string{{}, {}} // the writer's own rows
	for seq := 1; ; seq++ {
		select {
		case <-w.stop:
			return
		case <-time.After(time.Duration(rng.Intn(15)) * time.Millisecond):
		}
		w.mu.Lock()
		w.begun[id] = seq
		w.mu.Unlock()
		next := []map[string][]string{maps.Clone(live[0]), maps.Clone(live[1])}
		ops, changes := w.transaction(id, seq, rng, next)
		w.gate.RLock()
		ts, ok := w.commit(c, id, seq, ops)
		w.gate.RUnlock()
		w.mu.Lock()
		if ok {
			live = next
			w.journal = append(w.journal, commit{ts, changes})
		}
		w.ended[id] = seq
		w.cond.Broadcast()
		w.mu.Unlock()
	}
}

// transaction makes up one transaction and changes rows accordingly.
func (w *writers) transaction(id, seq int, rng *rand.Rand, rows []map[string][]string) (ops []op, changes []change) {
	const keys = 60
	put := func(table, pk int, row []string) {
		key := fmt.Sprint(pk)
		if table == 1 {
			key = fmt.Sprintf("%d\x00%d", pk, id)
		}
		if row == nil {
			delete(rows[table], key)
		} else {
			rows[table][key] = row
		}
		changes = append(changes, change{table, key, row})
	}
	get := func(table, pk int) []string {
		if table == 1 {
			return rows[1][fmt.Sprintf("%d\x00%d", pk, id)]
		}
		return rows[0][fmt.Sprint(pk)]
	}
	for i := range 1 + rng.Intn(4) {
		if i > 0 && rng.Intn(3) == 0 { // Locks stay open while others go on.
			longest := 60
			if id == 0 { // This one outlasts whole backups.
				longest = 400
			}
			ops = append(ops, op{sql: fmt.Sprintf("SELECT pg_sleep(%.3f)", float64(rng.Intn(longest))/1000)})
		}
		table := rng.Intn(2)
		name := writersTables[table].key
		pk := rng.Intn(keys)*writerCount + id
		n := fmt.Sprint((seq*8+i)*writerCount + id)
		switch rng.Intn(5) {
		case 0:
			for p := pk; p < pk+5*writerCount; p += writerCount {
				if get(table, p) != nil {
					put(table, p, nil)
				}
			}
			ops = append(ops, op{sql: fmt.Sprintf("DELETE FROM %s WHERE writer = %d AND pk BETWEEN %d AND %d", name, id, pk, pk+5*writerCount-1)})
		case 1:
			if r := get(table, pk); r != nil {
				r = slices.Clone(r)
				r[2] = fmt.Sprintf("u%d", seq%9)
				put(table, pk, r)
			}
			ops = append(ops, op{sql: fmt.Sprintf("UPDATE %s SET v = 'u%d' WHERE writer = %d AND pk = %d", name, seq%9, id, pk)})
		default:
			row := []string{fmt.Sprint(pk), fmt.Sprint(id), fmt.Sprintf("i%d", rng.Intn(20)), n}
			put(table, pk, row)
			target := "pk"
			if table == 1 {
				target = "writer, pk"
			}
			ops = append(ops, op{sql: fmt.Sprintf("INSERT INTO %s (pk, writer, v, n) VALUES (%d, %d, '%s', %s) ON CONFLICT (%s) DO UPDATE SET v = excluded.v, n = excluded.n",
				name, pk, id, row[2], n, target)})
		}
	}
	return ops, changes
}

// commit runs a transaction until its outcome is known.
func (w *writers) commit(c *client, id, seq int, ops []op) (timestamp, bool) {
	for attempt := 0; ; attempt++ {
		ts, err := c.transact("d0", ops, id, seq)
		switch {
		case err == nil:
			return ts, true
		case isRetry(err), err != nil && isCollected(err):
			time.Sleep(time.Duration(attempt) * 3 * time.Millisecond) // Others get their turn.
			continue
		case !isBroken(err):
			w.mu.Lock()
			if w.err == nil {
				w.err = fmt.Errorf("writer %d: %w", id, err)
			}
			w.mu.Unlock()
			return timestamp{}, false
		}
		// The node was killed. Did the transaction commit?
		for tries := 0; ; tries++ {
			ts, ok, err := c.marked(id, seq)
			if err == nil {
				return ts, ok
			}
			if tries > 2000 {
				return timestamp{}, false
			}
			c.close()
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// settle waits until the outcome of every transaction that has begun is known.
func (w *writers) settle() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	begun := slices.Clone(w.begun)
	for i := range begun {
		for w.ended[i] < begun[i] && w.err == nil {
			w.cond.Wait()
		}
	}
	return w.err
}

// fill puts the rows that there were at an instant into the writers' tables of a
// database.
func (w *writers) fill(d *database, at timestamp) {
	w.mu.Lock()
	var past []commit
	for _, c := range w.journal {
		if !at.less(c.ts) {
			past = append(past, c)
		}
	}
	w.mu.Unlock()
	// Of one writer the order is that of time; of two it does not matter.
	slices.SortStableFunc(past, func(a, b commit) int {
		if a.ts.less(b.ts) {
			return -1
		} else if b.ts.less(a.ts) {
			return 1
		}
		return 0
	})
	for i, wt := range writersTables {
		t := d.edit(wt.key)
		t.rows = map[string][]string{}
		var more []string
		for _, c := range t.columns[4:] {
			more = append(more, c.def)
		}
		for _, c := range past {
			for _, ch := range c.changes {
				if ch.table != i {
					continue
				}
				if ch.row == nil {
					delete(t.rows, ch.key)
				} else {
					t.rows[ch.key] = append(slices.Clone(ch.row), more...)
				}
			}
		}
	}
}

// moments returns the commit timestamps of the writers.
func (w *writers) moments() []timestamp {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make([]timestamp, len(w.journal))
	for i, c := range w.journal {
		out[i] = c.ts
	}
	return out
}

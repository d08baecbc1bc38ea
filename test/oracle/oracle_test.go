package oracle

import (
	"errors"
	"flag"
	"fmt"
	"math/rand"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfastdb/holdfast/test/node"
)

var (
	oracleDuration = flag.Duration("oracle.duration", 20*time.Second, "how long TestRestoresEqualTheModel runs")
	oracleSeed     = flag.Int64("oracle.seed", 0, "seed of TestRestoresEqualTheModel; 0 takes the time")
)

// moment is an instant right after a transaction, and what there was then.
type moment struct {
	ts    timestamp
	state *state
	// fuzzy says that values of sequences changed since the moment before, outside
	// of transactions: nobody knows when.
	fuzzy bool
}

// oracle drives one node and keeps the truth about it.
type oracle struct {
	generator
	t       *testing.T
	n       *node.Node
	c       *client
	writers *writers
	rng     *rand.Rand
	gc      bool // old versions are collected after a second

	history []moment
	marks   []timestamp // of the transactions in history
	chains  []*chain
	seq     int

	layers, restores, clusters, refused, kills, checks int
}

// TestRestoresEqualTheModel drives random schemas and writes into a model that
// keeps every state, and into a node that is killed now and then; takes chains of
// backups at random moments; and compares random restores with the model.
func TestRestoresEqualTheModel(t *testing.T) {
	seed := *oracleSeed
	if seed == 0 {
		seed = time.Now().UnixNano()
	}
	duration := *oracleDuration
	if testing.Short() {
		duration = min(duration, 5*time.Second)
	}
	// Several lives: old histories are long to replay, and young ones differ more.
	const life = 30 * time.Second
	for deadline := time.Now().Add(duration); ; seed++ {
		left := time.Until(deadline)
		if left <= 0 {
			return
		}
		if !t.Run(fmt.Sprint("seed-", seed), func(t *testing.T) { live(t, seed, min(left, life)) }) {
			t.Fatalf("replay with -oracle.seed=%d", seed)
		}
	}
}

// live is one life of a node.
func live(t *testing.T, seed int64, duration time.Duration) {
	rng := rand.New(rand.NewSource(seed))
	o := &oracle{t: t, rng: rng, gc: seed%2 == 0}
	o.generator.rng = rng
	var flags []string
	if o.gc {
		flags = append(flags, "--testing-gc-interval=200ms")
	}
	o.n = node.Start(t, flags...)
	o.c = newClient(o.n)
	defer o.c.close()
	o.begin()
	o.writers = startWriters(o.n, seed)
	defer o.writers.finish()

	for deadline := time.Now().Add(duration); time.Now().Before(deadline); {
		switch rng.Intn(34) {
		case 0, 1:
			o.full()
		case 2, 3, 4, 5, 6, 7:
			o.incremental()
		case 8, 9, 10, 11:
			o.restore()
		case 12:
			o.changeDatabases()
		case 13:
			o.nextval()
		case 14:
			if rng.Intn(2) == 0 {
				o.checkLive()
			}
		default:
			o.write(rng.Intn(40) == 0)
		}
	}
	for range 3 {
		o.restore()
	}
	o.checkLive()
	o.checkLeftovers()
	if err := o.writers.settle(); err != nil {
		t.Fatal(err)
	}
	t.Logf("gc %t: %d transactions and %d of writers, %d layers, %d restores compared, %d of them of whole clusters, %d refused as collected, %d kills, %d checks of the present",
		o.gc, len(o.marks), len(o.writers.moments()), o.layers, o.restores, o.clusters, o.refused, o.kills, o.checks)
}

// begin makes what every life starts from.
func (o *oracle) begin() {
	o.t.Helper()
	o.must("defaultdb", "CREATE DATABASE ctl", "CREATE DATABASE d0", "CREATE DATABASE d1")
	o.must("ctl", "CREATE TABLE marks (writer INT, seq INT, ts DECIMAL, PRIMARY KEY (writer, seq))")
	o.must("d0", "CREATE SCHEMA w")
	s := &state{dbs: map[string]*database{"d0": newDatabase(o.number()), "d1": newDatabase(o.number())}}
	s.dbs["d0"].schemas["w"] = true
	for _, wt := range writersTables {
		o.must("d0", wt.create)
		t := wt.table
		t.uid, t.rows = o.number(), map[string][]string{}
		s.dbs["d0"].tables[wt.key] = &t
	}
	o.must("d0", writersIndexes...)
	if o.gc {
		o.must("ctl", "ALTER DATABASE d0 CONFIGURE ZONE USING gc.ttlseconds = 1", "ALTER DATABASE d1 CONFIGURE ZONE USING gc.ttlseconds = 3")
	}
	if !o.commit("ctl", nil, s, false) {
		o.t.Fatal("the first transaction did not commit")
	}
}

func (o *oracle) must(db string, stmts ...string) {
	o.t.Helper()
	for _, s := range stmts {
		for tries := 0; ; tries++ {
			_, err := o.c.rows(db, s)
			if err == nil {
				break
			}
			if !isRetry(err) || tries > 100 {
				o.t.Fatal(err)
			}
		}
	}
}

func (o *oracle) present() *state { return o.history[len(o.history)-1].state }

// write changes both sides in one transaction.
func (o *oracle) write(kill bool) {
	o.t.Helper()
	next := o.present().clone()
	db, ops := o.step(next)
	if len(ops) == 0 {
		return
	}
	bulk := slices.ContainsFunc(ops, func(p op) bool {
		return p.copy != "" || strings.Contains(p.sql, " INDEX ") || strings.HasPrefix(p.sql, "ALTER TABLE")
	})
	if o.commit(db, ops, next, kill) && bulk && !kill {
		// What went beside the transaction is there when it commits, not later.
		ts := o.marks[len(o.marks)-1]
		err := o.c.compare(db, o.truth(ts).state.dbs[db], scope{noSeqs: true}, fmt.Sprint("'", ts, "'"))
		if err != nil && !(o.gc && isCollected(err)) {
			o.t.Fatalf("at the commit of\n%s%v", describe(ops), err)
		}
	}
}

// patience is how often a transaction is tried beside the writers.
const patience = 15

// commit runs a transaction and, if it committed, remembers the moment after it.
// With kill, the node dies somewhere on the way.
func (o *oracle) commit(db string, ops []op, next *state, kill bool) bool {
	o.t.Helper()
	o.seq++
	for tries := 0; ; tries++ {
		if tries >= patience {
			// A schema change that reads all of a table that others write all the
			// time may never get through: as a user would, let them rest.
			o.writers.gate.Lock()
		}
		ts, err := o.transact(db, ops, kill && tries == 0)
		ok := err == nil
		if tries >= patience {
			o.writers.gate.Unlock()
		}
		// A transaction that takes longer than versions live cannot go on either.
		if err != nil && (isRetry(err) || o.gc && isCollected(err)) && tries < 2*patience {
			continue
		}
		if kill && tries == 0 && isBroken(err) {
			if ts, ok, err = o.c.marked(writerCount, o.seq); err != nil {
				o.t.Fatal(err)
			}
		} else if err != nil {
			o.t.Fatalf("transaction on %s: %v\n%s", db, err, describe(ops))
		}
		if ok {
			o.history = append(o.history, moment{ts: ts, state: next})
			o.marks = append(o.marks, ts)
		}
		if kill {
			o.checkLive()
		}
		return ok
	}
}

func describe(ops []op) string {
	var b strings.Builder
	for _, p := range ops {
		fmt.Fprintf(&b, "%.300s;\n", p.sql)
	}
	return b.String()
}

func (o *oracle) transact(db string, ops []op, kill bool) (timestamp, error) {
	if !kill {
		return o.c.transact(db, ops, writerCount, o.seq)
	}
	type result struct {
		ts  timestamp
		err error
	}
	done := make(chan result, 1)
	c := newClient(o.n)
	defer c.close()
	go func() {
		ts, err := c.transact(db, ops, writerCount, o.seq)
		done <- result{ts, err}
	}()
	time.Sleep(time.Duration(o.rng.Intn(60)) * time.Millisecond)
	o.kill()
	r := <-done
	return r.ts, r.err
}

func (o *oracle) kill() {
	o.n.Kill()
	o.c.close()
	o.n.Restart()
	o.kills++
}

// changeDatabases makes, drops or renames a whole database. d0, where the writers
// are, stays.
func (o *oracle) changeDatabases() {
	next := o.present().clone()
	name := ""
	for k := range next.dbs {
		if k != "d0" {
			name = k
		}
	}
	var stmt string
	switch {
	case name == "":
		name = []string{"d1", "d2"}[o.rng.Intn(2)]
		next.dbs[name] = newDatabase(o.number())
		stmt = "CREATE DATABASE " + name
	case o.rng.Intn(3) == 0:
		delete(next.dbs, name)
		o.c.drop(name)
		stmt = "DROP DATABASE " + name + " CASCADE"
	case o.rng.Intn(2) == 0:
		renamed := o.name("d")
		next.dbs[renamed] = next.dbs[name]
		delete(next.dbs, name)
		o.c.drop(name)
		stmt = fmt.Sprintf("ALTER DATABASE %s RENAME TO %s", name, renamed)
	default:
		return
	}
	o.commit("ctl", sqls(stmt), next, false)
}

// nextval takes values of sequences, which no transaction takes back.
func (o *oracle) nextval() {
	o.t.Helper()
	next := o.present().clone()
	moved := false
	for _, db := range sortedKeys(next.dbs) {
		for _, k := range sortedKeys(next.dbs[db].seqs) {
			q := next.dbs[db].seqs[k]
			for range o.rng.Intn(3) {
				if q.called {
					q.last += q.increment
				}
				q.called, moved = true, true
				rows, err := o.c.rows(db, "SELECT nextval('"+k+"')")
				if err != nil {
					o.t.Fatal(err)
				}
				if got := rows[0][0]; got != fmt.Sprint(q.last) {
					o.t.Fatalf("nextval of %s: got %s, want %d", k, got, q.last)
				}
			}
		}
	}
	if moved {
		o.commit("ctl", nil, next, false)
		o.history[len(o.history)-1].fuzzy = true
	}
}

// now returns the present of the cluster's clock.
func (o *oracle) now() timestamp {
	o.t.Helper()
	rows, err := o.c.rows(controlDB, "SELECT cluster_logical_timestamp()")
	if err != nil {
		o.t.Fatal(err)
	}
	ts, err := parseTimestamp(rows[0][0])
	if err != nil {
		o.t.Fatal(err)
	}
	return ts
}

// before returns the index of the last moment at or before an instant.
func (o *oracle) before(ts timestamp) int {
	i := len(o.history) - 1
	for i > 0 && ts.less(o.history[i].ts) {
		i--
	}
	return i
}

// truth returns what there was at an instant of the past.
func (o *oracle) truth(ts timestamp) moment {
	o.t.Helper()
	if err := o.writers.settle(); err != nil {
		o.t.Fatal(err)
	}
	i := o.before(ts)
	m := moment{ts: ts, state: o.history[i].state.clone()}
	m.fuzzy = i+1 < len(o.history) && o.history[i+1].fuzzy
	o.writers.fill(m.state.dbs["d0"], ts)
	return m
}

func (o *oracle) marksUpTo(ts timestamp) (n int) {
	for _, t := range append(o.writers.moments(), o.marks...) {
		if !ts.less(t) {
			n++
		}
	}
	return n
}

// checkLive compares the present with the model: an instant of a moment ago, since
// the writers go on.
func (o *oracle) checkLive() {
	o.t.Helper()
	for tries := 0; ; tries++ {
		ts := o.now()
		at := o.truth(ts)
		var err error
		for _, name := range sortedKeys(at.state.dbs) {
			if err == nil {
				err = o.c.compare(name, at.state.dbs[name], scope{}, fmt.Sprint("'", ts, "'"))
			}
		}
		if err == nil {
			o.checks++
			return
		}
		if !o.gc || !isCollected(err) || tries > 20 {
			o.t.Fatal(err)
		}
	}
}

// checkLeftovers looks for what jobs that ended, or died, have left behind.
func (o *oracle) checkLeftovers() {
	o.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := o.c.leftovers()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			o.t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (c *client) leftovers() error {
	for _, check := range []struct{ what, query string }{
		{"jobs that do not end", "SELECT job_id, job_type, status, description FROM [SHOW JOBS] WHERE job_type IN ('BACKUP', 'RESTORE') AND status NOT IN ('succeeded', 'failed', 'canceled')"},
		{"protected timestamps", "SELECT id, ts FROM system.protected_ts_records"},
		{"names without descriptors", "SELECT n.name, n.id FROM system.namespace n LEFT JOIN system.descriptor d ON d.id = n.id WHERE d.id IS NULL"},
		{"names of databases that are not there", `SELECT n.name, n."parentID" FROM system.namespace n LEFT JOIN system.descriptor d ON d.id = n."parentID" WHERE n."parentID" <> 0 AND d.id IS NULL`},
	} {
		rows, err := c.rows("defaultdb", check.query)
		if err != nil {
			return err
		}
		if len(rows) > 0 {
			return fmt.Errorf("%s: %v", check.what, rows)
		}
	}
	return nil
}

// controlDB is where jobs are steered from: a restore of the whole cluster takes
// defaultdb offline.
const controlDB = "system"

// disturbed runs a backup or restore that is paused, or whose node is killed, on
// the way; pausepoint is where it may be paused for longer.
func (o *oracle) disturbed(stmt, pausepoint string) error {
	o.t.Helper()
	if strings.Contains(stmt, " WITH ") {
		stmt += ", detached"
	} else {
		stmt += " WITH detached"
	}
	long := o.rng.Intn(4) == 0
	if long {
		o.must(controlDB, "SET CLUSTER SETTING jobs.debug.pausepoints = '"+pausepoint+"'")
	}
	rows, err := o.c.rows(controlDB, stmt)
	if err != nil {
		return err
	}
	id := rows[0][0]
	switch {
	case long:
		status, err := o.await(id, "paused")
		o.must(controlDB, "SET CLUSTER SETTING jobs.debug.pausepoints = ''")
		if status != "paused" {
			return err
		}
		protected := o.now() // at the latest
		for range o.rng.Intn(4) {
			if o.writers != nil {
				o.write(false)
			}
		}
		if o.gc {
			time.Sleep(1500 * time.Millisecond) // What the job needs must stay.
		}
		if o.rng.Intn(2) == 0 {
			o.kill()
		}
		o.must(controlDB, "RESUME JOB "+id)
		// What was there when the job protected it cannot be gone.
		if status, err := o.await(id, "succeeded"); status != "succeeded" {
			if at, ok := collectedUpTo(err); ok && o.gc && at.less(timestamp{protected.wall - 1e9, 0}) {
				return err
			}
			o.t.Fatalf("%s: resumed after a pause, the job is %s: %v", stmt, status, err)
		}
		return nil
	case o.rng.Intn(2) > 0:
		time.Sleep(time.Duration(o.rng.Intn(80)) * time.Millisecond)
		o.kill()
	default:
		time.Sleep(time.Duration(o.rng.Intn(40)) * time.Millisecond)
		if _, err := o.c.rows(controlDB, "PAUSE JOB "+id); err == nil {
			if status, _ := o.await(id, "paused"); status == "paused" {
				o.must(controlDB, "RESUME JOB "+id)
			}
		}
	}
	status, err := o.await(id, "succeeded")
	if status != "succeeded" && err == nil {
		err = errors.New("the job is " + status)
	}
	return err
}

var thresholdText = regexp.MustCompile(`must be after replica GC threshold (\d+)\.(\d{9}),(\d+)`)

// collectedUpTo returns the threshold that an error names.
func collectedUpTo(err error) (timestamp, bool) {
	if err == nil {
		return timestamp{}, false
	}
	m := thresholdText.FindStringSubmatch(err.Error())
	if m == nil {
		return timestamp{}, false
	}
	t, err := parseTimestamp(m[1] + m[2] + fmt.Sprintf(".%010s", m[3]))
	return t, err == nil
}

// await waits until a job is in some state, or has ended, and returns its error.
func (o *oracle) await(id, want string) (string, error) {
	o.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		rows, err := o.c.rows(controlDB, "SELECT status, coalesce(error, '') FROM [SHOW JOB "+id+"]")
		if err != nil {
			o.t.Fatal(err)
		}
		if len(rows) != 1 {
			o.t.Fatalf("job %s: %v", id, rows)
		}
		switch status := rows[0][0]; {
		case status == want, strings.Contains("succeeded failed canceled revert-failed", status):
			if rows[0][1] != "" {
				return status, errors.New(rows[0][1])
			}
			return status, nil
		case status == "paused" && want != "paused", time.Now().After(deadline):
			o.t.Fatalf("job %s: %v, want %s", id, rows, want)
		}
	}
}

package test

import (
	"flag"
	"fmt"
	"math/rand"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/holdfastdb/holdfast/test/node"
)

var (
	oracleDuration = flag.Duration("oracle.duration", 15*time.Second, "how long TestRestoresEqualTheModel runs")
	oracleSeed     = flag.Int64("oracle.seed", 0, "seed of TestRestoresEqualTheModel; 0 takes the time")
)

// moment is a timestamp and what the database held then.
type moment struct {
	ts    string
	state *model
}

// chain is a full backup and its incrementals.
type chain struct {
	dest    string
	history bool     // every layer has revision history
	ends    []moment // one per layer
	inside  []moment // between the first layer's end and the last one's
	pending []moment // since the last layer's end
}

// TestRestoresEqualTheModel drives random schemas and writes into a model that
// keeps every state, and into a node; takes chains of backups at random moments;
// and compares random restores with the model.
func TestRestoresEqualTheModel(t *testing.T) {
	seed := *oracleSeed
	if seed == 0 {
		seed = time.Now().UnixNano()
	}
	t.Logf("replay with -oracle.seed=%d", seed)
	rng := rand.New(rand.NewSource(seed))
	duration := *oracleDuration
	if testing.Short() {
		duration = min(duration, 5*time.Second)
	}
	n := node.Start(t)
	n.Exec("defaultdb", "CREATE DATABASE d")
	o := &oracle{t: t, n: n, rng: rng, model: newModel()}
	for deadline := time.Now().Add(duration); time.Now().Before(deadline); {
		switch rng.Intn(14) {
		case 0:
			o.full()
		case 1, 2, 3:
			o.incremental()
		case 4, 5:
			o.restore()
		default:
			o.write()
		}
	}
	for range 3 {
		o.restore()
	}
	t.Logf("%d transactions, %d layers, %d restores compared", o.writes, o.layers, o.restores)
	if o.restores == 0 {
		t.Error("no restore was compared")
	}
}

type oracle struct {
	t      *testing.T
	n      *node.Node
	rng    *rand.Rand
	model  *model
	chains []*chain

	writes, layers, restores int
}

// write changes both sides in one transaction and remembers the moment after it.
func (o *oracle) write() {
	o.t.Helper()
	stmts := o.model.step(o.rng)
	if len(stmts) == 0 {
		return
	}
	o.n.Exec("d", strings.Join(append(append([]string{"BEGIN"}, stmts...), "COMMIT"), "; "))
	o.writes++
	now := o.now()
	for _, c := range o.chains {
		c.pending = append(c.pending, now)
	}
}

func (o *oracle) now() moment {
	return moment{ts: o.n.Value("d", "SELECT cluster_logical_timestamp()"), state: o.model.clone()}
}

func (o *oracle) full() {
	c := &chain{dest: fmt.Sprintf("'nodelocal://1/o%d'", len(o.chains)), history: o.rng.Intn(2) == 0}
	o.layer(c, "INTO "+c.dest)
	o.chains = append(o.chains, c)
}

func (o *oracle) incremental() {
	if len(o.chains) == 0 {
		o.full()
		return
	}
	c := o.chains[o.rng.Intn(len(o.chains))]
	o.layer(c, "INTO LATEST IN "+c.dest)
}

func (o *oracle) layer(c *chain, into string) {
	o.t.Helper()
	time.Sleep(11 * time.Millisecond) // A layer's directory is named by the hundredth of a second of its end.
	end := o.now()
	stmt := fmt.Sprintf("BACKUP DATABASE d %s AS OF SYSTEM TIME '%s'", into, end.ts)
	if c.history {
		stmt += " WITH revision_history"
	}
	if o.rng.Intn(4) == 0 {
		o.disturbed(stmt)
	} else {
		o.n.Exec("defaultdb", stmt)
	}
	if len(c.ends) > 0 {
		c.inside = append(c.inside, c.pending...)
	}
	c.pending = nil
	c.ends = append(c.ends, end)
	o.layers++
}

// disturbed runs a backup that is paused, or whose node is killed, on the way.
func (o *oracle) disturbed(stmt string) {
	o.t.Helper()
	if strings.Contains(stmt, " WITH ") {
		stmt += ", detached"
	} else {
		stmt += " WITH detached"
	}
	id := o.n.Value("defaultdb", stmt)
	time.Sleep(time.Duration(o.rng.Intn(40)) * time.Millisecond)
	if o.rng.Intn(2) == 0 {
		o.n.Kill()
		o.n.Restart()
	} else if err := o.n.TryExec("defaultdb", "PAUSE JOB "+id); err == nil {
		deadline := time.Now().Add(20 * time.Second)
		for o.n.Value("defaultdb", "SELECT status FROM [SHOW JOB "+id+"]") == "pause-requested" && time.Now().Before(deadline) {
			time.Sleep(10 * time.Millisecond)
		}
		if o.n.Value("defaultdb", "SELECT status FROM [SHOW JOB "+id+"]") == "paused" {
			o.n.Exec("defaultdb", "RESUME JOB "+id)
		}
	}
	waitJob(o.t, o.n, id, "succeeded")
}

func (o *oracle) restore() {
	o.t.Helper()
	if len(o.chains) == 0 {
		return
	}
	c := o.chains[o.rng.Intn(len(o.chains))]
	want, clause := c.ends[len(c.ends)-1], ""
	if o.rng.Intn(3) > 0 {
		candidates := append([]moment(nil), c.ends...)
		if c.history {
			candidates = append(candidates, c.inside...)
		}
		want = candidates[o.rng.Intn(len(candidates))]
		clause = " AS OF SYSTEM TIME '" + want.ts + "'"
	}
	db := fmt.Sprintf("r%d", o.restores)
	stmt := fmt.Sprintf("RESTORE DATABASE d FROM LATEST IN %s%s WITH new_db_name = '%s'", c.dest, clause, db)
	o.n.Exec("defaultdb", stmt)
	if got, want := o.dump(db), want.state.dump(); got != want {
		o.t.Fatalf("%s\ndiffers from the model:\n%s", stmt, firstDifference(got, want))
	}
	o.checkIndexes(db, want.state)
	o.n.Exec("defaultdb", "DROP DATABASE "+db+" CASCADE")
	o.restores++
}

// dump prints the rows of every table, read by plain SELECTs.
func (o *oracle) dump(db string) string {
	o.t.Helper()
	var b strings.Builder
	for _, table := range o.n.Rows(db, "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1") {
		fmt.Fprintf(&b, "%s(", table[0])
		for _, c := range o.n.Rows(db, fmt.Sprintf(
			"SELECT column_name FROM information_schema.columns WHERE table_schema = 'public' AND table_name = '%s' ORDER BY ordinal_position", table[0])) {
			fmt.Fprintf(&b, "%s ", c[0])
		}
		rows := o.n.Rows(db, "SELECT * FROM "+table[0])
		fmt.Fprintf(&b, ") %d rows\n", len(rows))
		var lines []string
		for _, r := range rows {
			lines = append(lines, "  "+strings.Join(r, "|"))
		}
		sort.Strings(lines)
		for _, l := range lines {
			b.WriteString(l + "\n")
		}
	}
	return b.String()
}

// checkIndexes reads each index by itself: it must know the same keys.
func (o *oracle) checkIndexes(db string, m *model) {
	o.t.Helper()
	for name, t := range m.tables {
		for i, c := range t.columns {
			if c.index == "" {
				continue
			}
			var got, want []string
			for _, r := range o.n.Rows(db, fmt.Sprintf("SELECT pk, %s FROM %s@%s", c.name, name, c.index)) {
				got = append(got, strings.Join(r, "|"))
			}
			for _, r := range t.rows {
				want = append(want, r[0]+"|"+r[i])
			}
			if i == 0 {
				for j := range want {
					pk, _, _ := strings.Cut(want[j], "|")
					want[j] = pk + "|" + pk
				}
			}
			sort.Strings(got)
			sort.Strings(want)
			if fmt.Sprint(got) != fmt.Sprint(want) {
				o.t.Fatalf("index %s of %s differs from the model: %d entries, want %d", c.index, name, len(got), len(want))
			}
		}
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range max(len(g), len(w)) {
		var a, b string
		if i < len(g) {
			a = g[i]
		}
		if i < len(w) {
			b = w[i]
		}
		if a != b {
			return fmt.Sprintf("line %d\n got %q\nwant %q\n(%d lines, want %d)", i+1, a, b, len(g), len(w))
		}
	}
	return "no difference"
}

package oracle

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// chain is a full backup and its incrementals, of everything, of a database, or of
// some tables.
type chain struct {
	id     int
	dest   string
	db     int   // uid; 0: the whole cluster
	tables []int // uids; none: the whole database
	star   bool  // targets are written as patterns
	layers []layer
	dead   string // why nothing can be appended
}

type layer struct {
	start, end timestamp // (start, end]; a full starts at zero
	history    bool
}

func (c *chain) end() timestamp { return c.layers[len(c.layers)-1].end }

// targets writes the targets of a backup, with the names that they have in s.
func (c *chain) targets(s *state) (string, bool) {
	if c.db == 0 {
		return "", true
	}
	name, d := s.dbByUID(c.db)
	if d == nil {
		return "", false
	}
	if c.tables == nil {
		if c.star {
			return "TABLE " + name + ".* ", true
		}
		return "DATABASE " + name + " ", true
	}
	if c.star {
		return "TABLE " + name + ".w.* ", true
	}
	names := c.tableNames(d)
	if len(names) != len(c.tables) {
		return "", false
	}
	for i := range names {
		names[i] = name + "." + names[i]
	}
	return "TABLE " + strings.Join(names, ", ") + " ", true
}

func (c *chain) tableNames(d *database) (names []string) {
	for _, k := range sortedKeys(d.tables) {
		if slices.Contains(c.tables, d.tables[k].uid) {
			names = append(names, k)
		}
	}
	return names
}

// newChain chooses what a chain of backups is about.
func (o *oracle) newChain() *chain {
	c := &chain{id: len(o.chains), dest: fmt.Sprintf("'nodelocal://1/o%d'", len(o.chains)), star: o.rng.Intn(2) == 0}
	s := o.present()
	switch o.rng.Intn(8) {
	case 0, 1, 2:
	default:
		name := pick(o.rng, sortedKeys(s.dbs))
		d := s.dbs[name]
		c.db = d.uid
		if o.rng.Intn(3) > 0 {
			break
		}
		if c.star = c.star && name == "d0"; c.star {
			c.tables = []int{d.tables["w.kv"].uid, d.tables["w.pad"].uid}
			break
		}
		for _, k := range sortedKeys(d.tables) {
			if o.rng.Intn(2) == 0 {
				c.tables = append(c.tables, d.tables[k].uid)
			}
		}
		if len(c.tables) == 0 {
			c.tables = nil
		}
	}
	return c
}

// full takes a full backup into a new place.
func (o *oracle) full() {
	if c := o.newChain(); o.layer(c, o.rng.Intn(5) < 3) {
		o.chains = append(o.chains, c)
	}
}

func (o *oracle) incremental() {
	var alive []*chain
	for _, c := range o.chains {
		if c.dead == "" {
			alive = append(alive, c)
		}
	}
	if len(alive) == 0 {
		o.full()
		return
	}
	// The newest chains are the ones that garbage collection has left.
	c := alive[max(0, len(alive)-1-o.rng.Intn(4))]
	history := c.layers[0].history
	if o.rng.Intn(6) == 0 {
		history = !history
	}
	o.layer(c, history)
}

// instant returns a moment between from and now: often exactly that of a commit,
// or a tick beside it.
func (o *oracle) instant(from, now timestamp) timestamp {
	var commits []timestamp
	add := func(t timestamp) {
		if from.less(t) && !now.less(t) {
			commits = append(commits, t)
		}
	}
	for _, m := range o.history {
		add(m.ts)
	}
	for _, t := range o.writers.moments() {
		add(t)
	}
	t := now
	switch {
	case len(commits) > 0 && o.rng.Intn(4) > 0:
		// One of the last is likely to be read within its time to live.
		if n := len(commits); n > 5 && o.rng.Intn(2) == 0 {
			slices.SortFunc(commits, func(a, b timestamp) int { return map[bool]int{true: -1, false: 1}[a.less(b)] })
			commits = commits[n-5:]
		}
		t = pick(o.rng, commits).tick(o.rng.Intn(3) - 1)
	case now.wall > from.wall+1:
		t = timestamp{from.wall + 1 + o.rng.Int63n(now.wall-from.wall), int32(o.rng.Intn(3))}
	}
	if !from.less(t) || now.less(t) {
		return now
	}
	return t
}

// layer takes a backup and says whether there is one more layer.
func (o *oracle) layer(c *chain, history bool) bool {
	var start timestamp
	into := "INTO "
	if len(c.layers) > 0 {
		start = c.end()
		into += "LATEST IN "
	}
	// A layer's directory is named by the hundredth of a second of its end.
	from := start
	from.wall += 11e6
	now := o.now()
	if !from.less(now) {
		time.Sleep(12 * time.Millisecond)
		now = o.now()
	}
	earliest := from
	if len(c.layers) == 0 {
		// Beyond the time to live there may be nothing complete to be read.
		back := []int64{1e9, 6e9}[o.rng.Intn(2)]
		earliest = timestamp{max(now.wall-back, o.history[0].ts.wall), 0}
	}
	end := now // Open transactions have locks below it.
	if o.rng.Intn(5) > 1 {
		end = o.instant(earliest, now)
	}
	// The writers are not waited for: their open transactions are what an export
	// has to deal with.
	targets, ok := c.targets(o.history[o.before(end)].state)
	if !ok {
		c.dead = "its objects are gone"
		return false
	}
	stmt := fmt.Sprintf("BACKUP %s%s%s AS OF SYSTEM TIME '%s'", targets, into, c.dest, end)
	if history {
		stmt += " WITH revision_history"
	}
	var err error
	if o.rng.Intn(5) == 0 {
		err = o.disturbed(stmt, "backup.before.flow")
	} else {
		_, err = o.c.rows("ctl", stmt)
	}
	if err != nil {
		if o.gc && isCollected(err) {
			c.dead = "what it needs is collected"
			o.refused++
			return false
		}
		o.t.Fatalf("%s: %v", stmt, err)
	}
	c.layers = append(c.layers, layer{start, end, history})
	o.layers++
	if len(c.layers) == 1 && !history {
		o.checkCounts(c, o.truth(end).state)
	}
	return true
}

// isCollected says whether an error means that old versions are gone.
func isCollected(err error) bool {
	s := err.Error()
	return strings.Contains(s, "protected ts verification error") || strings.Contains(s, "must be after replica GC threshold")
}

// checkCounts compares the row counts of SHOW BACKUP with the model.
func (o *oracle) checkCounts(c *chain, s *state) {
	o.t.Helper()
	rows, err := o.c.rows("ctl", `SELECT database_name, parent_schema_name || '.' || object_name, rows FROM [SHOW BACKUP FROM LATEST IN `+c.dest+`] WHERE object_type = 'table'`)
	if err != nil {
		o.t.Fatal(err)
	}
	shown := map[string]string{}
	for _, r := range rows {
		shown[r[0]+"."+r[1]] = r[2]
	}
	for name, d := range s.dbs {
		if c.db != 0 && c.db != d.uid {
			continue
		}
		for k, t := range d.tables {
			if c.tables != nil && !slices.Contains(c.tables, t.uid) {
				continue
			}
			if got, want := shown[name+"."+k], fmt.Sprint(len(t.rows)); got != want {
				o.t.Fatalf("SHOW BACKUP of %s: %s.%s has %q rows, the model %s", c.dest, name, k, got, want)
			}
		}
	}
}

// choose returns an instant that a chain can be restored to, and the clause for
// it.
func (o *oracle) choose(c *chain) (timestamp, string) {
	if o.rng.Intn(4) == 0 {
		return c.end(), ""
	}
	i := o.rng.Intn(len(c.layers))
	l := c.layers[i]
	t := l.end
	if l.history && o.rng.Intn(6) > 0 {
		from := l.start
		if i == 0 { // History reaches as far back as it was not collected.
			from = o.history[0].ts.tick(1)
		}
		t = o.instant(from, l.end)
	}
	return t, fmt.Sprintf(" AS OF SYSTEM TIME '%s'", t)
}

// restore restores some instant of some chain and compares it with the model.
func (o *oracle) restore() {
	o.t.Helper()
	if len(o.chains) == 0 {
		return
	}
	c := o.chains[max(0, len(o.chains)-1-o.rng.Intn(1+o.rng.Intn(len(o.chains))))]
	if d := pick(o.rng, o.chains); len(d.layers) > len(c.layers) && o.rng.Intn(2) == 0 {
		c = d // Long chains say more.
	}
	t, clause := o.choose(c)
	at := o.truth(t)
	sc := scope{noSeqs: at.fuzzy}
	if c.db == 0 && c.tables == nil && o.rng.Intn(3) == 0 {
		o.restoreCluster(c, clause, at)
		return
	}
	uid := c.db
	if uid == 0 {
		uid = at.state.dbs[pick(o.rng, sortedKeys(at.state.dbs))].uid
	}
	name, d := at.state.dbByUID(uid)
	if d == nil {
		return // It did not exist then.
	}
	db := fmt.Sprintf("r%d", o.number())
	from := " FROM LATEST IN " + c.dest + clause
	var stmt string
	if c.tables == nil && o.rng.Intn(4) > 0 {
		stmt = fmt.Sprintf("RESTORE DATABASE %s%s WITH new_db_name = '%s'", name, from, db)
	} else {
		var names []string
		sc.tables = map[string]bool{}
		for _, k := range sortedKeys(d.tables) {
			if c.tables == nil && o.rng.Intn(2) == 0 || slices.Contains(c.tables, d.tables[k].uid) {
				names = append(names, name+"."+k)
				sc.tables[k] = true
			}
		}
		if len(names) == 0 {
			return
		}
		o.must("ctl", "CREATE DATABASE "+db)
		stmt = fmt.Sprintf("RESTORE TABLE %s%s WITH into_db = '%s', skip_missing_foreign_keys, skip_missing_sequences, skip_missing_views", strings.Join(names, ", "), from, db)
	}
	var err error
	if o.rng.Intn(6) == 0 {
		err = o.disturbed(stmt, "restore.before_flow")
	} else {
		_, err = o.c.rows("ctl", stmt)
	}
	switch {
	case err == nil:
		if err := o.c.compare(db, d, sc, ""); err != nil {
			o.t.Fatalf("%s\n%v\nlayers %v", stmt, err, c.layers)
		}
		o.restores++
	case o.gc && strings.Contains(err.Error(), "only has revision history from"):
		o.refused++
	default:
		o.t.Fatalf("%s: %v\nlayers %v", stmt, err, c.layers)
	}
	o.dropDatabase(db)
}

func (o *oracle) dropDatabase(db string) {
	o.t.Helper()
	o.c.drop(db)
	if o.gc && o.rng.Intn(2) == 0 {
		_, _ = o.c.rows("ctl", "ALTER DATABASE "+db+" CONFIGURE ZONE USING gc.ttlseconds = 1") // It may not be there.
	}
	o.must("ctl", "DROP DATABASE IF EXISTS "+db+" CASCADE")
}

// restoreCluster restores everything into a fresh node beside.
func (o *oracle) restoreCluster(c *chain, clause string, at moment) {
	o.t.Helper()
	n := o.n.Beside()
	defer n.Kill()
	fresh := newClient(n)
	defer fresh.close()
	stmt := "RESTORE FROM LATEST IN " + c.dest + clause
	var err error
	if o.rng.Intn(3) == 0 {
		other := &oracle{t: o.t, rng: o.rng, n: n, c: fresh}
		err = other.disturbed(stmt, "restore.before_flow")
	} else {
		_, err = fresh.rows("defaultdb", stmt)
	}
	if err != nil {
		if o.gc && strings.Contains(err.Error(), "only has revision history from") {
			o.refused++
			return
		}
		o.t.Fatalf("%s: %v\nlayers %v", stmt, err, c.layers)
	}
	for name, d := range at.state.dbs {
		if err := fresh.compare(name, d, scope{noSeqs: at.fuzzy}, ""); err != nil {
			o.t.Fatalf("%s\n%v\nlayers %v", stmt, err, c.layers)
		}
	}
	want := o.marksUpTo(at.ts)
	got, err := fresh.rows("ctl", "SELECT writer, seq, ts FROM marks ORDER BY writer, seq")
	if err != nil {
		o.t.Fatal(err)
	}
	if len(got) != want {
		o.t.Fatalf("%s\n%d marks of transactions, want %d", stmt, len(got), want)
	}
	o.restores++
	o.clusters++
}

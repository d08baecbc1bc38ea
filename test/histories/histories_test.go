package histories

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfastdb/holdfast/test/node"
)

var (
	duration  = flag.Duration("histories.duration", 20*time.Second, "how long TestHistories runs, without its checks")
	roundTime = flag.Duration("histories.round", 5*time.Minute, "how long one cluster lives")
	seedFlag  = flag.Uint64("histories.seed", 0, "seed of the first round; 0: any")
	paceFlag  = flag.Duration("histories.pace", 25*time.Millisecond, "how long a client waits between operations, on average")
	onlyFlag  = flag.String("histories.nemesis", "", "comma-separated kinds of faults; all if empty")
	logFlag   = flag.String("histories.log", "INFO", "least severity of what nodes log")
	stalls    = flag.Bool("histories.stalls", false, "a stall of more than ten seconds fails the round; otherwise it is only shown")
	still     = flag.Bool("histories.still", false, "ranges are not split and moved")
	keepFlag  = flag.String("histories.dir", "", "directory in which all rounds leave their histories and logs; empty: only those that fail do, in a temporary one")
)

// round is the life of one cluster.
type round struct {
	t       *testing.T
	seed    uint64
	pace    time.Duration
	only    string
	dir     string
	nodes   []*node.Node
	flags   []string
	net     *network
	disks   []*disk
	created time.Time
	clock   stopwatch
	// survivable is how many nodes may be gone while all ranges are available.
	survivable int

	working    context.Context // of all clients
	clients    sync.WaitGroup
	lastClient int
	lastSeen   atomic.Int64 // a register and what it had
	transfers  atomic.Int64

	registers log[registerOp]
	past      log[pastRead]
	sets      log[setOp]
	lists     log[listTxn]
	bank      log[bankRead]
	probes    probes

	mu       sync.Mutex
	outcomes [3]int
	errors   map[string]int
	struck   map[string]time.Duration
	strikes  map[string]int
	moves    map[string]int
	events   *os.File
	bad      []violation
}

const nodeCount = 5

// TestHistories lets clients work on clusters that are mistreated, and checks what
// they were told.
func TestHistories(t *testing.T) {
	if testing.Short() {
		t.Skip("takes minutes")
	}
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64() % 1e9
	}
	for end := time.Now().Add(*duration); ; seed++ {
		left := time.Until(end)
		if left < 20*time.Second && left < *duration*9/10 {
			return // Too short to show anything.
		}
		if !t.Run(fmt.Sprint("seed-", seed), func(t *testing.T) { newRound(t, seed).live(min(left, *roundTime)) }) {
			t.Errorf("the same decisions again: -histories.seed=%d", seed)
			if *keepFlag == "" {
				return
			}
		}
	}
}

func newRound(t *testing.T, seed uint64) *round {
	r := &round{t: t, seed: seed, pace: *paceFlag, only: *onlyFlag, errors: map[string]int{}, struck: map[string]time.Duration{},
		strikes: map[string]int{}, moves: map[string]int{}}
	parent := *keepFlag
	if parent == "" {
		parent = os.TempDir()
	}
	var err error
	if err = os.MkdirAll(parent, 0o755); err != nil {
		t.Fatal(err)
	}
	if r.dir, err = os.MkdirTemp(parent, fmt.Sprintf("histories-%d-", seed)); err != nil {
		t.Fatal(err)
	}
	if r.events, err = os.Create(filepath.Join(r.dir, "nemesis.txt")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.events.Close()
		if t.Failed() || *keepFlag != "" {
			t.Logf("histories, logs and what is wrong are in %s", r.dir)
		} else {
			os.RemoveAll(r.dir)
		}
	})
	r.net = newNetwork(t, nodeCount)
	var places []node.Place
	for i := 1; i <= nodeCount; i++ {
		p := node.Place{Log: filepath.Join(r.dir, fmt.Sprintf("n%d.log", i)), Flags: []string{fmt.Sprintf("--locality=rack=%d", (i+1)/2)}}
		if r.net != nil {
			p.Host = r.net.host(i)
			p.Within = []string{"ip", "netns", "exec", r.net.namespace(i)}
		}
		store := filepath.Join(t.TempDir(), fmt.Sprintf("disk%d", i))
		p.Store = filepath.Join(store, "store")
		if os.Geteuid() == 0 {
			if d := newDisk(t, store); d != nil {
				r.disks = append(r.disks, d)
			}
		}
		places = append(places, p)
	}
	if len(r.disks) < nodeCount {
		r.disks = nil
	}
	r.flags = []string{"--cache=32MiB", "--max-go-memory=256MiB", "--logtostderr=" + *logFlag}
	r.nodes = node.StartClusterAt(t, places, r.flags...)
	r.prepare()
	r.clock.zero = time.Now()
	r.created = time.Now()
	return r
}

// prepare makes the tables, with a few ranges each, on all nodes.
func (r *round) prepare() {
	rng := rand.New(rand.NewPCG(r.seed, 7))
	r.survivable = 1 + rng.IntN(2)
	replicas := 2*r.survivable + 1
	first := r.nodes[0]
	for _, zone := range []string{"RANGE default", "RANGE meta", "RANGE system", "RANGE liveness", "DATABASE system"} {
		first.Exec("defaultdb", fmt.Sprintf("ALTER %s CONFIGURE ZONE USING num_replicas = %d", zone, replicas))
	}
	first.Exec("defaultdb", tables...)
	var probes, accounts, splits []string
	for i := range probeCount {
		probes = append(probes, fmt.Sprintf("(%d, 0)", probeKey(i)))
		if i > 0 {
			splits = append(splits, fmt.Sprintf("(%d)", probeKey(i)))
		}
	}
	for i := range bankAccounts {
		accounts = append(accounts, fmt.Sprintf("(%d, %d)", accountKey(i), bankEach))
	}
	first.Exec("defaultdb",
		"INSERT INTO probes VALUES "+strings.Join(probes, ", "),
		"INSERT INTO bank VALUES "+strings.Join(accounts, ", "),
		"ALTER TABLE probes SPLIT AT VALUES "+strings.Join(splits, ", "))
	for _, table := range []string{"registers", "sets", "lists", "bank"} {
		first.Exec("defaultdb", fmt.Sprintf("ALTER TABLE %s SPLIT AT VALUES (3000), (6000)", table))
	}
	r.awaitReplicas(replicas)
	first.Exec("defaultdb", "ALTER TABLE probes SCATTER")
}

// awaitReplicas waits until all ranges can lose as many nodes as they are to.
func (r *round) awaitReplicas(want int) {
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(500 * time.Millisecond) {
		got, err := r.nodes[0].TryRows("defaultdb", fmt.Sprintf("SELECT count(*) FROM crdb_internal.ranges_no_leases WHERE array_length(voting_replicas, 1) < %d", want))
		if err == nil && got[0][0] == "0" {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("ranges do not get %d replicas: %v lack some, %v", want, got, err)
		}
	}
}

// live lets clients and nemesis work, and checks.
func (r *round) live(d time.Duration) {
	r.note("seed %d: %s, ranges survive %d nodes, network %v, disks %v", r.seed, d, r.survivable, r.net != nil, r.disks != nil)
	working, stop := context.WithCancel(context.Background())
	defer stop()
	r.working = working
	r.startRegisters(6)
	r.startPast(3)
	r.startSets(4)
	r.startLists(6)
	r.startBank(4)
	r.startProbes()

	harm, healthy := context.WithTimeout(working, d)
	defer healthy()
	var harming sync.WaitGroup
	if !*still {
		m := &mover{round: r, rng: rand.New(rand.NewPCG(r.seed, 1))}
		harming.Go(func() { m.run(harm) })
	}
	if *onlyFlag != "none" {
		(&nemesis{round: r, rng: rand.New(rand.NewPCG(r.seed, 2))}).run(harm)
	}
	<-harm.Done()
	harming.Wait()
	time.Sleep(3 * time.Second) // Clients go on a little in peace.
	stop()
	r.clients.Wait()
	lived := time.Since(r.created)
	r.lastReads()
	r.check()
	r.report(lived)
}

// lastReads reads everything, now that all is well. What cannot be read now is lost.
func (r *round) lastReads() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r.working = ctx
	c := &client{round: r, id: 1 << 20, rng: rand.New(rand.NewPCG(r.seed, 3))}
	defer c.disconnect()
	lost := 0
	again := func(what string, f func() outcome) {
		if lost == 3 {
			return // That is enough to see; each of hundreds would be waited for.
		}
		for deadline := time.Now().Add(90 * time.Second); f() != happened; {
			if time.Now().After(deadline) {
				r.fail(violationf("availability", "%s cannot be read 90s after all was healed", what))
				lost++
				return
			}
		}
	}
	lists := map[int]bool{}
	for _, t := range r.lists.all {
		for _, s := range t.Steps {
			lists[s.Key] = true
		}
	}
	for _, key := range sortedKeys(lists) {
		again(fmt.Sprintf("list %d", key), func() outcome { return r.readList(c, key) })
	}
	sets := map[int]bool{}
	for _, op := range r.sets.all {
		sets[op.Set] = true
	}
	for _, id := range sortedKeys(sets) {
		for _, index := range []bool{false, true} {
			again(fmt.Sprintf("set %d", id), func() outcome {
				op := setOp{Client: c.id, Set: id, Index: index}
				r.readSet(c, &op)
				r.sets.add(op)
				return op.Outcome
			})
		}
	}
	registers := map[int]bool{}
	for _, op := range r.registers.all {
		registers[op.Key] = true
	}
	for _, key := range sortedKeys(registers) {
		again(fmt.Sprintf("register %d", key), func() outcome { return r.readRegisterNow(c, key) })
	}
	for i := range r.nodes {
		c.disconnect()
		again(fmt.Sprintf("the bank through n%d", i+1), func() outcome {
			n := len(r.bank.all)
			r.readBank(c, "")
			return r.bank.all[n].Outcome
		})
	}
}

// fail keeps a violation that was seen while the round went on.
func (r *round) fail(v violation) {
	r.note("  VIOLATION %s", v)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bad = append(r.bad, v)
}

// tooLong is a stall that the promise does not allow.
func (r *round) tooLong(s stall) {
	r.fail(violationf("availability: writes stood still for too long", "%s", s))
}

// note writes what happens into the round's diary.
func (r *round) note(format string, args ...any) {
	at := time.Now()
	seconds := 0.0
	if !r.clock.zero.IsZero() {
		seconds = at.Sub(r.clock.zero).Seconds()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(r.events, "%s %7.1fs %s\n", at.UTC().Format("15:04:05.000"), seconds, fmt.Sprintf(format, args...))
}

// check runs all checkers and keeps what they say.
func (r *round) check() {
	bad, undecided := checkRegisters(r.registers.all, 20*time.Second)
	r.bad = append(r.bad, bad...)
	r.bad = append(r.bad, checkPast(r.past.all)...)
	r.bad = append(r.bad, checkSets(r.sets.all)...)
	r.bad = append(r.bad, checkLists(r.lists.all)...)
	r.bad = append(r.bad, checkBank(r.bank.all, bankAccounts, bankEach)...)
	if undecided > 0 {
		r.t.Logf("of %d registers nobody can tell in time whether they are linearizable", undecided)
	}
	if len(r.bad) == 0 {
		return
	}
	var b strings.Builder
	for _, v := range r.bad {
		fmt.Fprintf(&b, "%s\n\n", v)
	}
	for name, write := range map[string]func(string) error{
		"registers": r.registers.write, "past": r.past.write, "sets": r.sets.write, "lists": r.lists.write, "bank": r.bank.write,
		"violations": func(path string) error { return os.WriteFile(path, []byte(b.String()), 0o644) },
	} {
		if err := write(filepath.Join(r.dir, name+".txt")); err != nil {
			r.t.Error(err)
		}
	}
	for i, v := range r.bad {
		if i == 20 {
			r.t.Errorf("… and %d more", len(r.bad)-i)
			break
		}
		r.t.Errorf("%.3000s", v)
	}
}

// report says what was done, so that a test that shows nothing is seen.
func (r *round) report(lived time.Duration) {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d, %.1f minutes: %d register operations, %d reads of the past, %d set operations, %d list transactions, %d transfers, %d reads of the bank\n",
		r.seed, lived.Minutes(), len(r.registers.all), len(r.past.all), len(r.sets.all), len(r.lists.all), r.transfers.Load(), len(r.bank.all))
	fmt.Fprintf(&b, "outcomes: %d happened, %d failed, %d unknown\n", r.outcomes[happened], r.outcomes[failed], r.outcomes[unknown])
	for _, name := range sortedKeys(r.strikes) {
		fmt.Fprintf(&b, "  %s: %d times, %.0fs\n", name, r.strikes[name], r.struck[name].Seconds())
	}
	for _, name := range sortedKeys(r.moves) {
		fmt.Fprintf(&b, "  %s: %d\n", name, r.moves[name])
	}
	sort.Slice(r.probes.stalls, func(i, j int) bool { return r.probes.stalls[i].took > r.probes.stalls[j].took })
	for _, s := range r.probes.stalls[:min(3, len(r.probes.stalls))] {
		fmt.Fprintf(&b, "  %s\n", s)
	}
	for _, e := range sortedKeys(r.errors) {
		fmt.Fprintf(&b, "  error %6d × %s\n", r.errors[e], e)
	}
	r.t.Log(b.String())
	r.note("%s", b.String())
	for what, n := range map[string]int{
		"register operations": len(r.registers.all), "set operations": len(r.sets.all), "list transactions": len(r.lists.all),
		"transfers": int(r.transfers.Load()), "reads of the past": len(r.past.all),
	} {
		if n < 20 {
			r.t.Errorf("only %d %s: the round shows nothing", n, what)
		}
	}
}

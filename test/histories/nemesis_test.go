package histories

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/holdfastdb/holdfast/test/node"
)

// nemesis does harm to the nodes, one thing or two at a time, and undoes it.
type nemesis struct {
	*round
	rng *rand.Rand
}

// fault is something that befalls nodes. Both functions may fail halfway: what
// matters is that undo leaves all as it was.
type fault struct {
	name string
	hurt []int // nodes that cannot be expected to serve
	do   func()
	undo func()
}

func (m *nemesis) someNode() int { return 1 + m.rng.IntN(len(m.nodes)) }

// someNodes returns n of them.
func (m *nemesis) someNodes(n int) []int {
	out := m.rng.Perm(len(m.nodes))[:n]
	for i := range out {
		out[i]++
	}
	return out
}

// minority is one node, or two: no more than all ranges survive the loss of.
func (m *nemesis) minority() []int {
	return m.someNodes(1 + m.rng.IntN(m.survivable))
}

// faults says what the machine allows, by name.
func (m *nemesis) faults() map[string]func() fault {
	out := map[string]func() fault{
		"kill":  func() fault { return m.kill(m.minority(), 0) },
		"clock": func() fault { return m.wrongClock(m.someNode(), time.Duration(m.rng.IntN(400)-200)*time.Millisecond) },
		"far-clock": func() fault {
			return m.wrongClock(m.someNode(), []time.Duration{-20 * time.Second, -time.Second, 800 * time.Millisecond, 1500 * time.Millisecond, 30 * time.Second}[m.rng.IntN(5)])
		},
		"pause":    func() fault { return m.pause(m.minority()) },
		"stop":     func() fault { return m.stop(m.someNode()) },
		"kill-all": func() fault { return m.kill(m.someNodes(len(m.nodes)), 0) },
		"restart":  func() fault { return m.kill(m.minority(), time.Millisecond) },
	}
	if m.net != nil {
		out["isolate"] = func() fault { return m.isolate(m.minority()) }
		out["one-way"] = m.oneWay
		out["halves"] = func() fault { return m.isolate(m.someNodes(2)) }
		out["bridge"] = m.bridge
	}
	if m.disks != nil {
		out["disk"] = func() fault { return m.fullDisk(m.someNode()) }
	}
	return out
}

// run does one fault after the other until ctx is done, and leaves all healthy.
func (m *nemesis) run(ctx context.Context) {
	all := m.faults()
	names := sortedKeys(all)
	if m.only != "" {
		names = slices.DeleteFunc(names, func(n string) bool { return !slices.Contains(strings.Split(m.only, ","), n) })
	}
	if len(names) == 0 {
		return
	}
	// Each comes once before any comes again.
	var deck []string
	draw := func() fault {
		if len(deck) == 0 {
			deck = slices.Clone(names)
			m.rng.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
		}
		name := deck[0]
		deck = deck[1:]
		return all[name]()
	}
	m.sleep(ctx, 2*time.Second)
	for ctx.Err() == nil {
		fs := []fault{draw()}
		if m.rng.IntN(4) == 0 {
			fs = append(fs, draw())
		}
		m.strike(ctx, fs)
		m.sleep(ctx, time.Duration(1500+m.rng.IntN(5000))*time.Millisecond)
	}
}

func (m *nemesis) strike(ctx context.Context, fs []fault) {
	hurt := map[int]bool{}
	var name []string
	measured := true
	for _, f := range fs {
		measured = measured && len(f.hurt) > 0
		name = append(name, f.name)
		for _, n := range f.hurt {
			hurt[n] = true
		}
	}
	began := time.Now()
	m.note("%s", strings.Join(name, " and "))
	// Stalls are measured of what a majority of each range survives.
	measured = measured && len(hurt) <= m.survivable
	if measured {
		m.probes.begin(sortedKeys(hurt))
	}
	for _, f := range fs {
		f.do()
	}
	m.sleep(ctx, time.Duration(1000+m.rng.IntN(11000))*time.Millisecond)
	if measured && ctx.Err() == nil {
		// Long enough to see the end of a stall, or that it is too long.
		m.sleep(ctx, stallLimit+2*time.Second-time.Since(began))
		s := m.probes.end(strings.Join(name, " and "))
		m.note("  %s", s)
		if *stalls && s.took > stallLimit && s.late < tooBusy {
			m.tooLong(s)
		}
	}
	// All at once, before anything is waited for: one may be what keeps another from
	// its recovery.
	for _, f := range fs {
		f.undo()
	}
	m.revive()
	m.probes.recover()
	m.note("  healed after %.1fs", time.Since(began).Seconds())
	m.mu.Lock()
	for _, n := range name {
		kind, _, _ := strings.Cut(n, " ")
		m.struck[kind] += time.Since(began)
		m.strikes[kind]++
	}
	m.mu.Unlock()
}

func (m *nemesis) sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// start brings a node back, also if it ended by itself.
func (m *nemesis) start(id int, flags ...string) {
	n := m.nodes[id-1]
	n.SetFlags(append(slices.Clone(m.flags), flags...)...)
	if n.Running() && n.Wait(0) {
		m.note("  n%d had ended by itself", id)
	}
	if n.Running() {
		return
	}
	n.Launch()
}

// await waits until a node answers.
func (m *nemesis) await(id int) {
	n := m.nodes[id-1]
	for deadline := time.Now().Add(90 * time.Second); ; {
		_, err := n.TryRows("system", "SELECT 1")
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			m.fail(violationf("availability", "n%d does not answer 90s after all was healed: %v", id, err))
			return
		}
		if n.Wait(50 * time.Millisecond) {
			m.note("  n%d ended; again", id)
			n.Launch()
		}
	}
}

func names(ids []int) string {
	var out []string
	for _, id := range ids {
		out = append(out, fmt.Sprintf("n%d", id))
	}
	return strings.Join(out, ",")
}

// kill ends processes at once; they come back in the end, or directly.
func (m *nemesis) kill(ids []int, back time.Duration) fault {
	f := fault{name: "kill " + names(ids), hurt: ids}
	if back > 0 {
		f.name = "restart " + names(ids)
	}
	if len(ids) == len(m.nodes) {
		f.name, f.hurt = "kill-all", nil
	}
	f.do = func() {
		for _, id := range ids {
			m.nodes[id-1].Kill()
		}
		if back > 0 {
			for _, id := range ids {
				m.start(id)
			}
		}
	}
	f.undo = func() {
		for _, id := range ids {
			m.start(id)
		}
	}
	return f
}

// stop lets a process drain.
func (m *nemesis) stop(id int) fault {
	return fault{
		name: "stop " + names([]int{id}), hurt: []int{id},
		do: func() {
			n := m.nodes[id-1]
			if !n.Running() || n.Signal(syscall.SIGTERM) != nil {
				return
			}
			if !n.Wait(40 * time.Second) {
				m.note("  n%d does not drain in 40s", id)
				n.Kill()
			}
		},
		undo: func() { m.start(id) },
	}
}

func (m *nemesis) signal(id int, sig syscall.Signal) {
	if n := m.nodes[id-1]; n.Running() {
		_ = n.Signal(sig) // It may have ended.
	}
}

func (m *nemesis) pause(ids []int) fault {
	return fault{
		name: "pause " + names(ids), hurt: ids,
		do: func() {
			for _, id := range ids {
				m.signal(id, syscall.SIGSTOP)
			}
		},
		undo: func() {
			for _, id := range ids {
				m.signal(id, syscall.SIGCONT)
			}
		},
	}
}

// revive starts what has ended, and waits until all answer.
func (m *nemesis) revive() {
	for i := range m.nodes {
		m.start(i + 1)
	}
	for i := range m.nodes {
		m.await(i + 1)
	}
}

func (m *nemesis) isolate(ids []int) fault {
	return fault{
		name: "isolate " + names(ids), hurt: ids,
		do: func() {
			for _, a := range ids {
				for b := 1; b <= len(m.nodes); b++ {
					if !slices.Contains(ids, b) {
						m.net.cut(a, b)
						m.net.cut(b, a)
					}
				}
			}
		},
		undo: m.net.heal,
	}
}

// oneWay loses what goes one way only: between two nodes, or from or to one.
func (m *nemesis) oneWay() fault {
	ids := m.someNodes(2)
	a, b := ids[0], ids[1]
	f := fault{undo: m.net.heal}
	switch m.rng.IntN(3) {
	case 0:
		f.name, f.do = fmt.Sprintf("one-way n%d to n%d", a, b), func() { m.net.cut(a, b) }
	case 1:
		f.name, f.hurt = fmt.Sprintf("one-way from n%d", a), []int{a}
		f.do = func() {
			for o := 1; o <= len(m.nodes); o++ {
				m.net.cut(a, o)
			}
		}
	default:
		f.name, f.hurt = fmt.Sprintf("one-way to n%d", a), []int{a}
		f.do = func() {
			for o := 1; o <= len(m.nodes); o++ {
				m.net.cut(o, a)
			}
		}
	}
	return f
}

// bridge leaves one node that hears of both sides, which do not hear of each other.
func (m *nemesis) bridge() fault {
	ids := m.someNodes(5)
	return fault{
		name: fmt.Sprintf("bridge %s | n%d | %s", names(ids[:2]), ids[2], names(ids[3:])),
		do: func() {
			for _, a := range ids[:2] {
				for _, b := range ids[3:] {
					m.net.cut(a, b)
					m.net.cut(b, a)
				}
			}
		},
		undo: m.net.heal,
	}
}

// wrongClock restarts a node with a clock that is wrong, and later with a right one.
// One that is too wrong ends by itself.
func (m *nemesis) wrongClock(id int, offset time.Duration) fault {
	kind := "clock"
	if offset.Abs() > 500*time.Millisecond {
		kind = "far-clock"
	}
	return fault{
		name: fmt.Sprintf("%s n%d %s", kind, id, offset), hurt: []int{id},
		do: func() {
			m.nodes[id-1].Kill()
			m.start(id, "--testing-clock-offset="+offset.String())
		},
		undo: func() {
			if kind == "far-clock" || m.rng.IntN(2) == 0 {
				m.nodes[id-1].Kill()
			}
			m.start(id) // Otherwise it goes on with the wrong one.
		},
	}
}

func (m *nemesis) fullDisk(id int) fault {
	return fault{
		name: "disk n" + fmt.Sprint(id), hurt: []int{id},
		do: func() {
			if err := m.disks[id-1].fill(); err != nil {
				m.note("  %v", err)
			}
		},
		undo: func() {
			if err := m.disks[id-1].free(); err != nil {
				m.note("  %v", err)
			}
		},
	}
}

// mover splits and merges ranges, and moves them and their leases, beside all else.
type mover struct {
	*round
	rng *rand.Rand
}

func (m *mover) run(ctx context.Context) {
	for ctx.Err() == nil {
		what, statement := m.step()
		through := m.nodes[m.rng.IntN(len(m.nodes))]
		began := time.Now()
		err := execWithin(ctx, through, statement, 10*time.Second)
		text := "ok"
		if err != nil {
			text = err.Error()
		}
		m.note("  [%.1fs] %s: %.200s", time.Since(began).Seconds(), statement, text)
		m.mu.Lock()
		m.moves[what]++
		if err != nil {
			m.moves[what+" failed"]++
		}
		m.mu.Unlock()
		select {
		case <-time.After(time.Duration(300+m.rng.IntN(2500)) * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func execWithin(ctx context.Context, n *node.Node, statement string, d time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- n.TryExec("defaultdb", statement) }() // It ends by its own timeout at the latest.
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (m *mover) step() (what, statement string) {
	table := []string{"registers", "sets", "lists", "bank", "sets@by_element"}[m.rng.IntN(5)]
	object := "TABLE " + table
	if strings.Contains(table, "@") {
		object = "INDEX " + table
	}
	key := 1 + m.rng.IntN(keySpace)
	if object != "TABLE "+table {
		key = m.rng.IntN(20000)
	}
	var stores []string
	for _, s := range m.rng.Perm(len(m.nodes))[:3+2*m.rng.IntN(2)] {
		stores = append(stores, fmt.Sprint(s+1))
	}
	switch m.rng.IntN(10) {
	case 0, 1:
		return "split", fmt.Sprintf("ALTER %s SPLIT AT VALUES (%d)", object, key)
	case 2:
		return "unsplit", fmt.Sprintf("ALTER %s UNSPLIT ALL", object)
	case 3:
		return "expiring split", fmt.Sprintf("ALTER %s SPLIT AT VALUES (%d) WITH EXPIRATION INTERVAL '%d seconds'", object, key, 2+m.rng.IntN(10))
	case 4, 5:
		return "relocate", fmt.Sprintf("ALTER %s RELOCATE VALUES (ARRAY[%s], %d)", object, strings.Join(stores, ","), key)
	case 6, 7:
		return "lease", fmt.Sprintf("ALTER %s RELOCATE LEASE VALUES (%s, %d)", object, stores[0], key)
	case 8:
		return "scatter", fmt.Sprintf("ALTER %s SCATTER", object)
	}
	return "zone", fmt.Sprintf("ALTER %s CONFIGURE ZONE USING %s", object, []string{
		"num_replicas = 3, lease_preferences = '[[+rack=1]]'", "num_replicas = 5, lease_preferences = '[[+rack=2]]'",
		"num_replicas = 3, constraints = '{+rack=1: 1}'", "num_replicas = 3, constraints = '[]', lease_preferences = '[]'",
		"num_replicas = 5, num_voters = 3",
	}[m.rng.IntN(5)])
}

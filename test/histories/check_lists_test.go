package histories

import (
	"fmt"
	"slices"
	"strings"
)

// listStep is one statement of a transaction on lists: it appends a value, or reads
// all of the list.
type listStep struct {
	Key    int   `json:"key"`
	Append int   `json:"append,omitempty"` // 0: a read
	Read   []int `json:"read,omitempty"`
}

// listTxn is a transaction on lists. Values are unique per list.
type listTxn struct {
	interval
	Client  int        `json:"client"`
	Node    int        `json:"node"`
	Steps   []listStep `json:"steps"`
	Outcome outcome    `json:"outcome"`
	Error   string     `json:"error,omitempty"`
}

func (t *listTxn) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s client %d through n%d (%s", t.interval, t.Client, t.Node, t.Outcome)
	if t.Error != "" {
		fmt.Fprintf(&b, ": %s", t.Error)
	}
	b.WriteString("):")
	for _, s := range t.Steps {
		switch {
		case s.Append != 0:
			fmt.Fprintf(&b, " append(%d, %d)", s.Key, s.Append)
		case len(s.Read) > 12:
			fmt.Fprintf(&b, " read(%d)=[… %d values … %s]", s.Key, len(s.Read)-10, strings.Trim(fmt.Sprint(s.Read[len(s.Read)-10:]), "[]"))
		default:
			fmt.Fprintf(&b, " read(%d)=%v", s.Key, s.Read)
		}
	}
	return b.String()
}

// dependency says why one transaction comes before another.
type dependency struct {
	kind string // ww, wr, rw, rt
	key  int
	why  string
}

// listGraph is what is known of the order of transactions.
type listGraph struct {
	txns  []*listTxn
	edges []map[int]dependency // by successor
}

// checkLists looks for what serializable transactions, linearizable on each list,
// cannot have read. The order of the versions of a list is told by its reads: each
// shows all that was appended before. Transactions that read or wrote depend on each
// other:
//
//	ww: one appended directly behind what the other had appended
//	wr: one read what the other had appended last
//	rw: one did not see what the other appended next
//	rt: one had ended before the other began, on the same list, and one of them wrote
//
// Any cycle is a violation. Its name is that of Adya's phenomena: G0 of ww alone, G1c
// of ww and wr, G-single with one rw, G2 with more; the ending -rt says that time was
// needed.
func checkLists(txns []listTxn) (bad []violation) {
	type writer struct {
		txn  *listTxn
		last bool // the last value that it appended to the list
	}
	type value struct{ key, value int }
	writers := map[value]writer{}
	for i := range txns {
		t := &txns[i]
		last := map[int]int{}
		for _, s := range t.Steps {
			if s.Append != 0 {
				last[s.Key] = s.Append
			}
		}
		for _, s := range t.Steps {
			if s.Append != 0 {
				writers[value{s.Key, s.Append}] = writer{t, last[s.Key] == s.Append}
			}
		}
	}

	// What is wrong by itself, and the longest read of each list.
	longest := map[int][]int{}
	longestBy := map[int]*listTxn{}
	for i := range txns {
		t := &txns[i]
		if t.Outcome != happened {
			continue
		}
		bad = append(bad, checkInternal(t)...)
		for _, s := range t.Steps {
			if s.Append != 0 {
				continue
			}
			seen := map[int]bool{}
			for _, v := range s.Read {
				if seen[v] {
					bad = append(bad, violationf("lists: duplicate", "list %d has %d twice\n  %s", s.Key, v, t))
				}
				seen[v] = true
				w, ok := writers[value{s.Key, v}]
				switch {
				case !ok:
					bad = append(bad, violationf("lists: invented", "nobody appended %d to list %d\n  %s", v, s.Key, t))
				case w.txn.Outcome == failed:
					bad = append(bad, violationf("lists: G1a, aborted read", "%d in list %d was appended by a transaction that failed\n  %s\n  %s", v, s.Key, w.txn, t))
				}
			}
			if n := len(s.Read); n > 0 {
				if w := writers[value{s.Key, s.Read[n-1]}]; w.txn != nil && w.txn != t && !w.last {
					bad = append(bad, violationf("lists: G1b, intermediate read", "%d in list %d was not the last that its transaction appended\n  %s\n  %s", s.Read[n-1], s.Key, w.txn, t))
				}
			}
			old := longest[s.Key]
			short, long := old, s.Read
			if len(long) < len(short) {
				short, long = long, short
			}
			if !slices.Equal(short, long[:len(short)]) {
				bad = append(bad, violationf("lists: incompatible order", "list %d\n  %s\n  %s", s.Key, longestBy[s.Key], t))
				continue
			}
			if longestBy[s.Key] == nil || len(s.Read) > len(old) {
				longest[s.Key], longestBy[s.Key] = s.Read, t
			}
		}
	}

	// The transactions that happened: acknowledged, or seen.
	g := &listGraph{}
	index := map[*listTxn]int{}
	node := func(t *listTxn) int {
		i, ok := index[t]
		if !ok {
			i = len(g.txns)
			index[t] = i
			g.txns = append(g.txns, t)
			g.edges = append(g.edges, map[int]dependency{})
		}
		return i
	}
	edge := func(a, b *listTxn, d dependency) {
		if a == nil || b == nil || a == b {
			return
		}
		from, to := node(a), node(b)
		if old, ok := g.edges[from][to]; !ok || rank(d.kind) < rank(old.kind) {
			g.edges[from][to] = d
		}
	}
	position := map[value]int{}
	for key, vs := range longest {
		for i, v := range vs {
			position[value{key, v}] = i
			if i > 0 {
				edge(writers[value{key, vs[i-1]}].txn, writers[value{key, v}].txn, dependency{"ww", key, fmt.Sprintf("appended %d behind %d", v, vs[i-1])})
			}
		}
	}
	touches := map[int]map[*listTxn]bool{} // whether it wrote
	touch := func(key int, t *listTxn, wrote bool) {
		if touches[key] == nil {
			touches[key] = map[*listTxn]bool{}
		}
		touches[key][t] = touches[key][t] || wrote
	}
	for i := range txns {
		t := &txns[i]
		if t.Outcome == failed {
			continue
		}
		for _, s := range t.Steps {
			if s.Append != 0 {
				if _, ok := position[value{s.Key, s.Append}]; ok {
					touch(s.Key, t, true)
				} else if r := longestBy[s.Key]; t.Outcome == happened && r != nil && t.before(r.interval) {
					bad = append(bad, violationf("lists: lost append", "list %d never shows %d\n  %s\n  %s", s.Key, s.Append, t, r))
				}
				continue
			}
			if t.Outcome != happened {
				continue // What it read was not confirmed.
			}
			touch(s.Key, t, false)
			next := 0
			if n := len(s.Read); n > 0 {
				v := s.Read[n-1]
				edge(writers[value{s.Key, v}].txn, t, dependency{"wr", s.Key, fmt.Sprintf("saw the other's %d", v)})
				p, ok := position[value{s.Key, v}]
				if !ok {
					continue // of an incompatible order
				}
				next = p + 1
			}
			if vs := longest[s.Key]; next < len(vs) {
				edge(t, writers[value{s.Key, vs[next]}].txn, dependency{"rw", s.Key, fmt.Sprintf("appended %d, which the former had not seen", vs[next])})
			}
		}
	}
	for _, cycle := range g.cycles("ww") {
		bad = append(bad, g.explain("G0", cycle))
	}
	for _, cycle := range g.cycles("ww", "wr") {
		if !g.all(cycle, "ww") {
			bad = append(bad, g.explain("G1c", cycle))
		}
	}
	name := func(cycle []int, suffix string) string {
		switch g.count(cycle, "rw") {
		case 0:
			if g.all(cycle, "ww", "rt") {
				return "G0" + suffix
			}
			return "G1c" + suffix
		case 1:
			return "G-single" + suffix
		}
		return "G2" + suffix
	}
	for _, cycle := range g.cycles("ww", "wr", "rw") {
		if g.count(cycle, "rw") > 0 {
			bad = append(bad, g.explain(name(cycle, ""), cycle))
		}
	}
	for key, ts := range touches {
		for a, aWrote := range ts {
			if a.Outcome != happened {
				continue
			}
			for b, bWrote := range ts {
				if (aWrote || bWrote) && a.before(b.interval) {
					edge(a, b, dependency{"rt", key, "began when the former had ended"})
				}
			}
		}
	}
	for _, cycle := range g.cycles("ww", "wr", "rw", "rt") {
		if g.count(cycle, "rt") > 0 {
			bad = append(bad, g.explain(name(cycle, "-rt"), cycle))
		}
	}
	return bad
}

// rank says which of two reasons for one order is kept: the one that fewer
// phenomena are made of.
func rank(kind string) int { return slices.Index([]string{"ww", "wr", "rw", "rt"}, kind) }

// checkInternal: a transaction sees what it has appended itself, and nothing else
// change.
func checkInternal(t *listTxn) (bad []violation) {
	known := map[int][]int{}  // as read, with what was appended since
	behind := map[int][]int{} // appended before the first read
	for _, s := range t.Steps {
		if s.Append != 0 {
			if vs, ok := known[s.Key]; ok {
				known[s.Key] = append(slices.Clone(vs), s.Append)
			} else {
				behind[s.Key] = append(behind[s.Key], s.Append)
			}
			continue
		}
		want, ok := known[s.Key]
		own := behind[s.Key]
		switch {
		case ok && !slices.Equal(want, s.Read):
			bad = append(bad, violationf("lists: internal", "a transaction reads list %d anew, and it is not %v\n  %s", s.Key, want, t))
		case !ok && (len(s.Read) < len(own) || !slices.Equal(s.Read[len(s.Read)-len(own):], own)):
			bad = append(bad, violationf("lists: internal", "a transaction does not see what it has appended to list %d\n  %s", s.Key, t))
		}
		known[s.Key] = s.Read
	}
	return bad
}

// cycles returns one short cycle of each strongly connected component of the graph
// with edges of these kinds.
func (g *listGraph) cycles(kinds ...string) (out [][]int) {
	for _, c := range g.components(kinds) {
		in := map[int]bool{}
		for _, n := range c {
			in[n] = true
		}
		var best []int
		for _, n := range c[:min(len(c), 50)] {
			if cycle := g.shortest(n, in, kinds); best == nil || cycle != nil && len(cycle) < len(best) {
				best = cycle
			}
		}
		out = append(out, best)
	}
	return out
}

// shortest returns a shortest cycle through start within a component.
func (g *listGraph) shortest(start int, in map[int]bool, kinds []string) []int {
	from := map[int]int{}
	queue := []int{start}
	for len(queue) > 0 {
		n := queue[0]
		queue = queue[1:]
		for m, d := range g.edges[n] {
			if !in[m] || !slices.Contains(kinds, d.kind) {
				continue
			}
			if m == start {
				cycle := []int{n}
				for cycle[0] != start {
					cycle = append([]int{from[cycle[0]]}, cycle...)
				}
				return cycle
			}
			if _, ok := from[m]; !ok {
				from[m] = n
				queue = append(queue, m)
			}
		}
	}
	return nil
}

// components returns the strongly connected components of more than one transaction,
// by Tarjan's algorithm without recursion.
func (g *listGraph) components(kinds []string) (out [][]int) {
	n := len(g.txns)
	succ := make([][]int, n)
	for i, es := range g.edges {
		for m, d := range es {
			if slices.Contains(kinds, d.kind) {
				succ[i] = append(succ[i], m)
			}
		}
	}
	number, low := make([]int, n), make([]int, n) // number: 0 is not visited
	onStack := make([]bool, n)
	var stack []int
	next := 1
	type frame struct{ node, edge int }
	for root := range n {
		if number[root] != 0 {
			continue
		}
		visit := func(v int) frame {
			number[v], low[v] = next, next
			next++
			stack = append(stack, v)
			onStack[v] = true
			return frame{node: v}
		}
		calls := []frame{visit(root)}
		for len(calls) > 0 {
			f := &calls[len(calls)-1]
			v := f.node
			if f.edge < len(succ[v]) {
				w := succ[v][f.edge]
				f.edge++
				switch {
				case number[w] == 0:
					calls = append(calls, visit(w))
				case onStack[w]:
					low[v] = min(low[v], number[w])
				}
				continue
			}
			calls = calls[:len(calls)-1]
			if len(calls) > 0 {
				p := calls[len(calls)-1].node
				low[p] = min(low[p], low[v])
			}
			if low[v] == number[v] {
				i := slices.Index(stack, v)
				c := slices.Clone(stack[i:])
				stack = stack[:i]
				for _, w := range c {
					onStack[w] = false
				}
				if len(c) > 1 {
					out = append(out, c)
				}
			}
		}
	}
	return out
}

// dependencies are those along a cycle.
func (g *listGraph) dependencies(cycle []int) (out []dependency) {
	for i, n := range cycle {
		out = append(out, g.edges[n][cycle[(i+1)%len(cycle)]])
	}
	return out
}

func (g *listGraph) count(cycle []int, kind string) (n int) {
	for _, d := range g.dependencies(cycle) {
		if d.kind == kind {
			n++
		}
	}
	return n
}

func (g *listGraph) all(cycle []int, kinds ...string) bool {
	for _, d := range g.dependencies(cycle) {
		if !slices.Contains(kinds, d.kind) {
			return false
		}
	}
	return true
}

func (g *listGraph) explain(name string, cycle []int) violation {
	var b strings.Builder
	fmt.Fprintf(&b, "a cycle of %d transactions", len(cycle))
	for i, d := range g.dependencies(cycle) {
		fmt.Fprintf(&b, "\n  T%d %s\n    %s on list %d: T%d %s", i+1, g.txns[cycle[i]], d.kind, d.key, (i+1)%len(cycle)+1, d.why)
	}
	return violation{kind: "lists: " + name, text: b.String()}
}

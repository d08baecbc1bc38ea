package histories

import "slices"

// setOp adds an element to a set or reads all of it.
type setOp struct {
	interval
	Client  int     `json:"client"`
	Node    int     `json:"node"`
	Set     int     `json:"set"`
	Added   int     `json:"added,omitempty"` // 0: a read
	Read    []int   `json:"read,omitempty"`
	Index   bool    `json:"index,omitempty"` // read from the secondary index
	Outcome outcome `json:"outcome"`
	Error   string  `json:"error,omitempty"`
}

// checkSets: a read has everything whose addition was acknowledged before it began,
// and everything that a read had which ended before it began; nothing that nobody
// tried to add before it ended, or that certainly was not added; and nothing twice.
func checkSets(ops []setOp) (bad []violation) {
	bySet := map[int][]setOp{}
	for _, op := range ops {
		bySet[op.Set] = append(bySet[op.Set], op)
	}
	for _, id := range sortedKeys(bySet) {
		added := map[int]setOp{}
		// certain says since when an element is known to be there, and why.
		type fact struct {
			at int64
			by setOp
		}
		certain := map[int]fact{}
		know := func(e int, op setOp) {
			if f, ok := certain[e]; !ok || op.Return < f.at {
				certain[e] = fact{op.Return, op}
			}
		}
		var reads []setOp
		for _, op := range bySet[id] {
			switch {
			case op.Added != 0:
				added[op.Added] = op
				if op.Outcome == happened {
					know(op.Added, op)
				}
			case op.Outcome == happened:
				reads = append(reads, op)
				for _, e := range op.Read {
					know(e, op)
				}
			}
		}
		for _, r := range reads {
			has := map[int]bool{}
			for _, e := range r.Read {
				a, tried := added[e]
				switch {
				case has[e]:
					bad = append(bad, violationf("set: an element is there twice", "set %d: the read %s of client %d through n%d has %d twice", id, r.interval, r.Client, r.Node, e))
				case !tried || r.before(a.interval):
					bad = append(bad, violationf("set: an element was invented", "set %d: the read %s of client %d through n%d has %d, which nobody had tried to add", id, r.interval, r.Client, r.Node, e))
				case a.Outcome == failed:
					bad = append(bad, violationf("set: what failed is there", "set %d: the read %s of client %d through n%d has %d, which was refused %s", id, r.interval, r.Client, r.Node, e, a.interval))
				}
				has[e] = true
			}
			for _, e := range sortedKeys(certain) {
				if f := certain[e]; !has[e] && f.at < r.Call {
					why := "was acknowledged"
					if f.by.Added == 0 {
						why = "was read"
					}
					// What is gone for good is worse than what was missed once.
					kind := "set: a read is stale"
					if gone := !slices.ContainsFunc(reads, func(o setOp) bool { return r.before(o.interval) && slices.Contains(o.Read, e) }); gone {
						kind = "set: an element is lost"
					}
					bad = append(bad, violationf(kind, "set %d: the read %s of client %d through n%d (index: %v) lacks %d, which %s through n%d %s; its addition through n%d %s is %s",
						id, r.interval, r.Client, r.Node, r.Index, e, why, f.by.Node, f.by.interval, added[e].Node, added[e].interval, added[e].Outcome))
				}
			}
		}
	}
	return bad
}

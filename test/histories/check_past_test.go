package histories

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// stamp is a timestamp as cluster_logical_timestamp() prints it.
type stamp string

// compare orders stamps: nanoseconds, and ten digits of a logical part.
func (s stamp) compare(o stamp) int {
	w, l, _ := strings.Cut(string(s), ".")
	ow, ol, _ := strings.Cut(string(o), ".")
	return cmp.Or(cmp.Compare(len(w), len(ow)), cmp.Compare(w, ow), cmp.Compare(l+strings.Repeat("0", max(0, 10-len(l))), ol+strings.Repeat("0", max(0, 10-len(ol)))))
}

// pastRead is a register as it was at an instant. Its values say in themselves when
// they were written.
type pastRead struct {
	interval
	Client int   `json:"client"`
	Node   int   `json:"node"`
	Key    int   `json:"key"`
	AsOf   stamp `json:"as_of"` // empty: now
	Value  int   `json:"value"`
	At     stamp `json:"at"` // when Value was written; empty: it does not say
}

func (r pastRead) String() string {
	when := "now"
	if r.AsOf != "" {
		when = "as of " + string(r.AsOf)
	}
	return fmt.Sprintf("read %s of client %d through n%d %s: %d, written at %s", r.interval, r.Client, r.Node, when, r.Value, cmp.Or(r.At, "?"))
}

// checkPast: a read as of an instant returns the last version that was written at or
// below it. So no other read, ever, may find a version between the two.
func checkPast(reads []pastRead) (bad []violation) {
	byKey := map[int][]pastRead{}
	for _, r := range reads {
		byKey[r.Key] = append(byKey[r.Key], r)
	}
	for _, key := range sortedKeys(byKey) {
		versions := map[stamp]pastRead{}
		same := map[string]pastRead{}
		for _, r := range byKey[key] {
			if r.At != "" {
				if o, ok := versions[r.At]; ok && o.Value != r.Value {
					bad = append(bad, violationf("past: two versions of one instant", "register %d: %s; but %s", key, o, r))
				}
				versions[r.At] = r
				if r.AsOf != "" && r.At.compare(r.AsOf) > 0 {
					bad = append(bad, violationf("past: a read shows the future", "register %d: %s", key, r))
				}
			}
			if r.AsOf == "" {
				continue
			}
			if o, ok := same[string(r.AsOf)]; ok && o.Value != r.Value {
				bad = append(bad, violationf("past: the past has changed", "register %d: %s; but %s", key, o, r))
			}
			same[string(r.AsOf)] = r
		}
		order := make([]stamp, 0, len(versions))
		for at := range versions {
			order = append(order, at)
		}
		slices.SortFunc(order, stamp.compare)
		for _, r := range byKey[key] {
			if r.AsOf == "" || r.At == "" && r.Value != 0 {
				continue
			}
			// The last version at or below the instant.
			i, found := slices.BinarySearchFunc(order, r.AsOf, stamp.compare)
			if !found {
				i--
			}
			if i < 0 {
				continue
			}
			if last := versions[order[i]]; r.At == "" || r.At.compare(last.At) < 0 {
				bad = append(bad, violationf("past: a version appeared in the past", "register %d: %s; but %s", key, r, last))
			}
		}
	}
	return bad
}

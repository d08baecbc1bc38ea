package kv

import (
	"bytes"
	"slices"

	"github.com/holdfastdb/holdfast/internal/keys"
)

// spanSet remembers keys and spans within a bounded memory. When they become too
// many it keeps covering spans instead, one per index, then one for all: a
// superset, never less.
type spanSet struct {
	maxBytes int
	spans    []keys.Span
	// wide are spans that came from condensing: sorted and disjoint. What they
	// cover is not added to spans again.
	wide  []keys.Span
	arena []byte
	bytes int
}

const spanOverheadBytes = 48 // two slice headers

func (s *spanSet) empty() bool { return len(s.spans) == 0 && len(s.wide) == 0 }

func (s *spanSet) clear() {
	*s = spanSet{maxBytes: s.maxBytes}
}

// add records a span, or a single key if end is empty. It copies both.
func (s *spanSet) add(key, end keys.Key) {
	if len(s.wide) > 0 && s.isWide(key, end) {
		return
	}
	if n := len(s.spans); n > 0 {
		// Loops over the same key are common: read, then write.
		if l := s.spans[n-1]; bytes.Equal(l.Key, key) && bytes.Equal(l.EndKey, end) {
			return
		}
	}
	size := len(key) + len(end) + spanOverheadBytes
	if s.bytes+size > s.maxBytes && len(s.spans) > 0 {
		s.condense()
		if s.isWide(key, end) {
			return
		}
	}
	s.bytes += size
	s.spans = append(s.spans, keys.Span{Key: s.copy(key), EndKey: s.copy(end)})
}

func (s *spanSet) isWide(key, end keys.Key) bool {
	i, found := slices.BinarySearchFunc(s.wide, key, func(w keys.Span, k keys.Key) int { return w.Key.Compare(k) })
	if !found {
		i--
	}
	if i < 0 {
		return false
	}
	return s.wide[i].ContainsSpan(keys.Span{Key: key, EndKey: end})
}

// overlaps says whether something of what was recorded may lie in span.
func (s *spanSet) overlaps(span keys.Span) bool {
	for _, list := range [][]keys.Span{s.spans, s.wide} {
		for _, have := range list {
			if have.Overlaps(span) {
				return true
			}
		}
	}
	return false
}

func (s *spanSet) copy(k keys.Key) keys.Key {
	if len(k) == 0 {
		return nil
	}
	if cap(s.arena)-len(s.arena) < len(k) {
		s.arena = make([]byte, 0, max(len(k), min(4*cap(s.arena)+48, 32<<10)))
	}
	n := len(s.arena)
	s.arena = append(s.arena, k...)
	return s.arena[n:len(s.arena):len(s.arena)]
}

// condense replaces all spans by covering ones.
func (s *spanSet) condense() {
	all := append(s.spans, s.wide...)
	sortSpans(all)
	wide := cover(all, sameIndex)
	if size := spansBytes(wide); size > s.maxBytes/2 {
		wide = cover(wide, func(a, b keys.Key) bool { return true })
	}
	*s = spanSet{maxBytes: s.maxBytes}
	// Copy what is kept, so that the arenas of the rest can go.
	for i := range wide {
		wide[i] = keys.Span{Key: wide[i].Key.Clone(), EndKey: wide[i].EndKey.Clone()}
	}
	s.wide = slices.Clip(wide)
	s.bytes = spansBytes(s.wide)
}

// sorted returns all spans in order, merged where they overlap. Single keys stay
// single. The result is valid until the next add.
func (s *spanSet) sorted() []keys.Span {
	all := make([]keys.Span, 0, len(s.spans)+len(s.wide))
	all = append(append(all, s.spans...), s.wide...)
	if len(all) < 2 {
		return all
	}
	sortSpans(all)
	out := all[:1]
	for _, sp := range all[1:] {
		last := &out[len(out)-1]
		switch {
		case last.ContainsSpan(sp):
		case len(last.EndKey) > 0 && sp.Key.Less(last.EndKey):
			last.EndKey = sp.End()
		case last.Key.Equal(sp.Key): // a point, then a span from it
			*last = sp
		default:
			out = append(out, sp)
		}
	}
	return out
}

func sortSpans(spans []keys.Span) {
	slices.SortFunc(spans, func(a, b keys.Span) int {
		if c := a.Key.Compare(b.Key); c != 0 {
			return c
		}
		return a.EndKey.Compare(b.EndKey)
	})
}

// cover joins neighbours of sorted spans that join says belong together.
func cover(sorted []keys.Span, join func(a, b keys.Key) bool) []keys.Span {
	out := sorted[:0]
	for _, sp := range sorted {
		sp = keys.Span{Key: sp.Key, EndKey: sp.End()}
		if n := len(out); n > 0 && (sp.Key.Less(out[n-1].EndKey) || join(out[n-1].Key, sp.Key)) {
			if out[n-1].EndKey.Less(sp.EndKey) {
				out[n-1].EndKey = sp.EndKey
			}
			continue
		}
		out = append(out, sp)
	}
	return out
}

func sameIndex(a, b keys.Key) bool {
	at, ai, _, ok := keys.DecodeIndexPrefix(a)
	if !ok {
		return false
	}
	bt, bi, _, ok := keys.DecodeIndexPrefix(b)
	return ok && at == bt && ai == bi
}

func spansBytes(spans []keys.Span) (n int) {
	for _, s := range spans {
		n += len(s.Key) + len(s.EndKey) + spanOverheadBytes
	}
	return n
}

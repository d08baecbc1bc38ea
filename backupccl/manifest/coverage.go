package manifest

import (
	"bytes"
	"fmt"
	"sort"

	"github.com/holdfastdb/holdfast/backupccl/backuppb"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// SortSpans orders spans by their start.
func SortSpans(spans []keys.Span) {
	sort.Slice(spans, func(i, j int) bool { return spans[i].Key.Less(spans[j].Key) })
}

// MergeSpans adds more to spans and joins neighbours.
func MergeSpans(spans, more []keys.Span) []keys.Span {
	all := append(spans, more...)
	if len(all) < 2 {
		return all
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Key.Less(all[j].Key) })
	out := all[:1]
	for _, sp := range all[1:] {
		last := &out[len(out)-1]
		if last.End().Less(sp.Key) {
			out = append(out, sp)
			continue
		}
		if last.End().Less(sp.End()) {
			last.EndKey = sp.End()
		}
	}
	return out
}

// Subtract returns what is left of spans without done.
func Subtract(spans []keys.Span, done []keys.Span) []keys.Span {
	sorted := append([]keys.Span(nil), done...)
	SortSpans(sorted)
	var out []keys.Span
	for _, sp := range spans {
		rest := sp
		for _, d := range sorted {
			if !d.Key.Less(rest.EndKey) {
				break
			}
			if !rest.Key.Less(d.End()) {
				continue
			}
			if rest.Key.Less(d.Key) {
				out = append(out, keys.Span{Key: rest.Key, EndKey: d.Key})
			}
			rest.Key = d.End()
			if !rest.Key.Less(rest.EndKey) {
				break
			}
		}
		if bytes.Compare(rest.Key, rest.EndKey) < 0 {
			out = append(out, rest)
		}
	}
	return out
}

// Overlap returns a span in which two of spans overlap; ok is false if none do.
func Overlap(spans []keys.Span) (sp keys.Span, ok bool) {
	sorted := append([]keys.Span(nil), spans...)
	SortSpans(sorted)
	for i := 1; i < len(sorted); i++ {
		if sorted[i].Key.Less(sorted[i-1].End()) {
			return sorted[i], true
		}
	}
	return keys.Span{}, false
}

// CheckExact demands that parts make up whole: every key of whole is in one of
// the parts and no key is in two, or in one that whole does not have. Errors name
// no row keys.
func CheckExact(whole, parts []keys.Span) error {
	if sp, ok := Overlap(whole); ok {
		return pgerr.Newf(pgerr.DataCorrupted, "%s is to be covered twice", spanName(sp))
	}
	if sp, ok := Overlap(parts); ok {
		return pgerr.Newf(pgerr.DataCorrupted, "%s is covered twice in part", spanName(sp))
	}
	if left := Subtract(whole, parts); len(left) > 0 {
		return pgerr.Newf(pgerr.DataCorrupted, "%s is not covered in %d places", spanName(left[0]), len(left))
	}
	if more := Subtract(parts, whole); len(more) > 0 {
		return pgerr.Newf(pgerr.DataCorrupted, "%s is covered and does not belong to the backup", spanName(more[0]))
	}
	return nil
}

// spanName names a span by its table and index: row keys do not leave their
// region, not in messages either.
func spanName(sp keys.Span) string {
	table, index, _, ok := keys.DecodeIndexPrefix(sp.Key)
	if !ok {
		return "a span"
	}
	return fmt.Sprintf("index %d of table %d", index, table)
}

// fileCoverage checks file by file, in the order of the file list, that files lie
// within what their part covers and that no two of them have the same.
type fileCoverage struct {
	part []keys.Span // sorted
	// open are the covered spans of earlier files that end behind the present one's
	// start: as many as there were writers at once.
	open []openSpan
}

type openSpan struct {
	keys.Span
	unit uint64
}

func (c *fileCoverage) add(f *backuppb.File) error {
	covered := Spans(f.Covered)
	if len(covered) == 0 {
		covered = []keys.Span{Span(f.Span)}
	}
	start := covered[0].Key
	kept := c.open[:0]
	for _, o := range c.open {
		if start.Less(o.End()) {
			kept = append(kept, o)
		}
	}
	c.open = kept
	for _, sp := range covered {
		if sp.Key.Less(start) || !sp.Key.Less(sp.End()) || !Span(f.Span).ContainsSpan(sp) {
			return pgerr.Newf(pgerr.DataCorrupted, "file %s covers what is not in its span", f.Path)
		}
		for _, o := range c.open {
			if o.Overlaps(sp) && (f.Unit == 0 || f.Unit != o.unit) {
				return pgerr.Newf(pgerr.DataCorrupted, "file %s covers a part of %s that another file has too", f.Path, spanName(sp))
			}
		}
		if f.Unit == 0 && !c.within(sp) {
			return pgerr.Newf(pgerr.DataCorrupted, "file %s covers a part of %s that is not among what was finished", f.Path, spanName(sp))
		}
	}
	for _, sp := range covered {
		c.open = append(c.open, openSpan{sp, f.Unit})
	}
	return nil
}

// within says whether sp lies within the part's spans, whose neighbours are
// joined.
func (c *fileCoverage) within(sp keys.Span) bool {
	i := sort.Search(len(c.part), func(i int) bool { return sp.Key.Less(c.part[i].End()) })
	return i < len(c.part) && c.part[i].ContainsSpan(sp)
}

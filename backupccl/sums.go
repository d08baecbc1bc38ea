package backupccl

import (
	"context"
	"fmt"
	"sort"

	"github.com/holdfastdb/holdfast/backupccl/backuppb"
	"github.com/holdfastdb/holdfast/backupccl/manifest"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv/storage"
	"github.com/holdfastdb/holdfast/sql/catalog"
)

// indexSums are counts and fingerprints by index.
type indexSums map[storage.IndexID]*backuppb.IndexSummary

func (s indexSums) add(list []*backuppb.IndexSummary) {
	for _, ix := range list {
		id := storage.IndexID{TableID: ix.TableId, IndexID: ix.IndexId}
		have := s[id]
		if have == nil {
			have = &backuppb.IndexSummary{TableId: ix.TableId, IndexId: ix.IndexId, ViewKnown: true}
			s[id] = have
		}
		addSummary(have, ix)
	}
}

// equal says whether o counts the same versions.
func (s indexSums) equal(o indexSums) error {
	for id, a := range s {
		if b := o[id]; !sameVersions(a, b) {
			return errSums(id, a, b)
		}
	}
	for id, b := range o {
		if s[id] == nil && !sameVersions(nil, b) {
			return errSums(id, nil, b)
		}
	}
	return nil
}

// sameVersions compares what two counts say of the versions in an index. Rows are
// left out: one that is cut over two files counts in both. So are range
// tombstones, whose number hangs on where they are cut.
func sameVersions(a, b *backuppb.IndexSummary) bool {
	return a.GetKvs() == b.GetKvs() && a.GetTombstones() == b.GetTombstones() &&
		(a.GetRangeTombstones() > 0) == (b.GetRangeTombstones() > 0) &&
		a.GetKeyBytes() == b.GetKeyBytes() && a.GetValueBytes() == b.GetValueBytes() &&
		a.GetFingerprintHi() == b.GetFingerprintHi() && a.GetFingerprintLo() == b.GetFingerprintLo() &&
		a.GetTimedFingerprintHi() == b.GetTimedFingerprintHi() && a.GetTimedFingerprintLo() == b.GetTimedFingerprintLo()
}

func errSums(id storage.IndexID, want, got *backuppb.IndexSummary) error {
	return pgerr.Newf(pgerr.DataCorrupted,
		"index %d of table %d has %d versions with fingerprint %016x%016x, expected %d with %016x%016x", id.IndexID, id.TableID,
		got.GetKvs(), got.GetFingerprintHi(), got.GetFingerprintLo(), want.GetKvs(), want.GetFingerprintHi(), want.GetFingerprintLo())
}

// mergedViews returns by table what each of its indexes holds at the layer's end,
// over all layers of the chain: what the layer before says, with the difference
// that this one's export found. prev is nil for a full.
func mergedViews(
	ctx context.Context, t *backupTargets, introduced []keys.Span, sums indexSums, prev *manifest.Layer,
) (map[uint32][]*backuppb.IndexSummary, error) {
	var before *manifest.Views
	if prev != nil {
		var err error
		if before, err = prev.Views(ctx); err != nil {
			return nil, fmt.Errorf("reading what the previous layer holds: %w", err)
		}
	}
	fromZero := map[string]bool{}
	for _, sp := range introduced {
		fromZero[string(sp.Key)] = true
	}
	out := map[uint32][]*backuppb.IndexSummary{}
	for _, id := range t.ids {
		tbl, ok := t.sch.byID[id].(*catalog.Table)
		if !ok {
			continue
		}
		for _, sp := range dataSpans(tbl) {
			_, index, _, ok := keys.DecodeIndexPrefix(sp.Key)
			if !ok {
				continue
			}
			view := &backuppb.IndexSummary{TableId: id, IndexId: index, ViewKnown: true}
			if prev != nil && !fromZero[string(sp.Key)] {
				was, known := before.Of(id, index)
				if !known {
					continue
				}
				addSummary(view, was)
			}
			if sum := sums[storage.IndexID{TableID: id, IndexID: index}]; sum != nil {
				addSummary(view, sum)
			}
			if view.ViewKnown {
				out[id] = append(out[id], &backuppb.IndexSummary{
					TableId: id, IndexId: index, ViewKvs: view.ViewKvs, ViewHi: view.ViewHi, ViewLo: view.ViewLo, ViewKnown: true,
				})
			}
		}
	}
	return out, nil
}

// addSummary adds b to a.
func addSummary(a, b *backuppb.IndexSummary) {
	a.Rows += b.Rows
	a.Kvs += b.Kvs
	a.Tombstones += b.Tombstones
	a.RangeTombstones += b.RangeTombstones
	a.KeyBytes += b.KeyBytes
	a.ValueBytes += b.ValueBytes
	fp := storage.Fingerprint{Hi: a.FingerprintHi, Lo: a.FingerprintLo}
	fp.Add(storage.Fingerprint{Hi: b.FingerprintHi, Lo: b.FingerprintLo})
	a.FingerprintHi, a.FingerprintLo = fp.Hi, fp.Lo
	fp = storage.Fingerprint{Hi: a.TimedFingerprintHi, Lo: a.TimedFingerprintLo}
	fp.Add(storage.Fingerprint{Hi: b.TimedFingerprintHi, Lo: b.TimedFingerprintLo})
	a.TimedFingerprintHi, a.TimedFingerprintLo = fp.Hi, fp.Lo
	fp = storage.Fingerprint{Hi: a.ViewHi, Lo: a.ViewLo}
	fp.Add(storage.Fingerprint{Hi: b.ViewHi, Lo: b.ViewLo})
	a.ViewKvs, a.ViewHi, a.ViewLo = a.ViewKvs+b.ViewKvs, fp.Hi, fp.Lo
	a.ViewKnown = a.ViewKnown && b.ViewKnown
}

// summariesPB converts what an export counted; its exports asked for the view.
func summariesPB(sum *storage.ExportSummary) []*backuppb.IndexSummary {
	var out []*backuppb.IndexSummary
	for id, ix := range sum.Indexes {
		out = append(out, &backuppb.IndexSummary{
			TableId: id.TableID, IndexId: id.IndexID, Rows: ix.Rows, Kvs: ix.KVs, Tombstones: ix.Tombstones,
			RangeTombstones: ix.RangeTombstones, KeyBytes: ix.KeyBytes, ValueBytes: ix.ValueBytes,
			FingerprintHi: ix.Fingerprint.Hi, FingerprintLo: ix.Fingerprint.Lo,
			TimedFingerprintHi: ix.TimedFingerprint.Hi, TimedFingerprintLo: ix.TimedFingerprint.Lo,
			ViewKvs: ix.ViewKVs, ViewHi: ix.View.Hi, ViewLo: ix.View.Lo, ViewKnown: !ix.ViewUnknown,
		})
	}
	sort.Slice(out, func(i, j int) bool {
		if out[i].TableId != out[j].TableId {
			return out[i].TableId < out[j].TableId
		}
		return out[i].IndexId < out[j].IndexId
	})
	return out
}

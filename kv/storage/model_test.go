package storage

import (
	"bytes"
	"fmt"
	"slices"
	"sort"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
)

// model is MVCC in plain maps and slices: what the engine is compared with.
type model struct {
	keys     []string
	versions map[string][]modelVersion // oldest first, committed only
	locks    map[string]*modelLock
	ranges   []modelRange
	gc       hlc.Timestamp // reads below it are undefined
}

type modelVersion struct {
	ts    hlc.Timestamp
	value string // empty: tombstone
}

type modelRange struct {
	start, end string
	ts         hlc.Timestamp
}

type modelWrite struct {
	seq   int32
	value string
}

type modelLock struct {
	txn    *modelTxn
	epoch  int32
	ts     hlc.Timestamp
	writes []modelWrite // oldest first, never empty
}

// modelTxn is an open transaction of the test.
type modelTxn struct {
	Txn
	locked map[string]bool
}

func newModel(ks []string) *model {
	return &model{keys: ks, versions: map[string][]modelVersion{}, locks: map[string]*modelLock{}}
}

// covering returns the timestamps of the range tombstones over key.
func (m *model) covering(key string) []hlc.Timestamp {
	var out []hlc.Timestamp
	for _, r := range m.ranges {
		if r.start <= key && key < r.end {
			out = append(out, r.ts)
		}
	}
	return out
}

// newest returns the newest version or range tombstone in (-, limit].
func (m *model) newest(key string, limit hlc.Timestamp) (modelVersion, bool) {
	var best modelVersion
	for _, v := range m.versions[key] {
		if v.ts.LessEq(limit) {
			best = v
		}
	}
	for _, t := range m.covering(key) {
		if t.LessEq(limit) && best.ts.LessEq(t) {
			best = modelVersion{ts: t}
		}
	}
	return best, !best.ts.IsEmpty()
}

// hasPoint says whether key has a point version, provisional or not, ≤ limit.
func (m *model) hasPoint(key string, limit hlc.Timestamp) bool {
	for _, v := range m.versions[key] {
		if v.ts.LessEq(limit) {
			return true
		}
	}
	l := m.locks[key]
	return l != nil && l.ts.LessEq(limit)
}

// sees returns the newest write ≤ seq that counts.
func (l *modelLock) sees(seq int32, ignored []SeqRange) (modelWrite, bool) {
	for i := len(l.writes) - 1; i >= 0; i-- {
		if w := l.writes[i]; w.seq <= seq && !seqIgnored(ignored, w.seq) {
			return w, true
		}
	}
	return modelWrite{}, false
}

// outcome is what a read of one key gives.
type outcome struct {
	kind  string // "value", "none", "locked", "skipped", "uncertain", "toorecent"
	value string
	ts    hlc.Timestamp
}

// read is the model's MVCCGet.
func (m *model) read(key string, ts hlc.Timestamp, o GetOptions) outcome {
	at := ts
	limit := ts
	switch {
	case o.FailOnMoreRecent:
		limit = hlc.MaxTimestamp
	case o.Txn != nil && ts.Less(o.Txn.GlobalUncertaintyLimit):
		limit = o.Txn.GlobalUncertaintyLimit
	}
	if l := m.locks[key]; l != nil {
		own := o.Txn != nil && o.Txn.ID == l.txn.ID
		inWay := l.ts.LessEq(ts) || o.FailOnMoreRecent
		switch {
		case own && l.epoch == o.Txn.Epoch:
			if w, ok := l.sees(o.Txn.Sequence, o.Txn.IgnoredSeqNums); ok {
				return m.valueOutcome(w.value, l.ts, o)
			}
			at.Backward(l.ts.Prev())
			limit = at
		case own:
			at.Backward(l.ts.Prev())
			limit = at
		case inWay && o.SkipLocked:
			return outcome{kind: "skipped"}
		case inWay && o.Inconsistent:
			at.Backward(l.ts.Prev())
			limit = at
		case inWay:
			return outcome{kind: "locked"}
		case l.ts.LessEq(limit):
			return outcome{kind: "uncertain", ts: l.ts}
		}
	}
	v, ok := m.newest(key, limit)
	if !ok {
		return outcome{kind: "none"}
	}
	if at.Less(v.ts) {
		if o.FailOnMoreRecent {
			return outcome{kind: "toorecent", ts: v.ts}
		}
		return outcome{kind: "uncertain", ts: v.ts}
	}
	return m.valueOutcome(v.value, v.ts, o)
}

func (m *model) valueOutcome(value string, ts hlc.Timestamp, o GetOptions) outcome {
	if value == "" && (!o.Tombstones || ts.LessEq(m.gc)) { // Collected ones are gone.
		return outcome{kind: "none"}
	}
	return outcome{kind: "value", value: value, ts: ts}
}

// put is the model's write; it returns the class of the error, or "".
func (m *model) put(key string, ts hlc.Timestamp, value string, txn *modelTxn) string {
	l := m.locks[key]
	if l != nil && (txn == nil || l.txn != txn) {
		return "locked"
	}
	if l != nil {
		if l.epoch < txn.Epoch {
			l.writes = nil
		}
		l.epoch = txn.Epoch
		l.ts.Forward(txn.WriteTimestamp)
		l.writes = slices.DeleteFunc(l.writes, func(w modelWrite) bool { return seqIgnored(txn.IgnoredSeqNums, w.seq) })
		l.writes = append(l.writes, modelWrite{seq: txn.Sequence, value: value})
		return ""
	}
	readTS, writeTS := ts, ts
	if txn != nil {
		readTS, writeTS = txn.ReadTimestamp, txn.WriteTimestamp
	}
	if v, ok := m.newest(key, hlc.MaxTimestamp); ok && (readTS.Less(v.ts) || writeTS.LessEq(v.ts)) {
		return "toorecent"
	}
	if txn == nil {
		m.versions[key] = append(m.versions[key], modelVersion{ts: ts, value: value})
		return ""
	}
	m.locks[key] = &modelLock{txn: txn, epoch: txn.Epoch, ts: writeTS, writes: []modelWrite{{seq: txn.Sequence, value: value}}}
	txn.locked[key] = true
	return ""
}

// resolve is the model's MVCCResolveIntent.
func (m *model) resolve(key string, txn *modelTxn, status TxnStatus, at hlc.Timestamp, ignored []SeqRange) {
	l := m.locks[key]
	if l == nil || l.txn != txn {
		return
	}
	drop := func() {
		delete(m.locks, key)
		delete(txn.locked, key)
	}
	if status == Aborted || (status == Committed && l.epoch != txn.Epoch) || (status == Pending && l.epoch < txn.Epoch) {
		drop()
		return
	}
	w, ok := l.sees(1<<30, ignored)
	if !ok {
		drop()
		return
	}
	if status == Committed {
		m.versions[key] = append(m.versions[key], modelVersion{ts: at, value: w.value})
		drop()
		return
	}
	l.ts.Forward(at)
	if last := l.writes[len(l.writes)-1]; seqIgnored(ignored, last.seq) {
		for i, x := range l.writes {
			if x == w {
				l.writes = slices.DeleteFunc(l.writes[:i+1], func(w modelWrite) bool { return seqIgnored(ignored, w.seq) })
				break
			}
		}
	}
}

// deleteRange is the model's MVCCDeleteRangeTombstone.
func (m *model) deleteRange(start, end string, ts hlc.Timestamp) string {
	for k := range m.locks {
		if start <= k && k < end {
			return "locked"
		}
	}
	for _, k := range m.keys {
		if k < start || k >= end {
			continue
		}
		for _, v := range m.versions[k] {
			if ts.LessEq(v.ts) {
				return "toorecent"
			}
		}
	}
	for _, r := range m.ranges {
		if r.start < end && start < r.end && ts.LessEq(r.ts) {
			return "toorecent"
		}
	}
	m.ranges = append(m.ranges, modelRange{start, end, ts})
	return ""
}

// export returns what MVCCExport of the span must hold: points as key@ts=value,
// range tombstones as key~ts for each key of the model they cover.
func (m *model) export(start, end string, o ExportOptions) (points, tombs []string, conflict bool) {
	want := o.AllRevisions || o.Tombstones || !o.StartTime.IsEmpty()
	for _, k := range m.keys {
		if k < start || k >= end {
			continue
		}
		if l := m.locks[k]; l != nil && l.ts.LessEq(o.EndTime) {
			conflict = true
		}
		var within []hlc.Timestamp
		for _, t := range m.covering(k) {
			if o.StartTime.Less(t) && t.LessEq(o.EndTime) {
				within = append(within, t)
			}
		}
		slices.SortFunc(within, func(a, b hlc.Timestamp) int { return b.Compare(a) })
		within = slices.Compact(within)
		if !o.AllRevisions && len(within) > 1 {
			within = within[:1]
		}
		if want {
			for _, t := range within {
				tombs = append(tombs, fmt.Sprintf("%x~%s", k, t))
			}
		}
		vs := m.versions[k]
		for i := len(vs) - 1; i >= 0; i-- {
			v := vs[i]
			if o.EndTime.Less(v.ts) || v.ts.LessEq(o.StartTime) {
				continue
			}
			hidden := false
			for _, t := range m.covering(k) {
				hidden = hidden || (v.ts.LessEq(t) && t.LessEq(o.EndTime))
			}
			if o.AllRevisions || (!hidden && (v.value != "" || want)) {
				points = append(points, fmt.Sprintf("%x@%s=%s", k, v.ts, v.value))
			}
			if !o.AllRevisions {
				break
			}
		}
	}
	sort.Strings(tombs)
	return points, tombs, conflict
}

// at returns the live pairs of [start, end) as of ts, without regard to locks.
func (m *model) at(start, end string, ts hlc.Timestamp) []string {
	var out []string
	for _, k := range m.keys {
		if k < start || k >= end {
			continue
		}
		if v, ok := m.newest(k, ts); ok && v.value != "" {
			out = append(out, fmt.Sprintf("%x@%s=%s", k, v.ts, v.value))
		}
	}
	return out
}

// modelKeys returns the sorted keys of some rows of two tables and families, one
// of them a prefix of another, and one above the tables.
func modelKeys() []string {
	var ks []string
	for _, table := range []uint32{104, 110} {
		for index := uint32(1); index <= 2; index++ {
			for row := byte(0); row < 3; row++ {
				k := append(keys.IndexPrefix(table, index), 0x89+row)
				ks = append(ks, string(append(k.Clone(), 0x88)))
				if index == 1 {
					ks = append(ks, string(append(k.Clone(), 0x89, 0x89)))
				}
			}
		}
	}
	ks = append(ks, "\xfcz", "\xfcz\x00", "\xfcz\x00\x01")
	slices.SortFunc(ks, func(a, b string) int { return bytes.Compare([]byte(a), []byte(b)) })
	return ks
}

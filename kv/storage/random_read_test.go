package storage

import (
	"context"
	"fmt"
	"slices"
	"sort"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
)

// reader returns one of the kinds of Reader.
func (h *history) reader() (Reader, func()) {
	switch h.rng.IntN(4) {
	case 0:
		return h.e, func() {}
	case 1:
		s := h.e.NewSnapshot()
		return s, func() { h.must(s.Close()) }
	case 2:
		r := h.e.NewReadOnly()
		return r, func() { h.must(r.Close()) }
	}
	b := h.e.NewBatch()
	return b, func() { h.must(b.Close()) }
}

// read compares gets and scans, in both directions, with random options.
func (h *history) read() {
	ctx := context.Background()
	r, done := h.reader()
	defer done()
	ts := h.past()
	var o GetOptions
	switch h.rng.IntN(6) {
	case 0:
		o.Inconsistent = true
	case 1:
		o.SkipLocked = true
	case 2:
		o.FailOnMoreRecent = true
	}
	o.Tombstones = h.rng.IntN(4) == 0
	if tx := h.txn(); tx != nil && h.rng.IntN(2) == 0 {
		c := tx.Txn
		if h.rng.IntN(2) == 0 && c.Sequence > 0 {
			c.Sequence = h.rng.Int32N(c.Sequence + 1)
		}
		o.Txn = &c
		ts = c.ReadTimestamp
		if h.rng.IntN(3) == 0 {
			c.GlobalUncertaintyLimit = ts.Add(5)
		}
		if ts.Less(h.m.gc) {
			return
		}
	}
	for range 4 {
		k := h.key()
		want := h.m.read(k, ts, o)
		got := h.get(r, k, ts, o)
		if got != want {
			h.fail("get %x at %s %+v:\n got %+v\nwant %+v", k, ts, o, got, want)
		}
	}

	a, b := h.span()
	so := ScanOptions{Txn: o.Txn, Inconsistent: o.Inconsistent, SkipLocked: o.SkipLocked, FailOnMoreRecent: o.FailOnMoreRecent,
		Tombstones: o.Tombstones, Reverse: h.rng.IntN(2) == 0}
	switch h.rng.IntN(3) {
	case 0:
		so.MaxKeys = 1 + int64(h.rng.IntN(4))
	case 1:
		so.TargetBytes = 1 + int64(h.rng.IntN(100))
	}
	so.WholeRows = h.rng.IntN(3) == 0
	want, wantErr := h.scanModel(a, b, ts, o, so.Reverse)
	var got []string
	gotErr := ""
	span := &keys.Span{Key: keys.Key(a), EndKey: keys.Key(b)}
	for pages := 0; span != nil; pages++ {
		if pages > 100 {
			h.fail("scan does not end")
			return
		}
		res, err := MVCCScan(ctx, r, span.Key, span.EndKey, ts, so)
		if err != nil {
			gotErr = class(err)
			break
		}
		h.checkPage(res, so)
		for _, kv := range res.KVs {
			if len(kv.Value) > 0 || h.m.gc.Less(kv.Timestamp) {
				got = append(got, fmt.Sprintf("%x@%s=%s", []byte(kv.Key), kv.Timestamp, trimTag(kv.Value)))
			}
		}
		span = res.ResumeSpan
	}
	if so.MaxKeys == 0 && so.TargetBytes == 0 && wantErr != "" && gotErr != "" {
		// An unlimited scan may name a lock first or another obstacle; both exist.
		return
	}
	if gotErr != wantErr || (wantErr == "" && !slices.Equal(got, want)) {
		h.fail("scan [%x, %x) at %s %+v:\n got %q %s\nwant %q %s", a, b, ts, so, got, gotErr, want, wantErr)
	}
}

func (h *history) get(r Reader, k string, ts hlc.Timestamp, o GetOptions) outcome {
	res, err := MVCCGet(context.Background(), r, keys.Key(k), ts, o)
	if err != nil {
		switch e := err.(type) {
		case *LockConflictError:
			return outcome{kind: "locked"}
		case *ReadWithinUncertaintyError:
			return outcome{kind: "uncertain", ts: e.ValueTimestamp}
		case *WriteTooOldError:
			return outcome{kind: "toorecent", ts: e.ActualTimestamp.Prev()}
		}
		return outcome{kind: err.Error()}
	}
	switch {
	case res.Intent != nil && o.SkipLocked:
		return outcome{kind: "skipped"}
	case res.Value == nil:
		return outcome{kind: "none"}
	}
	return h.m.valueOutcome(string(trimTag(res.Value)), res.Timestamp, o)
}

// scanModel is a scan as gets of every key. Range tombstones over keys without
// any version do not disturb a scan.
func (h *history) scanModel(a, b string, ts hlc.Timestamp, o GetOptions, reverse bool) (out []string, kind string) {
	ks := slices.Clone(h.m.keys)
	if reverse {
		slices.Reverse(ks)
	}
	for _, k := range ks {
		if k < a || k >= b || (!h.m.hasPoint(k, hlc.MaxTimestamp)) {
			continue
		}
		r := h.m.read(k, ts, o)
		if (r.kind == "uncertain" || r.kind == "toorecent" || (r.kind == "value" && r.value == "")) && !h.m.hasPoint(k, r.ts) {
			continue // Only a range tombstone is there at that time.
		}
		switch r.kind {
		case "value":
			out = append(out, fmt.Sprintf("%x@%s=%s", k, r.ts, r.value))
		case "none", "skipped":
		default:
			return nil, r.kind
		}
	}
	return out, ""
}

// checkPage checks what holds for each page by itself.
func (h *history) checkPage(res ScanResult, o ScanOptions) {
	var n int64
	for _, kv := range res.KVs {
		n += int64(len(kv.Key) + len(kv.Value))
	}
	if n != res.NumBytes {
		h.fail("NumBytes %d, counted %d", res.NumBytes, n)
	}
	if !o.WholeRows && o.MaxKeys > 0 && int64(len(res.KVs)) > o.MaxKeys {
		h.fail("%d pairs above MaxKeys %d", len(res.KVs), o.MaxKeys)
	}
	if o.WholeRows && res.ResumeSpan != nil && len(res.KVs) > 0 {
		last := keys.RowPrefix(res.KVs[len(res.KVs)-1].Key)
		at := res.ResumeSpan.Key
		if o.Reverse {
			at = res.ResumeSpan.EndKey
			if last.Less(at) && !o.Reverse {
				h.fail("resume within a row")
			}
			return
		}
		if keys.RowPrefix(at).Equal(last) && h.m.hasPoint(string(at), hlc.MaxTimestamp) {
			h.fail("page ends inside row %x, resume at %x", last, at)
		}
	}
}

// export compares pages of a random interval with the model, and the files'
// summaries with their content.
func (h *history) export() {
	ctx := context.Background()
	a, b := h.span()
	start, end := h.past(), h.past()
	if end.Less(start) {
		start, end = end, start
	}
	if start == end {
		end = end.Next()
	}
	o := ExportOptions{StartTime: start, EndTime: end, AllRevisions: h.rng.IntN(2) == 0, Tombstones: h.rng.IntN(4) == 0}
	if h.rng.IntN(4) == 0 && (!o.AllRevisions || h.m.gc.IsEmpty()) {
		o.StartTime = hlc.Timestamp{}
		if !h.m.gc.IsEmpty() {
			// Of what was collected only the newest below the threshold is sure.
			o.Tombstones = false
		}
	}
	if h.rng.IntN(2) == 0 {
		o.TargetBytes = 1 + int64(h.rng.IntN(200))
	}
	if h.rng.IntN(3) == 0 {
		o.MaxBytes = o.TargetBytes + int64(h.rng.IntN(200)) + 1
	}
	r, done := h.reader()
	defer done()
	wantPoints, wantTombs, conflict := h.m.export(a, b, o)
	var points, tombs []string
	var lastRow keys.Key
	o.Span = keys.Span{Key: keys.Key(a), EndKey: keys.Key(b)}
	for pages := 0; ; pages++ {
		if pages > 500 {
			h.fail("export does not end")
			return
		}
		var file SSTBuffer
		res, err := MVCCExport(ctx, r, o, &file)
		if err != nil {
			if class(err) != "locked" || !conflict {
				h.fail("export [%x, %x) %+v: %v, conflict=%t", a, b, o, err, conflict)
			}
			return
		}
		pageSpan := keys.Span{Key: o.Span.Key, EndKey: o.Span.EndKey}
		if res.ResumeKey != nil {
			pageSpan.EndKey = res.ResumeKey
			if !res.ResumeTS.IsEmpty() {
				pageSpan.EndKey = res.ResumeKey.Next()
			}
		}
		first := true
		if (file.Len() == 0) != res.Empty || res.FileBytes != int64(file.Len()) {
			h.fail("page says empty=%t, %d bytes; has %d", res.Empty, res.FileBytes, file.Len())
		}
		if !res.Empty {
			h.must(VisitSST(ctx, file.File(), keys.MinKey, nil, SSTVisitor{
				Version: func(k MVCCKey, v []byte) error {
					if !pageSpan.Contains(k.Key) {
						h.fail("page of %s holds %s", pageSpan, k)
					}
					if len(v) > 0 && string(v[:4]) != "\x00\x00\x00\x00" {
						h.fail("exported value of %s has a checksum", k)
					}
					if row := keys.RowPrefix(k.Key); first && lastRow != nil && row.Equal(lastRow) && !o.ResumeMidRow && o.ResumeTS.IsEmpty() {
						h.fail("a page began inside row %x", row)
					}
					first = false
					lastRow = keys.RowPrefix(k.Key).Clone()
					points = append(points, fmt.Sprintf("%x@%s=%s", []byte(k.Key), k.Timestamp, trimTag(v)))
					return nil
				},
				RangeTombstone: func(sp keys.Span, ts hlc.Timestamp) error {
					for _, k := range h.m.keys {
						if sp.Contains(keys.Key(k)) {
							tombs = append(tombs, fmt.Sprintf("%x~%s", k, ts))
						}
					}
					return nil
				},
			}))
			sum, err := SummarizeSST(ctx, file.File(), o.AllRevisions || !o.StartTime.IsEmpty())
			h.must(err)
			// A row that began on the page before is counted there.
			got, want := res.Summary.Total(), sum.Total()
			got.ViewUnknown = false // It was not asked for.
			if o.ResumeMidRow {
				got.Rows, want.Rows = 0, 0
			}
			if got != want {
				h.fail("summary of the export %+v\nof its file %+v", got, want)
			}
		}
		if res.ResumeKey == nil {
			break
		}
		if res.MidRow && o.MaxBytes == 0 {
			h.fail("a page was cut inside a row without a hard limit")
		}
		o.Span.Key, o.ResumeTS, o.ResumeMidRow = res.ResumeKey, res.ResumeTS, res.MidRow
	}
	if conflict {
		h.fail("export [%x, %x) %+v skipped a lock", a, b, o)
	}
	sort.Strings(tombs)
	tombs = slices.Compact(tombs)
	if !slices.Equal(points, wantPoints) || !slices.Equal(tombs, wantTombs) {
		h.fail("export [%x, %x) %+v:\n got %q %q\nwant %q %q", a, b, o, points, tombs, wantPoints, wantTombs)
	}
}

// restore exports a chain of layers and compares the merged view with the model.
func (h *history) restore() {
	ctx := context.Background()
	if len(h.m.locks) > 0 {
		return
	}
	a, b := h.m.keys[0], "\xfd"
	n := 1 + h.rng.IntN(4)
	ends := make([]hlc.Timestamp, n)
	for i := range ends {
		ends[i] = h.past()
		ends[i].Forward(hlc.Timestamp{WallTime: 1})
	}
	slices.SortFunc(ends, hlc.Timestamp.Compare)
	ends = slices.Compact(ends)
	revisions := h.rng.IntN(2) == 0
	var files []SSTFile
	var start hlc.Timestamp
	var view, exported IndexSummary // of the merged files at the last end, by the exports; of all files
	for _, end := range ends {
		o := ExportOptions{
			Span: keys.Span{Key: keys.Key(a), EndKey: keys.Key(b)}, StartTime: start, EndTime: end, AllRevisions: revisions, View: true,
		}
		if h.rng.IntN(2) == 0 {
			o.TargetBytes = 1 + int64(h.rng.IntN(200))
			o.MaxBytes = o.TargetBytes + int64(h.rng.IntN(200)) + 1
		}
		for {
			var file SSTBuffer
			res, err := MVCCExport(ctx, h.e, o, &file)
			h.must(err)
			if !res.Empty {
				files = append(files, file.File())
				t := res.Summary.Total()
				view.Add(&t)
				exported.Add(&t)
			}
			if res.ResumeKey == nil {
				break
			}
			o.Span.Key, o.ResumeTS, o.ResumeMidRow = res.ResumeKey, res.ResumeTS, res.MidRow
		}
		start = end
	}
	h.rng.Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
	asOf := ends[len(ends)-1]
	if revisions {
		asOf = h.past()
		asOf.Backward(ends[len(ends)-1])
		asOf.Forward(hlc.Timestamp{WallTime: 1}) // Zero means the newest.
	}
	count := h.rng.IntN(2) == 0
	it, err := NewRestoreIterator(ctx, files, RestoreOptions{Span: keys.Span{Key: keys.Key(a), EndKey: keys.Key(b)}, AsOf: asOf, Count: count})
	h.must(err)
	defer func() { h.must(it.Close()) }()
	var got []string
	merged := NewSummarizer(false)
	for it.Next() {
		got = append(got, fmt.Sprintf("%x@%s=%s", []byte(it.Key()), it.Timestamp(), trimTag(it.Value())))
		merged.Add(it.Key(), it.Value(), it.Timestamp())
	}
	h.must(it.Err())
	if want := h.m.at(a, b, asOf); !slices.Equal(got, want) {
		h.fail("restore of %v as of %s:\n got %q\nwant %q", ends, asOf, got, want)
	}
	if count {
		seen := it.Seen()
		if t := seen.Total(); t.KVs != exported.KVs || t.Fingerprint != exported.Fingerprint || t.Tombstones != exported.Tombstones {
			h.fail("restore of %v as of %s came by %+v, the files have %+v", ends, asOf, t, exported)
		}
	}
	sum := merged.Summary()
	if t := sum.Total(); asOf == ends[len(ends)-1] && !view.ViewUnknown && (t.KVs != view.ViewKVs || t.Fingerprint != view.View) {
		h.fail("restore of %v has %d pairs with fingerprint %s, the exports say %d with %s (history %t)",
			ends, t.KVs, t.Fingerprint, view.ViewKVs, view.View, revisions)
	} else if asOf == ends[len(ends)-1] && !view.ViewUnknown {
		h.views++
	}
}

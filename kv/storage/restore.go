package storage

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
)

// PrefixRewrite gives keys a new prefix.
type PrefixRewrite struct {
	Old, New keys.Key
}

// TableRewrite gives the keys of a table another table id.
func TableRewrite(oldID, newID uint32) PrefixRewrite {
	return PrefixRewrite{Old: keys.TablePrefix(oldID), New: keys.TablePrefix(newID)}
}

// RestoreOptions says what a RestoreIterator makes of its files.
type RestoreOptions struct {
	// Span is the part wanted, in the files' own keys.
	Span keys.Span
	// AsOf is the instant restored: versions and range tombstones above it do
	// not exist. Zero: the newest.
	AsOf hlc.Timestamp
	// Rewrites apply to keys of the result, the first one that fits. If there
	// are any, a key that none fits is an error. They must keep the order of
	// keys within Span.
	Rewrites []PrefixRewrite
	// Count adds up every version met, whether it is shown or not.
	Count bool
	// Testing makes the merge go wrong, for tests of those who check its result.
	Testing struct {
		SkipTombstones bool // deleted keys are shown with an older value
	}
}

// RestoreIterator merges the files of a chain of layers and shows each key that
// existed at an instant, with its value. Of the versions ≤ AsOf in all files the
// newest counts; a tombstone or a range tombstone that is not older than it, in
// any file, hides it. The order of files does not matter: time decides.
type RestoreIterator struct {
	ctx  context.Context
	opts RestoreOptions
	it   *pebble.Iterator

	stack   []hlc.Timestamp
	started bool
	more    bool // the iterator stands on something not yet looked at
	visited int

	key    keys.Key // after rewriting
	orig   keys.Key
	value  []byte
	ts     hlc.Timestamp
	err    error
	held   bool // the present pair was not consumed yet
	rwHint int

	seen    *Summarizer // nil unless opts.Count
	leaving keys.Key
}

// NewRestoreIterator opens files. The caller closes them after the iterator.
func NewRestoreIterator(ctx context.Context, files []SSTFile, opts RestoreOptions) (*RestoreIterator, error) {
	if opts.AsOf.IsEmpty() {
		opts.AsOf = hlc.MaxTimestamp
	}
	it, err := openExternal(ctx, files, opts.Span.Key, opts.Span.End())
	if err != nil {
		return nil, err
	}
	r := &RestoreIterator{ctx: ctx, opts: opts, it: it}
	if opts.Count {
		r.seen = NewSummarizer(false)
	}
	return r, nil
}

// Seen counts all versions that the iterator came by, those above AsOf and hidden
// ones too, in the files' own keys. At the end of the iteration these are all
// that the files have in the span. The iterator was made with Count.
func (r *RestoreIterator) Seen() ExportSummary { return r.seen.Summary() }

// Close releases the iterator.
func (r *RestoreIterator) Close() error { return markEngineError(r.it.Close()) }

// Err returns the error that ended the iteration, if one did.
func (r *RestoreIterator) Err() error { return r.err }

// Key returns the key with its new prefix; valid until Next.
func (r *RestoreIterator) Key() keys.Key { return r.key }

// OriginalKey returns the key as in the files; valid until Next.
func (r *RestoreIterator) OriginalKey() keys.Key { return r.orig }

// Value returns the simple value with checksum 0; valid until Next.
func (r *RestoreIterator) Value() []byte { return r.value }

// Timestamp returns when the value was written in the cluster backed up.
func (r *RestoreIterator) Timestamp() hlc.Timestamp { return r.ts }

// Next moves to the next key that existed; false at the end or on error.
func (r *RestoreIterator) Next() bool {
	if r.err != nil {
		return false
	}
	r.err = r.next()
	if r.err != nil {
		return false
	}
	return r.more
}

func (r *RestoreIterator) next() (err error) {
	ok := false
	if !r.started {
		r.started = true
		ok = r.it.First()
	} else if r.more {
		if ok, err = r.nextKey(); err != nil {
			return err
		}
	}
	r.more = false
	for ; ok; r.visited++ {
		if r.visited%1024 == 1023 {
			if err := r.ctx.Err(); err != nil {
				return err
			}
		}
		hasPoint, hasRange := r.it.HasPointAndRange()
		if r.it.RangeKeyChanged() {
			if err := r.loadStack(hasRange); err != nil {
				return err
			}
		}
		if !hasPoint {
			ok = r.it.Next()
			continue
		}
		ek := r.it.Key()
		key, suffix, err := splitEngineKey(ek)
		if err != nil {
			return err
		}
		if len(suffix) == 0 {
			return corruptionf("key %s without a version in a backup file", keys.Pretty(key))
		}
		ts, err := decodeTimestampSuffix(suffix)
		if err != nil {
			return corruptionf("engine key %x: %v", ek, err)
		}
		if r.opts.AsOf.Less(ts) {
			if err := r.count(key, ts); err != nil {
				return err
			}
			ok = r.it.Next()
			continue
		}
		raw, err := r.it.ValueAndErr()
		if err != nil {
			return markEngineError(err)
		}
		simple, err := splitValue(raw)
		if err != nil {
			return fmt.Errorf("%s@%s: %w", keys.Pretty(key), ts, err)
		}
		if r.seen != nil {
			r.seen.Add(key, simple, ts)
		}
		if len(simple) == 0 && r.opts.Testing.SkipTombstones {
			ok = r.it.Next()
			continue
		}
		if len(simple) == 0 || r.hidden(ts) {
			if ok, err = r.nextKey(); err != nil {
				return err
			}
			continue
		}
		r.ts = ts
		r.orig = append(r.orig[:0], key...)
		r.value = append(r.value[:0], simple...)
		clear(r.value[:valueChecksumLen])
		if err := r.rewrite(); err != nil {
			return err
		}
		r.more = true
		return nil
	}
	return markEngineError(r.it.Error())
}

// nextKey moves to the first version of another key.
func (r *RestoreIterator) nextKey() (ok bool, err error) {
	if r.seen == nil {
		return r.it.NextPrefix(), nil
	}
	at, _, err := splitEngineKey(r.it.Key())
	if err != nil {
		return false, err
	}
	r.leaving = append(r.leaving[:0], at...)
	for ok = r.it.Next(); ok; ok = r.it.Next() {
		if hasPoint, _ := r.it.HasPointAndRange(); !hasPoint {
			return true, nil
		}
		key, suffix, err := splitEngineKey(r.it.Key())
		if err != nil {
			return false, err
		}
		if !key.Equal(r.leaving) {
			return true, nil
		}
		ts, err := decodeTimestampSuffix(suffix)
		if err != nil {
			return false, corruptionf("engine key %x: %v", r.it.Key(), err)
		}
		if err := r.count(key, ts); err != nil {
			return false, err
		}
	}
	return false, nil
}

// count adds the version at the iterator to what was seen.
func (r *RestoreIterator) count(key keys.Key, ts hlc.Timestamp) error {
	if r.seen == nil {
		return nil
	}
	raw, err := r.it.ValueAndErr()
	if err != nil {
		return markEngineError(err)
	}
	simple, err := splitValue(raw)
	if err != nil {
		return fmt.Errorf("%s@%s: %w", keys.Pretty(key), ts, err)
	}
	r.seen.Add(key, simple, ts)
	return nil
}

// rewrite sets key from orig.
func (r *RestoreIterator) rewrite() error {
	if len(r.opts.Rewrites) == 0 {
		r.key = append(r.key[:0], r.orig...)
		return nil
	}
	for i := range r.opts.Rewrites {
		j := (r.rwHint + i) % len(r.opts.Rewrites)
		if rw := &r.opts.Rewrites[j]; bytes.HasPrefix(r.orig, rw.Old) {
			r.rwHint = j
			r.key = append(append(r.key[:0], rw.New...), r.orig[len(rw.Old):]...)
			return nil
		}
	}
	return fmt.Errorf("no rewrite for key %s", keys.Pretty(r.orig))
}

func (r *RestoreIterator) loadStack(hasRange bool) error {
	r.stack = r.stack[:0]
	if !hasRange {
		return nil
	}
	for _, rk := range r.it.RangeKeys() {
		ts, err := decodeTimestampSuffix(rk.Suffix)
		if err != nil {
			return corruptionf("range key: %v", err)
		}
		if ts.LessEq(r.opts.AsOf) {
			r.stack = append(r.stack, ts)
		}
	}
	return nil
}

// hidden says whether a range tombstone hides a version at ts.
func (r *RestoreIterator) hidden(ts hlc.Timestamp) bool {
	for _, t := range r.stack {
		if ts.LessEq(t) {
			return true
		}
	}
	return false
}

// RestorePage is one file made by WritePage.
type RestorePage struct {
	// Summary counts the rewritten pairs. Its fingerprints leave table ids out,
	// so they are those of the backup's merged view.
	Summary ExportSummary
	// First and Last are the rewritten keys at the ends of the file.
	First, Last keys.Key
	FileBytes   int64
	// Done says that the iterator has come to its end.
	Done bool
	// ResumeKey, unless Done, is the original key at which the next page begins.
	ResumeKey keys.Key
}

// PlaceholderTimestamp is what versions in a file to be ingested carry until
// IngestSST gives them the command's own.
var PlaceholderTimestamp = hlc.Timestamp{WallTime: 1}

// WritePage writes pairs to w, all at PlaceholderTimestamp, until keys and values
// reach targetBytes (0: to the end), ending between rows.
// Nothing is written to w if there is nothing.
func (r *RestoreIterator) WritePage(w io.Writer, targetBytes int64) (page RestorePage, err error) {
	sum := NewSummarizer(false)
	var sw *SSTWriter
	defer func() {
		if sw != nil {
			sw.Abort()
		}
	}()
	var ek []byte
	for {
		if !r.held && !r.Next() {
			break
		}
		r.held = true
		if targetBytes > 0 && sum.sum.DataBytes >= targetBytes {
			if row := keys.RowPrefix(r.key); !row.Equal(keys.RowPrefix(page.Last)) {
				page.ResumeKey = r.orig.Clone()
				break
			}
		}
		if sw == nil {
			sw = newSSTWriter(w, sstWriterOptions(CompressFast, blockBytes, true))
			page.First = r.key.Clone()
		}
		r.held = false
		ek = AppendMVCCKey(ek[:0], r.key, PlaceholderTimestamp)
		if err := sw.putRaw(ek, r.value); err != nil {
			return RestorePage{}, err
		}
		sum.Add(r.key, r.value, r.ts)
		page.Last = append(page.Last[:0], r.key...)
	}
	if r.err != nil {
		return RestorePage{}, r.err
	}
	page.Done = page.ResumeKey == nil
	page.Summary = sum.Summary()
	if sw != nil {
		s := sw
		sw = nil
		if page.FileBytes, err = s.Finish(); err != nil {
			return RestorePage{}, err
		}
	}
	return page, nil
}

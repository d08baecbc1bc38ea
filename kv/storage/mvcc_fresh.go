package storage

import (
	"context"
	"fmt"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
)

// SpanIsFresh says whether [start, end) holds nothing at all: no versions, no
// range tombstones, no locks. For a batch of ascending keys behind the last one
// of a table this one look replaces two per key.
func SpanIsFresh(_ context.Context, r Reader, start, end keys.Key) (fresh bool, err error) {
	v := r.pin()
	defer func() {
		if uerr := v.unpin(); err == nil {
			err = uerr
		}
	}()
	var c lockCursor
	if err := c.init(v, start, end, false, nil); err != nil || c.valid {
		return false, err
	}
	it, ranged, err := v.dataIter(start, end)
	if err != nil || ranged {
		return false, err
	}
	return !it.First() && it.Error() == nil, markEngineError(it.Error())
}

// MVCCPutFresh is MVCCPut for a key of which the caller knows that it has no
// version and no lock, in the store or in the batch. It reads nothing.
func MVCCPutFresh(b *Batch, key keys.Key, ts hlc.Timestamp, value []byte, opts WriteOptions) error {
	if err := checkWritable(value); err != nil {
		return fmt.Errorf("writing %s: %w", keys.Pretty(key), err)
	}
	if opts.Txn != nil {
		ts = opts.Txn.WriteTimestamp
		rec := lockRecord{TxnMeta: opts.Txn.TxnMeta, valueLen: int64(len(value))}
		if err := b.putNewLock(key, &rec); err != nil {
			return err
		}
	}
	if s := opts.Stats; s != nil {
		s.addVersion(key, ts, value)
		s.addLive(key, value)
		if opts.Txn != nil {
			s.addIntent(key, int64(len(value)))
		}
	}
	return b.putVersion(key, ts, value)
}

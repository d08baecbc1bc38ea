package storage

import (
	"bytes"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
)

// lookBack finds what changed keys were when an incremental export's time begins:
// that much leaves the view.
type lookBack struct {
	it    *pebble.Iterator // over the state at the start, without block filter
	start hlc.Timestamp
	sum   *Summarizer // of what left
	buf   []byte
}

func newLookBack(it *pebble.Iterator, start hlc.Timestamp) *lookBack {
	return &lookBack{it: it, start: start, sum: NewSummarizer(false)}
}

// keys looks up each key of c once.
func (p *lookBack) keys(c *versionChunk) error {
	from := 0
	for _, v := range c.vers {
		ek := c.buf[from : from+v.engineKey]
		from = v.end
		if !v.newest {
			continue
		}
		if err := p.key(keys.Key(ek[:v.key:v.key]), ek); err != nil {
			return err
		}
	}
	return nil
}

// key takes what key was at the start out of the view. Keys come in their order;
// engineKey is that of any version.
func (p *lookBack) key(key keys.Key, engineKey []byte) error {
	prefix := engineKey[:len(key)+1]
	p.buf = appendTimestampSuffix(append(p.buf[:0], prefix...), p.start)
	ok := p.it.Valid()
	for i := 0; ok && i < nextsBeforeSeek && compareEngineKeys(p.it.Key(), p.buf) < 0; i++ {
		ok = p.it.Next()
	}
	if !ok || compareEngineKeys(p.it.Key(), p.buf) < 0 {
		ok = p.it.SeekGE(p.buf)
	}
	if !ok {
		return markEngineError(p.it.Error())
	}
	hasPoint, hasRange := p.it.HasPointAndRange()
	if !hasPoint {
		// A range key begins here; the point may follow.
		if !p.it.Next() {
			return markEngineError(p.it.Error())
		}
		hasPoint, hasRange = p.it.HasPointAndRange()
	}
	ek := p.it.Key()
	n := int(ek[len(ek)-1])
	if !hasPoint || n == 0 || n >= len(ek) || !bytes.Equal(ek[:len(ek)-n], prefix) {
		return nil
	}
	ts, err := fastTimestamp(ek, n)
	if err != nil {
		return err
	}
	if hasRange {
		for _, rk := range p.it.RangeKeys() {
			t, err := decodeTimestampSuffix(rk.Suffix)
			if err != nil {
				return corruptionf("range key: %v", err)
			}
			if ts.LessEq(t) && t.LessEq(p.start) {
				return nil // It was deleted already.
			}
		}
	}
	raw, err := p.it.ValueAndErr()
	if err != nil {
		return markEngineError(err)
	}
	simple, err := splitValue(raw)
	if err != nil {
		return fmt.Errorf("%s@%s: %w", keys.Pretty(key), ts, err)
	}
	if len(simple) > 0 {
		p.sum.vanished(key, simple)
	}
	return nil
}

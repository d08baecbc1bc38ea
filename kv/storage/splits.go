package storage

import (
	"bytes"
	"sort"

	"github.com/holdfastdb/holdfast/internal/keys"
)

// ApproximateSplits returns row boundaries inside [start, end), in order, that
// cut it into parts of about targetBytes on disk. It looks at no data, only at
// where the store's files end: what lies in memory or within one file is not
// cut.
func (e *Engine) ApproximateSplits(start, end keys.Key, targetBytes int64) ([]keys.Key, error) {
	levels, err := e.db.SSTables()
	if err != nil {
		return nil, markEngineError(err)
	}
	lower, upper := EncodeMVCCKey(start, zeroTS), EncodeMVCCKey(end, zeroTS)
	type edge struct {
		key  keys.Key
		size int64
	}
	var edges []edge
	for _, level := range levels {
		for _, t := range level {
			if compareEngineKeys(t.Largest.UserKey, lower) <= 0 || compareEngineKeys(t.Smallest.UserKey, upper) <= 0 &&
				compareEngineKeys(t.Largest.UserKey, upper) >= 0 || compareEngineKeys(t.Smallest.UserKey, upper) >= 0 {
				continue // Outside, or its end is no boundary inside.
			}
			key, _, err := splitEngineKey(t.Largest.UserKey)
			if err != nil {
				continue // The bound of a range deletion.
			}
			edges = append(edges, edge{keys.RowPrefix(key).Clone(), int64(t.Size)})
		}
	}
	sort.Slice(edges, func(i, j int) bool { return edges[i].key.Less(edges[j].key) })
	var out []keys.Key
	var size int64
	for _, x := range edges {
		if size += x.size; size < targetBytes {
			continue
		}
		if start.Less(x.key) && (len(out) == 0 || bytes.Compare(out[len(out)-1], x.key) < 0) {
			out, size = append(out, x.key), 0
		}
	}
	return out, nil
}

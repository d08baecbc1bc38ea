package sql

import (
	"context"

	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/builtins"
)

// CheckConsistency implements builtins.Env.
func (e *evalEnv) CheckConsistency(ctx context.Context, start, end []byte) ([]builtins.RangeCheck, error) {
	span := keys.Span{Key: keys.Key(start), EndKey: keys.Key(end)}
	if len(start) == 0 {
		span.Key = keys.MinKey
	}
	if len(end) == 0 {
		span.EndKey = keys.MaxKey
	}
	if span.EndKey.Compare(span.Key) <= 0 {
		return nil, pgerr.New(pgerr.InvalidParameterValue, "start key must be less than end key")
	}
	found, err := e.p.srv.db.CheckConsistency(ctx, span)
	if err != nil {
		return nil, err
	}
	out := make([]builtins.RangeCheck, len(found))
	for i := range found {
		f := &found[i]
		out[i] = builtins.RangeCheck{RangeID: int64(f.RangeID), Start: f.StartKey, StartPretty: keys.Pretty(f.StartKey), Status: f.Status, Detail: f.Detail}
	}
	return out, nil
}

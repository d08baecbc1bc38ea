package kvserver

import (
	"context"
	"errors"

	"github.com/holdfastdb/holdfast/kv"
)

// OpenLocal opens the store of cfg.Engine, after bootstrapping it as the one of
// newID if it is new, and returns a DB that reaches all its ranges in this
// process.
func OpenLocal(ctx context.Context, cfg Config, newID Ident) (*Store, *kv.DB, error) {
	if _, err := ReadIdent(cfg.Engine); errors.Is(err, ErrNotBootstrapped) {
		if err := Bootstrap(cfg.Engine, newID); err != nil {
			return nil, nil, err
		}
	}
	s, err := Open(ctx, cfg)
	if err != nil {
		return nil, nil, err
	}
	return s, kv.NewDB(kv.Config{Sender: s.sender, Clock: cfg.Clock, Log: cfg.Log}), nil
}

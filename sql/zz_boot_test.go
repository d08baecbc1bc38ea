package sql

import (
	"context"

	"github.com/holdfastdb/holdfast/kv"
)

func Bootstrap(ctx context.Context, db *kv.DB) error { return nil }

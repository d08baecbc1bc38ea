package sql

import (
	"context"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
)

// execCopy runs COPY.
func (p *planner) execCopy(ctx context.Context, stmt tree.Statement, res ResultWriter) (bool, error) {
	return false, nil
}

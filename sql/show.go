package sql

import (
	"context"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
)

// sourceOf returns the rows of a statement that is not a query: SHOW and its
// like. It reports nil for others. The columns must be known without running it,
// for Describe.
func (p *planner) sourceOf(ctx context.Context, stmt tree.Statement) (*rowSource, error) {
	return p.backupSource(stmt)
}

// delegate rewrites a statement as a query over virtual tables, or returns "".
func (p *planner) delegate(ctx context.Context, stmt tree.Statement) (string, error) {
	return "", nil
}

package sql

import (
	"context"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
)

// execSchema runs statements that change the schema, privileges or jobs. It
// reports whether stmt was one of them.
//
// Work on descriptors goes through p.cat (Mutable, Write); p.checkWritable
// refuses it in read-only transactions; p.afterCommit waits for jobs;
// p.query and p.exec run nested SQL in the same transaction.
func (p *planner) execSchema(ctx context.Context, stmt tree.Statement, res ResultWriter) (bool, error) {
	return false, nil
}

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

// virtualTableByName finds a virtual table.
func (s *Server) virtualTableByName(schema, name string) *virtualTable { return nil }

package sql

import (
	"context"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/exec"
)

// virtualTable is a table that is computed when it is read: those of pg_catalog,
// information_schema and crdb_internal. Every database shows them.
type virtualTable struct {
	schema, name string
	id           catalog.ID // also its OID
	columns      []virtualColumn
	// populate calls addRow for each row of the table as the database db (of
	// "db.pg_catalog.pg_class", or the current one) shows it. addRow may end the
	// work early with errStopRows, which populate passes on.
	populate func(ctx context.Context, p *planner, db string, addRow func(...tree.Datum) error) error
}

type virtualColumn struct {
	name   string
	typ    *types.T
	hidden bool
}

// rowSource is what a statement that is not a query but returns rows does: SHOW,
// EXPLAIN, job control, BACKUP. It can stand in FROM [ … ].
type rowSource struct {
	columns []ResultColumn
	// run produces the rows. It runs once, when the statement does.
	run func(ctx context.Context, p *planner, addRow func(...tree.Datum) error) error
	// stream, if set, yields the rows instead of run: they need not fit in memory.
	stream exec.Operator
	// tag is the command tag; "" counts rows: "SHOW 3".
	tag string
	// mutates says that it changes something, so it may not be run again.
	mutates bool
}

// errStopRows says that no more rows are wanted.
type stopRows struct{}

func (stopRows) Error() string { return "no more rows wanted" }

var errStopRows error = stopRows{}

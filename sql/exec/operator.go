package exec

import (
	"context"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
)

// Operator yields rows. It is used by one goroutine at a time.
//
// Open must be called before Next. A second Open, after Close or not, starts
// over with the present values of any OuterRow the plan refers to. After an
// error only Close may be called.
type Operator interface {
	// Types gives the type of each column; valid before Open.
	Types() []*types.T
	Open(ctx context.Context) error
	// Next returns the next row, or nil after the last. The slice belongs to the
	// operator and is valid until the next call of Next, Open or Close: a caller
	// that keeps it takes a copy. The datums themselves never change.
	Next(ctx context.Context) (tree.Datums, error)
	// Close releases memory, files and the inputs. It may be called at any time
	// and more than once.
	Close()
}

// Drain opens op, calls fn for each row and closes op. The row given to fn is
// valid during the call only.
func Drain(ctx context.Context, op Operator, fn func(tree.Datums) error) error {
	defer op.Close()
	if err := op.Open(ctx); err != nil {
		return err
	}
	for {
		row, err := op.Next(ctx)
		if err != nil {
			return err
		}
		if row == nil {
			return nil
		}
		if err := fn(row); err != nil {
			return err
		}
	}
}

// Collect returns all rows of op, for tests and small results.
func Collect(ctx context.Context, op Operator) ([]tree.Datums, error) {
	var rows []tree.Datums
	err := Drain(ctx, op, func(row tree.Datums) error {
		rows = append(rows, append(tree.Datums(nil), row...))
		return nil
	})
	return rows, err
}

// unary is the common part of operators with one input.
type unary struct {
	flow *Flow
	in   Operator
}

func (u *unary) Types() []*types.T              { return u.in.Types() }
func (u *unary) Open(ctx context.Context) error { return u.in.Open(ctx) }
func (u *unary) Close()                         { u.in.Close() }

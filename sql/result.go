package sql

import (
	"context"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/lib/pq/oid"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// ResultColumn describes one column of a result, as RowDescription needs it.
type ResultColumn struct {
	Name string
	Typ  *types.T
	// OID and TypMod are what the client is told; OID can be that of an enum,
	// which Typ alone does not know.
	OID    oid.Oid
	TypMod int32
	// TableID and AttNum name the table column behind this one, or are zero.
	TableID uint32
	AttNum  int16
	// Hidden columns are left out of *.
	Hidden bool
}

// MakeResultColumn fills a column from its type.
func MakeResultColumn(name string, typ *types.T) ResultColumn {
	return ResultColumn{Name: name, Typ: typ, OID: typeOID(typ), TypMod: typeModifier(typ)}
}

// ResultWriter receives what one statement produces, in this order: SetColumns
// (statements that return rows, even if none come), AddRow for each row, and
// Complete with the command tag when the statement is done. Notices may come at
// any time. A statement that fails returns its error instead of Complete.
//
// The methods are called by one goroutine. They may block on a slow client.
type ResultWriter interface {
	// SetColumns announces the columns of the rows to come.
	SetColumns(ctx context.Context, cols []ResultColumn) error
	// AddRow takes a row. The slice is valid during the call only; the datums
	// in it are immutable and may be kept.
	AddRow(ctx context.Context, row tree.Datums) error
	// Notice sends a notice or a warning; see pgerr.Notice.
	Notice(n *pgerr.Error)
	// Complete ends the statement with its tag, for instance "INSERT 0 3".
	Complete(tag string)
	// Rewind forgets the columns and rows of the current statement, which will
	// be run again. It reports false, and changes nothing, if any byte of them
	// has left for the client.
	Rewind() bool
	// StartCopyIn tells the client to send COPY data and returns where it
	// arrives; the reader ends with io.EOF at CopyDone and with an error
	// (57014) at CopyFail.
	StartCopyIn(ctx context.Context, binary bool, columns int) (CopyReader, error)
	// StartCopyOut tells the client that COPY data will come; each Write of
	// the returned writer is one CopyData message.
	StartCopyOut(ctx context.Context, binary bool, columns int) (CopyWriter, error)
}

// CopyReader is the data a client sends during COPY FROM STDIN. Each call of
// Next returns the payload of one CopyData message, valid until the next call.
type CopyReader interface {
	Next(ctx context.Context) ([]byte, error)
}

// CopyWriter takes the data of COPY TO STDOUT.
type CopyWriter interface {
	Write(ctx context.Context, data []byte) error
	// Close sends CopyDone.
	Close(ctx context.Context) error
}

// bufferedResult keeps a result in memory: internal queries and tests.
type bufferedResult struct {
	cols    []ResultColumn
	rows    []tree.Datums
	notices []*pgerr.Error
	tag     string
}

func (r *bufferedResult) SetColumns(_ context.Context, cols []ResultColumn) error {
	r.cols = cols
	return nil
}

func (r *bufferedResult) AddRow(_ context.Context, row tree.Datums) error {
	r.rows = append(r.rows, append(tree.Datums(nil), row...))
	return nil
}

func (r *bufferedResult) Notice(n *pgerr.Error) { r.notices = append(r.notices, n) }
func (r *bufferedResult) Complete(tag string)   { r.tag = tag }

func (r *bufferedResult) Rewind() bool {
	r.cols, r.rows = nil, nil
	return true
}

func (r *bufferedResult) StartCopyIn(context.Context, bool, int) (CopyReader, error) {
	return nil, errNoCopy
}

func (r *bufferedResult) StartCopyOut(context.Context, bool, int) (CopyWriter, error) {
	return nil, errNoCopy
}

var errNoCopy = pgerr.New(pgerr.FeatureNotSupported, "COPY is not possible here")

// typeModifier returns the atttypmod of a type: -1 when it has none.
func typeModifier(t *types.T) int32 {
	switch t.Family() {
	case types.StringFamily, types.CollatedStringFamily:
		if w := t.Width(); w > 0 {
			return w + 4
		}
	case types.DecimalFamily:
		if p := t.Precision(); p > 0 {
			return (p<<16 | t.Scale()) + 4
		}
	case types.BitFamily:
		if w := t.Width(); w > 0 {
			return w
		}
	}
	return -1
}

// typeOID returns the OID a client is told for t.
func typeOID(t *types.T) oid.Oid {
	if t.Family() == types.UnknownFamily {
		return oid.T_text // PostgreSQL resolves leftover unknowns to text.
	}
	return t.Oid()
}

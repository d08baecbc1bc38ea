package sql

import (
	"context"
	"fmt"
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/copyfmt"
	"github.com/holdfastdb/holdfast/sql/parser"
	"github.com/holdfastdb/holdfast/sql/pgcodec"
)

// copyTo runs a query and sends its rows in a format of COPY.
func (p *planner) copyTo(ctx context.Context, c *parser.Copy, res ResultWriter) error {
	query := c.Query
	if query == nil {
		text, err := p.copyTableQuery(ctx, c)
		if err != nil {
			return err
		}
		stmt, err := parser.ParseOne(text)
		if err != nil {
			return err
		}
		query = stmt.AST
	}
	out := &copyOutput{ResultWriter: res, p: p, options: &c.Options}
	if handled, err := p.execQuery(ctx, query, out); err != nil {
		return err
	} else if !handled || out.to == nil {
		return pgerr.New(pgerr.FeatureNotSupported, "COPY query must have a result")
	}
	if err := out.finish(ctx); err != nil {
		return err
	}
	res.Complete(fmt.Sprintf("COPY %d", out.count))
	return nil
}

// copyTableQuery is the query behind COPY of a table.
func (p *planner) copyTableQuery(ctx context.Context, c *parser.Copy) (string, error) {
	tn := c.Table.ToTableName()
	ref, err := p.lookupRelation(ctx, &tn)
	if err != nil {
		return "", err
	}
	if ref.Table == nil {
		return "SELECT * FROM " + tn.String(), nil
	}
	switch {
	case ref.Table.IsView():
		return "", pgerr.Newf(pgerr.WrongObjectType, "cannot copy from view \"%s\"", ref.Table.Name()).
			WithHint("Try the COPY (SELECT ...) TO variant.")
	case ref.Table.IsSequence():
		return "", pgerr.Newf(pgerr.WrongObjectType, "cannot copy from sequence \"%s\"", ref.Table.Name())
	}
	cols, err := copyColumns(ref.Table, c.Columns)
	if err != nil {
		return "", err
	}
	names := make([]string, len(cols))
	for i, col := range cols {
		n := tree.Name(col.Name)
		names[i] = n.String()
	}
	return "SELECT " + strings.Join(names, ", ") + " FROM " + tn.String(), nil
}

// copyOutput is the ResultWriter of the query.
type copyOutput struct {
	ResultWriter
	p       *planner
	options *parser.CopyOptions
	w       *copyfmt.Writer
	to      CopyWriter
	codecs  []pgcodec.Codec
	binary  bool
	buf     []byte
	field   []byte
	count   int64
}

func (o *copyOutput) SetColumns(ctx context.Context, cols []ResultColumn) error {
	names := make([]string, len(cols))
	o.codecs = make([]pgcodec.Codec, len(cols))
	for i, c := range cols {
		names[i] = c.Name
		o.codecs[i] = pgcodec.Make(c.Typ, c.OID, c.TypMod)
	}
	opts, err := copyOptions(o.options, names)
	if err != nil {
		return err
	}
	o.binary = opts.Format == copyfmt.Binary
	o.w = copyfmt.NewWriter(opts)
	if o.to, err = o.StartCopyOut(ctx, o.binary, len(cols)); err != nil {
		return err
	}
	if o.buf = o.w.AppendHeader(o.buf[:0]); len(o.buf) > 0 && !o.binary {
		defer func() { o.buf = o.buf[:0] }()
		return o.to.Write(ctx, o.buf)
	}
	return nil // The header of the binary format shares a message with the first row, as drivers expect.
}

func (o *copyOutput) AddRow(ctx context.Context, row tree.Datums) error {
	settings := o.p.s.codecSettings()
	o.count++
	o.buf = o.w.AppendRowStart(o.buf)
	for i, d := range row {
		if d == tree.DNull {
			o.buf = o.w.AppendNull(o.buf, i)
			continue
		}
		if o.binary {
			var err error
			if o.field, err = o.codecs[i].AppendBinary(o.field[:0], d, settings); err != nil {
				return err
			}
		} else {
			o.field = o.codecs[i].AppendText(o.field[:0], d, settings)
		}
		o.buf = o.w.AppendField(o.buf, i, o.field)
	}
	o.buf = o.w.AppendRowEnd(o.buf)
	defer func() { o.buf = o.buf[:0] }()
	return o.to.Write(ctx, o.buf)
}

func (o *copyOutput) Complete(string) {}

// Rewind: the data may be with the client already.
func (o *copyOutput) Rewind() bool { return false }

func (o *copyOutput) finish(ctx context.Context) error {
	if o.buf = o.w.AppendTrailer(o.buf); len(o.buf) > 0 {
		if err := o.to.Write(ctx, o.buf); err != nil {
			return err
		}
	}
	return o.to.Close(ctx)
}

package sql

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/lib/pq/oid"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/copyfmt"
	"github.com/holdfastdb/holdfast/sql/exec"
	"github.com/holdfastdb/holdfast/sql/parser"
	"github.com/holdfastdb/holdfast/sql/pgcodec"
	"github.com/holdfastdb/holdfast/sql/rowenc"
)

// copyFrom plans an INSERT over the rows that the client will send, and runs it.
func (p *planner) copyFrom(ctx context.Context, c *parser.Copy, res ResultWriter) error {
	if err := p.checkWritable("COPY FROM"); err != nil {
		return err
	}
	b := &binder{ctx: ctx, p: p, md: &metadata{}}
	tn := c.Table.ToTableName()
	ref, alias, _, err := b.target(&tn, "copy to")
	if err != nil {
		return err
	}
	desc := ref.Table
	if err := p.checkTablePrivileges(ctx, desc, "INSERT"); err != nil {
		return err
	}
	cols, err := copyColumns(desc, c.Columns)
	if err != nil {
		return err
	}
	opts, err := copyOptions(&c.Options, columnNames(cols))
	if err != nil {
		return err
	}
	in, err := p.newCopyReader(ctx, desc, cols, opts)
	if err != nil {
		return err
	}
	m := &mutationNode{op: opInsert, desc: desc, top: true, bulk: true}
	src := &sourceNode{src: &rowSource{stream: in, mutates: true}}
	m.in = src
	given := map[uint32]colID{}
	for i, col := range cols {
		id := b.newCol(col.Name, in.typs[i])
		src.outCols = append(src.outCols, id)
		given[col.ID] = id
	}
	if err := b.completeRow(m, given); err != nil {
		return err
	}
	if c.Options.Where != nil {
		cond, err := b.bindBool(c.Options.Where, rowScope(&scope{}, ref, alias, m.newRow), exprMode{clause: "WHERE"})
		if err != nil {
			return err
		}
		m.in = &filterNode{in: m.in, conds: []tree.TypedExpr{cond}}
	}
	if m.checks, err = b.bindChecks(desc, m.newRow, nil); err != nil {
		return err
	}
	m.outRow = make([]colID, len(m.newRow))
	for i, col := range desc.AllColumns() {
		m.outRow[i] = b.newCol(col.Name, col.Type)
	}
	pl := &plan{md: b.md, tag: "COPY", mutation: m, root: p.optimize(b.md, m, nil)}

	data, err := res.StartCopyIn(ctx, opts.Format == copyfmt.Binary, len(cols))
	if err != nil {
		return err
	}
	in.rows = copyfmt.NewReader(data, opts)
	r := &running{}
	err = p.start(ctx, pl, r)
	if err == nil {
		_, err = p.pull(ctx, r, copyResult{res}, 0)
	}
	r.close()
	if err != nil {
		return in.locate(err)
	}
	// The client may still be sending after an end-of-data marker.
	for {
		if _, err := data.Next(ctx); err == io.EOF {
			break
		} else if err != nil {
			return err
		}
	}
	res.Complete(fmt.Sprintf("COPY %d", in.count))
	return nil
}

// copyResult swallows the tag that an INSERT would have.
type copyResult struct{ ResultWriter }

func (copyResult) Complete(string) {}

// Rewind: the rows of a COPY cannot be asked for again.
func (copyResult) Rewind() bool { return false }

// copyReader turns COPY data into rows of datums.
type copyReader struct {
	p       *planner
	desc    *catalog.Table
	cols    []*catalog.Column
	typs    []*types.T
	decode  []columnDecoder
	rows    *copyfmt.Reader
	format  int16
	row     tree.Datums
	alloc   rowenc.DatumAlloc
	scratch *pgcodec.Settings
	count   int64
	column  string // being read, for error messages
	field   []byte
	inRow   bool // the row has been read; what fails now is its writing
	// needsCast: the codec does not apply the type's modifier.
	needsCast []bool
}

var _ exec.Operator = (*copyReader)(nil)

// columnDecoder reads the fields of one column.
type columnDecoder struct {
	codec pgcodec.Codec
	kind  decodeKind
	enum  *catalog.Enum
	width int // of varchar(n) and char(n) in characters; 0: no limit
}

type decodeKind byte

const (
	decodeOther decodeKind = iota
	decodeInt
	decodeString
	decodeEnum
	decodeEnumArray
)

func (p *planner) newCopyReader(ctx context.Context, desc *catalog.Table, cols []*catalog.Column, opts copyfmt.Options) (*copyReader, error) {
	enums, err := p.enumsOf(ctx, cols)
	if err != nil {
		return nil, err
	}
	in := &copyReader{
		p: p, desc: desc, cols: cols, row: make(tree.Datums, len(cols)), scratch: p.s.codecSettings(),
		typs: make([]*types.T, len(cols)), decode: make([]columnDecoder, len(cols)), needsCast: make([]bool, len(cols)),
	}
	if opts.Format == copyfmt.Binary {
		in.format = pgcodec.FormatBinary
	}
	for i, c := range cols {
		t := c.Type
		in.typs[i] = t
		d := &in.decode[i]
		users := catalog.UserTypeOIDs(t)
		switch {
		case len(users) > 0 && t.Family() == types.ArrayFamily:
			d.kind, d.enum = decodeEnumArray, enums[users[0]]
			d.codec = pgcodec.Make(types.StringArray, oid.T__text, -1)
		case len(users) > 0:
			d.kind, d.enum = decodeEnum, enums[users[0]]
			d.codec = pgcodec.Make(types.String, oid.T_text, -1)
		case t.Family() == types.IntFamily:
			d.kind, d.codec = decodeInt, pgcodec.Make(t, t.Oid(), -1)
		case t.Family() == types.StringFamily:
			d.kind, d.codec, d.width = decodeString, pgcodec.Make(t, t.Oid(), -1), int(t.Width())
		default:
			d.codec = pgcodec.Make(t, t.Oid(), -1)
			in.needsCast[i] = hasModifier(t)
		}
	}
	return in, nil
}

// hasModifier says that values of the type's family may not fit the type.
func hasModifier(t *types.T) bool {
	switch t.Family() {
	case types.DecimalFamily, types.BitFamily:
		return t.Width() > 0 || t.Precision() > 0
	case types.TimeFamily, types.TimeTZFamily, types.TimestampFamily, types.TimestampTZFamily, types.IntervalFamily:
		return t.Precision() != 6
	case types.ArrayFamily:
		return hasModifier(t.ArrayContents()) || t.ArrayContents().Family() == types.StringFamily && t.ArrayContents().Width() > 0
	}
	return false
}

func (in *copyReader) Types() []*types.T          { return in.typs }
func (in *copyReader) Open(context.Context) error { return nil }
func (in *copyReader) Close()                     {}

// Next reads a row. NULL fields are NULL also where a column has a default.
func (in *copyReader) Next(ctx context.Context) (tree.Datums, error) {
	in.column, in.inRow = "", false
	fields, err := in.rows.Next(ctx)
	if err == io.EOF {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for i := range fields {
		if fields[i].Null {
			in.row[i] = tree.DNull
			continue
		}
		in.column, in.field = in.cols[i].Name, fields[i].Data
		if in.row[i], err = in.datum(&in.decode[i], fields[i].Data); err != nil {
			return nil, err
		}
		if in.needsCast[i] {
			// A type modifier remains to be applied, here where the column is known.
			if in.row[i], err = fitDatum(&in.p.evalCtx, in.row[i], in.typs[i], in.column); err != nil {
				return nil, err
			}
		}
	}
	in.column, in.inRow = "", true
	in.count++
	return in.row, nil
}

func (in *copyReader) datum(d *columnDecoder, data []byte) (tree.Datum, error) {
	text := in.format == pgcodec.FormatText
	switch {
	case d.kind == decodeInt && text:
		n, err := d.codec.DecodeInt(data)
		if err != nil {
			return nil, err
		}
		return in.alloc.NewInt(n), nil
	case d.kind == decodeString:
		data, err := d.codec.CheckString(data)
		if err != nil {
			return nil, err
		}
		if d.width > 0 && len(data) > d.width {
			if data, err = fitString(data, d); err != nil {
				return nil, err
			}
		}
		return in.alloc.NewString(string(data)), nil
	case d.kind == decodeEnum:
		return d.enum.FromLabel(string(data))
	}
	v, err := d.codec.Decode(data, in.format, in.scratch)
	if err == nil && d.kind == decodeEnumArray {
		return d.enum.Cast(v, true)
	}
	return v, err
}

// fitString refuses a text that is longer than its type allows, unless blanks
// alone are in excess.
func fitString(data []byte, d *columnDecoder) ([]byte, error) {
	at := 0
	for n := 0; at < len(data); n++ {
		if n == d.width {
			for _, ch := range data[at:] {
				if ch != ' ' {
					name := "character varying"
					if d.codec.OID == oid.T_bpchar {
						name = "character"
					}
					return nil, pgerr.Newf("22001", "value too long for type %s(%d)", name, d.width)
				}
			}
			return data[:at], nil
		}
		_, size := utf8.DecodeRune(data[at:])
		at += size
	}
	return data, nil
}

// maxContextBytes is how much of the data an error shows.
const maxContextBytes = 100

// locate says where in the data an error was found.
func (in *copyReader) locate(err error) error {
	var pe *pgerr.Error
	if !errors.As(err, &pe) || strings.HasPrefix(pe.Where, "COPY ") || pe.Code == pgerr.QueryCanceled || pe.Code == pgerr.ForeignKeyViolation {
		return err
	}
	e := *pgerr.Flatten(err)
	if inner := e.Where; inner != "" {
		defer func() { e.Where = inner + "\n" + e.Where }()
	}
	quote := func(b []byte) string {
		if len(b) > maxContextBytes {
			return string(b[:maxContextBytes]) + "..."
		}
		return string(b)
	}
	switch line := in.rows.Line(); {
	case in.column != "":
		e.Where = fmt.Sprintf("COPY %s, line %d, column %s: \"%s\"", in.desc.Name(), line, in.column, quote(in.field))
	case e.Code == pgerr.UniqueViolation:
		// Found when many rows were written at once.
		e.Where = "COPY " + in.desc.Name()
	case in.rows.Row() == nil || in.inRow && e.Code != pgerr.CheckViolation && e.Code != pgerr.NotNullViolation:
		e.Where = fmt.Sprintf("COPY %s, line %d", in.desc.Name(), line)
	default:
		e.Where = fmt.Sprintf("COPY %s, line %d: \"%s\"", in.desc.Name(), line, quote(in.rows.Row()))
	}
	return &e
}

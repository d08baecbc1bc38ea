package copyfmt

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"strings"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// Field is one value of a row before it is read as its type.
type Field struct {
	Data []byte
	Null bool
}

// Source gives the data of a COPY in chunks of any size, io.EOF at its end. A
// chunk is valid until the next call.
type Source interface {
	Next(ctx context.Context) ([]byte, error)
}

// maxRowBytes bounds one row, which must be in memory as a whole.
const maxRowBytes = 256 << 20

// Reader cuts COPY data into rows. The fields it returns are valid until the next
// call of Next.
type Reader struct {
	src  Source
	opts Options

	chunk []byte // what is left of the present chunk
	carry []byte // a row that began in an earlier chunk
	eof   bool   // the source has ended
	done  bool   // end of data, by marker or with the source
	line  int    // of the row returned last, from 1
	next  int    // lines that the row returned last spans, to add for the next
	row   []byte // raw text of the row returned last

	eol     eolStyle
	fields  []Field
	scratch []byte
	header  bool // header or binary signature has been read
}

type eolStyle byte

const (
	eolUnknown eolStyle = iota
	eolNL
	eolCRNL
	eolCR
)

// NewReader returns a reader of rows with as many fields as opts has columns.
func NewReader(src Source, opts Options) *Reader {
	return &Reader{src: src, opts: opts, fields: make([]Field, 0, len(opts.Columns)), next: 1}
}

// Line is the number of the line where the row returned last begins.
func (r *Reader) Line() int { return r.line }

// Row is the raw text of the row returned last, for error messages.
func (r *Reader) Row() []byte { return r.row }

func badFormat(format string, args ...any) *pgerr.Error {
	return pgerr.Newf(pgerr.BadCopyFileFormat, format, args...)
}

// Next returns the fields of the next row, and io.EOF after the last one.
func (r *Reader) Next(ctx context.Context) ([]Field, error) {
	if r.opts.Format == Binary {
		return r.nextBinary(ctx)
	}
	for {
		row, err := r.nextRow(ctx)
		if err != nil {
			return nil, err
		}
		if !r.header && r.opts.Header {
			r.header = true
			if r.opts.HeaderMatch {
				if err := r.checkHeader(row); err != nil {
					return nil, err
				}
			}
			continue
		}
		r.header = true
		if r.opts.Format == CSV {
			err = r.splitCSV(row)
		} else {
			err = r.splitText(row)
		}
		if err != nil {
			return nil, err
		}
		return r.fields, r.checkCount()
	}
}

func (r *Reader) checkCount() error {
	switch n := len(r.opts.Columns); {
	case len(r.fields) > n:
		return badFormat("extra data after last expected column")
	case len(r.fields) < n:
		return badFormat("missing data for column \"%s\"", r.opts.Columns[len(r.fields)])
	}
	return nil
}

func (r *Reader) checkHeader(row []byte) error {
	var err error
	if r.opts.Format == CSV {
		err = r.splitCSV(row)
	} else {
		err = r.splitText(row)
	}
	if err != nil {
		return err
	}
	if len(r.fields) != len(r.opts.Columns) {
		return badFormat("wrong number of fields in header line: got %d, expected %d", len(r.fields), len(r.opts.Columns))
	}
	for i, f := range r.fields {
		if f.Null {
			return badFormat("column name mismatch in header line field %d: got null value (\"%s\"), expected \"%s\"", i+1, r.opts.Null, r.opts.Columns[i])
		}
		if string(f.Data) != r.opts.Columns[i] {
			return badFormat("column name mismatch in header line field %d: got \"%s\", expected \"%s\"", i+1, f.Data, r.opts.Columns[i])
		}
	}
	return nil
}

// nextRow returns one row without its line end.
func (r *Reader) nextRow(ctx context.Context) ([]byte, error) {
	if r.done {
		return nil, io.EOF
	}
	r.line += r.next
	r.carry = r.carry[:0]
	scan := scanState{}
	for {
		if len(r.chunk) == 0 && !r.eof {
			chunk, err := r.src.Next(ctx)
			if err == io.EOF {
				r.eof = true
			} else if err != nil {
				return nil, err
			}
			r.chunk = chunk
			continue
		}
		if r.eof && len(r.chunk) == 0 {
			r.done = true
			if scan.inQuote && !(scan.escaped && r.opts.Escape == r.opts.Quote) {
				r.row = r.carry
				return nil, badFormat("unterminated CSV quoted field")
			}
			row := r.carry
			if scan.pendingCR {
				row = row[:len(row)-1]
			} else if len(row) == 0 {
				return nil, io.EOF
			}
			return r.finishRow(row, scan)
		}
		n, skip, found := r.scan(r.chunk, &scan)
		if !found {
			r.carry = append(r.carry, r.chunk...)
			r.chunk = nil
			if len(r.carry) > maxRowBytes {
				return nil, pgerr.Newf(pgerr.ProgramLimitExceeded, "a row of COPY data is longer than %d bytes", maxRowBytes)
			}
			continue
		}
		row := r.chunk[:max(n, 0)]
		if len(r.carry) > 0 {
			if n < 0 { // The row ended with the carriage return that carry ends in.
				r.carry = r.carry[:len(r.carry)-1]
			}
			r.carry = append(r.carry, row...)
			row = r.carry
		}
		r.chunk = r.chunk[skip:]
		return r.finishRow(row, scan)
	}
}

func (r *Reader) finishRow(row []byte, scan scanState) ([]byte, error) {
	r.next = 1 + scan.newlines
	r.row = row
	if len(row) == 2 && row[0] == '\\' && row[1] == '.' {
		r.done = true
		if err := r.drain(); err != nil {
			return nil, err
		}
		return nil, io.EOF
	}
	return row, nil
}

// drain forgets what follows the end-of-data marker; the source itself is read to
// its end so that the client's messages are consumed.
func (r *Reader) drain() error {
	r.chunk = nil
	for !r.eof {
		if _, err := r.src.Next(context.Background()); err == io.EOF {
			r.eof = true
		} else if err != nil {
			return err
		}
	}
	return nil
}

// scanState is where the search for a row's end has got to.
type scanState struct {
	escaped   bool // text: the last byte was a backslash; csv: an escape inside quotes
	inQuote   bool
	pendingCR bool // the last byte was a carriage return: a line end, perhaps with a newline to come
	newlines  int  // inside quotes
}

// scan looks for the end of the row in b. n is the length of the row's part in b
// (-1: it ended before b, with a carriage return), skip includes the line end.
func (r *Reader) scan(b []byte, s *scanState) (n, skip int, found bool) {
	if r.opts.Format == Text && r.eol == eolNL && !s.escaped {
		return scanLine(b, s)
	}
	csv := r.opts.Format == CSV
	for i, ch := range b {
		if s.pendingCR {
			s.pendingCR = false
			if r.eol == eolUnknown {
				r.eol = eolCR
				if ch == '\n' {
					r.eol = eolCRNL
				}
			}
			if r.eol == eolCRNL && ch == '\n' {
				return i - 1, i + 1, true
			}
			if r.eol == eolCR {
				return i - 1, i, true
			}
		}
		switch {
		case csv && s.inQuote:
			switch {
			case s.escaped:
				s.escaped = false
				if ch == r.opts.Quote || ch == r.opts.Escape {
					continue
				}
				if r.opts.Escape != r.opts.Quote {
					if ch == '\n' {
						s.newlines++
					}
					continue
				}
				s.inQuote = false // The quote before ch was the closing one.
			case ch == r.opts.Escape:
				s.escaped = true
				continue
			case ch == r.opts.Quote:
				s.inQuote = false
				continue
			default:
				if ch == '\n' {
					s.newlines++
				}
				continue
			}
		case csv && ch == r.opts.Quote:
			s.inQuote = true
			continue
		case !csv && s.escaped:
			s.escaped = false
			continue
		case !csv && ch == '\\':
			s.escaped = true
			continue
		}
		if ch == '\r' && r.eol != eolNL {
			s.pendingCR = true
			continue
		}
		if ch == '\n' {
			if r.eol == eolUnknown {
				r.eol = eolNL
			}
			if r.eol == eolNL {
				return i, i + 1, true
			}
		}
	}
	return 0, 0, false
}

// scanLine is scan for text whose lines end with a newline, the usual case: it
// jumps from newline to newline and looks back for a backslash.
func scanLine(b []byte, s *scanState) (n, skip int, found bool) {
	from := 0
	for {
		i := bytes.IndexByte(b[from:], '\n')
		if i < 0 {
			s.escaped = oddBackslashes(b[from:])
			return 0, 0, false
		}
		if i == 0 || !oddBackslashes(b[from:from+i]) {
			return from + i, from + i + 1, true
		}
		from += i + 1
	}
}

// oddBackslashes says that b ends in an unescaped backslash.
func oddBackslashes(b []byte) bool {
	n := 0
	for n < len(b) && b[len(b)-1-n] == '\\' {
		n++
	}
	return n%2 == 1
}

// splitText fills fields from a row of text. Fields without backslash point into
// the row.
func (r *Reader) splitText(row []byte) error {
	r.fields = r.fields[:0]
	if len(row) == 0 && len(r.opts.Columns) == 0 {
		return nil
	}
	if bytes.IndexByte(row, '\\') < 0 {
		if r.eol == eolNL && bytes.IndexByte(row, '\r') >= 0 {
			return badFormat("literal carriage return found in data").WithHint("Use \"\\r\" to represent carriage return.")
		}
		for {
			i := bytes.IndexByte(row, r.opts.Delimiter)
			if i < 0 {
				r.addText(row)
				return nil
			}
			r.addText(row[:i])
			row = row[i+1:]
		}
	}
	// Unescaped text is never longer, so scratch does not move while it fills.
	if cap(r.scratch) < len(row) {
		r.scratch = make([]byte, 0, 2*len(row))
	}
	out := r.scratch[:0]
	for i := 0; ; {
		start, from := i, len(out)
		for i < len(row) && row[i] != r.opts.Delimiter {
			if row[i] != '\\' {
				if row[i] == '\r' && r.eol == eolNL {
					return badFormat("literal carriage return found in data").WithHint("Use \"\\r\" to represent carriage return.")
				}
				out = append(out, row[i])
				i++
				continue
			}
			var ch byte
			ch, i = unescape(row, i+1)
			out = append(out, ch)
		}
		if string(row[start:i]) == r.opts.Null {
			out = out[:from]
			r.fields = append(r.fields, Field{Null: true})
		} else {
			r.fields = append(r.fields, Field{Data: out[from:len(out):len(out)]})
		}
		if i >= len(row) {
			return nil
		}
		i++
	}
}

func (r *Reader) addText(b []byte) {
	if len(b) == len(r.opts.Null) && string(b) == r.opts.Null {
		r.fields = append(r.fields, Field{Null: true})
		return
	}
	r.fields = append(r.fields, Field{Data: b})
}

// unescape reads what follows a backslash at i and returns where it ends.
func unescape(row []byte, i int) (byte, int) {
	if i >= len(row) {
		return '\\', i
	}
	ch := row[i]
	i++
	switch ch {
	case 'b':
		return '\b', i
	case 'f':
		return '\f', i
	case 'n':
		return '\n', i
	case 'r':
		return '\r', i
	case 't':
		return '\t', i
	case 'v':
		return '\v', i
	case '0', '1', '2', '3', '4', '5', '6', '7':
		v := ch - '0'
		for k := 0; k < 2 && i < len(row) && row[i] >= '0' && row[i] <= '7'; k++ {
			v = v<<3 | (row[i] - '0')
			i++
		}
		return v, i
	case 'x':
		v, k := byte(0), 0
		for k < 2 && i < len(row) {
			h := strings.IndexByte("0123456789abcdef", row[i]|0x20)
			if h < 0 || (row[i] < '0') {
				break
			}
			v = v<<4 | byte(h)
			i++
			k++
		}
		if k == 0 {
			return 'x', i
		}
		return v, i
	}
	return ch, i
}

// splitCSV fills fields from a CSV record.
func (r *Reader) splitCSV(row []byte) error {
	r.fields = r.fields[:0]
	if cap(r.scratch) < len(row) {
		r.scratch = make([]byte, 0, 2*len(row))
	}
	out := r.scratch[:0]
	for i := 0; ; {
		start, from := i, len(out)
		quotes := false
		for i < len(row) && row[i] != r.opts.Delimiter {
			if row[i] != r.opts.Quote {
				if row[i] == '\r' && r.eol == eolNL {
					return badFormat("unquoted carriage return found in data").WithHint("Use quoted CSV field to represent carriage return.")
				}
				out = append(out, row[i])
				i++
				continue
			}
			quotes = true
			i++
			closed := false
			for i < len(row) {
				if row[i] == r.opts.Escape && i+1 < len(row) && (row[i+1] == r.opts.Quote || row[i+1] == r.opts.Escape) {
					out = append(out, row[i+1])
					i += 2
					continue
				}
				if row[i] == r.opts.Quote {
					closed = true
					i++
					break
				}
				out = append(out, row[i])
				i++
			}
			if !closed {
				return badFormat("unterminated CSV quoted field")
			}
		}
		col := len(r.fields)
		data := out[from:len(out):len(out)]
		switch isNull := string(row[start:i]) == r.opts.Null; {
		case !quotes && isNull && !flag(r.opts.ForceNotNull, col):
			r.fields = append(r.fields, Field{Null: true})
		case quotes && flag(r.opts.ForceNull, col) && string(data) == r.opts.Null:
			r.fields = append(r.fields, Field{Null: true})
		default:
			r.fields = append(r.fields, Field{Data: data})
		}
		if i >= len(row) {
			return nil
		}
		i++
	}
}

var binarySignature = []byte("PGCOPY\n\377\r\n\000")

// need makes n bytes of binary data available and returns them.
func (r *Reader) need(ctx context.Context, n int) ([]byte, error) {
	if n > maxRowBytes {
		return nil, pgerr.Newf(pgerr.ProgramLimitExceeded, "a field of COPY data is longer than %d bytes", maxRowBytes)
	}
	if len(r.carry) == 0 && len(r.chunk) >= n {
		b := r.chunk[:n]
		r.chunk = r.chunk[n:]
		return b, nil
	}
	for len(r.carry) < n {
		if len(r.chunk) == 0 {
			if r.eof {
				return nil, io.ErrUnexpectedEOF
			}
			chunk, err := r.src.Next(ctx)
			if err == io.EOF {
				r.eof = true
			} else if err != nil {
				return nil, err
			}
			r.chunk = chunk
			continue
		}
		k := min(n-len(r.carry), len(r.chunk))
		r.carry = append(r.carry, r.chunk[:k]...)
		r.chunk = r.chunk[k:]
	}
	b := r.carry
	r.carry = r.carry[:0]
	return b[:n], nil
}

func (r *Reader) nextBinary(ctx context.Context) ([]Field, error) {
	if r.done {
		return nil, io.EOF
	}
	if !r.header {
		if err := r.binaryHeader(ctx); err != nil {
			return nil, err
		}
	}
	r.line++
	r.row = nil
	b, err := r.need(ctx, 2)
	if err == io.ErrUnexpectedEOF {
		r.done = true
		return nil, io.EOF // PostgreSQL takes a missing trailer for the end.
	}
	if err != nil {
		return nil, err
	}
	n := int(int16(binary.BigEndian.Uint16(b)))
	if n == -1 {
		r.done = true
		if len(r.chunk) > 0 {
			return nil, badFormat("received copy data after EOF marker")
		}
		if err := r.drain(); err != nil {
			return nil, err
		}
		return nil, io.EOF
	}
	if n != len(r.opts.Columns) {
		return nil, badFormat("row field count is %d, expected %d", n, len(r.opts.Columns))
	}
	r.fields = r.fields[:0]
	r.scratch = r.scratch[:0]
	var ends []int
	for range n {
		b, err := r.need(ctx, 4)
		if err != nil {
			return nil, unexpectedEnd(err)
		}
		size := int(int32(binary.BigEndian.Uint32(b)))
		if size == -1 {
			r.fields = append(r.fields, Field{Null: true})
			ends = append(ends, len(r.scratch))
			continue
		}
		if size < 0 {
			return nil, badFormat("invalid field size")
		}
		if b, err = r.need(ctx, size); err != nil {
			return nil, unexpectedEnd(err)
		}
		r.scratch = append(r.scratch, b...)
		r.fields = append(r.fields, Field{})
		ends = append(ends, len(r.scratch))
	}
	from := 0
	for i := range r.fields { // Now that scratch no longer moves.
		r.fields[i].Data = r.scratch[from:ends[i]:ends[i]]
		from = ends[i]
	}
	return r.fields, nil
}

func unexpectedEnd(err error) error {
	if err == io.ErrUnexpectedEOF {
		return badFormat("unexpected EOF in COPY data")
	}
	return err
}

func (r *Reader) binaryHeader(ctx context.Context) error {
	r.header = true
	b, err := r.need(ctx, len(binarySignature)+8)
	if err == io.ErrUnexpectedEOF || (err == nil && !bytes.HasPrefix(b, binarySignature)) {
		return badFormat("COPY file signature not recognized")
	}
	if err != nil {
		return err
	}
	flags := binary.BigEndian.Uint32(b[len(binarySignature):])
	if flags&(1<<16) != 0 {
		return badFormat("invalid COPY file header (WITH OIDS)")
	}
	if flags>>16 != 0 {
		return badFormat("unrecognized critical flags in COPY file header")
	}
	ext := int(int32(binary.BigEndian.Uint32(b[len(binarySignature)+4:])))
	if ext < 0 {
		return badFormat("invalid COPY file header (missing length)")
	}
	if _, err := r.need(ctx, ext); err != nil {
		return badFormat("invalid COPY file header (wrong length)")
	}
	return nil
}

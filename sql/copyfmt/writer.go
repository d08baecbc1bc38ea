package copyfmt

import (
	"bytes"
	"encoding/binary"
)

// Writer builds COPY TO data. Each Append method adds to b and returns it.
type Writer struct {
	opts Options
}

// NewWriter returns a writer of the given format.
func NewWriter(opts Options) *Writer { return &Writer{opts: opts} }

// AppendHeader begins the data: the signature of binary, or the names.
func (w *Writer) AppendHeader(b []byte) []byte {
	if w.opts.Format == Binary {
		return append(append(b, binarySignature...), 0, 0, 0, 0, 0, 0, 0, 0)
	}
	if !w.opts.Header {
		return b
	}
	plain := *w
	plain.opts.ForceQuote = nil // is for values
	for i, name := range w.opts.Columns {
		b = plain.AppendField(b, i, []byte(name))
	}
	return w.AppendRowEnd(b)
}

// AppendTrailer ends the data.
func (w *Writer) AppendTrailer(b []byte) []byte {
	if w.opts.Format == Binary {
		return append(b, 0xff, 0xff)
	}
	return b
}

// AppendRowStart begins a row.
func (w *Writer) AppendRowStart(b []byte) []byte {
	if w.opts.Format == Binary {
		return binary.BigEndian.AppendUint16(b, uint16(len(w.opts.Columns)))
	}
	return b
}

// AppendRowEnd ends a row.
func (w *Writer) AppendRowEnd(b []byte) []byte {
	if w.opts.Format == Binary {
		return b
	}
	return append(b, '\n')
}

// AppendNull adds a NULL as the i-th field.
func (w *Writer) AppendNull(b []byte, i int) []byte {
	if w.opts.Format == Binary {
		return append(b, 0xff, 0xff, 0xff, 0xff)
	}
	if i > 0 {
		b = append(b, w.opts.Delimiter)
	}
	return append(b, w.opts.Null...)
}

// AppendField adds data, in the text or binary form of its type, as the i-th field.
func (w *Writer) AppendField(b []byte, i int, data []byte) []byte {
	if w.opts.Format == Binary {
		b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
		return append(b, data...)
	}
	if i > 0 {
		b = append(b, w.opts.Delimiter)
	}
	if w.opts.Format == CSV {
		return w.appendCSV(b, i, data)
	}
	return w.appendText(b, data)
}

func (w *Writer) appendText(b, data []byte) []byte {
	for _, ch := range data {
		switch {
		case ch >= ' ' && ch != '\\' && ch != w.opts.Delimiter:
			b = append(b, ch)
		case ch == '\b':
			b = append(b, '\\', 'b')
		case ch == '\f':
			b = append(b, '\\', 'f')
		case ch == '\n':
			b = append(b, '\\', 'n')
		case ch == '\r':
			b = append(b, '\\', 'r')
		case ch == '\t':
			b = append(b, '\\', 't')
		case ch == '\v':
			b = append(b, '\\', 'v')
		case ch == '\\' || ch == w.opts.Delimiter:
			b = append(b, '\\', ch)
		default:
			b = append(b, ch)
		}
	}
	return b
}

func (w *Writer) appendCSV(b []byte, i int, data []byte) []byte {
	quote := flag(w.opts.ForceQuote, i) || string(data) == w.opts.Null ||
		(len(w.opts.Columns) == 1 && string(data) == `\.`) ||
		bytes.IndexByte(data, w.opts.Delimiter) >= 0 || bytes.IndexByte(data, w.opts.Quote) >= 0 ||
		bytes.IndexByte(data, '\n') >= 0 || bytes.IndexByte(data, '\r') >= 0
	if !quote {
		return append(b, data...)
	}
	b = append(b, w.opts.Quote)
	for _, ch := range data {
		if ch == w.opts.Quote || ch == w.opts.Escape {
			b = append(b, w.opts.Escape)
		}
		b = append(b, ch)
	}
	return append(b, w.opts.Quote)
}

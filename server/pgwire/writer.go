package pgwire

import (
	"encoding/binary"
	"net"
	"strconv"
	"sync"

	"github.com/jackc/pgproto3/v2"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// flushBytes is how much output gathers before it is written although no one
// asked for it: a result larger than this can no longer be run again unseen.
const flushBytes = 16 << 10

// keepBufferBytes is the largest write buffer worth keeping for the next result.
const keepBufferBytes = 128 << 10

// writeBuffers are shared: an idle connection holds none.
var writeBuffers = sync.Pool{New: func() any { b := make([]byte, 0, flushBytes+4<<10); return &b }}

// writer gathers messages for one client.
//
// Invariant: buf holds whole messages between calls, except while a resultWriter
// builds a row. After an error of the connection err stays set, and everything
// further is dropped.
type writer struct {
	nc      net.Conn
	buf     []byte
	pooled  *[]byte
	written int64 // bytes that have left for the client
	err     error
}

// grab makes sure there is a buffer.
func (w *writer) grab() {
	if w.buf == nil {
		w.pooled = writeBuffers.Get().(*[]byte)
		w.buf = (*w.pooled)[:0]
	}
}

// release gives the buffer back; it must be empty.
func (w *writer) release() {
	if w.pooled != nil {
		if cap(w.buf) <= keepBufferBytes {
			*w.pooled = w.buf[:0]
			writeBuffers.Put(w.pooled)
		}
		w.pooled, w.buf = nil, nil
	}
}

// flush writes out what has gathered and blocks while the client does not read.
func (w *writer) flush() error {
	if w.err == nil && len(w.buf) > 0 {
		n, err := w.nc.Write(w.buf)
		w.written += int64(n)
		w.err = err
	}
	w.buf = w.buf[:0]
	if cap(w.buf) > keepBufferBytes {
		w.buf = nil
		w.pooled = nil
	}
	w.grab()
	return w.err
}

// flushIfFull bounds the memory of a connection.
func (w *writer) flushIfFull() error {
	if len(w.buf) >= flushBytes {
		return w.flush()
	}
	return w.err
}

// begin starts a message; end fills in its length.
func (w *writer) begin(typ byte) int {
	w.grab()
	at := len(w.buf) + 1
	w.buf = append(w.buf, typ, 0, 0, 0, 0)
	return at
}

func (w *writer) end(at int) {
	binary.BigEndian.PutUint32(w.buf[at:], uint32(len(w.buf)-at))
}

func (w *writer) int16(n int16) { w.buf = binary.BigEndian.AppendUint16(w.buf, uint16(n)) }
func (w *writer) int32(n int32) { w.buf = binary.BigEndian.AppendUint32(w.buf, uint32(n)) }
func (w *writer) cstring(s string) {
	w.buf = append(append(w.buf, s...), 0)
}

// send appends a message of pgproto3. Those of the hot path have their own method.
func (w *writer) send(msg pgproto3.BackendMessage) {
	w.grab()
	if buf, err := msg.Encode(w.buf); err == nil {
		w.buf = buf
	} else if w.err == nil {
		w.err = err
	}
}

func (w *writer) empty(typ byte) { w.end(w.begin(typ)) }

func (w *writer) readyForQuery(status byte) {
	at := w.begin('Z')
	w.buf = append(w.buf, status)
	w.end(at)
}

func (w *writer) commandComplete(tag string) {
	at := w.begin('C')
	w.cstring(tag)
	w.end(at)
}

func (w *writer) parameterStatus(name, value string) {
	at := w.begin('S')
	w.cstring(name)
	w.cstring(value)
	w.end(at)
}

// errorOrNotice writes all fields of e that are set, in PostgreSQL's order.
func (w *writer) errorOrNotice(typ byte, severity string, e *pgerr.Error) {
	at := w.begin(typ)
	field := func(name byte, value string) {
		if value == "" {
			return
		}
		w.buf = append(w.buf, name)
		for i := 0; i < len(value); i++ {
			if value[i] != 0 { // A zero would end the field early.
				w.buf = append(w.buf, value[i])
			}
		}
		w.buf = append(w.buf, 0)
	}
	field('S', severity)
	field('V', severity)
	field('C', string(e.Code))
	field('M', e.Message)
	if e.Message == "" {
		w.buf = append(w.buf, 'M', 0)
	}
	field('D', e.Detail)
	field('H', e.Hint)
	if e.Position > 0 {
		field('P', strconv.Itoa(e.Position))
	}
	field('W', e.Where)
	field('s', e.SchemaName)
	field('t', e.TableName)
	field('c', e.ColumnName)
	field('d', e.DataTypeName)
	field('n', e.ConstraintName)
	field('R', e.Routine)
	w.buf = append(w.buf, 0)
	w.end(at)
}

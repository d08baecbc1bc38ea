package pgwire

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"time"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/jackc/pgproto3/v2"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql"
	"github.com/holdfastdb/holdfast/sql/pgcodec"
)

// maxRowBytes is the longest row that the protocol can carry.
const maxRowBytes = 1<<30 - 1

// resultWriter turns what one statement produces into messages. A connection has
// one, used for one statement after the other.
type resultWriter struct {
	c      *conn
	portal *portal // nil in the simple protocol
	simple bool    // rows are announced by RowDescription

	codecs  []pgcodec.Codec
	formats []int16

	startLen     int   // of the write buffer when the statement began
	startWritten int64 // likewise
}

var _ sql.ResultWriter = (*resultWriter)(nil)

func (r *resultWriter) start(p *portal, simple bool) {
	w := &r.c.w
	w.grab()
	r.portal, r.simple, r.codecs, r.formats = p, simple, nil, nil
	r.startLen, r.startWritten = len(w.buf), w.written
}

// Rewind drops what the statement has put into the buffer, unless some of it has left.
func (r *resultWriter) Rewind() bool {
	w := &r.c.w
	if w.written != r.startWritten {
		return false
	}
	w.buf = w.buf[:r.startLen]
	r.codecs = nil
	return true
}

func (r *resultWriter) SetColumns(_ context.Context, cols []sql.ResultColumn) error {
	r.c.settings = r.c.sess.TextSettings()
	if r.portal != nil {
		r.codecs, r.formats = r.portal.stmt.columnCodecs(cols), r.portal.formats()
		if n := len(r.formats); n > 1 && n != len(cols) {
			e := pgerr.New(pgerr.FeatureNotSupported, "cached plan must not change result type")
			e.Routine = "RevalidateCachedQuery" // by which pgJDBC knows that preparing again helps
			return e
		}
	} else {
		r.codecs = makeCodecs(cols)
	}
	if r.simple {
		r.c.rowDescription(cols, r.codecs, nil)
	}
	return nil
}

func (c *conn) rowDescription(cols []sql.ResultColumn, codecs []pgcodec.Codec, formats []int16) {
	w := &c.w
	at := w.begin('T')
	w.int16(int16(len(cols)))
	for i := range cols {
		w.cstring(cols[i].Name)
		w.int32(int32(cols[i].TableID))
		w.int16(cols[i].AttNum)
		w.int32(int32(codecs[i].OID))
		w.int16(codecs[i].Size)
		w.int32(codecs[i].TypMod)
		w.int16(formatOf(formats, i))
	}
	w.end(at)
}

func (r *resultWriter) AddRow(_ context.Context, row tree.Datums) error {
	w := &r.c.w
	if len(row) != len(r.codecs) {
		return pgerr.Newf(pgerr.Internal, "a row of %d values for %d columns", len(row), len(r.codecs))
	}
	start := len(w.buf)
	at := w.begin('D')
	buf := binary.BigEndian.AppendUint16(w.buf, uint16(len(row)))
	for i, d := range row {
		if d == tree.DNull {
			buf = append(buf, 0xff, 0xff, 0xff, 0xff)
			continue
		}
		n := len(buf)
		buf = append(buf, 0, 0, 0, 0)
		if formatOf(r.formats, i) == pgcodec.FormatText {
			buf = r.codecs[i].AppendText(buf, d, r.c.settings)
		} else {
			var err error
			if buf, err = r.codecs[i].AppendBinary(buf, d, r.c.settings); err != nil {
				w.buf = buf[:start]
				return err
			}
		}
		binary.BigEndian.PutUint32(buf[n:], uint32(len(buf)-n-4))
	}
	w.buf = buf
	if len(buf)-start > maxRowBytes {
		w.buf = buf[:start]
		return pgerr.New(pgerr.ProgramLimitExceeded, "row is too large for the protocol")
	}
	w.end(at)
	return w.flushIfFull()
}

func (r *resultWriter) Notice(n *pgerr.Error) {
	severity := n.Severity
	if severity == "" {
		severity = "NOTICE"
	}
	r.c.w.errorOrNotice('N', severity, n)
}

func (r *resultWriter) Complete(tag string) { r.c.w.commandComplete(tag) }

func (r *resultWriter) copyResponse(typ byte, isBinary bool, columns int) {
	w := &r.c.w
	format := int16(0)
	if isBinary {
		format = 1
	}
	at := w.begin(typ)
	w.buf = append(w.buf, byte(format))
	w.int16(int16(columns))
	for range columns {
		w.int16(format)
	}
	w.end(at)
}

func (r *resultWriter) StartCopyIn(ctx context.Context, isBinary bool, columns int) (sql.CopyReader, error) {
	r.copyResponse('G', isBinary, columns)
	if err := r.c.w.flush(); err != nil {
		return nil, err
	}
	return &copyIn{c: r.c}, nil
}

func (r *resultWriter) StartCopyOut(_ context.Context, isBinary bool, columns int) (sql.CopyWriter, error) {
	r.copyResponse('H', isBinary, columns)
	return &copyOut{c: r.c}, r.c.w.flush()
}

// copyIn hands out the data of COPY FROM STDIN.
type copyIn struct {
	c    *conn
	done bool
}

// Next waits for the client. If ctx ends meanwhile, a read deadline in the past
// ends the wait; bytes that have arrived are kept for whoever reads next.
func (in *copyIn) Next(ctx context.Context) ([]byte, error) {
	if in.done {
		return nil, io.EOF
	}
	if !in.c.r.buffered() {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		stop := context.AfterFunc(ctx, func() { _ = in.c.nc.SetReadDeadline(time.Unix(1, 0)) })
		defer stop()
	}
	for {
		msg, err := in.c.receive()
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case isTimeout(err):
			_ = in.c.nc.SetReadDeadline(time.Time{})
			continue
		case errors.Is(err, errTooLarge):
			if err := in.c.r.discard(in.c.r.bodyLen); err != nil {
				return nil, in.lost(err)
			}
			in.c.be = pgproto3.NewBackend(in.c.r, nil)
			return nil, pgerr.Newf(pgerr.ProgramLimitExceeded, "COPY message of %d bytes is longer than the limit of %d bytes",
				in.c.r.bodyLen, in.c.srv.cfg.MaxMessageBytes)
		case errors.Is(err, errMalformed):
			return nil, pgerr.New(pgerr.ProtocolViolation, "invalid message format during COPY from stdin")
		default:
			return nil, in.lost(err)
		}
		switch m := msg.(type) {
		case *pgproto3.CopyData:
			return m.Data, nil
		case *pgproto3.CopyDone:
			in.done = true
			return nil, io.EOF
		case *pgproto3.CopyFail:
			in.done = true
			return nil, pgerr.Newf(pgerr.QueryCanceled, "COPY from stdin failed: %s", m.Message)
		case *pgproto3.Flush, *pgproto3.Sync:
			// Sent ahead of the data by clients that pipeline; PostgreSQL ignores them.
		case *pgproto3.Terminate:
			return nil, in.lost(errGone)
		default:
			return nil, in.lost(pgerr.Newf(pgerr.ProtocolViolation, "unexpected message type 0x%02X during COPY from stdin", in.c.r.msgType))
		}
	}
}

// lost remembers that the connection cannot go on after this statement.
func (in *copyIn) lost(err error) error {
	in.done = true
	if in.c.w.err == nil {
		in.c.w.err = err
	}
	return pgerr.New("08006", "unexpected EOF on client connection during COPY")
}

// copyOut sends the data of COPY TO STDOUT.
type copyOut struct{ c *conn }

func (out *copyOut) Write(_ context.Context, data []byte) error {
	w := &out.c.w
	at := w.begin('d')
	w.buf = append(w.buf, data...)
	w.end(at)
	return w.flushIfFull()
}

func (out *copyOut) Close(context.Context) error {
	out.c.w.empty('c')
	return out.c.w.err
}

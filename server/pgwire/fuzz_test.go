package pgwire

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgproto3/v2"

	"github.com/holdfastdb/holdfast/sql"
)

// scriptConn is a client that sends fixed bytes and takes whatever comes.
type scriptConn struct {
	net.Conn
	in  []byte
	out int
}

func (c *scriptConn) Read(p []byte) (int, error) {
	if len(c.in) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.in)
	c.in = c.in[n:]
	return n, nil
}

func (c *scriptConn) Write(p []byte) (int, error)      { c.out += len(p); return len(p), nil }
func (c *scriptConn) Close() error                     { return nil }
func (c *scriptConn) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }
func (c *scriptConn) SetReadDeadline(time.Time) error  { return nil }
func (c *scriptConn) SetWriteDeadline(time.Time) error { return nil }

// FuzzFrontend sends arbitrary bytes after a good startup. Nothing may panic or
// hang, and memory must follow what was sent, not what was announced.
func FuzzFrontend(f *testing.F) {
	add := func(msgs ...pgproto3.FrontendMessage) {
		var b []byte
		for _, m := range msgs {
			b, _ = m.Encode(b)
		}
		f.Add(b)
	}
	add(&pgproto3.Query{String: "select 1; begin; nosuch"})
	add(&pgproto3.Parse{Query: "echo $1 $2", ParameterOIDs: []uint32{23, 25}},
		&pgproto3.Bind{Parameters: [][]byte{[]byte("1"), nil}, ParameterFormatCodes: []int16{0}, ResultFormatCodes: []int16{1}},
		&pgproto3.Describe{ObjectType: 'P'}, &pgproto3.Execute{MaxRows: 1}, &pgproto3.Close{ObjectType: 'S'}, &pgproto3.Flush{}, &pgproto3.Sync{})
	add(&pgproto3.Query{String: "copyin"}, &pgproto3.CopyData{Data: []byte("a\n")}, &pgproto3.CopyDone{})
	add(&pgproto3.Query{String: "copyin"}, &pgproto3.CopyFail{Message: "x"}, &pgproto3.Terminate{})
	f.Add([]byte{'Q', 0x7f, 0xff, 0xff, 0xff, 0})
	f.Add([]byte{'B', 0, 0, 0, 16, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xf0, 0, 0})
	f.Add([]byte("X\x00\x00\x00\x04"))
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg := DefaultConfig()
		cfg.MaxMessageBytes = 1 << 20
		cfg.NewSession = func(_ context.Context, args sql.SessionArgs) (Session, error) { return newFakeSession(args), nil }
		body := append(binary.BigEndian.AppendUint32(nil, protocol3), "user\x00root\x00\x00"...)
		in := append(binary.BigEndian.AppendUint32(nil, uint32(len(body)+4)), body...)
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		c := newConn(NewServer(cfg), &scriptConn{in: append(in, data...)})
		c.serve(ctx, false)
		if ctx.Err() != nil {
			t.Fatal("the connection did not end with its input")
		}
		if n := len(c.r.buf); n > 2<<20 {
			t.Errorf("the read buffer grew to %d bytes for %d bytes of input", n, len(data))
		}
	})
}

// FuzzStartup does the same before the startup packet.
func FuzzStartup(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x08\x04\xd2\x16\x2f\x00\x00\x00\x10\x00\x03\x00\x00user\x00a\x00\x00"))
	f.Add([]byte("\x00\x00\x00\x10\x04\xd2\x16\x2e\x00\x00\x00\x01\x00\x00\x00\x02"))
	f.Add([]byte("\x00\x00\x00\x09\x00\x03\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg := DefaultConfig()
		cfg.NewSession = func(_ context.Context, args sql.SessionArgs) (Session, error) { return newFakeSession(args), nil }
		newConn(NewServer(cfg), &scriptConn{in: data}).serve(context.Background(), false)
	})
}

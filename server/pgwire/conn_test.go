package pgwire

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgproto3/v2"
	"github.com/jackc/pgx/v5"
)

// rawClient speaks the protocol message by message.
type rawClient struct {
	t  testing.TB
	nc net.Conn
	fe *pgproto3.Frontend
	st *pgproto3.BackendKeyData
}

func dialRaw(t testing.TB, addr string) *rawClient {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(10 * time.Second))
	return &rawClient{t: t, nc: nc, fe: pgproto3.NewFrontend(pgproto3.NewChunkReader(nc), nc)}
}

func connectRaw(t testing.TB, addr string) *rawClient {
	c := dialRaw(t, addr)
	c.send(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersionNumber, Parameters: map[string]string{"user": "root"}})
	c.until('Z')
	return c
}

func (c *rawClient) send(msgs ...pgproto3.FrontendMessage) {
	c.t.Helper()
	var buf []byte
	for _, m := range msgs {
		var err error
		if buf, err = m.Encode(buf); err != nil {
			c.t.Fatal(err)
		}
	}
	if _, err := c.nc.Write(buf); err != nil {
		c.t.Fatal(err)
	}
}

// until reads to the message of the given kind and returns a short account:
// message letters, with error codes and command tags.
func (c *rawClient) until(last byte) string {
	c.t.Helper()
	var out []string
	for {
		msg, err := c.fe.Receive()
		if err != nil {
			c.t.Fatalf("after %v: %v", out, err)
		}
		buf, err := msg.Encode(nil)
		if err != nil {
			c.t.Fatal(err)
		}
		kind := buf[0]
		text := string(kind)
		switch m := msg.(type) {
		case *pgproto3.ErrorResponse:
			text += "(" + m.Code + ")"
		case *pgproto3.CommandComplete:
			text += "(" + string(m.CommandTag) + ")"
		case *pgproto3.ReadyForQuery:
			text += "(" + string(m.TxStatus) + ")"
		case *pgproto3.BackendKeyData:
			c.st = &pgproto3.BackendKeyData{ProcessID: m.ProcessID, SecretKey: m.SecretKey}
		case *pgproto3.DataRow:
			vals := make([]string, len(m.Values))
			for i, v := range m.Values {
				vals[i] = string(v)
			}
			text += "(" + strings.Join(vals, ",") + ")"
		}
		out = append(out, text)
		if kind == last {
			return strings.Join(out, " ")
		}
	}
}

func (c *rawClient) want(last byte, want string) {
	c.t.Helper()
	if got := c.until(last); got != want {
		c.t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestMessageSequences(t *testing.T) {
	addr, _ := startServer(t, nil)
	q := func(s string) pgproto3.FrontendMessage { return &pgproto3.Query{String: s} }
	msgs := func(m ...pgproto3.FrontendMessage) []pgproto3.FrontendMessage { return m }
	parse := func(name, text string) pgproto3.FrontendMessage { return &pgproto3.Parse{Name: name, Query: text} }
	bind := func(portal, stmt string, params ...string) pgproto3.FrontendMessage {
		b := &pgproto3.Bind{DestinationPortal: portal, PreparedStatement: stmt}
		for _, p := range params {
			b.Parameters = append(b.Parameters, []byte(p))
		}
		return b
	}
	exec := func(portal string, max uint32) pgproto3.FrontendMessage {
		return &pgproto3.Execute{Portal: portal, MaxRows: max}
	}
	sync := &pgproto3.Sync{}
	tests := []struct {
		name string
		send []pgproto3.FrontendMessage
		want string // to the last ReadyForQuery
		z    int
	}{
		{"simple", msgs(q("select 1")), "T D(1) C(SELECT 1) Z(I)", 1},
		{"empty", msgs(q("")), "I Z(I)", 1},
		{"several statements", msgs(q("begin; select 1; commit")), "C(BEGIN) T D(1) C(SELECT 1) C(COMMIT) Z(I)", 1},
		{"error ends the batch", msgs(q("select 1; nosuch; select 1")), "T D(1) C(SELECT 1) E(42P01) Z(I)", 1},
		{"error in a block", msgs(q("begin"), q("nosuch"), q("select 1"), q("rollback")),
			"C(BEGIN) Z(T) E(42P01) Z(E) E(25P02) Z(E) C(ROLLBACK) Z(I)", 4},
		{"notice", msgs(q("notice")), "N C(DO) Z(I)", 1},
		{"retried rows are not seen twice", msgs(q("retry")), "T D(8) C(SELECT 1) Z(I)", 1},
		{"parameter change", msgs(q("set app")), "S C(SET) Z(I)", 1},
		{"extended", msgs(parse("", "echo $1 $2"), bind("", "", "5", "five"), &pgproto3.Describe{ObjectType: 'P'}, exec("", 0), sync),
			"1 2 T D(5,five) C(SELECT 1) Z(I)", 1},
		{"describe statement", msgs(parse("s1", "echo $1 $2"), &pgproto3.Describe{ObjectType: 'S', Name: "s1"}, sync), "1 t T Z(I)", 1},
		{"describe without rows", msgs(parse("s2", "begin"), &pgproto3.Describe{ObjectType: 'S', Name: "s2"}, sync), "1 t n Z(I)", 1},
		{"named statement again", msgs(parse("s1", "select 1"), sync), "E(42P05) Z(I)", 1},
		{"close and prepare again", msgs(&pgproto3.Close{ObjectType: 'S', Name: "s1"}, parse("s1", "select 1"), sync), "3 1 Z(I)", 1},
		{"close of nothing", msgs(&pgproto3.Close{ObjectType: 'P', Name: "nosuch"}, sync), "3 Z(I)", 1},
		{"row limit", msgs(parse("", "rows 5"), bind("", ""), exec("", 2), exec("", 2), exec("", 2), sync),
			"1 2 D(1,row) D(2,row) s D(3,row) D(4,row) s D(5,row) C(SELECT 5) Z(I)", 1},
		{"skip to Sync", msgs(parse("", "bad"), bind("", ""), exec("", 0), sync, q("select 1")),
			"E(42601) Z(I) T D(1) C(SELECT 1) Z(I)", 2},
		{"pipeline", msgs(parse("", "select 1"), bind("", ""), exec("", 0), sync, parse("", "nosuch"), bind("", ""), exec("", 0), sync,
			parse("", "select 1"), bind("", ""), exec("", 0), sync),
			"1 2 D(1) C(SELECT 1) Z(I) 1 2 E(42P01) Z(I) 1 2 D(1) C(SELECT 1) Z(I)", 3},
		{"empty statement", msgs(parse("", ""), bind("", ""), &pgproto3.Describe{ObjectType: 'P'}, exec("", 0), sync), "1 2 n I Z(I)", 1},
		{"two commands in one Parse", msgs(parse("", "select 1; select 1"), sync), "E(42601) Z(I)", 1},
		{"unknown statement", msgs(bind("", "nosuch"), sync), "E(26000) Z(I)", 1},
		{"unknown portal", msgs(exec("nosuch", 0), sync), "E(34000) Z(I)", 1},
		{"portal dies with its transaction", msgs(parse("", "rows 5"), bind("p", ""), exec("p", 1), sync, exec("p", 1), sync),
			"1 2 D(1,row) s Z(I) E(34000) Z(I)", 2},
		{"wrong number of parameters", msgs(parse("", "echo $1 $2"), bind("", "", "1"), sync), "1 E(08P01) Z(I)", 1},
		{"parameter that does not parse", msgs(parse("", "echo $1 $2"), bind("", "", "x", "y"), sync), "1 E(22P02) Z(I)", 1},
		{"copy in", msgs(q("copyin"), &pgproto3.CopyData{Data: []byte("a\nb\n")}, &pgproto3.CopyDone{}), "G C(COPY 2) Z(I)", 1},
		{"copy in that fails", msgs(q("copyin"), &pgproto3.CopyData{Data: []byte("bad\n")}, &pgproto3.CopyData{Data: []byte("c\n")}, &pgproto3.CopyDone{}, q("select 1")),
			"G E(22P04) Z(I) T D(1) C(SELECT 1) Z(I)", 2},
		{"copy given up by the client", msgs(q("copyin"), &pgproto3.CopyFail{Message: "no"}), "G E(57014) Z(I)", 1},
		{"copy in the extended protocol", msgs(parse("", "copyin"), bind("", ""), exec("", 0), sync, &pgproto3.CopyData{Data: []byte("a\n")}, &pgproto3.CopyDone{}, sync),
			"1 2 G C(COPY 1) Z(I)", 1},
		{"fastpath call", msgs(&pgproto3.FunctionCall{Function: 1, ArgFormatCodes: []uint16{}, Arguments: [][]byte{}}), "E(0A000) Z(I)", 1},
	}
	c := connectRaw(t, addr)
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			c.t = t
			c.send(tc.send...)
			var got []string
			for range tc.z {
				got = append(got, c.until('Z'))
			}
			if g := strings.Join(got, " "); g != tc.want {
				t.Errorf("got  %s\nwant %s", g, tc.want)
			}
		})
	}
}

func TestCopyOut(t *testing.T) {
	addr, _ := startServer(t, nil)
	c := connectRaw(t, addr)
	c.send(&pgproto3.Query{String: "copyout"})
	got := c.until('Z')
	if n := strings.Count(got, "d"); n != 1000 || !strings.HasPrefix(got, "H d") || !strings.HasSuffix(got, "c C(COPY 1000) Z(I)") {
		t.Errorf("%d CopyData messages in %.40s … %s", n, got, got[len(got)-40:])
	}
}

func TestStartup(t *testing.T) {
	addr, _ := startServer(t, func(c *Config) { c.LoginTimeout = 500 * time.Millisecond })
	packet := func(words ...uint32) []byte {
		b := binary.BigEndian.AppendUint32(nil, uint32(4+4*len(words)))
		for _, w := range words {
			b = binary.BigEndian.AppendUint32(b, w)
		}
		return b
	}
	startup := func(version uint32, params ...string) []byte {
		body := binary.BigEndian.AppendUint32(nil, version)
		for _, p := range params {
			body = append(append(body, p...), 0)
		}
		body = append(body, 0)
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(body)+4)), body...)
	}
	t.Run("TLS and GSS refused", func(t *testing.T) {
		c := dialRaw(t, addr)
		for _, code := range []uint32{codeTLS, codeGSSEncode} {
			_, _ = c.nc.Write(packet(code))
			var b [1]byte
			if _, err := io.ReadFull(c.nc, b[:]); err != nil || b[0] != 'N' {
				t.Fatal(b, err)
			}
		}
		_, _ = c.nc.Write(startup(protocol3, "user", "root"))
		if got := c.until('Z'); !strings.HasPrefix(got, "R S") || !strings.HasSuffix(got, "K Z(I)") {
			t.Error(got)
		}
	})
	for _, tc := range []struct {
		name string
		send []byte
		want string
	}{
		{"no user", startup(protocol3, "database", "x"), "E(28000)"},
		{"unknown user", startup(protocol3, "user", "nobody"), "R E(28000)"},
		{"protocol 2", startup(2<<16, "user", "root"), "E(0A000)"},
		{"bad length", []byte{0, 0, 0, 1}, "E(08P01)"},
		{"http", []byte("GET / HTTP/1.1\r\n\r\n"), "E(08P01)"},
		{"no terminator", append(binary.BigEndian.AppendUint32(nil, 14), []byte{0, 3, 0, 0, 'u', 's', 'e', 'r', 0, 'x'}...), "E(08P01)"},
		{"replication", startup(protocol3, "user", "root", "replication", "true"), "E(0A000)"},
		{"bad options", startup(protocol3, "user", "root", "options", "what"), "E(42601)"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := dialRaw(t, addr)
			_, _ = c.nc.Write(tc.send)
			c.want('E', tc.want)
		})
	}
	t.Run("newer minor version", func(t *testing.T) {
		c := dialRaw(t, addr)
		_, _ = c.nc.Write(startup(3<<16|2, "user", "root", "_pq_.x", "1"))
		var head [5]byte
		if _, err := io.ReadFull(c.nc, head[:]); err != nil || head[0] != 'v' {
			t.Fatalf("%q %v", head, err)
		}
	})
	t.Run("silent client", func(t *testing.T) {
		c := dialRaw(t, addr)
		if _, err := c.nc.Read(make([]byte, 1)); err == nil {
			t.Error("the connection stayed open")
		}
	})
}

func TestCancel(t *testing.T) {
	addr, _ := startServer(t, nil)
	c := connectRaw(t, addr)
	for _, text := range []string{"sleep", "copyin"} {
		c.send(&pgproto3.Query{String: text})
		time.Sleep(50 * time.Millisecond)
		other := dialRaw(t, addr)
		other.send(&pgproto3.CancelRequest{ProcessID: c.st.ProcessID, SecretKey: c.st.SecretKey + 1})
		other = dialRaw(t, addr)
		other.send(&pgproto3.CancelRequest{ProcessID: c.st.ProcessID, SecretKey: c.st.SecretKey})
		start := time.Now()
		if got := c.until('Z'); !strings.HasSuffix(got, "E(57014) Z(I)") || time.Since(start) > 5*time.Second {
			t.Errorf("%s: %s after %v", text, got, time.Since(start))
		}
		c.send(&pgproto3.Query{String: "select 1"})
		c.want('Z', "T D(1) C(SELECT 1) Z(I)")
	}
}

func TestDrain(t *testing.T) {
	addr, srv := startServer(t, nil)
	idle, busy := connectRaw(t, addr), connectRaw(t, addr)
	busy.send(&pgproto3.Query{String: "begin"})
	busy.until('Z')
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		done <- srv.Drain(ctx)
	}()
	idle.want('E', "E(57P01)")
	late := dialRaw(t, addr)
	late.send(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersionNumber, Parameters: map[string]string{"user": "root"}})
	late.want('E', "E(57P01)")
	busy.send(&pgproto3.Query{String: "select 1"})
	busy.want('Z', "T D(1) C(SELECT 1) Z(T)")
	busy.send(&pgproto3.Query{String: "commit"})
	busy.want('E', "C(COMMIT) Z(I) E(57P01)")
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestLimits(t *testing.T) {
	addr, _ := startServer(t, func(c *Config) { c.MaxMessageBytes, c.MaxConnections = 100<<10, 2 })
	c := connectRaw(t, addr)
	c.send(&pgproto3.Query{String: "select 1" + strings.Repeat(" ", 200<<10)})
	c.want('Z', "E(54000) Z(I)")
	c.send(&pgproto3.Parse{Query: strings.Repeat(" ", 200<<10)}, &pgproto3.Sync{})
	c.want('Z', "E(54000) Z(I)")
	c.send(&pgproto3.Query{String: "select 1" + strings.Repeat(" ", 90<<10)})
	c.want('Z', "T D(1) C(SELECT 1) Z(I)")
	c.send(&pgproto3.Query{String: "copyin"}, &pgproto3.CopyData{Data: make([]byte, 200<<10)}, &pgproto3.CopyDone{})
	c.want('Z', "G E(54000) Z(I)")

	connectRaw(t, addr)
	third := dialRaw(t, addr)
	third.send(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersionNumber, Parameters: map[string]string{"user": "root"}})
	third.want('E', "E(53300)")
}

func TestBadMessages(t *testing.T) {
	addr, _ := startServer(t, nil)
	frame := func(typ byte, body string) []byte {
		b := binary.BigEndian.AppendUint32([]byte{typ}, uint32(4+len(body)))
		return append(b, body...)
	}
	for _, tc := range []struct {
		name string
		send []byte
		last byte
		want string
	}{
		{"query without terminator", frame('Q', "select"), 'Z', "E(08P01) Z(I)"},
		{"empty query body", frame('Q', ""), 'Z', "E(08P01) Z(I)"},
		{"bind with a negative length", append(frame('B', "\x00\x00\x00\x00\x00\x01\xff\xff\xff\xf0\x00\x00"), frame('S', "")...), 'Z', "E(08P01) Z(I)"},
		{"truncated parse", append(frame('P', "a\x00"), frame('S', "")...), 'Z', "E(08P01) Z(I)"},
		{"describe of what", append(frame('D', "Z\x00"), frame('S', "")...), 'Z', "E(08P01) Z(I)"},
		{"unknown type", frame('~', "x"), 'E', "E(08P01)"},
		{"negative length", []byte{'Q', 0xff, 0xff, 0xff, 0xff}, 'E', "E(08P01)"},
		{"length below 4", []byte{'Q', 0, 0, 0, 2}, 'E', "E(08P01)"},
		{"panic in a statement", frame('Q', "panic\x00"), 'E', "E(XX000)"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := connectRaw(t, addr)
			if _, err := c.nc.Write(tc.send); err != nil {
				t.Fatal(err)
			}
			c.want(tc.last, tc.want)
		})
	}
}

func TestPgxModes(t *testing.T) {
	addr, _ := startServer(t, nil)
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec,
	} {
		t.Run(mode.String(), func(t *testing.T) {
			ctx := context.Background()
			cfg, err := pgx.ParseConfig("postgres://root@" + addr + "/db?sslmode=disable")
			if err != nil {
				t.Fatal(err)
			}
			cfg.DefaultQueryExecMode = mode
			conn, err := pgx.ConnectConfig(ctx, cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(ctx)
			for i := range 3 {
				var n int
				var s string
				if err := conn.QueryRow(ctx, "echo $1 $2", i, fmt.Sprint("text ", i)).Scan(&n, &s); err != nil || n != i || s != fmt.Sprint("text ", i) {
					t.Fatal(n, s, err)
				}
			}
		})
	}
}

// TestSlowClient shows that a client which does not read holds no more than the
// write buffer, and delays no one else.
func TestSlowClient(t *testing.T) {
	addr, _ := startServer(t, nil)
	slow, other := connectRaw(t, addr), connectRaw(t, addr)
	slow.send(&pgproto3.Query{String: "rows 3000000"})
	time.Sleep(100 * time.Millisecond)
	other.send(&pgproto3.Query{String: "select 1"})
	other.want('Z', "T D(1) C(SELECT 1) Z(I)")
	_ = slow.nc.Close() // The server must notice; Serve waits for it at the end.
}

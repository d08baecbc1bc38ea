package nodeport

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"
)

// echo answers each connection with the kind and what it read until the end.
func serve(t *testing.T) (addr string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := New(l, nil)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := m.Serve(ctx); err != nil {
			t.Error(err)
		}
	})
	for kind, l := range map[string]*Listener{"sql": m.SQL, "grpc": m.GRPC, "gossip": m.Gossip} {
		wg.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				wg.Go(func() {
					defer c.Close()
					b, _ := io.ReadAll(c)
					_, _ = io.WriteString(c, kind+":"+string(b))
				})
			}
		})
	}
	return l.Addr().String(), func() { cancel(); wg.Wait() }
}

func ask(t *testing.T, addr string, send io.Reader) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.Copy(c, send); err != nil {
		t.Fatal(err)
	}
	_ = c.(*net.TCPConn).CloseWrite()
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestKindsAreToldApart(t *testing.T) {
	addr, stop := serve(t)
	defer stop()
	for send, want := range map[string]string{
		"\x00\x00\x00\x08\x04\xd2\x16\x2f":              "sql:\x00\x00\x00\x08\x04\xd2\x16\x2f",
		"\x00\x00\x00\x2auser\x00root\x00" + longTail(): "sql:\x00\x00\x00\x2auser\x00root\x00" + longTail(),
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nframes":        "grpc:PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nframes",
		GossipPreface:                                   "gossip:",
		GossipPreface + "s":                             "gossip:s",
		GossipPreface + "p\x00\x00" + longTail():        "gossip:p\x00\x00" + longTail(),
		"PRI * HTTP/1.1":                                "sql:PRI * HTTP/1.1",
		"HOLDFAST GOSSIP 2\r\n":                         "sql:HOLDFAST GOSSIP 2\r\n",
		"PRI":                                           "sql:PRI",
		"":                                              "sql:",
	} {
		if got := ask(t, addr, strings.NewReader(send)); got != want {
			t.Errorf("%q: got %q, want %q", send, got, want)
		}
		if got := ask(t, addr, iotest.OneByteReader(strings.NewReader(send))); got != want {
			t.Errorf("%q in single bytes: got %q, want %q", send, got, want)
		}
	}
}

func longTail() string { return strings.Repeat("0123456789", 500) }

func TestStopDoesNotWaitForTheUndecided(t *testing.T) {
	addr, stop := serve(t)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "PR"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond) // Let it be accepted; if it is not, stop has less to do.
	done := make(chan struct{})
	go func() { stop(); close(done) }() // The select below waits for it.
	select {
	case <-done:
	case <-time.After(3 * time.Second):
		t.Fatal("a client that says nothing keeps the node from stopping")
	}
}

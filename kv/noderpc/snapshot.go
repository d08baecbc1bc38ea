package noderpc

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/zeebo/xxh3"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/noderpc/noderpcpb"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// snapshotChunk is how much of a snapshot one message carries.
const snapshotChunk = 256 << 10

// SendSnapshot streams the state snap that belongs to m, a MsgSnap, and returns
// when the receiver has taken all of it.
func (d *Dialer) SendSnapshot(ctx context.Context, to kvpb.NodeID, rangeID int64, m *pb.Message, snap io.WriterTo) error {
	err := d.sendSnapshot(ctx, to, rangeID, m, snap)
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("sending a snapshot of r%d to n%d: %w", rangeID, to, err)
	}
	return nil
}

func (d *Dialer) sendSnapshot(ctx context.Context, to kvpb.NodeID, rangeID int64, m *pb.Message, snap io.WriterTo) error {
	head, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	c, err := d.peer(to).get(ctx)
	if err != nil {
		return err
	}
	if err := d.cfg.Faults.pass(ctx, Message{From: d.self(), To: to, Kind: KindSnapshot}); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // Nothing of an incomplete snapshot is to be waited for.
	stream, err := c.client.Snapshot(c.outgoing(ctx))
	if err != nil {
		return c.failure(err)
	}
	w := &snapshotWriter{stream: stream}
	w.send(&noderpcpb.SnapshotPart{Now: tsToWire(d.cfg.Clock.Now()), RangeId: rangeID, Message: head})
	if _, err := snap.WriteTo(w); err != nil && w.err == nil {
		return err
	}
	w.finish()
	if w.err != nil && !errors.Is(w.err, io.EOF) {
		return c.failure(w.err)
	}
	// If the receiver did not want more, its answer says why.
	answer, err := stream.CloseAndRecv()
	if err != nil {
		return c.failure(err)
	}
	if err := d.cfg.receive(to, answer.GetNow()); err != nil {
		return err
	}
	return kvpb.ErrorFromWire(answer.GetError())
}

// snapshotWriter gathers what is written to it into chunks.
type snapshotWriter struct {
	stream grpc.ClientStreamingClient[noderpcpb.SnapshotPart, noderpcpb.SnapshotAnswer]
	buf    []byte
	sum    xxh3.Hasher
	err    error // sticky
}

func (w *snapshotWriter) Write(b []byte) (int, error) {
	for n := 0; n < len(b); {
		if w.err != nil {
			return n, w.err
		}
		if w.buf == nil {
			w.buf = make([]byte, 0, snapshotChunk)
		}
		k := copy(w.buf[len(w.buf):cap(w.buf)], b[n:])
		w.buf = w.buf[:len(w.buf)+k]
		n += k
		if len(w.buf) == cap(w.buf) {
			w.flush(&noderpcpb.SnapshotPart{})
		}
	}
	return len(b), nil
}

// flush sends what is gathered; the stream has encoded it when Send returns.
func (w *snapshotWriter) flush(part *noderpcpb.SnapshotPart) {
	_, _ = w.sum.Write(w.buf)
	if part.Data = w.buf; part.Last {
		part.Sum = w.sum.Sum64()
	}
	w.send(part)
	w.buf = w.buf[:0]
}

func (w *snapshotWriter) send(part *noderpcpb.SnapshotPart) {
	if w.err == nil {
		w.err = w.stream.Send(part)
	}
}

func (w *snapshotWriter) finish() { w.flush(&noderpcpb.SnapshotPart{Last: true}) }

// snapshotReader reads the data of a snapshot. It only ends with io.EOF if all of
// it came and the sum is right.
type snapshotReader struct {
	stream grpc.ClientStreamingServer[noderpcpb.SnapshotPart, noderpcpb.SnapshotAnswer]
	buf    []byte
	sum    xxh3.Hasher
	err    error // once buf is empty
}

func (r *snapshotReader) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for len(r.buf) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		part, err := r.stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			r.err = io.ErrUnexpectedEOF
		case err != nil:
			r.err = err
		default:
			r.buf = part.GetData()
			_, _ = r.sum.Write(r.buf)
			if part.GetLast() && part.GetSum() != r.sum.Sum64() {
				r.buf, r.err = nil, storage.Mark(errors.New("the data of a snapshot changed on its way"), storage.ErrCorrupt)
			} else if part.GetLast() {
				r.err = io.EOF
			}
		}
	}
	n := copy(b, r.buf)
	r.buf = r.buf[n:]
	return n, nil
}

// atEnd says whether everything was read.
func (r *snapshotReader) atEnd() bool {
	var b [1]byte
	n, err := r.Read(b[:])
	return n == 0 && errors.Is(err, io.EOF)
}

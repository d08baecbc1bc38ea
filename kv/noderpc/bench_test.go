package noderpc

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"testing"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/kv/kvpb"
)

// benchGet is a point read in a transaction, as SQL sends it.
func benchGet() *kvpb.BatchRequest {
	now := hlc.Timestamp{WallTime: 1e18}
	ba := get("a key of a usual length")
	ba.Txn = &kvpb.Transaction{
		ID: kvpb.TxnID{1}, Name: "sql txn", Priority: kvpb.PriorityNormal, MinTimestamp: now, ReadTimestamp: now, WriteTimestamp: now,
		UncertaintyLimit: now.Add(5e8),
	}
	return ba
}

func benchBatches(b *testing.B, to kvpb.NodeID, ba *kvpb.BatchRequest, h func(context.Context, *kvpb.BatchRequest) (*kvpb.BatchResponse, error)) {
	c := newCluster(b, 2, handlerFuncs{batch: h})
	ctx := testContext(b)
	send := func() {
		if _, err := c.nodes[1].SendBatch(ctx, to, ba); err != nil {
			b.Fatal(err)
		}
	}
	send()
	b.ReportAllocs()
	b.ResetTimer()
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			send()
		}
	})
	b.Run("many", func(b *testing.B) {
		b.ReportAllocs()
		b.SetParallelism(16)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				send()
			}
		})
	})
}

func BenchmarkGet(b *testing.B) {
	for to, name := range map[kvpb.NodeID]string{1: "direct", 2: "loopback"} {
		b.Run(name, func(b *testing.B) { benchBatches(b, to, benchGet(), echo) })
	}
}

func BenchmarkScan1000(b *testing.B) {
	br := &kvpb.BatchResponse{Responses: make([]kvpb.Response, 1)}
	for i := range 1000 {
		br.Responses[0].KVs = append(br.Responses[0].KVs, kvpb.KeyValue{
			Key: fmt.Appendf(nil, "key %20d", i), Value: make([]byte, 100), Timestamp: hlc.Timestamp{WallTime: 1e18},
		})
	}
	benchBatches(b, 2, benchGet(), func(context.Context, *kvpb.BatchRequest) (*kvpb.BatchResponse, error) { return br, nil })
}

func BenchmarkPut1000(b *testing.B) {
	ba := &kvpb.BatchRequest{}
	for i := range 1000 {
		ba.Add(kvpb.Request{Op: kvpb.OpPut, Key: fmt.Appendf(nil, "key %20d", i), Value: make([]byte, 100)})
	}
	benchBatches(b, 2, ba, func(context.Context, *kvpb.BatchRequest) (*kvpb.BatchResponse, error) {
		return &kvpb.BatchResponse{}, nil
	})
}

// BenchmarkRaft measures how long a message of 200 bytes takes among many.
func BenchmarkRaft(b *testing.B) {
	const window = 4096 // under way at most, so that none is dropped
	room := make(chan struct{}, window)
	c := newCluster(b, 2, handlerFuncs{raft: func(kvpb.NodeID, int64, *pb.Message) { <-room }})
	m := raftMessage(1, make([]byte, 200))
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		room <- struct{}{}
		c.nodes[1].SendRaft(2, 1, m)
	}
}

func BenchmarkSnapshot(b *testing.B) {
	const size = 64 << 20
	c := newCluster(b, 2, handlerFuncs{snapshot: func(_ context.Context, _ int64, _ *pb.Message, body io.Reader) error {
		_, err := io.Copy(io.Discard, body)
		return err
	}})
	data := make([]byte, size)
	b.SetBytes(size)
	b.ReportAllocs()
	for range b.N {
		if err := c.nodes[1].SendSnapshot(testContext(b), 2, 1, snapMessage(), bytes.NewReader(data)); err != nil {
			b.Fatal(err)
		}
	}
}

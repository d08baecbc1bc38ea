package noderpc

import (
	"fmt"

	"google.golang.org/grpc/mem"
)

// codec encodes messages by their generated methods. What it decodes shares one
// buffer that belongs to the message, so an sstable is copied once on each side.
type codec struct{}

type vtMessage interface {
	SizeVT() int
	MarshalToSizedBufferVT([]byte) (int, error)
	UnmarshalVTUnsafe([]byte) error
}

// maxPooled is the largest buffer that is kept for the next message.
const maxPooled = 1 << 20

func (codec) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(vtMessage)
	if !ok {
		return nil, fmt.Errorf("%T has no codec", v)
	}
	size := m.SizeVT()
	if mem.IsBelowBufferPoolingThreshold(size) || size > maxPooled {
		b := make([]byte, size)
		_, err := m.MarshalToSizedBufferVT(b)
		return mem.BufferSlice{mem.SliceBuffer(b)}, err
	}
	pool := mem.DefaultBufferPool()
	b := pool.Get(size)
	if _, err := m.MarshalToSizedBufferVT((*b)[:size]); err != nil {
		pool.Put(b)
		return nil, err
	}
	return mem.BufferSlice{mem.NewBuffer(b, pool)}, nil
}

func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(vtMessage)
	if !ok {
		return fmt.Errorf("%T has no codec", v)
	}
	return m.UnmarshalVTUnsafe(data.Materialize())
}

// Name implements encoding.CodecV2: on the wire it is plain protobuf.
func (codec) Name() string { return "proto" }

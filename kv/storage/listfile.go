package storage

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2/cockroachkvs"
	"github.com/cockroachdb/pebble/v2/sstable"

	"github.com/holdfastdb/holdfast/internal/keys"
)

// ListWriter writes a sorted list of unversioned pairs as an sstable: the file
// and descriptor lists of backups, which may hold a million entries and are read
// as a stream.
type ListWriter struct {
	w    *sstable.Writer
	last keys.Key
	n    int
	key  []byte
}

// NewListWriter returns a writer of a list to w. The caller calls Close.
func NewListWriter(w io.Writer) *ListWriter {
	return &ListWriter{w: sstable.NewWriter(&streamWritable{w: w}, sstable.WriterOptions{
		Comparer:    &cockroachkvs.Comparer,
		KeySchema:   &keySchema,
		TableFormat: storeFormat.MaxTableFormat(),
		Compression: sstable.SnappyCompression,
		BlockSize:   blockBytes,
	})}
}

// Add appends a pair; keys come in strictly increasing order.
func (l *ListWriter) Add(key keys.Key, value []byte) error {
	if l.n > 0 && bytes.Compare(l.last, key) >= 0 {
		return fmt.Errorf("list key %x does not follow %x", key, l.last)
	}
	l.last = append(l.last[:0], key...)
	l.n++
	l.key = append(append(l.key[:0], key...), 0)
	return l.w.Set(l.key, value)
}

// Len returns the number of pairs so far.
func (l *ListWriter) Len() int { return l.n }

// Close completes the file.
func (l *ListWriter) Close() error { return l.w.Close() }

// streamWritable lets an sstable writer write to an io.Writer.
type streamWritable struct{ w io.Writer }

func (s *streamWritable) Write(p []byte) error {
	_, err := s.w.Write(p)
	return err
}
func (s *streamWritable) Finish() error { return nil }
func (s *streamWritable) Abort()        {}

// ReadList calls fn with the pairs of a list in [span.Key, span.EndKey) in
// order; an empty span means all. fn must not keep its arguments.
func ReadList(ctx context.Context, list []byte, span keys.Span, fn func(key keys.Key, value []byte) error) (err error) {
	r, err := sstable.NewMemReader(list, sstable.ReaderOptions{
		Comparer:   &cockroachkvs.Comparer,
		KeySchemas: sstable.MakeKeySchemas(&keySchema),
	})
	if err != nil {
		return fmt.Errorf("opening list: %w", err)
	}
	defer func() {
		if closeErr := r.Close(); err == nil {
			err = closeErr
		}
	}()
	var lower, upper []byte
	if len(span.Key) > 0 {
		lower = append(append(lower, span.Key...), 0)
	}
	if len(span.EndKey) > 0 {
		upper = append(append(upper, span.EndKey...), 0)
	}
	it, err := r.NewIter(sstable.NoTransforms, lower, upper, sstable.AssertNoBlobHandles)
	if err != nil {
		return fmt.Errorf("reading list: %w", err)
	}
	defer func() {
		if closeErr := it.Close(); err == nil {
			err = closeErr
		}
	}()
	kv := it.First()
	if len(lower) > 0 {
		kv = it.SeekGE(lower, 0)
	}
	for n := 0; kv != nil; n++ {
		if n%1024 == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		key, suffix, err := splitEngineKey(kv.K.UserKey)
		if err != nil {
			return fmt.Errorf("reading list: %w", err)
		}
		if len(suffix) != 0 {
			return fmt.Errorf("reading list: key %x has a version", kv.K.UserKey)
		}
		v, _, err := kv.Value(nil)
		if err != nil {
			return fmt.Errorf("reading list: %w", err)
		}
		if err := fn(key, v); err != nil {
			return err
		}
		kv = it.Next()
	}
	return it.Error()
}

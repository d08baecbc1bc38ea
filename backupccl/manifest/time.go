package manifest

import (
	"github.com/holdfastdb/holdfast/backupccl/backuppb"
	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
)

// Time converts a stored timestamp; nil is the zero timestamp.
func Time(t *backuppb.Timestamp) hlc.Timestamp {
	return hlc.Timestamp{WallTime: t.GetWallTime(), Logical: t.GetLogical()}
}

// TimePB converts a timestamp for storing.
func TimePB(t hlc.Timestamp) *backuppb.Timestamp {
	return &backuppb.Timestamp{WallTime: t.WallTime, Logical: t.Logical}
}

// Span converts a stored span.
func Span(s *backuppb.Span) keys.Span { return keys.Span{Key: s.GetKey(), EndKey: s.GetEndKey()} }

// SpanPB converts a span for storing.
func SpanPB(s keys.Span) *backuppb.Span { return &backuppb.Span{Key: s.Key, EndKey: s.End()} }

// SpansPB converts spans for storing.
func SpansPB(spans []keys.Span) []*backuppb.Span {
	out := make([]*backuppb.Span, len(spans))
	for i, s := range spans {
		out[i] = SpanPB(s)
	}
	return out
}

// Spans converts stored spans.
func Spans(spans []*backuppb.Span) []keys.Span {
	out := make([]keys.Span, len(spans))
	for i, s := range spans {
		out[i] = Span(s)
	}
	return out
}

// AddCounts adds b to a.
func AddCounts(a, b *backuppb.RowCount) {
	if b == nil {
		return
	}
	a.DataSize += b.DataSize
	a.Rows += b.Rows
	a.IndexEntries += b.IndexEntries
}

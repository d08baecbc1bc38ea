package kvserver

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv/kvserver/kvserverpb"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// gcState says, for the spans of a range, at or below which timestamp versions
// may have been collected. Tables of one range have different times to live and
// different protections, so there is not one threshold but one per span. A
// gcState is never changed: raise makes a new one.
type gcState struct {
	max   hlc.Timestamp
	spans []gcThreshold // sorted, disjoint
}

type gcThreshold struct {
	keys.Span
	ts hlc.Timestamp
}

// threshold returns the highest threshold of any key in span.
func (g *gcState) threshold(span keys.Span) (ts hlc.Timestamp) {
	if g == nil {
		return ts
	}
	for i := range g.spans {
		if spansOverlap(g.spans[i].Span, span) {
			ts.Forward(g.spans[i].ts)
		}
	}
	return ts
}

// lowest returns the lowest threshold of any key in span.
func (g *gcState) lowest(span keys.Span) (ts hlc.Timestamp) {
	at := span.Key
	first := true
	if g == nil {
		return ts
	}
	for i := range g.spans {
		s := &g.spans[i]
		if !spansOverlap(s.Span, span) {
			continue
		}
		if at.Less(s.Key) {
			return hlc.Timestamp{}
		}
		if first || s.ts.Less(ts) {
			ts, first = s.ts, false
		}
		at = s.EndKey
	}
	if at.Less(span.End()) {
		return hlc.Timestamp{}
	}
	return ts
}

// raise returns g with the thresholds of span at or above ts.
func (g *gcState) raise(span keys.Span, ts hlc.Timestamp) *gcState {
	n := &gcState{max: ts}
	add := func(start, end keys.Key, t hlc.Timestamp) {
		if start.Compare(end) >= 0 {
			return
		}
		n.max.Forward(t)
		if k := len(n.spans); k > 0 && n.spans[k-1].ts == t && n.spans[k-1].EndKey.Equal(start) {
			n.spans[k-1].EndKey = end
			return
		}
		n.spans = append(n.spans, gcThreshold{Span: keys.Span{Key: start, EndKey: end}, ts: t})
	}
	at := span.Key.Clone() // up to where span has been added
	end := span.EndKey.Clone()
	if g != nil {
		for _, s := range g.spans {
			if s.EndKey.Compare(span.Key) <= 0 {
				add(s.Key, s.EndKey, s.ts)
				continue
			}
			// What of span lies before s, then s cut in up to three.
			add(at, minKey(end, s.Key), ts)
			at = maxKey(at, minKey(end, s.Key))
			add(s.Key, minKey(s.EndKey, maxKey(s.Key, span.Key)), s.ts)
			add(maxKey(s.Key, span.Key), minKey(s.EndKey, end), hlc.Later(s.ts, ts))
			if s.Key.Less(end) {
				at = maxKey(at, minKey(s.EndKey, end))
			}
			add(maxKey(s.Key, end), s.EndKey, s.ts)
		}
	}
	if g == nil || len(g.spans) == 0 || at.Less(end) {
		n.insertTail(at, end, ts)
	}
	return n
}

// join returns g with all thresholds that are higher in o.
func (g *gcState) join(o *gcState) *gcState {
	for _, s := range o.spans {
		g = g.raise(s.Span, s.ts)
	}
	return g
}

// insertTail adds the last part of a raised span, which may lie before spans that
// were added already.
func (g *gcState) insertTail(start, end keys.Key, ts hlc.Timestamp) {
	if start.Compare(end) >= 0 {
		return
	}
	i := len(g.spans)
	for i > 0 && end.Compare(g.spans[i-1].Key) <= 0 {
		i--
	}
	g.spans = append(g.spans, gcThreshold{})
	copy(g.spans[i+1:], g.spans[i:])
	g.spans[i] = gcThreshold{Span: keys.Span{Key: start, EndKey: end}, ts: ts}
}

// within returns the part of g in span.
func (g *gcState) within(span keys.Span) *gcState {
	if g == nil {
		return nil
	}
	n := &gcState{}
	for _, s := range g.spans {
		start, end := maxKey(s.Key, span.Key), minKey(s.EndKey, span.EndKey)
		if start.Less(end) {
			n.spans = append(n.spans, gcThreshold{Span: keys.Span{Key: start, EndKey: end}, ts: s.ts})
			n.max.Forward(s.ts)
		}
	}
	return n
}

func minKey(a, b keys.Key) keys.Key {
	if b.Less(a) {
		return b
	}
	return a
}

func maxKey(a, b keys.Key) keys.Key {
	if a.Less(b) {
		return b
	}
	return a
}

func (g *gcState) encode() ([]byte, error) { return encodeProto(g.proto()) }

func (g *gcState) proto() *kvserverpb.GCState {
	if g == nil {
		return nil
	}
	m := &kvserverpb.GCState{}
	for _, s := range g.spans {
		m.Thresholds = append(m.Thresholds, &kvserverpb.GCState_Threshold{Key: s.Key, EndKey: s.EndKey, Timestamp: tsToProto(s.ts)})
	}
	return m
}

func decodeGCState(b []byte) (*gcState, error) {
	var m kvserverpb.GCState
	if err := proto.Unmarshal(b, &m); err != nil {
		return nil, storage.Mark(fmt.Errorf("decoding GC thresholds: %w", err), storage.ErrCorrupt)
	}
	return gcStateFromProto(&m)
}

func gcStateFromProto(m *kvserverpb.GCState) (*gcState, error) {
	g := &gcState{}
	var last keys.Key
	for _, t := range m.Thresholds {
		s := gcThreshold{Span: keys.Span{Key: t.Key, EndKey: t.EndKey}, ts: tsFromProto(t.Timestamp)}
		if s.Key.Less(last) || s.Key.Compare(s.EndKey) >= 0 {
			return nil, storage.Mark(fmt.Errorf("GC thresholds out of order at %s", s.Span), storage.ErrCorrupt)
		}
		last = s.EndKey
		g.spans = append(g.spans, s)
		g.max.Forward(s.ts)
	}
	return g, nil
}

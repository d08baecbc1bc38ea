package sql

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/systables"
	"github.com/holdfastdb/holdfast/internal/zones"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/partition"
)

// zoneMap says which zone configuration holds where. Neighbours with the same one
// share a place in it, unless one of them has its configuration of its own.
type zoneMap struct {
	sync.Mutex
	starts  []keys.Key // in order; the first is MinKey
	configs []zones.Config
	read    time.Time
}

// zoneMapLife is how old the map may be: zones change rarely, and all ranges ask.
const zoneMapLife = 3 * time.Second

// ZoneConfig returns the configuration that holds at the beginning of a span, and
// the keys inside it where another one begins. What is before table data cannot be
// divided and obeys RANGE meta.
func (s *Server) ZoneConfig(ctx context.Context, span keys.Span) (zones.Config, []keys.Key, error) {
	m := &s.zoneMap
	m.Lock()
	defer m.Unlock()
	if time.Since(m.read) > zoneMapLife {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		if err := s.readZones(ctx, m); err != nil {
			return zones.Config{}, nil, err
		}
		m.read = time.Now()
	}
	next := sort.Search(len(m.starts), func(i int) bool { return span.Key.Less(m.starts[i]) })
	end := sort.Search(len(m.starts), func(i int) bool { return span.End().Compare(m.starts[i]) <= 0 })
	return m.configs[next-1], append([]keys.Key(nil), m.starts[next:max(next, end)]...), nil
}

// forgetZones drops what was read of zones, and has ranges looked at with what they
// are now.
func (s *Server) forgetZones() {
	s.zoneMap.Lock()
	s.zoneMap.read = time.Time{}
	s.zoneMap.Unlock()
	if s.cfg.ZonesChanged != nil {
		s.cfg.ZonesChanged()
	}
}

// zonePiece is a table, or a part of one.
type zonePiece struct {
	span   keys.Span
	config zones.Config
	own    bool // has a configuration that is not inherited
}

// readZones fills m with what is stored now.
func (s *Server) readZones(ctx context.Context, m *zoneMap) error {
	var pieces []zonePiece
	var first, rest zones.Config
	err := s.db.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error {
		pieces = nil
		stored := map[catalog.ID]zones.Config{}
		rows := systables.Zones.Span()
		res, err := txn.Scan(ctx, rows.Key, rows.EndKey, kv.ScanOptions{})
		if err != nil {
			return err
		}
		for _, p := range res.KVs {
			row, err := systables.Zones.Decode(p.Key, p.Value)
			if err != nil {
				return err
			}
			b, _ := row[1].([]byte)
			c, err := zones.Unmarshal(b)
			if err != nil {
				return err
			}
			stored[catalog.ID(row[0].(int64))] = c
		}
		of := func(id catalog.ID) zones.Config {
			if c, ok := stored[id]; ok {
				return c
			}
			c, _ := zones.BuiltIn(id)
			return c
		}
		rest = of(zones.DefaultID)
		rest.Inherit(zones.Default())
		first = of(zones.MetaID)
		first.Inherit(rest)
		coll := s.catalog.NewCollection(txn)
		defer coll.Release()
		all, err := coll.All(ctx)
		if err != nil {
			return err
		}
		enums := enumsOf(all)
		for _, d := range all {
			t, ok := d.(*catalog.Table)
			if !ok || !t.HasData() {
				continue
			}
			c, own := stored[t.ID()]
			subzones := c.Subzones
			own = own && !c.IsEmpty()
			c.Subzones, c.SubzoneSpans = nil, nil
			c.Inherit(of(t.ParentID()))
			c.Inherit(rest)
			parts := func(index uint32) []partition.Piece {
				x := t.IndexByID(index)
				if x == nil {
					return nil
				}
				found, err := partition.Pieces(x, enums)
				if err != nil {
					// The rest of the cluster's ranges need their zones all the same.
					s.log.WarnContext(ctx, "partitions do not count for placement", "table", t.Name(), "index", x.Name, "err", err)
				}
				return found
			}
			pieces = append(pieces, tablePieces(t.ID(), c, own, subzones, parts)...)
		}
		return nil
	})
	if err != nil {
		return err
	}
	m.starts, m.configs = joinPieces(first, rest, pieces)
	return nil
}

// enumsOf collects what decodes the labels of enums.
func enumsOf(all []catalog.Descriptor) catalog.EnumSet {
	out := catalog.EnumSet{}
	for _, d := range all {
		if t, ok := d.(*catalog.Type); ok && t.IsEnum() {
			e := catalog.NewEnum(t.Proto(), "", "")
			out[e.OID] = e
		}
	}
	return out
}

// tablePieces cuts a table at its indexes and partitions that have a configuration of
// their own. parts gives the partitions of an index.
func tablePieces(id catalog.ID, c zones.Config, own bool, subzones []zones.Subzone, parts func(index uint32) []partition.Piece) []zonePiece {
	byIndex := map[uint32][]zones.Subzone{}
	for _, s := range subzones {
		if !s.Config.IsEmpty() {
			byIndex[s.IndexID] = append(byIndex[s.IndexID], s)
		}
	}
	table := keys.TableSpan(id)
	var out []zonePiece
	at := table.Key
	upTo := func(k keys.Key) {
		if at.Less(k) {
			out = append(out, zonePiece{keys.Span{Key: at, EndKey: k}, c, own})
		}
	}
	for _, index := range slices.Sorted(maps.Keys(byIndex)) {
		x := keys.IndexSpan(id, index)
		cut := indexPieces(x, c, own, byIndex[index], parts)
		if len(cut) == 0 {
			continue // The configurations are those of partitions that are not there.
		}
		upTo(x.Key)
		out = append(out, cut...)
		at = x.EndKey
	}
	upTo(table.EndKey)
	return out
}

// indexPieces cuts one index at its partitions that have a configuration of their own;
// nil if neither they nor the index have one.
func indexPieces(span keys.Span, c zones.Config, own bool, subzones []zones.Subzone, parts func(index uint32) []partition.Piece) []zonePiece {
	config := map[string]zones.Config{}
	for _, s := range subzones {
		config[s.Partition] = s.Config
	}
	if index, ok := config[""]; ok {
		index.Inherit(c)
		c, own = index, true
	}
	type cut struct {
		start keys.Key
		owner string // a partition with a configuration, or ""
	}
	cuts := []cut{{start: span.Key}}
	for _, p := range parts(subzones[0].IndexID) {
		owner := p.Name
		if _, ok := config[owner]; !ok {
			owner = "" // It shares ranges with its neighbours.
		}
		last := &cuts[len(cuts)-1]
		switch {
		case last.start.Equal(p.Start):
			last.owner = owner
		case last.owner != owner:
			cuts = append(cuts, cut{p.Start, owner})
		}
	}
	if _, ok := config[""]; !ok && len(cuts) == 1 && cuts[0].owner == "" {
		return nil
	}
	var out []zonePiece
	for i, k := range cuts {
		piece := zonePiece{keys.Span{Key: k.start, EndKey: span.EndKey}, c, own}
		if i+1 < len(cuts) {
			piece.span.EndKey = cuts[i+1].start
		}
		if k.owner != "" {
			z := config[k.owner]
			z.Inherit(c)
			piece.config, piece.own = z, true
		}
		out = append(out, piece)
	}
	return out
}

// joinPieces makes a map of the whole keyspace: first holds before the first piece,
// rest behind the last one and in gaps between different ones.
func joinPieces(first, rest zones.Config, pieces []zonePiece) (starts []keys.Key, configs []zones.Config) {
	lastOwn := true
	push := func(at keys.Key, c zones.Config, own bool) {
		if n := len(configs); n > 0 && !own && !lastOwn && bytes.Equal(configs[n-1].Marshal(), c.Marshal()) {
			return
		}
		starts, configs, lastOwn = append(starts, at), append(configs, c), own
	}
	push(keys.MinKey, first, true)
	end := keys.MaxKey
	for i, p := range pieces {
		if i > 0 && end.Less(p.span.Key) {
			last := pieces[i-1]
			if last.own || p.own || !bytes.Equal(last.config.Marshal(), p.config.Marshal()) {
				push(end, rest, false)
			}
		}
		push(p.span.Key, p.config, p.own)
		end = p.span.EndKey
	}
	if len(pieces) > 0 {
		push(end, rest, false)
	}
	return starts, configs
}

package server

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/kvtest"
	"github.com/holdfastdb/holdfast/kv/liveness"
)

func TestClockIsWrong(t *testing.T) {
	const far, near = 600 * time.Millisecond, 400 * time.Millisecond
	for name, tc := range map[string]struct {
		offsets []time.Duration
		wrong   bool
	}{
		"alone":                      {nil, false},
		"one other, near":            {[]time.Duration{near}, false},
		"one other, far":             {[]time.Duration{far}, true}, // Nobody knows which.
		"one of two others is wrong": {[]time.Duration{-far, near}, false},
		"both others say so":         {[]time.Duration{-far, -far}, true},
		"two of four others":         {[]time.Duration{far, far, near, near}, false},
		"three of four others":       {[]time.Duration{far, -far, far, near}, true},
	} {
		offsets := map[kvpb.NodeID]time.Duration{}
		for i, d := range tc.offsets {
			offsets[kvpb.NodeID(i+2)] = d
		}
		if got := clockIsWrong(offsets, 500*time.Millisecond); got != tc.wrong {
			t.Errorf("%s: got %t, want %t", name, got, tc.wrong)
		}
	}
}

func TestAdvertised(t *testing.T) {
	for _, tc := range []struct{ want, ip, got string }{
		{"", "10.0.0.1", "10.0.0.1:26257"},
		{"", "0.0.0.0", net.JoinHostPort(hostname(), "26257")},
		{"db1.example.com", "0.0.0.0", "db1.example.com:26257"},
		{"db1.example.com:5000", "0.0.0.0", "db1.example.com:5000"},
		{":5000", "10.0.0.1", "10.0.0.1:5000"},
		{"[::1]", "::", "[::1]:26257"},
	} {
		got, err := advertised(tc.want, &net.TCPAddr{IP: net.ParseIP(tc.ip), Port: 26257})
		if err != nil || got != tc.got {
			t.Errorf("%q on %s: got %s, %v, want %s", tc.want, tc.ip, got, err, tc.got)
		}
	}
}

func TestCannotGo(t *testing.T) {
	members := []liveness.Record{{NodeID: 1}, {NodeID: 2}, {NodeID: 3}, {NodeID: 4, Membership: liveness.Decommissioning}}
	ranges := func(replicas ...kvpb.NodeID) []kvpb.RangeInfo {
		d := kvpb.RangeDescriptor{RangeID: 1}
		for _, id := range replicas {
			d.Replicas = append(d.Replicas, kvpb.ReplicaDescriptor{NodeID: id})
		}
		return []kvpb.RangeInfo{{Descriptor: d}}
	}
	for name, tc := range map[string]struct {
		ids    []int32
		ranges []kvpb.RangeInfo
		can    bool
	}{
		"nothing there":               {[]int32{3}, ranges(1, 2), true},
		"another takes it":            {[]int32{3}, ranges(1, 3), true},
		"all others have it":          {[]int32{3}, ranges(1, 2, 3), false},
		"one that goes takes nothing": {[]int32{3}, ranges(2, 3, 4), false},
		"three are enough":            {[]int32{4}, ranges(1, 2, 3, 4), true},
		"it is where others can be":   {[]int32{4}, ranges(1, 2, 4), true},
		"two at once":                 {[]int32{2, 3}, ranges(2, 3), false},
	} {
		if got := cannotGo(tc.ids, members, tc.ranges); (got == "") != tc.can {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

// What is reported of the nodes contains each change that was made before, through
// whichever node, and is what was heard last if nobody can read it.
func TestReportedRecordsAreNew(t *testing.T) {
	kvn, ctx := kvtest.New(t, kvtest.Options{}), context.Background()
	log := slog.New(slog.DiscardHandler)
	live := func(id kvpb.NodeID) *liveness.Liveness {
		return liveness.New(liveness.Config{DB: kvn.DB, NodeID: id, Started: 1, Address: "a:1"})
	}
	one, two := live(1), live(2)
	for _, l := range []*liveness.Liveness{one, two} {
		if err := l.SetDraining(ctx, false); err != nil { // Writes the record.
			t.Fatal(err)
		}
	}
	c := &cluster{n: &Node{log: log}, live: one}
	memberships := func() (out [2]liveness.Membership) {
		t.Helper()
		all, err := c.records(ctx)
		if err != nil || len(all) != 2 {
			t.Fatalf("%+v, %v", all, err)
		}
		for _, r := range all {
			out[r.NodeID-1] = r.Membership
		}
		return out
	}
	if got := memberships(); got != [2]liveness.Membership{} {
		t.Errorf("got %v", got)
	}
	if _, err := two.SetMembership(ctx, 1, liveness.Decommissioning); err != nil {
		t.Fatal(err)
	}
	want := [2]liveness.Membership{liveness.Decommissioning, liveness.Active}
	if got := memberships(); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if err := kvn.Close(); err != nil {
		t.Fatal(err)
	}
	if got := memberships(); got != want {
		t.Errorf("with nobody to ask: got %v, want %v", got, want)
	}
}

package hlc

import (
	"errors"
	"math"
	"testing"
	"time"
)

func TestClockNeverRepeatsOrGoesBack(t *testing.T) {
	phys := int64(100)
	c := NewClock(func() int64 { return phys }, 0)
	last := c.Now()
	for _, step := range []int64{0, 0, 5, -20, 0, 30} {
		phys += step
		now := c.Now()
		if !last.Less(now) {
			t.Fatalf("physical %d: got %s after %s", phys, now, last)
		}
		last = now
	}
	c.Update(Timestamp{WallTime: 1000, Logical: 7})
	if got, want := c.Now(), (Timestamp{WallTime: 1000, Logical: 8}); got != want {
		t.Fatalf("after update: got %s, want %s", got, want)
	}
}

func TestNextAndPrevAreInverse(t *testing.T) {
	for _, ts := range []Timestamp{{5, 0}, {5, 3}, {5, math.MaxInt32}, {0, 1}} {
		if got := ts.Next().Prev(); got != ts {
			t.Errorf("%s: Next then Prev gave %s", ts, got)
		}
		if !ts.Less(ts.Next()) {
			t.Errorf("%s is not before its Next %s", ts, ts.Next())
		}
	}
}

func TestAsOfSystemTimeRoundTrip(t *testing.T) {
	for _, ts := range []Timestamp{{1711033445120000000, 0}, {1, 1}, {7, 1234567890}, FromTime(time.Now())} {
		got, err := ParseAsOfSystemTime(ts.AsOfSystemTime())
		if err != nil || got != ts {
			t.Errorf("%s: got %s, %v", ts.AsOfSystemTime(), got, err)
		}
	}
	for _, bad := range []string{"", "x", "1.x", "1.99999999999", "1.9999999999", "."} {
		if ts, err := ParseAsOfSystemTime(bad); err == nil {
			t.Errorf("%q was accepted as %s", bad, ts)
		}
	}
}

func TestReceiveRefusesClocksThatAreFarAhead(t *testing.T) {
	c := NewClock(func() int64 { return 1000 }, 50)
	if err := c.Receive(Timestamp{WallTime: 1050, Logical: 3}); err != nil {
		t.Fatal(err)
	}
	var off *OffsetError
	if err := c.Receive(Timestamp{WallTime: 1051}); !errors.As(err, &off) || off.Ahead != 51 {
		t.Fatalf("got %v", err)
	}
	if got, want := c.Now(), (Timestamp{WallTime: 1050, Logical: 4}); got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
	if err := c.Receive(Timestamp{}); err != nil {
		t.Fatal(err)
	}
}

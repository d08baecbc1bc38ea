package settings

import (
	"testing"
	"time"
)

func TestParseAndFormat(t *testing.T) {
	r := NewRegistry()
	b := r.Bool("a.bool", "d", true)
	z := r.ByteSize("a.size", "d", 64<<20, NonNegative)
	d := r.Duration("a.duration", "d", time.Minute, PositiveDuration)
	e := r.Enum("a.enum", "d", "auto", []string{"auto", "on", "off"})
	f := r.Float("a.float", "d", 0.5, nil)
	i := r.Int("a.int", "d", 3, Positive)
	s := r.String("a.string", "d", "", nil)
	for _, tc := range []struct {
		s            Setting
		in, enc, str string
	}{
		{b, "off", "false", "false"},
		{z, "16MiB", "16777216", "16 MiB"},
		{z, "1500", "1500", "1.5 KiB"},
		{d, "90", "1m30s", "1m30s"},
		{d, "2 hours 5 minutes", "2h5m0s", "2h5m0s"},
		{d, "00:00:30", "30s", "30s"},
		{d, "7d", "168h0m0s", "168h0m0s"},
		{e, "ON", "on", "on"},
		{f, "1.25", "1.25", "1.25"},
		{i, "7", "7", "7"},
		{s, "x y", "x y", "x y"},
	} {
		enc, err := tc.s.Parse(tc.in)
		if err != nil || enc != tc.enc {
			t.Errorf("%s: Parse(%q) = %q, %v; want %q", tc.s.Name(), tc.in, enc, err, tc.enc)
			continue
		}
		if err := r.Apply(map[string]string{tc.s.Name(): enc}); err != nil {
			t.Fatal(err)
		}
		if got := tc.s.String(); got != tc.str || !tc.s.Overridden() {
			t.Errorf("%s: after %q String() = %q, overridden %v; want %q", tc.s.Name(), tc.in, got, tc.s.Overridden(), tc.str)
		}
	}
	for _, tc := range []struct {
		s  Setting
		in string
	}{{b, "maybe"}, {z, "-1"}, {z, "12 parsecs"}, {d, "0s"}, {d, "soon"}, {e, "never"}, {f, "x"}, {i, "0"}, {i, "1.5"}} {
		if enc, err := tc.s.Parse(tc.in); err == nil {
			t.Errorf("%s: Parse(%q) = %q, want an error", tc.s.Name(), tc.in, enc)
		}
	}
}

func TestApply(t *testing.T) {
	r := NewRegistry()
	n := r.Int("n", "", 1, nil)
	changes := 0
	n.OnChange(func() { changes++ })
	if err := r.Apply(map[string]string{"n": "5", "later": "9"}); err != nil {
		t.Fatal(err)
	}
	if n.Get() != 5 || changes != 1 {
		t.Fatalf("n = %d after %d changes; want 5 after 1", n.Get(), changes)
	}
	if err := r.Apply(map[string]string{"n": "broken"}); err == nil || n.Get() != 5 {
		t.Fatalf("a broken row: n = %d, err = %v; want 5 and an error", n.Get(), err)
	}
	if err := r.Apply(map[string]string{"later": "9"}); err != nil || n.Get() != 1 || n.Overridden() {
		t.Fatalf("without a row: n = %d, err = %v; want the default", n.Get(), err)
	}
	if later := r.Int("later", "", 0, nil); later.Get() != 9 {
		t.Fatalf("a setting defined after its row was read = %d; want 9", later.Get())
	}
}

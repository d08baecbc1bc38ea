package storage

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
)

func ts(wall int64) hlc.Timestamp { return hlc.Timestamp{WallTime: wall} }

func val(s string) []byte { return MakeValue([]byte(s)) }

func scanString(t *testing.T, r Reader, start, end string, at hlc.Timestamp, o ScanOptions) string {
	t.Helper()
	res, err := MVCCScan(context.Background(), r, keys.Key(start), keys.Key(end), at, o)
	if err != nil {
		return "error: " + err.Error()
	}
	var b strings.Builder
	for _, kv := range res.KVs {
		fmt.Fprintf(&b, "%s=%s@%d ", string(kv.Key), kv.Value[5:], kv.Timestamp.WallTime)
	}
	if res.ResumeSpan != nil {
		fmt.Fprintf(&b, "resume [%s, %s)", string(res.ResumeSpan.Key), string(res.ResumeSpan.EndKey))
	}
	return strings.TrimSpace(b.String())
}

func TestReadsSeeTheNewestVersionAtTheirTimestamp(t *testing.T) {
	ctx := context.Background()
	e := openTest(t, testConfig(vfs.NewMem()))
	b := e.NewBatch()
	defer b.Close()
	for _, w := range []struct {
		key string
		at  int64
		val string
	}{{"a", 1, "a1"}, {"a", 5, "a5"}, {"b", 2, "b2"}, {"b", 4, ""}, {"c", 3, "c3"}} {
		v := []byte(nil)
		if w.val != "" {
			v = val(w.val)
		}
		if err := MVCCPut(ctx, b, keys.Key(w.key), ts(w.at), v, WriteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	var wto *WriteTooOldError
	if err := MVCCPut(ctx, b, keys.Key("a"), ts(5), val("x"), WriteOptions{}); !errors.As(err, &wto) || wto.ActualTimestamp != ts(5).Next() {
		t.Errorf("put at the timestamp of a version: %v", err)
	}
	for at, want := range map[int64]string{
		0: "", 1: "a=a1@1", 2: "a=a1@1 b=b2@2", 3: "a=a1@1 b=b2@2 c=c3@3", 4: "a=a1@1 c=c3@3", 9: "a=a5@5 c=c3@3",
	} {
		if got := scanString(t, b, "a", "z", ts(at), ScanOptions{}); got != want {
			t.Errorf("at %d: got %q, want %q", at, got, want)
		}
	}
	if got, want := scanString(t, b, "a", "z", ts(3), ScanOptions{Reverse: true, MaxKeys: 2}), "c=c3@3 b=b2@2 resume [a, b)"; got != want {
		t.Errorf("reverse: got %q, want %q", got, want)
	}
	if got, want := scanString(t, b, "a", "z", ts(3), ScanOptions{MaxKeys: 1}), "a=a1@1 resume [a\x00, z)"; got != want {
		t.Errorf("limited: got %q, want %q", got, want)
	}
}

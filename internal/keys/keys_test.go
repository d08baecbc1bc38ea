package keys

import (
	"encoding/hex"
	"testing"
)

func TestTablePrefixMatchesTheDocumentedBytes(t *testing.T) {
	for id, want := range map[uint32]string{53: "bd", 109: "f5", 110: "f66e", 177: "f6b1", 261: "f70105"} {
		if got := hex.EncodeToString(TablePrefix(id)); got != want {
			t.Errorf("table %d: got %s, want %s", id, got, want)
		}
		gotID, gotIndex, rest, ok := DecodeIndexPrefix(append(IndexPrefix(id, 3), 0x89, 0x88))
		if !ok || gotID != id || gotIndex != 3 || len(rest) != 2 {
			t.Errorf("table %d: decoded %d/%d, rest %x, %t", id, gotID, gotIndex, rest, ok)
		}
	}
}

func TestRowPrefixDropsTheFamily(t *testing.T) {
	row := append(IndexPrefix(106, 1), 0x8b)
	for _, suffix := range []string{"88", "8989", "f6c88a"} {
		b, _ := hex.DecodeString(suffix)
		if got := RowPrefix(append(row.Clone(), b...)); !got.Equal(row) {
			t.Errorf("family suffix %s: got %x, want %x", suffix, []byte(got), []byte(row))
		}
	}
}

func TestPrefixEnd(t *testing.T) {
	for in, want := range map[string]string{"88": "89", "88ff": "89", "8801": "8802"} {
		b, _ := hex.DecodeString(in)
		if got := hex.EncodeToString(Key(b).PrefixEnd()); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}

func FuzzDecodeNeverPanics(f *testing.F) {
	f.Add([]byte{0x88}, []byte{0xf6})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		DecodeIndexPrefix(a)
		RowPrefix(a)
		_ = Pretty(a)
		_ = Span{Key: a, EndKey: b}.String()
	})
}

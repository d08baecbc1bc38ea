package systables

import (
	"bytes"
	"encoding/hex"
	"math/rand"
	"reflect"
	"testing"
	"time"

	"github.com/cockroachdb/apd"
)

// randomValue returns a value of a type, or nil for a nullable column at times.
func randomValue(rng *rand.Rand, c Column) any {
	if c.Nullable && rng.Intn(4) == 0 {
		return nil
	}
	raw := make([]byte, rng.Intn(12))
	rng.Read(raw)
	switch c.Type {
	case Int, OID:
		return rng.Int63() >> rng.Intn(63)
	case Bool:
		return rng.Intn(2) == 0
	case Float:
		return rng.NormFloat64()
	case String:
		return string(raw)
	case Bytes:
		return raw
	case Timestamp, TimestampTZ:
		return time.Unix(rng.Int63n(1<<33), rng.Int63n(1e9)).UTC()
	case UUID:
		var u [16]byte
		rng.Read(u[:])
		return u
	case Decimal:
		return apd.New(rng.Int63(), int32(rng.Intn(20)-10))
	case StringArray:
		a := make([]string, rng.Intn(4))
		for i := range a {
			a[i] = string(raw)
		}
		return a
	}
	panic(c.Type)
}

func equalValue(a, b any) bool {
	if x, ok := a.(*apd.Decimal); ok {
		y, ok := b.(*apd.Decimal)
		return ok && x.Cmp(y) == 0
	}
	return reflect.DeepEqual(a, b)
}

func TestRowsSurviveTheCodec(t *testing.T) {
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewSource(seed))
	for _, table := range All() {
		for range 200 {
			row := make(Row, len(table.Columns))
			for i, c := range table.Columns {
				row[i] = randomValue(rng, c)
			}
			kvs, err := table.Encode(row)
			if err != nil {
				t.Fatalf("%s: %v", table.Name, err)
			}
			got, err := table.Decode(kvs[0].Key, kvs[0].Value)
			if err != nil {
				t.Fatalf("%s: %v", table.Name, err)
			}
			for i := range row {
				if !equalValue(got[i], row[i]) {
					t.Fatalf("%s.%s: got %v, want %v", table.Name, table.Columns[i].Name, got[i], row[i])
				}
			}
			for n := range table.Indexes {
				ix := &table.Indexes[n]
				entry, err := table.DecodeIndex(ix, kvs[n+1].Key, kvs[n+1].Value)
				if err != nil {
					t.Fatalf("%s@%s: %v", table.Name, ix.Name, err)
				}
				for _, c := range append(append([]int{}, ix.Columns...), table.PrimaryKey...) {
					if !equalValue(entry[c], row[c]) {
						t.Fatalf("%s@%s: column %d: got %v, want %v", table.Name, ix.Name, c, entry[c], row[c])
					}
				}
			}
		}
	}
}

func TestDocumentedBytes(t *testing.T) {
	// The row encoding of docs/format: table 30, index 1, (0, 0, "a"), family 0.
	kvs, err := Namespace.Encode(Row{int64(0), int64(0), "a", int64(1)})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := hex.EncodeToString(kvs[0].Key), "a6"+"89"+"88"+"88"+"12610001"+"88"; got != want {
		t.Errorf("key: got %s, want %s", got, want)
	}
	if got, want := hex.EncodeToString(kvs[0].Value[4:]), "0a"+"43"+"02"; got != want {
		t.Errorf("value: got %s, want %s", got, want)
	}
}

func TestDamageIsAnError(t *testing.T) {
	kvs, err := Settings.Encode(Row{"a", "b", time.Unix(5, 0).UTC(), "s"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range kvs[0].Value {
		v := bytes.Clone(kvs[0].Value)
		v[i] ^= 0x40
		if row, err := Settings.Decode(kvs[0].Key, v); err == nil {
			t.Errorf("byte %d flipped: decoded %v without error", i, row)
		}
	}
	if _, err := Settings.Encode(Row{"a", nil, time.Now(), nil}); err == nil {
		t.Error("NULL in a NOT NULL column was encoded")
	}
}

func TestChangeRemovesStaleIndexEntries(t *testing.T) {
	row := func(status string) Row {
		r := make(Row, len(Jobs.Columns))
		r[0], r[1], r[2], r[3] = int64(7), status, time.Unix(9, 0).UTC(), []byte("p")
		return r
	}
	put, del, err := Jobs.Change(row("running"), row("paused"))
	if err != nil || len(put) != 3 || len(del) != 1 {
		t.Fatalf("got %d puts, %d deletes, %v; want 3, 1", len(put), len(del), err)
	}
	old, _ := Jobs.Encode(row("running"))
	if !del[0].Equal(old[1].Key) {
		t.Errorf("deleted %s, want the old entry of the status index %s", del[0], old[1].Key)
	}
}

func FuzzDecode(f *testing.F) {
	kvs, _ := Jobs.Encode(Row{int64(7), "running", time.Unix(9, 0), []byte("p"), nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil})
	f.Add([]byte(kvs[0].Key), kvs[0].Value[4:])
	f.Fuzz(func(t *testing.T, key, tagged []byte) {
		v := append(make([]byte, 4), tagged...) // Checksum 0: not set, so decoding goes on.
		for _, table := range All() {
			table.Decode(key, v)
			for n := range table.Indexes {
				table.DecodeIndex(&table.Indexes[n], key, v)
			}
		}
	})
}

package storage

import (
	"bytes"
	"testing"

	"github.com/cockroachdb/pebble/v2/record"
)

func TestTornManifestIsNoDamage(t *testing.T) {
	var buf bytes.Buffer
	w := record.NewWriter(&buf)
	var ends []int
	for i := range 60 {
		if _, err := w.WriteRecord(bytes.Repeat([]byte{byte(i)}, 10+i*37)); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		ends = append(ends, buf.Len())
	}
	log := buf.Bytes()
	if len(log) < logBlockBytes {
		t.Fatalf("log of %d bytes has one block", len(log))
	}
	for cut := ends[0]; cut <= len(log); cut += 13 {
		if at, bad := damagedRecord(log[:cut]); bad {
			t.Fatalf("cut at %d of %d: damage at %d", cut, len(log), at)
		}
		zeros := append(bytes.Clone(log[:cut]), make([]byte, 100)...)
		if at, bad := damagedRecord(zeros); bad && cut%diskSector == 0 {
			t.Fatalf("zeros after %d: damage at %d", cut, at)
		}
	}
	last := ends[len(ends)-2]
	for at := 0; at < last; at += 29 {
		b := bytes.Clone(log)
		b[at] ^= 0x10
		if _, bad := damagedRecord(b); !bad {
			t.Fatalf("flipped byte %d of %d is not noticed", at, len(log))
		}
	}
}

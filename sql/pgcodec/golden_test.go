package pgcodec

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/lib/pq/oid"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// With -postgres DSN the goldens are made anew by a PostgreSQL 15 server.
var postgresDSN = flag.String("postgres", "", "connection string of a PostgreSQL 15 server that makes the goldens anew")

const goldenFile = "testdata/postgres15.txt"

// typeOIDs are the types of the goldens.
var typeOIDs = map[string]oid.Oid{
	"bool": oid.T_bool, "int2": oid.T_int2, "int4": oid.T_int4, "int8": oid.T_int8, "float4": oid.T_float4, "float8": oid.T_float8,
	"numeric": oid.T_numeric, "text": oid.T_text, "varchar": oid.T_varchar, "bpchar": oid.T_bpchar, "name": oid.T_name, "bytea": oid.T_bytea,
	"date": oid.T_date, "time": oid.T_time, "timetz": oid.T_timetz, "timestamp": oid.T_timestamp, "timestamptz": oid.T_timestamptz,
	"interval": oid.T_interval, "uuid": oid.T_uuid, "inet": oid.T_inet, "varbit": oid.T_varbit, "jsonb": oid.T_jsonb, "oid": oid.T_oid,
	"int4[]": oid.T__int4, "text[]": oid.T__text, "numeric[]": oid.T__numeric, "timestamp[]": oid.T__timestamp, "bool[]": oid.T__bool,
	"uuid[]": oid.T__uuid, "bytea[]": oid.T__bytea, "jsonb[]": oid.T__jsonb, "float8[]": oid.T__float8, "interval[]": oid.T__interval,
}

// makeGoldens asks PostgreSQL for the text and binary form of every input.
func makeGoldens(t *testing.T) {
	ctx := context.Background()
	conn, err := pgconn.Connect(ctx, *postgresDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	for _, s := range []string{"SET timezone = 'UTC'", "SET datestyle = 'ISO, MDY'"} {
		if _, err := conn.Exec(ctx, s).ReadAll(); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	out.WriteString("# What PostgreSQL 15 makes of the values of inputs_test.go: type, input, text, binary.\n# An error has its SQLSTATE and message instead.\n")
	ask := func(typ, in string, format int16) ([]byte, error) {
		r := conn.ExecParams(ctx, "SELECT $1::"+typ, [][]byte{[]byte(in)}, []uint32{uint32(typeOIDs[typ])}, nil, []int16{format}).Read()
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Rows[0][0], nil
	}
	for _, g := range goldenInputs {
		for _, in := range g.values {
			text, err := ask(g.typ, in, 0)
			if err != nil {
				t.Errorf("%s %q: %v", g.typ, in, err)
				continue
			}
			bin, err := ask(g.typ, in, 1)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&out, "%s\t%q\t%q\t%x\n", g.typ, in, text, bin)
		}
	}
	for _, g := range goldenErrors {
		for _, in := range g.values {
			_, err := ask(g.typ, in, 0)
			var pe *pgconn.PgError
			if !errors.As(err, &pe) {
				t.Errorf("%s %q is no error", g.typ, in)
				continue
			}
			fmt.Fprintf(&out, "%s\t%q\tERROR\t%s\t%q\n", g.typ, in, pe.Code, pe.Message)
		}
	}
	if err := os.WriteFile(goldenFile, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func unquote(t *testing.T, s string) string {
	var out string
	if _, err := fmt.Sscanf(s, "%q", &out); err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return out
}

func TestGoldens(t *testing.T) {
	if *postgresDSN != "" {
		makeGoldens(t)
	}
	f, err := os.Open(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := DefaultSettings()
	lines := bufio.NewScanner(f)
	n := 0
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		n++
		part := strings.Split(lines.Text(), "\t")
		typ, in := part[0], unquote(t, part[1])
		c, ok := ForOID(typeOIDs[typ])
		if !ok {
			t.Fatalf("no codec for %s", typ)
		}
		d, err := c.DecodeText([]byte(in), s)
		if part[2] == "ERROR" {
			code, msg := part[3], unquote(t, part[4])
			if err == nil {
				t.Errorf("%s %q: read as %s, want error %s", typ, in, d, msg)
			} else if e := pgerr.Flatten(err); string(e.Code) != code || e.Message != msg {
				t.Errorf("%s %q:\ngot  %s %s\nwant %s %s", typ, in, e.Code, e.Message, code, msg)
			}
			continue
		}
		text := unquote(t, part[2])
		bin, err2 := hex.DecodeString(part[3])
		if err != nil || err2 != nil {
			t.Errorf("%s %q: %v %v", typ, in, err, err2)
			continue
		}
		check(t, &c, "text input "+typ+" "+in, d, text, bin)
		d, err = c.DecodeBinary(bin, s)
		if err != nil {
			t.Errorf("%s %q: binary %x: %v", typ, in, bin, err)
			continue
		}
		check(t, &c, "binary input "+typ+" "+in, d, text, bin)
	}
	if n < 200 {
		t.Errorf("only %d goldens", n)
	}
}

func check(t *testing.T, c *Codec, what string, d tree.Datum, text string, bin []byte) {
	t.Helper()
	s := DefaultSettings()
	if got := string(c.AppendText(nil, d, s)); got != text {
		t.Errorf("%s: text\ngot  %q\nwant %q", what, got, text)
	}
	got, err := c.AppendBinary(nil, d, s)
	if err != nil || !bytes.Equal(got, bin) {
		t.Errorf("%s: binary\ngot  %x %v\nwant %x", what, got, err, bin)
	}
}

// FuzzDecode gives every codec arbitrary text and binary data: nothing may panic,
// and what was read must survive the other format.
func FuzzDecode(f *testing.F) {
	for _, g := range goldenInputs {
		f.Add([]byte(g.values[0]))
	}
	f.Add([]byte{0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 23, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 7})
	f.Fuzz(func(t *testing.T, data []byte) {
		s := DefaultSettings()
		for typ, id := range typeOIDs {
			c, _ := ForOID(id)
			for _, format := range []int16{FormatText, FormatBinary} {
				d, err := c.Decode(data, format, s)
				if err != nil {
					continue
				}
				bin, err := c.AppendBinary(nil, d, s)
				if err != nil {
					continue // Beyond what the binary format can hold.
				}
				again, err := c.DecodeBinary(bin, s)
				if err != nil {
					t.Fatalf("%s %q: binary form %x does not read back: %v", typ, data, bin, err)
				}
				if a, b := c.AppendText(nil, d, s), c.AppendText(nil, again, s); !bytes.Equal(a, b) {
					t.Fatalf("%s %q: text is %q, after a trip through binary %q", typ, data, a, b)
				}
			}
		}
	})
}

func TestIntervalStyles(t *testing.T) {
	c, _ := ForOID(oid.T_interval)
	for _, tc := range []struct{ in, sqlStandard, verbose, iso string }{
		{"1 year 2 mons 3 days 04:05:06", "+1-2 +3 +4:05:06", "@ 1 year 2 mons 3 days 4 hours 5 mins 6 secs", "P1Y2M3DT4H5M6S"},
		{"-1 day", "-1 0:00:00", "@ 1 day ago", "P-1D"},
		{"0", "0", "@ 0", "PT0S"},
		{"1 year", "1-0", "@ 1 year", "P1Y"},
		{"1 day -00:00:01", "+0-0 +1 -0:00:01", "@ 1 day -1 sec", "P1DT-1S"},
		{"00:00:01.5", "0:00:01.5", "@ 1.5 secs", "PT1.5S"},
	} {
		d, err := c.DecodeText([]byte(tc.in), DefaultSettings())
		if err != nil {
			t.Fatal(err)
		}
		for style, want := range map[string]string{"sql_standard": tc.sqlStandard, "postgres_verbose": tc.verbose, "iso_8601": tc.iso} {
			s := DefaultSettings()
			s.IntervalStyle = style
			if got := string(c.AppendText(nil, d, s)); got != want {
				t.Errorf("%s as %s: got %q, want %q", tc.in, style, got, want)
			}
		}
	}
}

func BenchmarkAppendText(b *testing.B) {
	s := DefaultSettings()
	c, _ := ForOID(oid.T_int4)
	d := tree.Datum(tree.NewDInt(1234567))
	buf := make([]byte, 0, 64)
	b.ReportAllocs()
	for b.Loop() {
		buf = c.AppendText(buf[:0], d, s)
	}
}

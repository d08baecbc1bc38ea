package copyfmt

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// chunks hands out data in pieces of one size.
type chunks struct {
	data []byte
	size int
	buf  []byte
}

func (c *chunks) Next(context.Context) ([]byte, error) {
	if len(c.data) == 0 {
		return nil, io.EOF
	}
	n := min(c.size, len(c.data))
	c.buf = append(c.buf[:0], c.data[:n]...) // so that use after the next call shows
	c.data = c.data[n:]
	return c.buf, nil
}

func readAll(data string, size int, opts Options) (string, error) {
	r := NewReader(&chunks{data: []byte(data), size: size}, opts)
	var out strings.Builder
	for {
		fields, err := r.Next(context.Background())
		if err == io.EOF {
			return out.String(), nil
		}
		if err != nil {
			return out.String(), fmt.Errorf("line %d: %w", r.Line(), err)
		}
		for i, f := range fields {
			if i > 0 {
				out.WriteByte('|')
			}
			if f.Null {
				out.WriteString("NULL")
			} else {
				fmt.Fprintf(&out, "%q", f.Data)
			}
		}
		out.WriteByte('\n')
	}
}

func options(f Format, cols int, change func(*Options)) Options {
	o := Defaults(f)
	for i := range cols {
		o.Columns = append(o.Columns, string(rune('a'+i)))
	}
	if change != nil {
		change(&o)
	}
	return o
}

func TestReader(t *testing.T) {
	csv := func(change func(*Options)) Options { return options(CSV, 2, change) }
	text := options(Text, 2, nil)
	tests := []struct {
		name string
		opts Options
		in   string
		want string
		err  string
	}{
		{"text", text, "1\tx\n2\t\\N\n", "\"1\"|\"x\"\n\"2\"|NULL\n", ""},
		{"no newline at the end", text, "1\tx", "\"1\"|\"x\"\n", ""},
		{"end marker", text, "1\tx\n\\.\nignored", "\"1\"|\"x\"\n", ""},
		{"escapes", text, `a\tb` + "\t" + `\x41\101\\\n\q\N` + "\n", `"a\tb"|"AA\\\nqN"` + "\n", ""},
		{"escaped newline and delimiter", text, "a\\\nb\tc\\\td\n", `"a\nb"|"c\td"` + "\n", ""},
		{"CRLF", text, "1\tx\r\n2\ty\r\n", "\"1\"|\"x\"\n\"2\"|\"y\"\n", ""},
		{"CR", text, "1\tx\r2\ty\r", "\"1\"|\"x\"\n\"2\"|\"y\"\n", ""},
		{"stray CR", text, "1\tx\n2\ty\r\n", "\"1\"|\"x\"\n", "line 2: literal carriage return found in data"},
		{"empty fields", text, "\t\n", `""|""` + "\n", ""},
		{"too few", text, "1\n", "", `line 1: missing data for column "b"`},
		{"too many", text, "1\t2\t3\n", "", "line 1: extra data after last expected column"},
		{"header", options(Text, 2, func(o *Options) { o.Header = true }), "x\ty\n1\t2\n", "\"1\"|\"2\"\n", ""},
		{"header match", options(Text, 2, func(o *Options) { o.Header, o.HeaderMatch = true, true }), "a\ty\n1\t2\n", "",
			`line 1: column name mismatch in header line field 2: got "y", expected "b"`},
		{"one column", options(Text, 1, nil), "a\n\nb\n", "\"a\"\n\"\"\n\"b\"\n", ""},
		{"csv", csv(nil), "1,x\n2,\n,\"\"\n", "\"1\"|\"x\"\n\"2\"|NULL\nNULL|\"\"\n", ""},
		{"csv quotes", csv(nil), "\"a,b\",\"say \"\"hi\"\"\"\n\"line\nbreak\",x\"y\"z\n", "\"a,b\"|\"say \\\"hi\\\"\"\n\"line\\nbreak\"|\"xyz\"\n", ""},
		{"csv quoted at the end", csv(nil), "1,\"x\"", "\"1\"|\"x\"\n", ""},
		{"csv unterminated", csv(nil), "1,\"x\n2,y\n", "", "line 1: unterminated CSV quoted field"},
		{"csv escape", csv(func(o *Options) { o.Escape = '\\' }), `"a\"b\\c",d` + "\n", `"a\"b\\c"|"d"` + "\n", ""},
		{"csv null", csv(func(o *Options) { o.Null = "NA" }), "NA,\"NA\"\n", "NULL|\"NA\"\n", ""},
		{"csv force", csv(func(o *Options) { o.ForceNull, o.ForceNotNull = []bool{true}, []bool{false, true} }), "\"\",\n", "NULL|\"\"\n", ""},
		{"csv end marker", csv(nil), "1,2\n\\.\n3,4\n", "\"1\"|\"2\"\n", ""},
		{"csv CRLF in quotes", csv(nil), "1,\"a\r\nb\"\r\n2,c\r\n", "\"1\"|\"a\\r\\nb\"\n\"2\"|\"c\"\n", ""},
		{"binary", options(Binary, 2, nil), string(binarySignature) + "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x01a\xff\xff\xff\xff\x00\x02\x00\x00\x00\x00\x00\x00\x00\x02bc\xff\xff",
			"\"a\"|NULL\n\"\"|\"bc\"\n", ""},
		{"binary signature", options(Binary, 2, nil), "PGCOPY what is this, really", "", "line 0: COPY file signature not recognized"},
		{"binary count", options(Binary, 1, nil), string(binarySignature) + "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02", "", "line 1: row field count is 2, expected 1"},
		{"binary cut", options(Binary, 1, nil), string(binarySignature) + "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x05ab", "", "line 1: unexpected EOF in COPY data"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			for size := 1; size <= len(tc.in)+1; size++ {
				got, err := readAll(tc.in, size, tc.opts)
				msg := ""
				if err != nil {
					msg = err.Error()
				}
				if got != tc.want || msg != tc.err {
					t.Fatalf("chunks of %d:\ngot  %q %q\nwant %q %q", size, got, msg, tc.want, tc.err)
				}
			}
		})
	}
}

func TestLineNumbers(t *testing.T) {
	r := NewReader(&chunks{data: []byte("1,\"a\nb\"\n2,c\n"), size: 100}, options(CSV, 2, nil))
	var lines []int
	for {
		if _, err := r.Next(context.Background()); err != nil {
			break
		}
		lines = append(lines, r.Line())
	}
	if fmt.Sprint(lines) != "[1 3]" {
		t.Error(lines)
	}
}

func TestValidate(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*Options)
		f      Format
	}{
		{"newline as delimiter", func(o *Options) { o.Delimiter = '\n' }, Text},
		{"letter as delimiter", func(o *Options) { o.Delimiter = 'x' }, Text},
		{"delimiter in null", func(o *Options) { o.Null = "a,b" }, CSV},
		{"quote is delimiter", func(o *Options) { o.Quote = ',' }, CSV},
		{"quote in null", func(o *Options) { o.Null = `"` }, CSV},
	} {
		o := options(tc.f, 1, tc.change)
		if err := o.Validate(); pgerr.GetCode(err) != pgerr.InvalidParameterValue {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	for _, f := range []Format{Text, CSV, Binary} {
		o := options(f, 1, nil)
		if err := o.Validate(); err != nil {
			t.Error(err)
		}
	}
}

// FuzzRoundTrip writes two fields and reads them back, in every format and with
// every way of cutting the stream; and it feeds raw input to every reader.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("a"), []byte("\\N"), uint8(1))
	f.Add([]byte("\"\r\n"), []byte("\\."), uint8(3))
	f.Add([]byte("\\"), []byte(""), uint8(2))
	f.Fuzz(func(t *testing.T, a, b []byte, size uint8) {
		for _, format := range []Format{Text, CSV, Binary} {
			opts := options(format, 2, nil)
			w := NewWriter(opts)
			out := w.AppendHeader(nil)
			for range 2 {
				out = w.AppendRowStart(out)
				out = w.AppendField(out, 0, a)
				out = w.AppendField(out, 1, b)
				out = w.AppendRowEnd(out)
			}
			out = w.AppendTrailer(out)
			r := NewReader(&chunks{data: out, size: int(size) + 1}, opts)
			for range 2 {
				fields, err := r.Next(context.Background())
				if err != nil {
					t.Fatalf("format %d: %q and %q as %q: %v", format, a, b, out, err)
				}
				if string(fields[0].Data) != string(a) || string(fields[1].Data) != string(b) || fields[0].Null || fields[1].Null {
					t.Fatalf("format %d: %q and %q came back as %q and %q", format, a, b, fields[0].Data, fields[1].Data)
				}
			}
			if _, err := r.Next(context.Background()); err != io.EOF {
				t.Fatalf("format %d: after the last row: %v", format, err)
			}
			_, _ = readAll(string(a)+string(b), int(size)+1, opts)
		}
	})
}

func BenchmarkText(b *testing.B) {
	row := "1234567\t12\t0\t" + strings.Repeat(" ", 84) + "\n"
	data := strings.Repeat(row, 1000)
	opts := options(Text, 4, nil)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		r := NewReader(&chunks{data: []byte(data), size: 8192}, opts)
		for {
			if _, err := r.Next(context.Background()); err != nil {
				break
			}
		}
	}
	b.ReportMetric(float64(time.Duration(b.Elapsed().Nanoseconds()/int64(b.N)/1000)), "ns/row")
}

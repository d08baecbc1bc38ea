package main

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/lib/pq/oid"
)

// rowPrinter shows the rows of one result. header is called once, then row for
// each row, then footer.
type rowPrinter interface {
	header(cols []pgconn.FieldDescription)
	row(values [][]byte)
	footer(rows int) error
}

// Names of the formats, as --format takes them.
var formatNames = []string{"tsv", "csv", "table", "records", "raw", "sql", "html", "ndjson"}

func newRowPrinter(format string, w *bufio.Writer) (rowPrinter, error) {
	switch format {
	case "table", "pretty":
		return &tablePrinter{w: w}, nil
	case "tsv":
		return &csvPrinter{w: w, comma: '\t'}, nil
	case "csv":
		return &csvPrinter{w: w, comma: ','}, nil
	case "records":
		return &recordsPrinter{w: w}, nil
	case "raw":
		return &rawPrinter{w: w}, nil
	case "sql":
		return &sqlPrinter{w: w}, nil
	case "html":
		return &htmlPrinter{w: w}, nil
	case "ndjson":
		return &ndjsonPrinter{w: w}, nil
	}
	return nil, fmt.Errorf("invalid table display format: %q (possible values: %s)", format, strings.Join(formatNames, ", "))
}

func text(v []byte) string {
	if v == nil {
		return "NULL"
	}
	return string(v)
}

// numeric says that values of a column stand on the right.
func numeric(id uint32) bool {
	switch oid.Oid(id) {
	case oid.T_int2, oid.T_int4, oid.T_int8, oid.T_float4, oid.T_float8, oid.T_numeric, oid.T_oid:
		return true
	}
	return false
}

// tablePrinter needs all rows before it knows the widths; maxTableRows bounds
// what it gathers before it prints a part.
type tablePrinter struct {
	w      *bufio.Writer
	names  []string
	right  []bool
	widths []int
	rows   [][]string
	wrote  bool
}

const maxTableRows = 10000

func (p *tablePrinter) header(cols []pgconn.FieldDescription) {
	for _, c := range cols {
		p.names = append(p.names, c.Name)
		p.right = append(p.right, numeric(c.DataTypeOID))
		p.widths = append(p.widths, displayWidth(c.Name))
	}
}

func displayWidth(s string) int {
	w := 0
	for _, line := range strings.Split(s, "\n") {
		w = max(w, utf8.RuneCountInString(line))
	}
	return w
}

func (p *tablePrinter) row(values [][]byte) {
	row := make([]string, len(values))
	for i, v := range values {
		row[i] = strings.ReplaceAll(text(v), "\t", "    ")
		p.widths[i] = max(p.widths[i], displayWidth(row[i]))
	}
	p.rows = append(p.rows, row)
	if len(p.rows) >= maxTableRows {
		p.flush()
	}
}

func (p *tablePrinter) flush() {
	if !p.wrote {
		p.wrote = true
		for i, name := range p.names {
			if i > 0 {
				p.w.WriteByte('|')
			}
			free := p.widths[i] - utf8.RuneCountInString(name)
			p.pad(1 + free/2)
			p.w.WriteString(name)
			p.pad(free - free/2 + 1)
		}
		p.w.WriteByte('\n')
		for i, w := range p.widths {
			if i > 0 {
				p.w.WriteByte('+')
			}
			p.w.WriteString(strings.Repeat("-", w+2))
		}
		p.w.WriteByte('\n')
	}
	for _, row := range p.rows {
		p.printRow(row)
	}
	p.rows = p.rows[:0]
}

// printRow prints one row on as many lines as its tallest value has.
func (p *tablePrinter) printRow(row []string) {
	lines := make([][]string, len(row))
	height := 1
	for i, v := range row {
		lines[i] = strings.Split(v, "\n")
		height = max(height, len(lines[i]))
	}
	for l := range height {
		for i := range row {
			if i > 0 {
				p.w.WriteByte('|')
			}
			part, more := "", " "
			if l < len(lines[i]) {
				part = lines[i][l]
				if l+1 < len(lines[i]) {
					more = "+"
				}
			}
			free := max(p.widths[i]-utf8.RuneCountInString(part), 0)
			p.w.WriteByte(' ')
			if p.right[i] {
				p.pad(free)
			}
			p.w.WriteString(part)
			if !p.right[i] && (i+1 < len(row) || more == "+") {
				p.pad(free)
			}
			if i+1 < len(row) || more == "+" {
				p.w.WriteString(more)
			}
		}
		p.w.WriteByte('\n')
	}
}

func (p *tablePrinter) pad(n int) {
	for range n {
		p.w.WriteByte(' ')
	}
}

func (p *tablePrinter) footer(rows int) error {
	if len(p.names) > 0 {
		p.flush()
	}
	unit := "rows"
	if rows == 1 {
		unit = "row"
	}
	fmt.Fprintf(p.w, "(%d %s)\n", rows, unit)
	return p.w.Flush()
}

type csvPrinter struct {
	w     *bufio.Writer
	comma byte
	csv   *csv.Writer
}

func (p *csvPrinter) header(cols []pgconn.FieldDescription) {
	p.csv = csv.NewWriter(p.w)
	p.csv.Comma = rune(p.comma)
	names := make([]string, len(cols))
	for i, c := range cols {
		names[i] = c.Name
	}
	_ = p.csv.Write(names) // Errors stay in the writer; footer returns them.
}

func (p *csvPrinter) row(values [][]byte) {
	row := make([]string, len(values))
	for i, v := range values {
		row[i] = text(v)
	}
	_ = p.csv.Write(row)
}

func (p *csvPrinter) footer(int) error {
	if p.csv != nil {
		p.csv.Flush()
		if err := p.csv.Error(); err != nil {
			return err
		}
	}
	return p.w.Flush()
}

type recordsPrinter struct {
	w     *bufio.Writer
	names []string
	width int
	n     int
}

func (p *recordsPrinter) header(cols []pgconn.FieldDescription) {
	for _, c := range cols {
		p.names = append(p.names, c.Name)
		p.width = max(p.width, utf8.RuneCountInString(c.Name))
	}
}

func (p *recordsPrinter) row(values [][]byte) {
	p.n++
	fmt.Fprintf(p.w, "-[ RECORD %d ]\n", p.n)
	for i, v := range values {
		for l, line := range strings.Split(text(v), "\n") {
			name, sep := p.names[i], "|"
			if l > 0 {
				name, sep = "", "+"
			}
			fmt.Fprintf(p.w, "%s%s %s %s\n", name, strings.Repeat(" ", p.width-utf8.RuneCountInString(name)), sep, line)
		}
	}
}

func (p *recordsPrinter) footer(rows int) error {
	if rows == 0 {
		fmt.Fprintln(p.w, "(0 rows)")
	}
	return p.w.Flush()
}

// rawPrinter gives the length of each value, for programs that must not guess.
type rawPrinter struct {
	w *bufio.Writer
	n int
}

func (p *rawPrinter) header(cols []pgconn.FieldDescription) {
	unit := "columns"
	if len(cols) == 1 {
		unit = "column"
	}
	fmt.Fprintf(p.w, "# %d %s\n", len(cols), unit)
}

func (p *rawPrinter) row(values [][]byte) {
	p.n++
	fmt.Fprintf(p.w, "# row %d\n", p.n)
	for _, v := range values {
		s := text(v)
		fmt.Fprintf(p.w, "## %d\n%s\n", len(s), s)
	}
}

func (p *rawPrinter) footer(rows int) error {
	unit := "rows"
	if rows == 1 {
		unit = "row"
	}
	fmt.Fprintf(p.w, "# %d %s\n", rows, unit)
	return p.w.Flush()
}

type sqlPrinter struct {
	w    *bufio.Writer
	cols []pgconn.FieldDescription
}

func (p *sqlPrinter) header(cols []pgconn.FieldDescription) {
	p.cols = append(p.cols, cols...)
	p.w.WriteString("CREATE TABLE results (\n")
	for i, c := range cols {
		sep := ","
		if i+1 == len(cols) {
			sep = ""
		}
		fmt.Fprintf(p.w, "  \"%s\" STRING%s\n", strings.ReplaceAll(c.Name, `"`, `""`), sep)
	}
	p.w.WriteString(");\n\n")
}

func (p *sqlPrinter) row(values [][]byte) {
	p.w.WriteString("INSERT INTO results VALUES (")
	for i, v := range values {
		if i > 0 {
			p.w.WriteString(", ")
		}
		if v == nil {
			p.w.WriteString("NULL")
		} else {
			p.w.WriteString("'" + strings.ReplaceAll(string(v), "'", "''") + "'")
		}
	}
	p.w.WriteString(");\n")
}

func (p *sqlPrinter) footer(rows int) error {
	fmt.Fprintf(p.w, "-- %d rows\n", rows)
	return p.w.Flush()
}

type htmlPrinter struct {
	w *bufio.Writer
	n int
}

func (p *htmlPrinter) header(cols []pgconn.FieldDescription) {
	p.w.WriteString("<table>\n<thead><tr><th>row</th>")
	for _, c := range cols {
		p.w.WriteString("<th>" + html.EscapeString(c.Name) + "</th>")
	}
	p.w.WriteString("</tr></thead>\n<tbody>\n")
}

func (p *htmlPrinter) row(values [][]byte) {
	p.n++
	fmt.Fprintf(p.w, "<tr><td>%d</td>", p.n)
	for _, v := range values {
		p.w.WriteString("<td>" + strings.ReplaceAll(html.EscapeString(text(v)), "\n", "<br/>") + "</td>")
	}
	p.w.WriteString("</tr>\n")
}

func (p *htmlPrinter) footer(rows int) error {
	fmt.Fprintf(p.w, "</tbody>\n<tfoot><tr><td colspan=2>%d rows</td></tr></tfoot></table>\n", rows)
	return p.w.Flush()
}

// ndjsonPrinter prints an object per row: numbers, booleans and JSON as what they
// are, all else as text.
type ndjsonPrinter struct {
	w     *bufio.Writer
	names [][]byte
	types []uint32
	err   error
}

func (p *ndjsonPrinter) header(cols []pgconn.FieldDescription) {
	for _, c := range cols {
		name, err := json.Marshal(c.Name)
		p.err = errors.Join(p.err, err)
		p.names = append(p.names, name)
		p.types = append(p.types, c.DataTypeOID)
	}
}

func (p *ndjsonPrinter) row(values [][]byte) {
	p.w.WriteByte('{')
	for i, v := range values {
		if i > 0 {
			p.w.WriteString(", ")
		}
		p.w.Write(p.names[i])
		p.w.WriteString(": ")
		p.w.Write(p.value(v, oid.Oid(p.types[i])))
	}
	p.w.WriteString("}\n")
}

func (p *ndjsonPrinter) value(v []byte, typ oid.Oid) []byte {
	switch {
	case v == nil:
		return []byte("null")
	case typ == oid.T_bool:
		return strconv.AppendBool(nil, string(v) == "t")
	case typ == oid.T_json || typ == oid.T_jsonb, numeric(uint32(typ)) && json.Valid(v): // NaN is no number there
		return v
	}
	text, err := json.Marshal(string(v))
	p.err = errors.Join(p.err, err)
	return text
}

func (p *ndjsonPrinter) footer(int) error { return errors.Join(p.err, p.w.Flush()) }

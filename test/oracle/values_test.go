package oracle

import (
	"fmt"
	"math/rand"
	"strings"
)

var valueTypes = []string{
	"INT", "BIGINT", "TEXT", "NUMERIC(12,2)", "BOOL", "TIMESTAMPTZ", "UUID", "BYTEA", "JSONB", "TEXT[]", "FLOAT8", "DATE", "VARCHAR(40)",
}

// indexable says whether a type may be in a key.
func indexable(typ string) bool { return typ != "JSONB" && typ != "TEXT[]" }

// randomValue returns a value as PostgreSQL prints it.
func randomValue(rng *rand.Rand, typ string) string {
	if rng.Intn(8) == 0 {
		return "NULL"
	}
	words := []string{"ash", "Birke", "cèdre", "δάφνη", "榆樹", "it's", `a"b`, `back\slash`, " spaced ", "", "tab\there", "new\nline"}
	word := words[rng.Intn(len(words))]
	switch typ {
	case "INT":
		return fmt.Sprint(int32(rng.Uint32()))
	case "BIGINT":
		return fmt.Sprint(int64(rng.Uint64()))
	case "TEXT", "VARCHAR(40)":
		return word + strings.Repeat("x", rng.Intn(20))
	case "NUMERIC(12,2)":
		return fmt.Sprintf("%d.%02d", rng.Intn(1e6), rng.Intn(100))
	case "BOOL":
		return []string{"t", "f"}[rng.Intn(2)]
	case "TIMESTAMPTZ":
		return fmt.Sprintf("%04d-%02d-%02d %02d:%02d:%02d.%05d1+00", 1900+rng.Intn(200), 1+rng.Intn(12), 1+rng.Intn(28),
			rng.Intn(24), rng.Intn(60), rng.Intn(60), rng.Intn(1e5))
	case "DATE":
		return fmt.Sprintf("%04d-%02d-%02d", 1900+rng.Intn(200), 1+rng.Intn(12), 1+rng.Intn(28))
	case "UUID":
		return fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", rng.Uint32(), rng.Intn(1<<16), rng.Intn(1<<16), rng.Intn(1<<16), rng.Int63n(1<<48))
	case "BYTEA":
		b := make([]byte, rng.Intn(20))
		rng.Read(b)
		return fmt.Sprintf(`\x%x`, b)
	case "JSONB":
		return fmt.Sprintf(`{"a": %d, "b": [true, null, "%d"]}`, rng.Intn(1000), rng.Intn(10))
	case "TEXT[]":
		return []string{"{}", "{a,b}", `{"two words",NULL,c}`}[rng.Intn(3)]
	case "FLOAT8":
		return fmt.Sprint(float64(rng.Intn(1<<20)) / 8)
	}
	panic(typ)
}

// quote writes a value as an SQL literal.
func quote(v string) string {
	if v == "NULL" {
		return v
	}
	return "'" + strings.ReplaceAll(v, "'", "''") + "'"
}

// copyText writes a row as COPY's text format wants it.
func copyText(row []string) string {
	out := make([]string, len(row))
	escape := strings.NewReplacer(`\`, `\\`, "\t", `\t`, "\n", `\n`)
	for i, v := range row {
		if out[i] = escape.Replace(v); v == "NULL" {
			out[i] = `\N`
		}
	}
	return strings.Join(out, "\t") + "\n"
}

package copyfmt

import (
	"strings"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// Format is a data format of COPY.
type Format int

// The formats.
const (
	Text Format = iota
	CSV
	Binary
)

// Options are those of one COPY, for a known list of columns.
type Options struct {
	Format    Format
	Delimiter byte
	Null      string
	Header    bool
	// HeaderMatch asks that the header line name Columns.
	HeaderMatch   bool
	Quote, Escape byte
	// Columns names the columns of the COPY, in order.
	Columns []string
	// ForceQuote, ForceNotNull and ForceNull are by column; nil means none.
	ForceQuote, ForceNotNull, ForceNull []bool
}

// Defaults returns the options of a format when nothing else is said.
func Defaults(f Format) Options {
	o := Options{Format: f, Delimiter: '\t', Null: `\N`, Quote: '"', Escape: '"'}
	if f == CSV {
		o.Delimiter, o.Null = ',', ""
	}
	return o
}

// Validate refuses combinations that could not be read back.
func (o *Options) Validate() error {
	invalid := func(msg string) error { return pgerr.New(pgerr.InvalidParameterValue, msg) }
	if o.Format == Binary {
		return nil
	}
	switch {
	case o.Delimiter == '\n' || o.Delimiter == '\r':
		return invalid("COPY delimiter cannot be newline or carriage return")
	case strings.ContainsAny(o.Null, "\n\r"):
		return invalid("COPY null representation cannot use newline or carriage return")
	case strings.IndexByte(o.Null, o.Delimiter) >= 0:
		return invalid("COPY delimiter character must not appear in the NULL specification")
	case o.Format == Text && strings.IndexByte("\\.abcdefghijklmnopqrstuvwxyz0123456789", o.Delimiter) >= 0:
		return invalid("COPY delimiter cannot be \"" + string(o.Delimiter) + "\"")
	case o.Format == CSV && o.Quote == o.Delimiter:
		return invalid("COPY delimiter and quote must be different")
	case o.Format == CSV && strings.IndexByte(o.Null, o.Quote) >= 0:
		return invalid("CSV quote character must not appear in the NULL specification")
	}
	return nil
}

func flag(flags []bool, i int) bool { return i < len(flags) && flags[i] }

package sql

import (
	"context"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/copyfmt"
	"github.com/holdfastdb/holdfast/sql/parser"
)

// execCopy runs COPY in both directions. COPY FROM is an INSERT whose rows come
// from the client (copy_from.go); COPY TO is a query whose rows are written in
// another way (copy_to.go).
func (p *planner) execCopy(ctx context.Context, stmt tree.Statement, res ResultWriter) (bool, error) {
	c, ok := stmt.(*parser.Copy)
	if !ok {
		return false, nil
	}
	if c.From && isUpload(c) {
		return true, p.copyUpload(ctx, c, res)
	}
	if c.From {
		return true, p.copyFrom(ctx, c, res)
	}
	return true, p.copyTo(ctx, c, res)
}

// copyColumns are the columns that a COPY names, or else those that it is about.
func copyColumns(desc *catalog.Table, names tree.NameList) ([]*catalog.Column, error) {
	if len(names) == 0 {
		var cols []*catalog.Column
		for _, c := range desc.VisibleColumns() {
			if !c.IsComputed() {
				cols = append(cols, c)
			}
		}
		return cols, nil
	}
	var cols []*catalog.Column
	seen := map[uint32]bool{}
	for _, name := range names {
		c := desc.ColumnByName(string(name))
		switch {
		case c == nil || !c.Public() || c.Inaccessible:
			return nil, pgerr.Newf(pgerr.UndefinedColumn, "column \"%s\" of relation \"%s\" does not exist", string(name), desc.Name())
		case c.IsComputed():
			return nil, pgerr.Newf("42P10", "column \"%s\" is a generated column", c.Name).
				WithDetail("Generated columns cannot be used in COPY.")
		case seen[c.ID]:
			return nil, pgerr.Newf(pgerr.DuplicateColumn, "column \"%s\" specified more than once", c.Name)
		}
		seen[c.ID] = true
		cols = append(cols, c)
	}
	return cols, nil
}

// copyOptions turns the options of the statement into those of the format.
func copyOptions(o *parser.CopyOptions, names []string) (copyfmt.Options, error) {
	format := map[parser.CopyFormat]copyfmt.Format{
		parser.CopyText: copyfmt.Text, parser.CopyCSV: copyfmt.CSV, parser.CopyBinary: copyfmt.Binary,
	}[o.Format]
	out := copyfmt.Defaults(format)
	out.Columns, out.Header, out.HeaderMatch, out.Null = names, o.Header || o.HeaderMatch, o.HeaderMatch, o.Null
	for _, ch := range []struct {
		what  string
		value string
		into  *byte
	}{{"delimiter", o.Delimiter, &out.Delimiter}, {"quote", o.Quote, &out.Quote}, {"escape", o.Escape, &out.Escape}} {
		switch {
		case len(ch.value) == 1:
			*ch.into = ch.value[0]
		case len(ch.value) > 1:
			return out, pgerr.Newf(pgerr.FeatureNotSupported, "COPY %s must be a single one-byte character", ch.what)
		}
	}
	var err error
	flags := func(list tree.NameList, what string) []bool {
		if len(list) == 0 {
			return nil
		}
		set := make([]bool, len(names))
	next:
		for _, n := range list {
			for i, name := range names {
				if name == string(n) {
					set[i] = true
					continue next
				}
			}
			err = pgerr.Newf("42P10", "%s column \"%s\" not referenced by COPY", what, string(n))
		}
		return set
	}
	out.ForceQuote = flags(o.ForceQuote, "FORCE_QUOTE")
	out.ForceNotNull = flags(o.ForceNotNull, "FORCE_NOT_NULL")
	out.ForceNull = flags(o.ForceNull, "FORCE_NULL")
	if o.ForceAll {
		out.ForceQuote = make([]bool, len(names))
		for i := range out.ForceQuote {
			out.ForceQuote[i] = true
		}
	}
	if err != nil {
		return out, err
	}
	return out, out.Validate()
}

func columnNames(cols []*catalog.Column) []string {
	names := make([]string, len(cols))
	for i, c := range cols {
		names[i] = c.Name
	}
	return names
}

// enumsOf finds the enums that the columns use.
func (p *planner) enumsOf(ctx context.Context, cols []*catalog.Column) (catalog.EnumSet, error) {
	set := catalog.EnumSet{}
	for _, c := range cols {
		for _, o := range catalog.UserTypeOIDs(c.Type) {
			if set[o] != nil {
				continue
			}
			e, err := p.cat.EnumByOID(ctx, o)
			if err != nil {
				return nil, err
			}
			if e == nil {
				return nil, pgerr.Newf(pgerr.UndefinedObject, "type with OID %d does not exist", o)
			}
			set[o] = e
		}
	}
	return set, nil
}

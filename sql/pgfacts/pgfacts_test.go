package pgfacts

import "testing"

func TestFacts(t *testing.T) {
	for _, tc := range []struct {
		tables []Table
		name   string
		want   int // columns
	}{{PgCatalog(), "pg_class", 33}, {PgCatalog(), "pg_type", 32}, {InformationSchema(), "columns", 44}} {
		found := false
		for _, tab := range tc.tables {
			if tab.Name == tc.name {
				found = true
				if len(tab.Columns) != tc.want {
					t.Errorf("%s has %d columns, want %d", tab.Name, len(tab.Columns), tc.want)
				}
			}
		}
		if !found {
			t.Errorf("%s is missing", tc.name)
		}
	}
	for _, name := range []string{"pg_type", "pg_am", "pg_collation", "pg_language", "pg_operator", "pg_cast", "pg_opclass", "pg_opfamily", "pg_proc"} {
		header, rows := Rows(name)
		if len(rows) == 0 {
			t.Errorf("%s has no rows", name)
		}
		for _, r := range rows {
			if len(r) != len(header) {
				t.Errorf("%s: row %q has %d columns, want %d", name, r, len(r), len(header))
			}
		}
	}
	if len(TimeZones()) < 400 {
		t.Errorf("%d time zones", len(TimeZones()))
	}
}

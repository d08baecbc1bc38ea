package sql

import (
	"os"
	"regexp"
	"testing"
)

// psqlCommand is a line that is for psql and not for the server.
var psqlCommand = regexp.MustCompile(`(?m)^\\.*$`)

// TestLoadSamples loads real databases as their publishers ship them, and asks
// what they say about themselves.
func TestLoadSamples(t *testing.T) {
	for _, tc := range []struct {
		file, db string
		checks   map[string]string
	}{
		{"northwind/northwind.sql", "defaultdb", map[string]string{
			"SELECT round(sum(unit_price*quantity*(1-discount))::numeric,2) FROM order_details":      "1265793.04",
			"SELECT count(*) FROM orders WHERE shipped_date IS NULL":                                 "21",
			"SELECT count(*) FROM pg_constraint WHERE contype = 'f'":                                 "13",
			"SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'pk_order_details'": "PRIMARY KEY (order_id, product_id)",
		}},
		{"chinook/Chinook_PostgreSql.sql", "chinook", map[string]string{
			"SELECT round(sum(total),2) FROM invoice":                   "2328.60",
			"SELECT sum(unit_price*quantity) FROM invoice_line":         "2328.60",
			"SELECT count(*) FROM playlist_track":                       "8715",
			"SELECT count(*) FROM pg_indexes WHERE tablename = 'track'": "4",
		}},
		{"chinook/Chinook_PostgreSql_SerialPKs.sql", "chinook_serial", map[string]string{
			"SELECT last_value FROM track_track_id_seq": "3503",
		}},
	} {
		t.Run(tc.db, func(t *testing.T) {
			text, err := os.ReadFile("../test/testdata/" + tc.file)
			if err != nil {
				t.Fatal(err)
			}
			srv := newTestServer(t)
			s := newTestSession(t, srv)
			sql := string(text)
			if tc.db != "defaultdb" {
				// What comes before \c makes the database.
				at := psqlCommand.FindStringIndex(sql)
				mustExecEach(t, s, sql[:at[0]])
				mustExec(t, s, "SET database = "+tc.db)
				sql = sql[at[1]:]
			}
			mustExecEach(t, s, psqlCommand.ReplaceAllString(sql, ""))
			for q, want := range tc.checks {
				got := textRows(s, mustExec(t, s, q))
				if len(got) != 1 || got[0] != want {
					t.Errorf("%s: got %q, want %q", q, got, want)
				}
			}
		})
	}
}

// mustExecEach runs every statement of a script in a transaction of its own, as
// psql -f does.
func mustExecEach(t *testing.T, s *Session, sql string) {
	t.Helper()
	stmts, err := s.Parse(sql)
	if err != nil {
		t.Fatal(err)
	}
	for _, stmt := range stmts {
		s.SyncFollows()
		if err := s.ExecStmt(t.Context(), stmt, &bufferedResult{}); err != nil {
			t.Fatalf("%.200s: %v", stmt.SQL, err)
		}
		if err := s.Sync(t.Context()); err != nil {
			t.Fatalf("%.200s: %v", stmt.SQL, err)
		}
	}
}

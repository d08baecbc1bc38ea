package parser

import "testing"

// TestWithoutDatabase: the database goes wherever it qualifies a name, and nothing
// else that has its name does.
func TestWithoutDatabase(t *testing.T) {
	for _, c := range []struct {
		expr bool
		text string
		want string // empty: as it was
	}{
		{expr: true, text: `c != 'green'::d.app.color`, want: `c != 'green'::app.color`},
		{expr: true, text: `ARRAY['a'::d.app.color]::d.app.color[]`, want: `ARRAY['a'::app.color]::app.color[]`},
		{expr: true, text: `nextval('d.app."S 1"') + setval('d.s.q'::REGCLASS, 3)`, want: `nextval('app."S 1"') + setval('s.q'::REGCLASS, 3)`},
		{expr: true, text: `d.app.t.id > 0 AND lower('d.app.t') = 'd.app.t'`, want: `(app.t.id > 0) AND (lower('d.app.t') = 'd.app.t')`},
		{expr: true, text: `a  >  'x'::app.color`},                           // Byte for byte.
		{expr: true, text: `d.t.id = 1 and other.app.t.id = nextval('d.s')`}, // Here d is a schema.
		{expr: true, text: `1 +`},
		{text: `SELECT d.app.t.*, x.id FROM d.app.t JOIN (SELECT d.app.u.id FROM d.app.u) AS x ON d.app.t.id = x.id ` +
			`WHERE EXISTS (SELECT 1 FROM d.app.g AS d WHERE d.a = x.id) ORDER BY d.app.t.id`,
			want: `SELECT app.t.*, x.id FROM app.t JOIN (SELECT app.u.id FROM app.u) AS x ON app.t.id = x.id ` +
				`WHERE EXISTS (SELECT 1 FROM app.g AS d WHERE d.a = x.id) ORDER BY app.t.id`},
		{text: `WITH q AS (SELECT d.s.t.a FROM d.s.t) SELECT a FROM q UNION ALL SELECT max(d.s.u.b) FILTER (WHERE d.s.u.b > 1) FROM d.s.u GROUP BY d.s.u.c HAVING count(d.s.u.c) > 1`,
			want: `WITH q AS (SELECT s.t.a FROM s.t) SELECT a FROM q UNION ALL SELECT max(s.u.b) FILTER (WHERE s.u.b > 1) FROM s.u GROUP BY s.u.c HAVING count(s.u.c) > 1`},
		{text: `SELECT rank() OVER (PARTITION BY d.s.t.a ORDER BY d.s.t.b), CASE WHEN d.s.t.a IN (1, 2) THEN 'd.s.t'::REGCLASS END FROM d.s.t`,
			want: `SELECT rank() OVER (PARTITION BY s.t.a ORDER BY s.t.b), CASE WHEN s.t.a IN (1, 2) THEN 's.t'::REGCLASS END FROM s.t`},
		{text: `SELECT d.t.a FROM d.t`}, // A schema.
	} {
		want := c.want
		if want == "" {
			want = c.text
		}
		if got := WithoutDatabase(c.text, "d", c.expr); got != want {
			t.Errorf("%s:\n got %s\nwant %s", c.text, got, want)
		}
	}
}

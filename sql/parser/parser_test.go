package parser

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// readSQL returns a script without psql's own commands and COPY data.
func readSQL(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(b), "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, `\`) {
			lines[i] = ""
		}
	}
	return strings.Join(lines, "\n")
}

func TestScriptsParse(t *testing.T) {
	for _, tc := range []struct {
		file string
		want int // statements
	}{
		{"../../test/testdata/chinook/Chinook_PostgreSql.sql", 59},
		{"../../test/testdata/chinook/Chinook_PostgreSql_SerialPKs.sql", 59},
		{"../../test/testdata/northwind/northwind.sql", 3425},
		// What psql 15 sends for \d and its kin, from its -E output.
		{"testdata/psql15.sql", 94},
		// What JDBC, SQLAlchemy, Rails, Django and others ask of the catalogs.
		{"testdata/drivers.sql", 35},
	} {
		t.Run(filepath.Base(tc.file), func(t *testing.T) {
			stmts, err := Parse(readSQL(t, tc.file))
			if err != nil {
				t.Fatal(err, pgerr.Flatten(err).Detail)
			}
			if len(stmts) != tc.want {
				t.Errorf("%d statements, want %d", len(stmts), tc.want)
			}
		})
	}
}

func TestAcceptedStatements(t *testing.T) {
	for _, line := range strings.Split(readSQL(t, "testdata/accepted.sql"), "\n") {
		if line == "" || strings.HasPrefix(line, "--") {
			continue
		}
		s, err := Parse(line)
		if err != nil {
			t.Errorf("%s\n\t%v", line, err)
			continue
		}
		if len(s) != 1 {
			t.Errorf("%s\n\t%d statements", line, len(s))
			continue
		}
		if s[0].AST.StatementTag() == "" {
			t.Errorf("%s\n\t%T has no tag", line, s[0].AST)
		}
		if Format(s[0].AST) == "" {
			t.Errorf("%s\n\t%T prints nothing", line, s[0].AST)
		}
	}
}

func TestPgbenchStatements(t *testing.T) {
	const script = `drop table if exists pgbench_accounts, pgbench_branches, pgbench_history, pgbench_tellers;
create table pgbench_history(tid int,bid int,aid    int,delta int,mtime timestamp,filler char(22));
create table pgbench_tellers(tid int not null,bid int,tbalance int,filler char(84)) with (fillfactor=100);
begin; truncate table pgbench_accounts, pgbench_branches, pgbench_history, pgbench_tellers;
copy pgbench_accounts from stdin with (freeze on); commit;
vacuum analyze pgbench_branches; vacuum pgbench_branches; truncate pgbench_history;
alter table pgbench_branches add primary key (bid);
insert into pgbench_accounts(aid,bid,abalance,filler) select aid, (aid - 1) / 100000 + 1, 0, '' from generate_series(1, 5000000) as aid;
UPDATE pgbench_accounts SET abalance = abalance + $1 WHERE aid = $2;
alter table pgbench_tellers add constraint x foreign key (bid) references pgbench_branches;`
	stmts, err := Parse(script)
	if err != nil {
		t.Fatal(err)
	}
	cp := stmts[5].AST.(*Copy)
	if !cp.From || !cp.Options.Freeze || cp.Options.Format != CopyText || cp.Options.Delimiter != "\t" || cp.Options.Null != `\N` {
		t.Errorf("COPY options: %+v", cp.Options)
	}
	ct := stmts[2].AST.(*tree.CreateTable)
	if len(ct.StorageParams) != 1 || ct.Defs[0].(*tree.ColumnTableDef).Type != types.Int4 {
		t.Errorf("CREATE TABLE: %s", ct)
	}
	if n := stmts[len(stmts)-2].NumPlaceholders; n != 2 {
		t.Errorf("%d placeholders, want 2", n)
	}
}

// TestRender checks how our own statements print again, as job descriptions do.
func TestRender(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{`backup into 'nodelocal://1/x'`, `BACKUP INTO 'nodelocal://1/x'`},
		{`BACKUP a.*, b.t INTO 'x'`, `BACKUP TABLE a.*, b.t INTO 'x'`},
		{`BACKUP DATABASE a, "B" INTO LATEST IN ('u1', 'u2') AS OF SYSTEM TIME '-10s' WITH detached, revision_history`,
			`BACKUP DATABASE a, "B" INTO LATEST IN ('u1', 'u2') AS OF SYSTEM TIME '-10s' WITH OPTIONS (revision_history = true, detached)`},
		{`BACKUP t INTO 'LATEST' IN 'x'`, `BACKUP TABLE t INTO LATEST IN 'x'`},
		{`BACKUP t INTO 'sub' IN 'x' WITH OPTIONS (EXECUTION LOCALITY = 'region=a', encryption_passphrase = 'secret', kms = ('a', 'b'))`,
			`BACKUP TABLE t INTO 'sub' IN 'x' WITH OPTIONS (encryption_passphrase = '*****', kms = ('a', 'b'), execution locality = 'region=a')`},
		{`RESTORE DATABASE d FROM LATEST IN 'x' WITH new_db_name = 'e', skip_missing_views, detached`,
			`RESTORE DATABASE d FROM LATEST IN 'x' WITH OPTIONS (skip_missing_views, detached, new_db_name = 'e')`},
		{`RESTORE FROM '2024/01/02-030405.00' IN ('x', $1) AS OF SYSTEM TIME '1.0'`,
			`RESTORE FROM '2024/01/02-030405.00' IN ('x', $1) AS OF SYSTEM TIME '1.0'`},
		{`RESTORE SYSTEM USERS FROM LATEST IN 'x'`, `RESTORE SYSTEM USERS FROM LATEST IN 'x'`},
		// Wrappers print what they add.
		{`DELETE FROM a USING b AS c, d WHERE a.x = c.x RETURNING a.x`, `DELETE FROM a USING b AS c, d WHERE a.x = c.x RETURNING a.x`},
		{`WITH q AS (SELECT 1 AS x) DELETE FROM a USING q WHERE a.x = q.x`, `WITH q AS (SELECT 1 AS x) DELETE FROM a USING q WHERE a.x = q.x`},
		{`INSERT INTO t (a) OVERRIDING SYSTEM VALUE VALUES (1) ON CONFLICT (a) DO NOTHING`, `INSERT INTO t (a) OVERRIDING SYSTEM VALUE VALUES (1) ON CONFLICT (a) DO NOTHING`},
		{`CREATE INDEX i ON t (lower(a) DESC, b) WHERE a > 'x'`, `CREATE INDEX i ON t ((lower(a)) DESC, b) WHERE a > 'x'`},
		{`CREATE OR REPLACE VIEW v AS SELECT 1`, `CREATE OR REPLACE VIEW v AS SELECT 1`},
		{`CREATE MATERIALIZED VIEW v AS SELECT 1 WITH NO DATA`, `CREATE MATERIALIZED VIEW v AS SELECT 1 WITH NO DATA`},
		{`TRUNCATE a, b RESTART IDENTITY CASCADE`, `TRUNCATE TABLE a, b RESTART IDENTITY CASCADE`},
		{`SET LOCAL x = 'y'`, `SET LOCAL x = 'y'`},
		{`CREATE TABLE t (a INT8) LOCALITY REGIONAL BY ROW AS c`, `CREATE TABLE t (a INT8) LOCALITY REGIONAL BY ROW AS c`},
		{`SELECT 'x'::mood, y::sc."M"[]`, `SELECT 'x'::mood, y::sc."M"[]`},
		{`CREATE USER u WITH PASSWORD 'secret' CREATEDB`, `CREATE USER u WITH PASSWORD '*****' CREATEDB`},
		{`CREATE EXTERNAL CONNECTION c AS 's3://x?AWS_SECRET_ACCESS_KEY=k'`, `CREATE EXTERNAL CONNECTION 'c' AS '*****'`},
	} {
		s, err := ParseOne(tc.in)
		if err != nil {
			t.Errorf("%s: %v", tc.in, err)
			continue
		}
		if got := s.AST.String(); got != tc.want {
			t.Errorf("%s\n got %s\nwant %s", tc.in, got, tc.want)
			continue
		}
		if tc.want == "" || strings.Contains(tc.want, "*****") {
			continue
		}
		again, err := ParseOne(tc.want)
		if err != nil || again.AST.String() != tc.want {
			t.Errorf("%s does not parse to itself: %v", tc.want, err)
		}
	}
}

func TestErrors(t *testing.T) {
	for _, tc := range []struct {
		in, msg string
		code    pgerr.Code
		pos     int
	}{
		{`SELEC 1`, `syntax error at or near "SELEC"`, pgerr.SyntaxError, 1},
		{`SELECT 1 FROM`, `syntax error at end of input`, pgerr.SyntaxError, 14},
		{`SELECT 'é', ,`, `syntax error at or near ","`, pgerr.SyntaxError, 13},
		{"SELECT 1;\n SELECT (", `syntax error at end of input`, pgerr.SyntaxError, 20},
		{`SELECT 'x`, "unterminated quoted string at or near \"'x\"", pgerr.SyntaxError, 8},
		{`SELECT /* x`, "unterminated comment at or near \"/* x\"", pgerr.SyntaxError, 8},
		{`SELECT N'x' FROM WHERE`, `syntax error at or near "WHERE"`, pgerr.SyntaxError, 18},
		{`CREATE TABLE t (a mood, b int,, c int)`, `syntax error at or near ","`, pgerr.SyntaxError, 31},
		{`CREATE TABLE t (a mood, b wibble wobble)`, `syntax error at or near "wobble"`, pgerr.SyntaxError, 34},
		{`BACKUP DATABASE d TO 'x'`, "The `BACKUP TO` syntax is no longer supported. Please use `BACKUP INTO` to create a backup collection.", pgerr.SyntaxError, 19},
		{`BACKUP INTO 'x' WITH detached, detached`, `detached option specified multiple times`, pgerr.SyntaxError, 32},
		{`BACKUP INTO 'x' WITH kms = 'a', kms = 'b'`, `kms specified multiple times`, pgerr.SyntaxError, 33},
		{`BACKUP INTO 'x' WITH OPTIONS (execution locality = 'a', execution locality = 'b')`, `execution locality option specified multiple times`, pgerr.SyntaxError, 57},
		{`BACKUP INTO 'x' WITH nonsense`, `at or near "nonsense": syntax error`, pgerr.SyntaxError, 22},
		{`RESTORE FROM 'uri'`, "The `RESTORE FROM <backupURI>` syntax is no longer supported. Please use `RESTORE FROM <subdirectory> IN <collectionURI>`.", pgerr.SyntaxError, 14},
		{`RESTORE t FROM 'uri'`, "The `RESTORE <targets> FROM <backupURI>` syntax is no longer supported. Please use `RESTORE <targets> FROM <subdirectory> IN <collectionURI>`.", pgerr.SyntaxError, 16},
		{`RESTORE t FROM LATEST IN 'x' WITH schema_only, schema_only`, `schema_only option specified multiple times`, pgerr.SyntaxError, 48},
		{`RESTORE t FROM LATEST IN 'x' WITH into_db='a', into_db='b'`, `into_db specified multiple times`, pgerr.SyntaxError, 48},
		{`SHOW BACKUP 'x'`, "The `SHOW BACKUP` syntax without the `IN` keyword is no longer supported. Please use `SHOW BACKUP FROM <subdirectory> IN <collectionURI>`.", pgerr.SyntaxError, 13},
		{`SHOW BACKUP SCHEMAS 'x'`, "The `SHOW BACKUP` syntax without the `IN` keyword is no longer supported. Please use `SHOW BACKUP SCHEMAS FROM <subdirectory> IN <collectionURI>`.", pgerr.SyntaxError, 21},
		{`SHOW BACKUP CONNECTION 'x'`, "The `SHOW BACKUP CONNECTION` syntax is no longer supported. Please use `CHECK EXTERNAL CONNECTION`.", pgerr.SyntaxError, 13},
		{`DO $$ BEGIN END $$`, `DO blocks are not supported: there is no procedural language`, pgerr.FeatureNotSupported, 1},
		{`COPY t FROM '/etc/passwd'`, `COPY to or from a file or program of the server is not allowed`, pgerr.InsufficientPrivilege, 13},
		{`COPY t FROM STDIN WITH (QUOTE 'x')`, `COPY quote available only in CSV mode`, pgerr.FeatureNotSupported, 0},
		{`COPY t FROM STDIN (DELIMITER 'ab')`, `COPY delimiter must be a single one-byte character`, pgerr.FeatureNotSupported, 30},
		{`CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'x'`, `CREATE FUNCTION is not supported`, pgerr.FeatureNotSupported, 8},
		{"SELECT " + strings.Repeat("(", 2000), `statement is nested too deeply`, "54001", 0},
		{`SELECT $0`, `there is no parameter $0`, "42P02", 8},
		{`SELECT $70000`, `there is no parameter $70000`, "42P02", 8},
	} {
		_, err := Parse(tc.in)
		var e *pgerr.Error
		if !errors.As(err, &e) {
			t.Errorf("%s: error %v, want *pgerr.Error", tc.in, err)
			continue
		}
		if e.Message != tc.msg || e.Code != tc.code || e.Position != tc.pos {
			t.Errorf("%s\n got %s [%s] at %d\nwant %s [%s] at %d", tc.in, e.Message, e.Code, e.Position, tc.msg, tc.code, tc.pos)
		}
	}
}

func TestErrorDetail(t *testing.T) {
	_, err := Parse("SHOW BACKUP\n  FROM t")
	e := pgerr.Flatten(err)
	if want := "source SQL:\nSHOW BACKUP\n  FROM t\n       ^"; e.Detail != want {
		t.Errorf("detail %q, want %q", e.Detail, want)
	}
	_, err = Parse("BACKUP FOO BAR")
	if e := pgerr.Flatten(err); e.Hint != `try \h BACKUP` {
		t.Errorf("hint %q", e.Hint)
	}
}

func TestUserDefinedTypes(t *testing.T) {
	s, err := ParseOne(`CREATE TABLE t (a public.mood[] DEFAULT '{x}'::"Mood"[], b "char", c @100052)`)
	if err == nil {
		t.Log(s.AST)
	}
	s, err = ParseOne(`CREATE TABLE t (a public.mood[] DEFAULT '{x}'::"Mood"[], b "char")`)
	if err != nil {
		t.Fatal(err)
	}
	col := s.AST.(*tree.CreateTable).Defs[0].(*tree.ColumnTableDef)
	name, _, array, ok := UserDefinedType(col.Type)
	if !ok || !array || name.String() != "public.mood" {
		t.Errorf("type %v array=%v ok=%v", name, array, ok)
	}
	cast, ok := col.DefaultExpr.Expr.(*UDTCast)
	if !ok || cast.TypeName() != `"Mood"[]` {
		t.Errorf("default %T %v", col.DefaultExpr.Expr, col.DefaultExpr.Expr)
	}
	if typ := s.AST.(*tree.CreateTable).Defs[1].(*tree.ColumnTableDef).Type; typ.SQLString() != `"char"` {
		t.Errorf(`"char" became %s`, typ.SQLString())
	}
	e, err := ParseExpr(`x'80':::@100274`)
	if c, ok := e.(*UDTCast); err != nil || !ok || c.OID != 100274 || !c.Annotation {
		t.Errorf("annotation: %v %v", e, err)
	}
	typ, err := ParseType("mood")
	if _, _, _, ok := UserDefinedType(typ); err != nil || !ok {
		t.Errorf("ParseType: %v %v", typ, err)
	}
	if typ, err := ParseType("numeric(10,2)"); err != nil || typ.Precision() != 10 || typ.Scale() != 2 {
		t.Errorf("ParseType: %v %v", typ, err)
	}
}

func TestSmuggled(t *testing.T) {
	s, err := ParseOne(`CREATE TABLE t (id int GENERATED BY DEFAULT AS IDENTITY (START WITH 10 INCREMENT BY 5))`)
	if err != nil {
		t.Fatal(err)
	}
	id, err := IdentityOf(s.AST.(*tree.CreateTable).Defs[0].(*tree.ColumnTableDef))
	if err != nil || id == nil || id.Always || len(id.Options) != 2 || *id.Options[0].IntVal != 10 {
		t.Errorf("identity %+v, %v", id, err)
	}
	s, err = ParseOne(`INSERT INTO t VALUES (1) ON CONFLICT ON CONSTRAINT "T_pkey" DO NOTHING`)
	if err != nil {
		t.Fatal(err)
	}
	if c, ok := ConflictConstraint(s.AST.(*tree.Insert).OnConflict); !ok || c != "T_pkey" {
		t.Errorf("conflict constraint %q %v", c, ok)
	}
	s, err = ParseOne(`SELECT string_agg(DISTINCT a, ',' ORDER BY a DESC) FROM t`)
	if err != nil {
		t.Fatal(err)
	}
	fn := s.AST.(*tree.Select).Select.(*tree.SelectClause).Exprs[0].Expr.(*tree.FuncExpr)
	if fn.Type != tree.DistinctFuncType || len(fn.Exprs) != 2 || len(fn.OrderBy) != 1 || fn.Exprs[0].String() != "a" {
		t.Errorf("aggregate %s", fn)
	}
	s, err = ParseOne(`WITH x AS (SHOW JOBS WHEN COMPLETE SELECT 1) SELECT * FROM x, [SHOW BACKUPS IN 'y']`)
	if err != nil {
		t.Fatal(err)
	}
	sel := s.AST.(*tree.Select)
	if j, ok := sel.With.CTEList[0].Stmt.(*ShowJobs); !ok || !j.WhenComplete {
		t.Errorf("CTE %T", sel.With.CTEList[0].Stmt)
	}
	src := sel.Select.(*tree.SelectClause).From.Tables[1].(*tree.AliasedTableExpr).Expr.(*tree.StatementSource)
	if _, ok := src.Statement.(*ShowBackups); !ok {
		t.Errorf("source %T", src.Statement)
	}
	s, err = ParseOne(`CREATE INDEX i ON t (lower(a) DESC, b) WHERE a > 'x'`)
	if err != nil {
		t.Fatal(err)
	}
	ci := s.AST.(*CreateIndex)
	if ci.Exprs[0].String() != "lower(a)" || ci.Exprs[1] != nil || ci.Columns[0].Direction != tree.Descending || ci.Columns[1].Column != "b" || ci.Predicate.String() != "a > 'x'" {
		t.Errorf("index %s %v %v", ci, ci.Exprs, ci.Predicate)
	}
	s, err = ParseOne(`DELETE FROM a USING b, c AS d WHERE a.x = b.x RETURNING a.*`)
	if err != nil {
		t.Fatal(err)
	}
	if d := s.AST.(*DeleteUsing); len(d.Using) != 2 || d.Where == nil || d.Returning == nil {
		t.Errorf("delete using %s", d)
	}
}

func TestAlterTable(t *testing.T) {
	s, err := ParseOne(`ALTER TABLE ONLY public.t ADD COLUMN m mood NOT NULL, ALTER COLUMN b TYPE sc.mood USING b::text, SET (exclude_data_from_backup = true), ALTER c SET STATISTICS 5, ADD PRIMARY KEY (id)`)
	if err != nil {
		t.Fatal(err)
	}
	cmds := s.AST.(*tree.AlterTable).Cmds
	if len(cmds) != 5 {
		t.Fatalf("%d commands", len(cmds))
	}
	if n, _, _, ok := UserDefinedType(cmds[0].(*tree.AlterTableAddColumn).ColumnDef.Type); !ok || n.String() != "mood" {
		t.Errorf("added column: %v", n)
	}
	if n, _, _, ok := UserDefinedType(cmds[1].(*tree.AlterTableAlterColumnType).ToType); !ok || n.String() != "sc.mood" {
		t.Errorf("new type: %v", n)
	}
	if p := cmds[2].(*AlterTableSetParams); p.Params[0].Key != "exclude_data_from_backup" {
		t.Errorf("params: %v", p.Params)
	}
	if _, ok := cmds[3].(*AlterTableNoOp); !ok {
		t.Errorf("%T", cmds[3])
	}
	if c := cmds[4].(*tree.AlterTableAddConstraint).ConstraintDef.(*tree.UniqueConstraintTableDef); !c.PrimaryKey {
		t.Errorf("constraint %s", tree.AsString(c))
	}
}

// FuzzParse: no input panics, and an accepted statement prints.
func FuzzParse(f *testing.F) {
	for _, line := range strings.Split(readSQL(f, "testdata/accepted.sql"), "\n") {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		if len(sql) > 2000 {
			return // The module's parser recurses; length is the caller's to limit.
		}
		stmts, err := Parse(sql)
		if err != nil {
			if e := (*pgerr.Error)(nil); !errors.As(err, &e) || e.Code == "" {
				t.Fatalf("error without code: %v", err)
			}
			return
		}
		for _, s := range stmts {
			if s.SQL != sql[s.Offset:s.Offset+len(s.SQL)] {
				t.Fatalf("statement %q is not at %d", s.SQL, s.Offset)
			}
			_ = s.AST.StatementTag()
		}
	})
}

func BenchmarkParse(b *testing.B) {
	for _, q := range []string{
		"SELECT abalance FROM pgbench_accounts WHERE aid = 12345",
		"UPDATE pgbench_accounts SET abalance = abalance + 17 WHERE aid = 12345",
		"BEGIN",
	} {
		b.Run(strings.Fields(q)[0], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(q); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

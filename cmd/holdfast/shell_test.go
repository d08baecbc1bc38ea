package main

import (
	"bufio"
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/lib/pq/oid"

	"github.com/holdfastdb/holdfast/server"
)

func TestSplitStatement(t *testing.T) {
	for _, tc := range []struct {
		in    string
		first string // "" if none is complete
		open  string
	}{
		{"select 1; select 2;", "select 1;", ""},
		{"select 1", "", ""},
		{"select ';'; x", "select ';';", ""},
		{"select 'it''s;'; x", "select 'it''s;';", ""},
		{`select e'\';'; x`, `select e'\';';`, ""},
		{`select name'\';`, `select name'\';`, ""},
		{`select ";"; x`, `select ";";`, ""},
		{"select 1 -- ;\n; x", "select 1 -- ;\n;", ""},
		{"select /* ; /* ; */ ; */ 1; x", "select /* ; /* ; */ ; */ 1;", ""},
		{"select $$ ; $$; x", "select $$ ; $$;", ""},
		{"select $a$ ; $$ ; $a$; x", "select $a$ ; $$ ; $a$;", ""},
		{"select a$1; x", "select a$1;", ""},
		{"select $1; x", "select $1;", ""},
		{"select 'open; ", "", "'"},
		{"select $$open; ", "", "$"},
		{"select /* open; ", "", "*"},
	} {
		end, ok, open := splitStatement(tc.in)
		got := ""
		if ok {
			got = tc.in[:end]
		}
		if got != tc.first || open != tc.open {
			t.Errorf("%q: got %q open %q, want %q open %q", tc.in, got, open, tc.first, tc.open)
		}
	}
}

func FuzzSplitStatement(f *testing.F) {
	f.Add("select e'\\';' $a$;$a$ /* ; */ -- ;\n;")
	f.Fuzz(func(t *testing.T, s string) {
		for range 100 {
			end, ok, _ := splitStatement(s)
			if !ok {
				break
			}
			if end <= 0 || end > len(s) || s[end-1] != ';' {
				t.Fatalf("%q ends at %d", s, end)
			}
			s = s[end:]
		}
		isBlank(s)
		firstWords(s, 5)
	})
}

func TestIsBlank(t *testing.T) {
	for in, want := range map[string]bool{"": true, " \n;;": true, "-- x": true, "/* a */ ;": true, "select": false, "/* open": false} {
		if got := isBlank(in); got != want {
			t.Errorf("%q: %v", in, got)
		}
	}
}

func TestFormats(t *testing.T) {
	cols := []pgconn.FieldDescription{{Name: "n", DataTypeOID: uint32(oid.T_int4)}, {Name: "text", DataTypeOID: uint32(oid.T_text)}}
	rows := [][][]byte{{[]byte("1"), []byte("a\tb")}, {[]byte("22"), nil}, {[]byte("3"), []byte("two\nlines")}}
	for format, want := range map[string]string{
		"table":   " n  |  text  \n----+--------\n  1 | a    b\n 22 | NULL\n  3 | two   +\n    | lines\n(3 rows)\n",
		"tsv":     "n\ttext\n1\t\"a\tb\"\n22\tNULL\n3\t\"two\nlines\"\n",
		"csv":     "n,text\n1,a\tb\n22,NULL\n3,\"two\nlines\"\n",
		"records": "-[ RECORD 1 ]\nn    | 1\ntext | a\tb\n-[ RECORD 2 ]\nn    | 22\ntext | NULL\n-[ RECORD 3 ]\nn    | 3\ntext | two\n     + lines\n",
		"raw":     "# 2 columns\n# row 1\n## 1\n1\n## 3\na\tb\n# row 2\n## 2\n22\n## 4\nNULL\n# row 3\n## 1\n3\n## 9\ntwo\nlines\n# 3 rows\n",
		"sql":     "CREATE TABLE results (\n  \"n\" STRING,\n  \"text\" STRING\n);\n\nINSERT INTO results VALUES ('1', 'a\tb');\nINSERT INTO results VALUES ('22', NULL);\nINSERT INTO results VALUES ('3', 'two\nlines');\n-- 3 rows\n",
	} {
		var out bytes.Buffer
		p, err := newRowPrinter(format, bufio.NewWriter(&out))
		if err != nil {
			t.Fatal(err)
		}
		p.header(cols)
		for _, r := range rows {
			p.row(r)
		}
		if err := p.footer(len(rows)); err != nil {
			t.Fatal(err)
		}
		if out.String() != want {
			t.Errorf("%s:\ngot\n%s\nwant\n%s", format, out.String(), want)
		}
	}
	if _, err := newRowPrinter("nosuch", nil); err == nil {
		t.Error("an unknown format was accepted")
	}
}

func TestConnString(t *testing.T) {
	for _, tc := range []struct{ args, want string }{
		{"", "postgresql://root@localhost:26257/defaultdb?sslmode=prefer"},
		{"--insecure", "postgresql://root@localhost:26257/defaultdb?sslmode=disable"},
		{"--insecure --host=h:1 -d x -u alice", "postgresql://alice@h:1/x?sslmode=disable"},
		{"--insecure --host=h -p 5", "postgresql://root@h:5/defaultdb?sslmode=disable"},
		{"--url=postgresql://bob@h:7/d?sslmode=require", "postgresql://bob@h:7/d?sslmode=require"},
		{"--url=postgres://h -d e", "postgres://root@h:26257/e?sslmode=disable"},
		{"--host=[::1]:99 --insecure", "postgresql://root@[::1]:99/defaultdb?sslmode=disable"},
	} {
		cmd := newSQLCommand()
		if err := cmd.ParseFlags(strings.Fields(tc.args)); err != nil {
			t.Fatal(err)
		}
		f := clientFlags{}
		fs := cmd.Flags()
		for name, into := range map[string]*string{"url": &f.url, "host": &f.host, "port": &f.port, "user": &f.user, "database": &f.database} {
			*into = fs.Lookup(name).Value.String()
		}
		f.insecure = fs.Lookup("insecure").Value.String() == "true"
		got, err := f.connString(fs)
		if err != nil || got != tc.want {
			t.Errorf("%q: %s %v, want %s", tc.args, got, err, tc.want)
		}
	}
}

func TestParseSize(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want int64
	}{{"1000", 1000}, {"1GiB", 1 << 30}, {"1GB", 1e9}, {"25%", 256}, {".25", 256}} {
		if n, err := parseSize(tc.in, 1024); err != nil || n != tc.want {
			t.Errorf("%s: %d %v", tc.in, n, err)
		}
	}
	for _, bad := range []string{"", "x", "200%", "-1%"} {
		if n, err := parseSize(bad, 1024); err == nil {
			t.Errorf("%q was read as %d", bad, n)
		}
	}
}

// TestShell runs scripts with data, meta commands and errors on a node.
func TestShell(t *testing.T) {
	cfg := server.DefaultConfig()
	cfg.Insecure, cfg.Store = true, server.StoreSpec{InMemory: true}
	cfg.ListenAddr, cfg.Testing.NoHTTP, cfg.Testing.Log = "127.0.0.1:0", true, slog.New(slog.DiscardHandler)
	node, err := server.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	if err := node.Start(ctx); err != nil {
		t.Fatal(err)
	}
	defer node.Stop(ctx)

	script := filepath.Join(t.TempDir(), "script.sql")
	if err := os.WriteFile(script, []byte("CREATE TABLE t (a INT PRIMARY KEY, b TEXT);\nCOPY t FROM STDIN;\n1\tone\n2\t\\N\n\\.\nSELECT * FROM t\nORDER BY a;\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	run := func(f *sqlFlags) (string, string, error) {
		t.Helper()
		sh, err := newShell(ctx, node.SQLURL(), f)
		if err != nil {
			t.Fatal(err)
		}
		defer sh.close()
		var out, errOut bytes.Buffer
		sh.out, sh.errOut = bufio.NewWriter(&out), &errOut
		err = sh.runAll(ctx, f, "sql")
		return out.String(), errOut.String(), err
	}
	for _, tc := range []struct {
		name     string
		flags    sqlFlags
		out, err string
	}{
		{"file with data", sqlFlags{file: script, format: "csv"}, "CREATE TABLE\nCOPY 2\na,b\n1,one\n2,NULL\n", ""},
		{"several -e", sqlFlags{execute: []string{"SELECT 1 AS x; SELECT 2 AS y", "COPY t TO STDOUT"}, format: "tsv"}, "x\n1\ny\n2\n1\tone\n2\t\\N\n", ""},
		{"error ends", sqlFlags{execute: []string{"SELECT nosuch FROM t; SELECT 1"}, format: "tsv"}, "",
			"ERROR: column \"nosuch\" does not exist\nSQLSTATE: 42703\nERROR: \nFailed running \"sql\"\n"},
		{"meta", sqlFlags{execute: []string{`\set errexit=false`, "SELECT nosuch; SELECT 1 AS x", `\echo done`}, format: "tsv"}, "x\n1\ndone\n",
			"ERROR: column \"nosuch\" does not exist\nSQLSTATE: 42703\n"},
		{"describe", sqlFlags{execute: []string{`\dt`, `\d t`}, format: "csv"},
			"Schema,Name,Type,Owner\npublic,t,table,root\nColumn,Type,Nullable,Default\na,integer,not null,\nb,text,,\nIndexes:\nDefinition\nCREATE UNIQUE INDEX t_pkey ON public.t USING btree (a)\nConstraints:\nName,Definition\nt_pkey,PRIMARY KEY (a)\n", ""},
		{"describe elsewhere", sqlFlags{execute: []string{"CREATE DATABASE d; CREATE TABLE d.u (x INT)", `\d d.u`, `\d d.public.u`, `SHOW database`, `\d d.nope`}, format: "csv"},
			"CREATE DATABASE\nCREATE TABLE\nColumn,Type,Nullable,Default\nx,integer,,\nColumn,Type,Nullable,Default\nx,integer,,\ndatabase\ndefaultdb\n",
			"ERROR: relation \"nope\" does not exist\nSQLSTATE: 42P01\nERROR: \nFailed running \"sql\"\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, errOut, err := run(&tc.flags)
			if out != tc.out || errOut != tc.err {
				t.Errorf("got\n%s%s\nwant\n%s%s", out, errOut, tc.out, tc.err)
			}
			if (err != nil) != strings.Contains(tc.err, "Failed running") {
				t.Error(err)
			}
		})
	}
}

func TestFlagErrors(t *testing.T) {
	stderr := os.Stderr
	os.Stderr, _ = os.Open(os.DevNull)
	defer func() { os.Stderr = stderr }()
	for _, args := range [][]string{
		{"start-single-node"}, {"start-single-node", "--insecure", "--cache=x"}, {"start-single-node", "--nosuch"},
		{"start-single-node", "--insecure", "--locality=x"}, {"sql", "--format=nosuch", "--insecure", "-e", "SELECT 1"},
		{"sql", "--url=http://x"}, {"demo", "nosuch"}, {"workload", "run", "kv", "--concurrency=0"},
	} {
		if code := run(args); code != exitFlags {
			t.Errorf("%q: exit %d, want %d", args, code, exitFlags)
		}
	}
}

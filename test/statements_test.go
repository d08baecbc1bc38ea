package test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/holdfastdb/holdfast/test/node"
)

// TestStatements runs the scripts of testdata/statements against a real node and
// compares all that a client is told: columns and their types, rows, command
// tags, notices, and of errors the SQLSTATE, text, detail and hint. What differs
// from run to run is replaced: see normalizer.
//
//	node [flag=value]...                    starts the node; first in a file
//	sql [user=u] [db=d] [conn=c] [hide=col] runs one simple query; a line that ends with a semicolon ends it
//	let name                                keeps the first value of a query for $name
//	wait [job=$id] state=s                  until a job is in a state
//	damage file=glob how=remove|cut|flip    harms the first file that matches, below the nodelocal directory
//	copy from=dir to=dir                    copies below the nodelocal directory
//	files dir=d                             lists files below the nodelocal directory
//	measure dir=d name=n                    keeps the bytes of the data files below it for $n
//	restart                                 kills the node and starts it again
func TestStatements(t *testing.T) {
	datadriven.Walk(t, "testdata/statements", func(t *testing.T, path string) {
		s := &script{t: t, vars: map[string]string{}, conns: map[string]*pgconn.PgConn{}}
		datadriven.RunTest(t, path, s.run)
	})
}

type script struct {
	t     *testing.T
	n     *node.Node
	vars  map[string]string
	conns map[string]*pgconn.PgConn
	norm  normalizer
	hide  []string // columns whose values are not shown
	out   bytes.Buffer
}

func (s *script) run(t *testing.T, d *datadriven.TestData) string {
	s.t = t
	s.out.Reset()
	arg := func(name, def string) string {
		if d.HasArg(name) {
			d.ScanArgs(t, name, &def)
		}
		return s.expand(def)
	}
	switch d.Cmd {
	case "node":
		s.start(d)
	case "sql":
		s.hide = nil
		for _, a := range d.CmdArgs {
			if a.Key == "hide" {
				s.hide = a.Vals
			}
		}
		s.query(s.conn(arg("conn", ""), arg("user", "root"), arg("db", "defaultdb")), s.expand(d.Input))
	case "let":
		res, err := s.conn("", "root", arg("db", "defaultdb")).Exec(context.Background(), s.expand(d.Input)).ReadAll()
		if err != nil {
			d.Fatalf(t, "%v", err)
		}
		last := res[len(res)-1]
		if len(last.Rows) == 0 {
			d.Fatalf(t, "no rows")
		}
		s.vars[d.CmdArgs[0].Key] = string(last.Rows[0][0])
	case "wait":
		s.wait(d, arg("job", ""), arg("state", ""))
	case "damage":
		s.damage(d, arg("file", ""), arg("how", ""))
	case "copy":
		if err := os.CopyFS(filepath.Join(s.n.Extern, arg("to", "")), os.DirFS(filepath.Join(s.n.Extern, arg("from", "")))); err != nil {
			d.Fatalf(t, "%v", err)
		}
	case "files":
		s.files(arg("dir", ""))
	case "measure":
		s.vars[arg("name", "")] = fmt.Sprint(s.measure(arg("dir", "")))
	case "restart":
		s.n.Kill()
		s.n.Restart()
		s.conns = map[string]*pgconn.PgConn{}
	default:
		d.Fatalf(t, "unknown command %q", d.Cmd)
	}
	return s.norm.replace(s.out.String())
}

// start runs the node and an S3 service beside it, whose address is $s3.
func (s *script) start(d *datadriven.TestData) {
	var flags []string
	for _, a := range d.CmdArgs {
		flags = append(flags, "--"+a.Key+"="+strings.Join(a.Vals, ","))
	}
	s.n = node.Start(s.t, flags...)
	backend := s3mem.New()
	if err := backend.CreateBucket("bucket"); err != nil {
		d.Fatalf(s.t, "%v", err)
	}
	srv := httptest.NewServer(gofakes3.New(backend).Server())
	s.t.Cleanup(srv.Close)
	s.vars["s3"] = srv.URL
	s.vars["extern"], s.vars["http"] = s.n.Extern, s.n.HTTP()
	s.norm.fixed = append(s.norm.fixed, srv.URL, "<s3>", strings.TrimPrefix(srv.URL, "http://"), "<s3>",
		url.QueryEscape(srv.URL), "<s3>", s.n.Extern, "<extern>", s.n.Store, "<store>")
}

// expand replaces $name by what let has kept.
func (s *script) expand(text string) string {
	return regexp.MustCompile(`\$[a-z][a-z0-9_]*`).ReplaceAllStringFunc(text, func(v string) string {
		if got, ok := s.vars[v[1:]]; ok {
			return got
		}
		return v
	})
}

func (s *script) conn(name, user, db string) *pgconn.PgConn {
	key := name + "/" + user + "/" + db
	if c := s.conns[key]; c != nil && !c.IsClosed() {
		return c
	}
	cfg, err := pgconn.ParseConfig(s.n.URL(db))
	if err != nil {
		s.t.Fatal(err)
	}
	cfg.User = user
	cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		s.message(n.Severity, (*pgconn.PgError)(n))
	}
	c, err := pgconn.ConnectConfig(context.Background(), cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close(context.Background()) })
	s.conns[key] = c
	return c
}

func (s *script) message(severity string, e *pgconn.PgError) {
	fmt.Fprintf(&s.out, "%s %s: %s\n", severity, e.Code, e.Message)
	// The text of the statement with a caret is for people; it repeats the input.
	if e.Detail != "" && !strings.HasPrefix(e.Detail, "source SQL:") {
		fmt.Fprintf(&s.out, "DETAIL: %s\n", e.Detail)
	}
	if e.Hint != "" {
		fmt.Fprintf(&s.out, "HINT: %s\n", e.Hint)
	}
}

// query runs a string as psql does and prints all that comes back.
func (s *script) query(c *pgconn.PgConn, sql string) {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	for _, stmt := range strings.SplitAfter(sql, ";\n") {
		if strings.TrimSpace(stmt) == "" {
			continue
		}
		mrr := c.Exec(ctx, stmt)
		for mrr.NextResult() {
			s.result(mrr.ResultReader())
		}
		err := mrr.Close()
		var pe *pgconn.PgError
		switch {
		case errors.As(err, &pe):
			s.message(pe.Severity, pe)
		case err != nil:
			fmt.Fprintf(&s.out, "broken: %v\n", err)
		}
	}
}

func (s *script) result(r *pgconn.ResultReader) {
	fields := append([]pgconn.FieldDescription(nil), r.FieldDescriptions()...)
	var names []string
	for _, f := range fields {
		names = append(names, f.Name+" "+typeName(f.DataTypeOID))
	}
	if len(names) > 0 {
		fmt.Fprintf(&s.out, "%s\n", strings.Join(names, " | "))
	}
	for r.NextRow() {
		vals := make([]string, len(r.Values()))
		for i, v := range r.Values() {
			vals[i] = "NULL"
			if v != nil {
				vals[i] = strings.ReplaceAll(string(v), "\n", "\\n")
			}
			if slices.Contains(s.hide, fields[i].Name) {
				vals[i] = "…"
			}
		}
		fmt.Fprintf(&s.out, "%s\n", strings.Join(vals, " | "))
	}
	tag, err := r.Close()
	if err == nil && len(fields) == 0 || err == nil && !strings.HasPrefix(tag.String(), "SELECT") {
		fmt.Fprintf(&s.out, "%s\n", tag)
	}
}

func typeName(oid uint32) string {
	names := map[uint32]string{16: "bool", 17: "bytea", 20: "int8", 21: "int2", 23: "int4", 25: "text", 701: "float8", 705: "unknown",
		1009: "text[]", 1016: "int8[]", 1005: "int2[]", 1043: "varchar", 1114: "timestamp", 1184: "timestamptz", 1700: "numeric", 3802: "jsonb",
		1015: "varchar[]", 1007: "int4[]", 2950: "uuid", 19: "name", 26: "oid", 1186: "interval"}
	if n, ok := names[oid]; ok {
		return n
	}
	return fmt.Sprint(oid)
}

func (s *script) wait(d *datadriven.TestData, job, state string) {
	var got string
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		got = s.n.Value("defaultdb", "SELECT status FROM crdb_internal.jobs WHERE job_id = "+job)
		if got == state {
			return
		}
	}
	d.Fatalf(s.t, "job %s is %s", job, got)
}

// damage harms the first file in order of names that matches.
func (s *script) damage(d *datadriven.TestData, glob, how string) {
	var found string
	pattern := regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(glob), `\*`, ".*") + "$")
	_ = filepath.WalkDir(s.n.Extern, func(path string, e fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(s.n.Extern, path)
		if err == nil && found == "" && !e.IsDir() && pattern.MatchString(rel) {
			found = path
		}
		return nil
	})
	if found == "" {
		d.Fatalf(s.t, "no file matches %s", glob)
	}
	b, err := os.ReadFile(found)
	if err != nil {
		d.Fatalf(s.t, "%v", err)
	}
	switch how {
	case "remove":
		err = os.Remove(found)
	case "cut":
		err = os.WriteFile(found, b[:len(b)/2], 0o644)
	case "flip":
		b[len(b)/2] ^= 0x40
		err = os.WriteFile(found, b, 0o644)
	default:
		err = os.WriteFile(found, []byte(how), 0o644)
	}
	if err != nil {
		d.Fatalf(s.t, "%v", err)
	}
}

func (s *script) measure(dir string) (total int64) {
	_ = filepath.WalkDir(filepath.Join(s.n.Extern, dir), func(path string, e fs.DirEntry, err error) error {
		if err == nil && strings.Contains(path, "/data/") && !e.IsDir() {
			if info, err := e.Info(); err == nil {
				total += info.Size()
			}
		}
		return nil
	})
	return total
}

func (s *script) files(dir string) {
	var names []string
	root := filepath.Join(s.n.Extern, dir)
	_ = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			rel, _ := filepath.Rel(root, path)
			if i := strings.Index(rel, "data/"); i >= 0 && strings.HasSuffix(rel, ".sst") {
				rel = rel[:i] + "data/*.sst" // How many there are depends on who was faster.
			}
			names = append(names, rel)
		}
		return nil
	})
	sort.Strings(names)
	for _, n := range slices.Compact(names) {
		fmt.Fprintln(&s.out, n)
	}
}

// normalizer replaces what no two runs have in common by numbered names, the
// same one for the same thing.
type normalizer struct {
	fixed []string // pairs for a strings.Replacer
	seen  map[string]string
	count map[string]int
}

var volatile = []struct {
	name string
	re   *regexp.Regexp
}{
	{"uuid", regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)},
	{"hash", regexp.MustCompile(`\b[0-9a-f]{64}\b`)},
	{"sum", regexp.MustCompile(`(?:expected|got) [0-9a-f]{8}\b`)},
	{"layer", regexp.MustCompile(`\b20\d{6}/\d{6}\.\d\d-20\d{6}-\d{6}\.\d\d`)},
	{"subdir", regexp.MustCompile(`\b20\d\d/\d\d/\d\d-\d{6}\.\d\d`)},
	{"hex", regexp.MustCompile(`LATEST-[0-9a-f]+|BACKUP-CHECKPOINT-[0-9a-f]+`)},
	{"time", regexp.MustCompile(`20\d\d-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?(?: \+0000 UTC|\+00)?`)},
	{"hlc", regexp.MustCompile(`\b1[789]\d{8}\.\d{9},\d+|\b1[789]\d{17}\.\d{10}`)},
	{"file", regexp.MustCompile(`\b\d{15,19}\.sst`)},
	{"size", regexp.MustCompile(`\bits \d+ bytes`)}, // of a file, which depends on the times in it
	{"id", regexp.MustCompile(`\b[5-8]\d{18}\b`)},
}

func (n *normalizer) replace(text string) string {
	if n.seen == nil {
		n.seen, n.count = map[string]string{}, map[string]int{}
	}
	text = strings.NewReplacer(n.fixed...).Replace(text)
	for _, v := range volatile {
		text = v.re.ReplaceAllStringFunc(text, func(s string) string {
			if _, ok := n.seen[s]; !ok {
				n.count[v.name]++
				n.seen[s] = fmt.Sprintf("<%s%d>", v.name, n.count[v.name])
			}
			return n.seen[s]
		})
	}
	return text
}

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/lib/pq/oid"

	"github.com/holdfastdb/holdfast/server"
)

func TestLogYAML(t *testing.T) {
	cfg := server.DefaultLogConfig()
	err := parseLogYAML([]byte("file-defaults: {dir: /x, filter: WARNING, format: json, max-file-size: 1MiB}\nsinks:\n  stderr:\n    filter: NONE\n"), &cfg)
	want := server.LogConfig{Dir: "/x", FileLevel: slog.LevelWarn, StderrLevel: server.LogNothing, FileJSON: true, FileBytes: 1 << 20, GroupBytes: 100 << 20}
	if err != nil || cfg != want {
		t.Errorf("got %+v %v, want %+v", cfg, err, want)
	}
	for text, want := range map[string]string{
		"sinks: {fluent-servers: {a: {}}}":         "fluent-servers",
		"sinks: {stderr: {format: xml}}":           `sinks: stderr: format "xml" is not known`,
		"sinks: {stderr: {filter: LOUD}}":          `filter: "LOUD" is no severity`,
		"file-defaults: {max-file-size: 1}":        "at least 64KiB",
		"sinks: [":                                 "line 1",
		"file-defaults: {max-group-size: a house}": "max-group-size",
	} {
		if err := parseLogYAML([]byte(text), &cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
	if err := parseLogYAML(nil, &cfg); err != nil {
		t.Error(err)
	}
}

// TestUsageErrors calls the program in wrong ways: exit code 4 and a word about why.
func TestUsageErrors(t *testing.T) {
	dir := t.TempDir()
	for args, want := range map[string]string{
		"nope":                                     `unknown command "nope"`,
		"start-single-node --nope":                 "unknown flag: --nope",
		"start-single-node --insecure extra":       `unknown argument "extra"`,
		"start-single-node":                        "--insecure",
		"start-single-node --insecure --cache=abc": `could not parse "abc"`,
		"start-single-node --insecure --log-config-file=" + dir + "/nofile": "no such file",
		"start-single-node --insecure --log=sinks:{}x":                      "--log",
		"start-single-node --insecure --locality=x":                         "tier must be in the form",
		"start-single-node --insecure --store=type=mem":                     "size must be specified",
		"workload init nope":                                                `unknown command "nope"`,
		"workload init kv a b":                                              "accepts at most 1 arg",
		"nodelocal upload onlyone":                                          "accepts 2 arg(s)",
		"nodelocal nope":                                                    `unknown command "nope"`,
		"sql --format=bogus -e x":                                           "--format",
		"version extra":                                                     "unknown",
	} {
		code, said := capture(t, func() int { return run(strings.Fields(args)) })
		if code != exitFlags || !strings.Contains(said, want) {
			t.Errorf("holdfast %s: exit %d, %s; want %d, %s", args, code, said, exitFlags, want)
		}
	}
}

// capture returns what fn writes to stderr.
func capture(t *testing.T, fn func() int) (int, string) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	saved := os.Stderr
	os.Stderr = f
	code := fn()
	os.Stderr = saved
	said, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return code, string(said)
}

func TestNDJSON(t *testing.T) {
	var out bytes.Buffer
	p, err := newRowPrinter("ndjson", bufio.NewWriter(&out))
	if err != nil {
		t.Fatal(err)
	}
	var cols []pgconn.FieldDescription
	cols = append(cols, pgconn.FieldDescription{Name: "a b", DataTypeOID: uint32(oid.T_text)})
	for _, typ := range []oid.Oid{oid.T_int4, oid.T_float8, oid.T_bool, oid.T_jsonb, oid.T_text} {
		cols = append(cols, pgconn.FieldDescription{Name: fmt.Sprint(typ), DataTypeOID: uint32(typ)})
	}
	p.header(cols)
	p.row([][]byte{[]byte("x\"y\n"), []byte("7"), []byte("NaN"), []byte("t"), []byte(`{"k": 1}`), nil})
	if err := p.footer(1); err != nil {
		t.Fatal(err)
	}
	want := `{"a b": "x\"y\n", "23": 7, "701": "NaN", "16": true, "3802": {"k": 1}, "25": null}` + "\n"
	if out.String() != want {
		t.Errorf("got %s, want %s", out.String(), want)
	}
}

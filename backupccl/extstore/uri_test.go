package extstore_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfastdb/holdfast/backupccl/extstore"
)

func TestParseURIErrors(t *testing.T) {
	keys := "AWS_ACCESS_KEY_ID=k&AWS_SECRET_ACCESS_KEY=s"
	for _, c := range []struct{ uri, want string }{
		{"nodelocal://1/a", ""},
		{"nodelocal://self/a/b?COCKROACH_LOCALITY=region%3Deu", ""},
		{"null:///", ""},
		{"s3://b/p?" + keys, ""},
		{"s3://b?AUTH=implicit", ""},
		{"nodelocal:///a", "invalid `nodelocal` URI: host component of nodelocal URI must be a node ID (use 'self' to specify each node should access its own local filesystem): nodelocal:///a"},
		{"nodelocal://x/a", "host component of nodelocal URI must be a node ID: nodelocal://x/a"},
		{"nodelocal://1", "local storage requested but path not provided"},
		{"nodelocal://1/a/../../b", "local file access to paths outside of external-io-dir is not allowed: /a/../../b"},
		{"nodelocal://1/a?foo=1", "unknown nodelocal query parameters: foo"},
		{"ftp://h/p", `unsupported storage scheme: "ftp" - refer to docs to find supported storage schemes`},
		{"/just/a/path", `unsupported storage scheme: "" - refer to docs to find supported storage schemes`},
		{"s3:///p?" + keys, "empty host component; s3 URI must specify a target bucket"},
		{"s3://b", "AUTH is set to 'specified', but AWS_ACCESS_KEY_ID is not set"},
		{"s3://b?AWS_ACCESS_KEY_ID=k", "AUTH is set to 'specified', but AWS_SECRET_ACCESS_KEY is not set"},
		{"s3://b?AUTH=magic&" + keys, "unsupported value magic for AUTH"},
		{"s3://b?foo=1&bar=2&" + keys, "unknown S3 query parameters: bar, foo"},
		{"s3://b?aws_region=x&" + keys, "unknown S3 query parameters: aws_region"},
		{"s3://b?AWS_SERVER_ENC_MODE=aws:kms&" + keys, "AWS_SERVER_KMS_ID param must be set when using aws:kms server side encryption mode."},
		{"s3://b?AWS_SERVER_ENC_MODE=rot13&" + keys, "unsupported server encryption mode rot13. Supported values are 'aws:kms' and 'AES256'."},
	} {
		_, err := extstore.ParseURI(c.uri)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s:\n got %q\nwant %q", c.uri, got, c.want)
		}
	}
}

func TestRedact(t *testing.T) {
	for _, c := range []struct{ uri, want string }{
		{"s3://b/p?AWS_SECRET_ACCESS_KEY=s3cret&AWS_ACCESS_KEY_ID=x", "s3://b/p?AWS_ACCESS_KEY_ID=x&AWS_SECRET_ACCESS_KEY=redacted"},
		{"s3://b/p?AWS_SESSION_TOKEN=t&AUTH=specified", "s3://b/p?AUTH=specified&AWS_SESSION_TOKEN=redacted"},
		{"nodelocal://1/a/b", "nodelocal://1/a/b"},
		{"gs://b?CREDENTIALS=abc", "gs://b?CREDENTIALS=redacted"},
		{"http://u:pw@h/p", "http://u:redacted@h/p"},
		{"null:///?x=%zz", "null:///?x=%zz"},
		{"s3://b?AWS_SECRET_ACCESS_KEY=%zz", "s3://b?redacted"},
		{"\x00s3cret", "redacted"},
	} {
		if got := extstore.Redact(c.uri); got != c.want {
			t.Errorf("%q: got %q, want %q", c.uri, got, c.want)
		}
	}
}

func FuzzParseURI(f *testing.F) {
	f.Add("s3://b/p?AWS_SECRET_ACCESS_KEY=s3cret&AWS_ACCESS_KEY_ID=x")
	f.Fuzz(func(t *testing.T, s string) {
		if u, err := extstore.ParseURI(s); err == nil {
			if again, err := extstore.ParseURI(u.String()); err != nil || again.String() != u.String() {
				t.Errorf("%q -> %q -> %v, %v", s, u.String(), again, err)
			}
			if v := u.Params.Get("AWS_SECRET_ACCESS_KEY"); len(v) > 8 && v != "redacted" && strings.Contains(u.Redacted(), v) {
				t.Errorf("secret %q shown in %q", v, u.Redacted())
			}
		}
	})
}

func TestAccessSwitches(t *testing.T) {
	for _, c := range []struct {
		name, uri string
		edit      func(*extstore.Config)
		want      string
	}{
		{"no dir", "nodelocal://1/a", func(c *extstore.Config) { c.ExternalIODir = "" }, "local file access is disabled"},
		{"other node", "nodelocal://7/a", func(*extstore.Config) {}, "node 7 of nodelocal://7/a is not part of this cluster"},
		{"http", "s3://b?AWS_ENDPOINT=http://x&AWS_ACCESS_KEY_ID=k&AWS_SECRET_ACCESS_KEY=s", func(c *extstore.Config) { c.DisableHTTP = true }, "custom endpoints disallowed for s3 due to --external-io-disable-http flag"},
		{"implicit", "s3://b?AUTH=implicit", func(c *extstore.Config) { c.DisableImplicitCredentials = true }, "implicit credentials disallowed for s3 due to --external-io-disable-implicit-credentials flag"},
	} {
		cfg := extstore.DefaultConfig()
		cfg.ExternalIODir = t.TempDir()
		c.edit(&cfg)
		if _, err := extstore.NewFactory(cfg).Open(context.Background(), c.uri); err == nil || err.Error() != c.want {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

// TestNodelocalConfined: neither names nor links lead out of the directory.
func TestNodelocalConfined(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "f"), []byte("private"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	s := openFactory(t, "nodelocal://1/base", func(c *extstore.Config) { c.ExternalIODir = dir })
	for _, name := range []string{"../../f", "../link/f"} {
		if _, err := s.Open(t.Context(), name, 0, -1); err == nil {
			t.Errorf("%s can be read", name)
		}
		if err := s.Put(t.Context(), name+"2", strings.NewReader("x")); err == nil {
			t.Errorf("%s can be written", name)
		}
	}
}

// TestNodelocalLeftovers: a crash in the middle of a write leaves a temporary
// file that nobody sees.
func TestNodelocalLeftovers(t *testing.T) {
	dir := t.TempDir()
	s := openFactory(t, "nodelocal://1/base", func(c *extstore.Config) { c.ExternalIODir = dir })
	put(t, s, "f", []byte("x"))
	if err := os.WriteFile(filepath.Join(dir, "base", ".holdfast-tmp-123"), []byte("half"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := list(t, s, "", ""); len(got) != 1 {
		t.Errorf("listed %q", got)
	}
}

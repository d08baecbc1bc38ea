package test

import (
	"bytes"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfastdb/holdfast/test/node"
)

// gateway is an S3 service that checks signatures and honours conditions: a
// versitygw process over a directory.
type gateway struct {
	t    *testing.T
	path string
	Dir  string // a directory in it is a bucket
	addr string
	cmd  *exec.Cmd
	out  *bytes.Buffer
}

const gatewayKey, gatewaySecret = "holdfast", "hunter2hunter2"

// startGateway runs the service with the given buckets, or skips the test when the
// program is not there.
func startGateway(t *testing.T, buckets ...string) *gateway {
	t.Helper()
	path, err := exec.LookPath("versitygw")
	if err != nil {
		t.Skip("needs versitygw on the PATH: go install github.com/versity/versitygw/cmd/versitygw@v1.8.0")
	}
	g := &gateway{t: t, path: path, Dir: filepath.Join(t.TempDir(), "s3"), addr: node.FreeAddr(t)}
	for _, b := range buckets {
		if err := os.MkdirAll(filepath.Join(g.Dir, b), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		g.stop()
		if t.Failed() {
			t.Logf("gateway output:\n%s", g.out)
		}
	})
	g.start()
	return g
}

// start runs the process and waits until it listens.
func (g *gateway) start() {
	g.t.Helper()
	g.out = &bytes.Buffer{}
	g.cmd = exec.Command(g.path, "--port", g.addr, "--access", gatewayKey, "--secret", gatewaySecret, "--quiet", "posix", g.Dir)
	g.cmd.Stdout, g.cmd.Stderr = g.out, g.out
	if err := g.cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", g.addr)
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			g.t.Fatalf("the gateway does not listen: %v\n%s", err, g.out)
		}
	}
}

// stop kills the process.
func (g *gateway) stop() {
	if g.cmd != nil {
		g.cmd.Process.Kill()
		g.cmd.Wait()
		g.cmd = nil
	}
}

// hide takes a bucket away, show brings it back.
func (g *gateway) hide(bucket string) { g.rename(bucket, "../hidden-"+bucket) }
func (g *gateway) show(bucket string) { g.rename("../hidden-"+bucket, bucket) }

func (g *gateway) rename(from, to string) {
	g.t.Helper()
	if err := os.Rename(filepath.Join(g.Dir, from), filepath.Join(g.Dir, to)); err != nil {
		g.t.Fatal(err)
	}
}

// uri names a place in a bucket; edit changes its parameters.
func (g *gateway) uri(place string, edit ...string) string {
	q := url.Values{"AWS_ACCESS_KEY_ID": {gatewayKey}, "AWS_SECRET_ACCESS_KEY": {gatewaySecret},
		"AWS_ENDPOINT": {"http://" + g.addr}}
	for i := 0; i < len(edit); i += 2 {
		if edit[i+1] == "" {
			q.Del(edit[i])
			continue
		}
		q.Set(edit[i], edit[i+1])
	}
	return "s3://" + place + "?" + q.Encode()
}

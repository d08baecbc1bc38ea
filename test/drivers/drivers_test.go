// Package drivers runs clients of other languages against a real node.
//
// Each program beside this file takes a host and a port, makes its own schema and
// prints one line per check; it ends with 1 if one has failed. They run against
// PostgreSQL as well, which is how to find out whether a check is right:
//
//	/usr/bin/python3 test/drivers/python/psycopg3_drive.py 127.0.0.1 5432
package drivers

import (
	"context"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfastdb/holdfast/test/node"
)

// python is Debian's own: it is the one that sees the packages python3-….
const python = "/usr/bin/python3"

// jdbcJars are where the driver may be.
var jdbcJars = []string{os.Getenv("PGJDBC_JAR"), "/usr/share/java/postgresql.jar"}

func TestDrivers(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a node and other programs")
	}
	n := node.Start(t)
	u, err := url.Parse(n.URL("defaultdb"))
	if err != nil {
		t.Fatal(err)
	}
	addr := []string{u.Hostname(), u.Port()}
	t.Run("clients", func(t *testing.T) { // ends when all of them have
		for name, program := range map[string]func(*testing.T) *exec.Cmd{
			"jdbc":          jdbc,
			"psycopg2":      pythonProgram("psycopg2"),
			"psycopg3":      pythonProgram("psycopg", "psycopg3"),
			"sqlalchemy":    pythonProgram("sqlalchemy"),
			"asyncpg":       pythonProgram("asyncpg"),
			"django":        pythonProgram("django"),
			"node-postgres": nodePostgres,
			"psql":          psql,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				cmd := program(t)
				cmd.Args = append(cmd.Args, addr...)
				out, err := run(t, cmd)
				if err != nil {
					t.Errorf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, failures(out))
				}
			})
		}
	})
	if got := n.Value("defaultdb", "SELECT 'alive'"); got != "alive" {
		t.Error(got)
	}
}

// run gives the program its time, and no environment that would lead it elsewhere.
func run(t *testing.T, cmd *exec.Cmd) (string, error) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, cmd.Path, cmd.Args[1:]...)
	for _, e := range append(os.Environ(), cmd.Env...) {
		if !strings.HasPrefix(e, "PG") {
			c.Env = append(c.Env, e)
		}
	}
	c.WaitDelay = 5 * time.Second
	out, err := c.CombinedOutput()
	return string(out), err
}

// failures leaves out what went well.
func failures(out string) string {
	var bad []string
	for line := range strings.Lines(out) {
		if !strings.HasPrefix(line, "ok ") {
			bad = append(bad, line)
		}
	}
	return strings.Join(bad, "")
}

func need(t *testing.T, program, hint string) string {
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("no %s here: %s", program, hint)
	}
	return path
}

func jdbc(t *testing.T) *exec.Cmd {
	javac := need(t, "javac", "apt-get install default-jdk-headless")
	for _, jar := range jdbcJars {
		if _, err := os.Stat(jar); jar == "" || err != nil {
			continue
		}
		classes := t.TempDir()
		if out, err := run(t, exec.Command(javac, "-cp", jar, "-d", classes, filepath.Join("jdbc", "Drive.java"))); err != nil {
			t.Fatalf("javac: %v\n%s", err, out)
		}
		return exec.Command("java", "-cp", jar+string(os.PathListSeparator)+classes, "Drive")
	}
	t.Skip("no JDBC driver here: apt-get install libpostgresql-jdbc-java, or name its file in PGJDBC_JAR")
	return nil
}

// pythonProgram is python/FILE_drive.py, which needs a module.
func pythonProgram(module string, file ...string) func(t *testing.T) *exec.Cmd {
	name := append(file, module)[0]
	return func(t *testing.T) *exec.Cmd {
		need(t, python, "apt-get install python3")
		if out, err := run(t, exec.Command(python, "-c", "import psycopg2, "+module)); err != nil {
			t.Skipf("apt-get install python3-psycopg2 python3-%s (%s)", module, out)
		}
		return exec.Command(python, filepath.Join("python", name+"_drive.py"))
	}
}

func nodePostgres(t *testing.T) *exec.Cmd {
	program := need(t, "node", "apt-get install nodejs npm")
	if _, err := os.Stat(filepath.Join("node", "node_modules", "pg")); err != nil {
		t.Skip("node-postgres is not installed: npm ci --prefix test/drivers/node")
	}
	return exec.Command(program, filepath.Join("node", "drive.js"))
}

func psql(t *testing.T) *exec.Cmd {
	need(t, "psql", "apt-get install postgresql-client")
	return exec.Command("bash", filepath.Join("psql", "drive.sh"))
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/pflag"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// clientFlags say which node to talk to, and as whom.
type clientFlags struct {
	url, host, port, user, database, certsDir string
	insecure                                  bool
}

// env gives flags their default from the environment.
func env(name, otherwise string) string {
	if v := os.Getenv("HOLDFAST_" + name); v != "" {
		return v
	}
	return otherwise
}

func (f *clientFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&f.url, "url", env("URL", ""), "connection string: postgresql://user@host:port/database?options (HOLDFAST_URL)")
	fs.StringVar(&f.host, "host", env("HOST", "localhost:26257"), "host, or host:port (HOLDFAST_HOST)")
	fs.StringVarP(&f.port, "port", "p", env("PORT", ""), "port, if not part of --host (HOLDFAST_PORT)")
	fs.StringVarP(&f.user, "user", "u", env("USER", "root"), "user (HOLDFAST_USER)")
	fs.StringVarP(&f.database, "database", "d", env("DATABASE", ""), "database (HOLDFAST_DATABASE, default defaultdb)")
	fs.BoolVar(&f.insecure, "insecure", env("INSECURE", "") == "true", "no encryption and no authentication (HOLDFAST_INSECURE)")
	fs.StringVar(&f.certsDir, "certs-dir", env("CERTS_DIR", ""), "directory of certificates (HOLDFAST_CERTS_DIR)")
}

// connString puts the flags together.
func (f *clientFlags) connString(fs *pflag.FlagSet) (string, error) {
	u := &url.URL{Scheme: "postgresql"}
	q := url.Values{}
	if f.url != "" {
		parsed, err := url.Parse(f.url)
		if err != nil || (parsed.Scheme != "postgresql" && parsed.Scheme != "postgres") {
			return "", flagError{errors.New("--url: write postgresql://user@host:port/database")}
		}
		u, q = parsed, parsed.Query()
		if u.Host == "" {
			u.Host = f.host
		}
		if u.User == nil || fs.Changed("user") {
			u.User = url.User(f.user)
		}
	} else {
		u.Host, u.User = f.host, url.User(f.user)
	}
	u.Host = f.address(u.Host, fs)
	switch {
	case f.database != "" && (f.url == "" || fs.Changed("database")):
		u.Path = "/" + f.database
	case u.Path == "" || u.Path == "/":
		u.Path = "/defaultdb"
	}
	if q.Get("sslmode") == "" {
		switch {
		case f.insecure || (f.certsDir == "" && f.url != ""):
			q.Set("sslmode", "disable")
		case f.certsDir != "":
			q.Set("sslmode", "verify-full")
			q.Set("sslrootcert", f.certsDir+"/ca.crt")
			q.Set("sslcert", f.certsDir+"/client."+f.user+".crt")
			q.Set("sslkey", f.certsDir+"/client."+f.user+".key")
		default:
			q.Set("sslmode", "prefer")
		}
	}
	u.RawQuery = q.Encode()
	return u.String(), nil
}

// address completes a host with the port, where it has none.
func (f *clientFlags) address(of string, fs *pflag.FlagSet) string {
	host, port, err := net.SplitHostPort(of)
	if err != nil {
		host, port = strings.Trim(of, "[]"), "26257"
	}
	if f.port != "" && (f.url == "" || fs.Changed("port")) {
		port = f.port
	}
	return net.JoinHostPort(host, port)
}

// connect opens a connection. Notices go to notices.
func connect(ctx context.Context, connString, appName string, notices func(*pgconn.Notice)) (*pgconn.PgConn, error) {
	cfg, err := pgconn.ParseConfig(connString)
	if err != nil {
		return nil, flagError{fmt.Errorf("connection parameters: %w", err)}
	}
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = appName
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 15 * time.Second
	}
	if notices != nil {
		cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { notices(n) }
	}
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		var pe *pgconn.PgError
		if errors.As(err, &pe) {
			return nil, pe
		}
		return nil, fmt.Errorf("cannot reach the node at %s: %w\n\nIs it running? Start one with: holdfast start-single-node --insecure",
			net.JoinHostPort(cfg.Host, fmt.Sprint(cfg.Port)), rootCause(err))
	}
	return conn, nil
}

// rootCause skips the driver's own wrapping.
func rootCause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// printError writes an error as every client command shows it.
func printError(w io.Writer, err error) {
	var pe *pgconn.PgError
	if !errors.As(err, &pe) {
		fmt.Fprintf(w, "ERROR: %v\n", err)
		var own *pgerr.Error // of a node in this process
		if errors.As(err, &own) && own.Hint != "" {
			fmt.Fprintf(w, "HINT: %s\n", own.Hint)
		}
		return
	}
	fmt.Fprintf(w, "%s: %s\n", severity(pe), pe.Message)
	if pe.Code != "" && pe.Code != "XXUUU" {
		fmt.Fprintf(w, "SQLSTATE: %s\n", pe.Code)
	}
	for _, line := range []struct{ name, text string }{
		{"DETAIL", pe.Detail}, {"CONSTRAINT", pe.ConstraintName}, {"CONTEXT", pe.Where}, {"HINT", pe.Hint},
	} {
		if line.text != "" {
			fmt.Fprintf(w, "%s: %s\n", line.name, line.text)
		}
	}
}

func severity(pe *pgconn.PgError) string {
	if pe.Severity == "" {
		return "ERROR"
	}
	return pe.Severity
}

func printNotice(w io.Writer, n *pgconn.Notice) {
	fmt.Fprintf(w, "%s: %s\n", n.Severity, n.Message)
	if n.Detail != "" {
		fmt.Fprintf(w, "DETAIL: %s\n", n.Detail)
	}
	if n.Hint != "" {
		fmt.Fprintf(w, "HINT: %s\n", n.Hint)
	}
}

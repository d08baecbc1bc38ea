package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// server is a running database server.
type server struct {
	name string
	url  string
	dir  string
	port int
	cmd  *exec.Cmd
	cred *syscall.Credential // PostgreSQL refuses to run as root
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func startHoldfast(ctx context.Context, bin, dir string) (*server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	httpPort, err := freePort()
	if err != nil {
		return nil, err
	}
	s := &server{name: "holdfast", dir: dir, port: port,
		url: fmt.Sprintf("postgresql://root@127.0.0.1:%d/defaultdb?sslmode=disable", port)}
	err = s.start(bin, "start-single-node", "--insecure", "--store="+dir,
		fmt.Sprintf("--listen-addr=127.0.0.1:%d", port), fmt.Sprintf("--http-addr=127.0.0.1:%d", httpPort))
	if err != nil {
		return nil, err
	}
	return s, s.waitReady(ctx)
}

// start starts a program of ours.
func (s *server) start(bin string, args ...string) error {
	s.cmd = exec.Command(bin, args...)
	s.cmd.Stderr = os.Stderr
	return s.cmd.Start()
}

// startPostgres returns nil without error when no server is installed.
func startPostgres(ctx context.Context, dir string) (*server, error) {
	bin, err := postgresBin()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	s := &server{name: "postgres", dir: dir}
	if s.port, err = freePort(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if os.Getuid() == 0 {
		if err := s.runAs("postgres"); err != nil {
			return nil, err
		}
	}
	initdb := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "-D", dir, "-U", "root", "--auth=trust", "--no-sync")
	initdb.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred}
	initdb.Dir = "/"
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	s.cmd = exec.Command(filepath.Join(bin, "postgres"), "-D", dir, "-p", strconv.Itoa(s.port),
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="+dir)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred}
	s.cmd.Dir = "/"
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	s.url = fmt.Sprintf("postgresql://root@127.0.0.1:%d/postgres", s.port)
	return s, s.waitReady(ctx)
}

func postgresBin() (string, error) {
	if p, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(p), nil
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb") // A bad pattern is the only error.
	if len(found) == 0 {
		return "", fs.ErrNotExist
	}
	return filepath.Dir(found[len(found)-1]), nil
}

func (s *server) runAs(name string) error {
	u, err := user.Lookup(name)
	if err != nil {
		return err
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return err
	}
	s.cred = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return os.Chown(s.dir, uid, gid)
}

func (s *server) waitReady(ctx context.Context) error {
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if _, err := s.psql(ctx, "SELECT 1"); err == nil {
			return nil
		} else if time.Now().After(deadline) {
			s.stop()
			return fmt.Errorf("%s did not become ready: %w", s.name, err)
		}
	}
}

func (s *server) stop() {
	if s == nil || s.cmd == nil {
		return
	}
	s.cmd.Process.Signal(syscall.SIGTERM)
	done := make(chan struct{})
	go func() { s.cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		s.cmd.Process.Kill()
		<-done
	}
}

// psql runs statements, each in its own transaction, and returns unaligned rows.
func (s *server) psql(ctx context.Context, statements ...string) (string, error) {
	args := []string{s.url, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"}
	for _, st := range statements {
		args = append(args, "-c", st)
	}
	out, err := exec.CommandContext(ctx, "psql", args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("psql on %s: %w: %s", s.name, err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// tool runs a client program against s.
func (s *server) tool(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "PGHOST=127.0.0.1", "PGPORT="+strconv.Itoa(s.port), "PGUSER=root",
		"PGSSLMODE=disable", "PGDATABASE="+strings.Split(s.url[strings.LastIndex(s.url, "/")+1:], "?")[0])
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s on %s: %w: %s", name, s.name, err, out)
	}
	return string(out), nil
}

// peakRSS returns the largest resident size of the process since resetPeak, in
// MiB.
func (s *server) peakRSS() (float64, error) { return s.status("VmHWM") }

func (s *server) rss() (float64, error) { return s.status("VmRSS") }

func (s *server) resetPeak() error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", s.cmd.Process.Pid), []byte("5"), 0)
}

func (s *server) status(field string) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kb / 1024, err
		}
	}
	return 0, fmt.Errorf("no %s of process %d", field, s.cmd.Process.Pid)
}

// cpuSeconds returns the processor time that the process has used.
func (s *server) cpuSeconds() (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	user, err := strconv.ParseFloat(f[11], 64)
	if err != nil {
		return 0, err
	}
	sys, err := strconv.ParseFloat(f[12], 64)
	return (user + sys) / 100, err
}

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// readyFD is the number, in the environment, of the pipe to the process that
// started this one in the background.
const readyFD = "HOLDFAST_READY_FD"

// startInBackground runs the same command again as a process of its own session
// and waits until that says it is ready, or ends.
func startInBackground(f *startFlags) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("--background: %w", err)
	}
	var args []string
	for _, a := range os.Args[1:] {
		if a != "--background" && a != "--background=true" {
			args = append(args, a)
		}
	}
	errFile, err := stderrFile(f.cfg.Log.Dir)
	if err != nil {
		return fmt.Errorf("--background: %w", err)
	}
	defer errFile.Close()
	start, err := errFile.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("--background: %w", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("--background: %w", err)
	}
	defer r.Close()
	cmd := exec.Command(self, args...)
	cmd.Stdout, cmd.Stderr = errFile, errFile
	cmd.ExtraFiles = []*os.File{w} // number 3 in the child
	cmd.Env = append(os.Environ(), readyFD+"=3")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("--background: %w", err)
	}
	_ = w.Close()
	text, err := io.ReadAll(r)
	if err == nil && len(text) > 0 {
		_, err = os.Stdout.Write(text)
		return err
	}
	// The child ended before it was ready; say what it said.
	waitErr := cmd.Wait()
	if said, err := io.ReadAll(io.NewSectionReader(errFile, start, 64<<10)); err == nil {
		_, _ = os.Stderr.Write(said)
	}
	var exit *exec.ExitError
	if errors.As(waitErr, &exit) && exit.ExitCode() > 0 {
		return silentError{exit.ExitCode()}
	}
	return silentError{exitError}
}

// stderrFile is where a node in the background writes what it has to say outside
// of its log.
func stderrFile(logDir string) (*os.File, error) {
	if logDir == "" {
		return os.CreateTemp("", "holdfast-stderr-*.log")
	}
	if err := os.MkdirAll(logDir, 0o755); err != nil {
		return nil, err
	}
	return os.OpenFile(filepath.Join(logDir, "holdfast-stderr.log"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o644)
}

// reportReady prints the startup text, to the starting process too if there is one.
func reportReady(out io.Writer, text string) error {
	if os.Getenv(readyFD) == "3" {
		pipe := os.NewFile(3, "ready")
		_, err := io.Copy(pipe, strings.NewReader(text))
		if cerr := pipe.Close(); err == nil {
			err = cerr
		}
		_ = os.Unsetenv(readyFD)
		if err != nil {
			return fmt.Errorf("--background: %w", err)
		}
	}
	_, err := io.WriteString(out, text)
	return err
}

package pgwire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv/storage"
)

func TestClientError(t *testing.T) {
	secret := errors.New("open /var/secret/file: wrong key")
	for _, tc := range []struct {
		name string
		err  error
		code pgerr.Code
		text string
	}{
		{"marked", fmt.Errorf("reading t: %w", pgerr.New(pgerr.UndefinedTable, "no table")), pgerr.UndefinedTable, "reading t: no table"},
		{"marked as internal", pgerr.New(pgerr.Internal, "a plan went wrong"), pgerr.Internal, "a plan went wrong"},
		{"disk full", storage.Mark(secret, storage.ErrDiskFull), pgerr.DiskFull, "could not write: no space left on device"},
		{"no space", fmt.Errorf("writing: %w", syscall.ENOSPC), pgerr.DiskFull, "could not write: no space left on device"},
		{"corrupt", storage.Mark(errors.New("bad checksum at k"), storage.ErrCorrupt), pgerr.DataCorrupted, "bad checksum at k"},
		{"I/O", fmt.Errorf("reading: %w", syscall.EIO), pgerr.IOError, "could not read or write: input/output error"},
		{"canceled", fmt.Errorf("waiting: %w", context.Canceled), pgerr.QueryCanceled, "query execution canceled"},
		{"unforeseen", fmt.Errorf("planning: %w", secret), pgerr.Internal, "internal error"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var logged bytes.Buffer
			e := clientError(slog.New(slog.NewTextHandler(&logged, nil)), tc.err)
			if e.Code != tc.code || e.Message != tc.text {
				t.Errorf("%s %q, want %s %q", e.Code, e.Message, tc.code, tc.text)
			}
			if strings.Contains(e.Message+e.Detail+e.Hint, "secret") {
				t.Errorf("the client is told %q %q", e.Message, e.Detail)
			}
			if tc.name != "unforeseen" {
				return
			}
			ref := e.Detail[strings.LastIndex(e.Detail, " ")+1 : len(e.Detail)-1]
			if !strings.Contains(logged.String(), "reference="+ref) || !strings.Contains(logged.String(), "/var/secret/file") {
				t.Errorf("the log says %q, the client was given %q", logged.String(), e.Detail)
			}
		})
	}
}

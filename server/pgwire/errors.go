package pgwire

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"syscall"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// clientError is what a client is told about err. An error that nobody gave a code is
// one that nobody foresaw: its text may name files, keys and values of others, so it
// goes to the log alone, and the client gets a reference by which to find it there.
func clientError(log *slog.Logger, err error) *pgerr.Error {
	var marked *pgerr.Error
	switch {
	case errors.As(err, &marked):
		e := pgerr.Flatten(err)
		if e.Code == pgerr.Internal {
			log.Warn("statement failed with an internal error", "err", err)
		}
		return e
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return pgerr.Flatten(err)
	case errors.Is(err, storage.ErrDiskFull), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		log.Error("statement failed for lack of disk space", "err", err)
		return pgerr.New(pgerr.DiskFull, "could not write: no space left on device").
			WithHint("Free some space on the disk of the store; DROP and DELETE free theirs only when garbage is collected.")
	case errors.Is(err, storage.ErrCorrupt):
		log.Error("statement met damaged data", "err", err)
		return pgerr.New(pgerr.DataCorrupted, err.Error())
	case errors.Is(err, storage.ErrClosed):
		return pgerr.New(pgerr.AdminShutdown, "the server is shutting down")
	case errors.Is(err, syscall.EIO):
		log.Error("statement failed with an I/O error", "err", err)
		return pgerr.New(pgerr.IOError, "could not read or write: input/output error")
	}
	var b [6]byte
	_, _ = rand.Read(b[:]) // It never fails.
	ref := hex.EncodeToString(b[:])
	log.Error("statement failed with an unforeseen error", "reference", ref, "err", err)
	return pgerr.New(pgerr.Internal, "internal error").
		WithDetail("The log of the server has the cause under reference %s.", ref)
}

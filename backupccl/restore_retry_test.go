package backupccl

import (
	"context"
	"errors"
	"testing"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// A restore outlives the replicas that it writes to.
func TestWhatARestoreTriesAgain(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{errors.New("the network"), true},
		{&kvpb.AmbiguousResultError{Cause: errors.New("a node did not answer")}, true},
		{pgerr.New(pgerr.CannotConnectNow, "no replica could serve the request"), true},
		{&kvpb.AmbiguousResultError{Cause: context.Canceled}, false},
		{pgerr.New(pgerr.DataCorrupted, "the backup is damaged"), false},
		{storage.Mark(errors.New("full"), storage.ErrDiskFull), false},
	} {
		if got := mayPass(c.err); got != c.want {
			t.Errorf("%v: %v", c.err, got)
		}
	}
}

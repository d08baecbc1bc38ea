package test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/systables"
	"github.com/holdfastdb/holdfast/kv/storage"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
	"github.com/holdfastdb/holdfast/test/node"
)

// checkLeftovers fails if jobs that ended, or died, have left anything behind:
// records and names, which SQL shows, and rows of tables or indexes that nobody
// knows and locks of nobody, for which the node is stopped and its store read.
func checkLeftovers(t *testing.T, n *node.Node) {
	t.Helper()
	var left string
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if left = leftRecords(n); left == "" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(left)
		}
	}
	// Dropped data goes with a job of its own, which may be about to begin.
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(500 * time.Millisecond) {
		n.Stop()
		left = leftBytes(t, n.Store)
		n.Restart()
		if left == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(left)
		}
	}
}

func leftRecords(n *node.Node) string {
	for _, check := range []struct{ what, query string }{
		{"jobs that do not end", "SELECT job_id, job_type, status FROM [SHOW JOBS] WHERE job_type IN ('BACKUP', 'RESTORE') AND status NOT IN ('succeeded', 'failed', 'canceled')"},
		{"protected timestamps", "SELECT id, ts FROM system.protected_ts_records"},
		{"names without descriptors", "SELECT n.name, n.id FROM system.namespace n LEFT JOIN system.descriptor d ON d.id = n.id WHERE d.id IS NULL"},
		{"comments on objects that are not there", "SELECT c.type, c.object_id FROM system.comments c LEFT JOIN system.descriptor d ON d.id = c.object_id WHERE d.id IS NULL"},
		{"names in databases that are not there", `SELECT n.name, n."parentID" FROM system.namespace n LEFT JOIN system.descriptor d ON d.id = n."parentID" WHERE n."parentID" <> 0 AND d.id IS NULL`},
	} {
		rows, err := n.TryRows("system", check.query)
		if err != nil {
			return err.Error()
		}
		if len(rows) > 0 {
			return fmt.Sprintf("%s: %v", check.what, rows)
		}
	}
	return ""
}

// leftBytes reads the store of a node that was stopped.
func leftBytes(t *testing.T, dir string) string {
	t.Helper()
	ctx := context.Background()
	cfg := storage.DefaultConfig(dir)
	cfg.ReserveBytes = 0
	e, err := storage.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	known := knownIndexes(t, e)
	live := map[string]int{}
	from, end := keys.TableDataMin, keys.MaxKey
	for {
		res, err := storage.MVCCScan(ctx, e, from, end, hlc.MaxTimestamp, storage.ScanOptions{MaxKeys: 10000, Inconsistent: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, kv := range res.KVs {
			table, index, _, ok := keys.DecodeIndexPrefix(kv.Key)
			if ok && table >= catalog.FirstUserID && !known[storage.IndexID{TableID: table, IndexID: index}] {
				live[fmt.Sprintf("index %d of table %d", index, table)]++
			}
		}
		if res.ResumeSpan == nil {
			break
		}
		from = res.ResumeSpan.Key
	}
	var left []string
	for what, rows := range live {
		left = append(left, fmt.Sprintf("%d live pairs of %s, which nobody knows", rows, what))
	}
	locks, _, err := storage.ScanLocks(ctx, e, keys.MinKey, keys.MaxKey, 10)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range locks {
		left = append(left, fmt.Sprintf("a lock of transaction %x on %s", l.Txn.ID, keys.Pretty(l.Key)))
	}
	return strings.Join(left, "\n")
}

// knownIndexes returns the indexes of tables that are not dropped.
func knownIndexes(t *testing.T, e *storage.Engine) map[storage.IndexID]bool {
	t.Helper()
	sp := systables.Descriptor.Span()
	res, err := storage.MVCCScan(context.Background(), e, sp.Key, sp.EndKey, hlc.MaxTimestamp, storage.ScanOptions{Inconsistent: true})
	if err != nil {
		t.Fatal(err)
	}
	known := map[storage.IndexID]bool{}
	for _, kv := range res.KVs {
		id, b, err := catalog.DecodeDescriptorValue(kv.Key, kv.Value)
		if err != nil {
			t.Fatal(err)
		}
		var pb catalogpb.Descriptor
		if err := proto.Unmarshal(b, &pb); err != nil {
			t.Fatal(err)
		}
		d, err := catalog.New(&pb)
		if err != nil {
			t.Fatal(err)
		}
		if tbl, ok := d.(*catalog.Table); ok && tbl.State() != catalogpb.State_DROP {
			known[storage.IndexID{TableID: id, IndexID: 1}] = true // Sequences have no other.
			for _, x := range append(tbl.Indexes(), tbl.PrimaryIndex()) {
				if x != nil {
					known[storage.IndexID{TableID: id, IndexID: x.ID}] = true
				}
			}
		}
	}
	return known
}

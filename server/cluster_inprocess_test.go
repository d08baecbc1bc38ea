package server

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfastdb/holdfast/backupccl/extstore"
	"github.com/holdfastdb/holdfast/backupccl/extstore/storetest"
)

// startNodes starts n nodes of one cluster in this process, with stores in memory
// and ids from 1.
func startNodes(t testing.TB, n int, change func(i int, cfg *Config)) []*Node {
	t.Helper()
	var nodes []*Node
	for i := range n {
		cfg := testConfig(t)
		cfg.Store = StoreSpec{InMemory: true}
		cfg.ExternalIODir = filepath.Join(t.TempDir(), "extern")
		cfg.Cluster, cfg.Initialize, cfg.Testing.NoHTTP = true, i == 0, true
		for _, o := range nodes {
			cfg.Join = append(cfg.Join, o.SQLAddr().String())
		}
		if change != nil {
			change(i, &cfg)
		}
		node := startNode(t, cfg)
		if node.ID() != int32(i+1) {
			t.Fatalf("node %d has id %d", i+1, node.ID())
		}
		nodes = append(nodes, node)
	}
	return nodes
}

// TestRemoteFiles: what a node does with another one's files is what it may rely on
// with its own.
func TestRemoteFiles(t *testing.T) {
	nodes := startNodes(t, 2, nil)
	n := 0
	storetest.Run(t, func(t *testing.T) extstore.Store {
		n++
		return peers{nodes[0].cluster}.remoteFiles(2, fmt.Sprintf("/a/b%d", n), "nodelocal://2/a/b")
	})
	s := peers{nodes[0].cluster}.remoteFiles(2, "/../x", "nodelocal://2/../x")
	if _, err := s.Size(context.Background(), "f"); err == nil || extstore.IsRetryable(err) || !strings.Contains(err.Error(), "outside of external-io-dir is not allowed") {
		t.Errorf("outside of the directory: %v", err)
	}
}

// TestBackupsOnAnotherNode: every node makes, reads and refuses backups on the disk
// of another one.
func TestBackupsOnAnotherNode(t *testing.T) {
	nodes := startNodes(t, 3, func(i int, cfg *Config) {
		if i == 2 {
			cfg.ExternalIODir = externalIODisabled
		}
	})
	ctx := context.Background()
	a, c := connectNode(t, nodes[0], nil), connectNode(t, nodes[2], nil)
	exec1(t, a, "CREATE TABLE t (a INT PRIMARY KEY, b TEXT)")
	exec1(t, a, "INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 5000) AS g(i)")
	exec1(t, a, "BACKUP TABLE t INTO 'nodelocal://2/x'")
	found := 0
	_ = filepath.WalkDir(nodes[1].cfg.ExternalIODir, func(_ string, d os.DirEntry, _ error) error {
		if d.Name() == "BACKUP_MANIFEST" {
			found++
		}
		return nil
	})
	if found != 1 {
		t.Errorf("%d manifests on the disk of n2", found)
	}
	if _, err := os.Stat(filepath.Join(nodes[0].cfg.ExternalIODir, "x")); err == nil {
		t.Error("there is something on the disk of n1")
	}
	exec1(t, a, "DROP TABLE t")
	// A node without files of its own uses those of others.
	if got := queryOne(t, c, "SELECT count(*) FROM [SHOW BACKUPS IN 'nodelocal://2/x']"); got != "1" {
		t.Errorf("SHOW BACKUPS finds %s", got)
	}
	exec1(t, c, "RESTORE TABLE t FROM LATEST IN 'nodelocal://2/x'")
	if got := queryOne(t, a, "SELECT count(*) FROM t"); got != "5000" {
		t.Errorf("%s rows are back", got)
	}
	for uri, want := range map[string]string{
		"nodelocal://3/x": "local file access is disabled",
		"nodelocal://7/x": "node 7 of nodelocal://7/x is not part of this cluster",
	} {
		if _, err := a.Exec(ctx, "BACKUP TABLE t INTO '"+uri+"'"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("BACKUP INTO %s: %v", uri, err)
		}
	}
	if _, err := c.Exec(ctx, "SHOW BACKUPS IN 'nodelocal://self/x'"); err == nil || !strings.Contains(err.Error(), "local file access is disabled") {
		t.Errorf("files of its own where there are none: %v", err)
	}
}

// TestFilesOfADeadNode: nobody waits for long.
func TestFilesOfADeadNode(t *testing.T) {
	nodes := startNodes(t, 2, nil)
	a := connectNode(t, nodes[0], nil)
	for _, target := range []string{"RANGE default", "RANGE meta", "RANGE system", "RANGE liveness", "DATABASE system"} {
		exec1(t, a, "ALTER "+target+" CONFIGURE ZONE USING num_replicas = 1")
	}
	await(t, "one replica of each range", func() bool {
		return queryOne(t, a, "SELECT count(*) FROM crdb_internal.ranges_no_leases WHERE voting_replicas <> ARRAY[1]") == "0"
	})
	stopNode(t, nodes[1])
	await(t, "the end of its record", func() bool { return !nodes[0].cluster.live.IsLive(2) })
	began := time.Now()
	_, err := a.Exec(context.Background(), "SHOW BACKUPS IN 'nodelocal://2/x'")
	if err == nil || !strings.Contains(err.Error(), "node 2, which holds nodelocal://2/x, does not answer") {
		t.Errorf("files of a node that is gone: %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}

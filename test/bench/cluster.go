package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// The table of the cluster's figures: rows of some hundred bytes in several ranges,
// so that leases can be spread.
const (
	clusterRows   = 90_000
	clusterRanges = 9
	scanRows      = 1000
)

// clusterLoads are the loads of the cluster's figures, as pgbench's scripts.
var clusterLoads = []struct {
	name, script   string
	gateway, apart float64 // what is asked for, with leases on the gateway and spread; 0: nothing
}{
	{"point reads", fmt.Sprintf("\\set k random(1, %d)\nSELECT v FROM kv WHERE k = :k;\n", clusterRows), 0.8, 0.5},
	{"scans of 1000 rows", fmt.Sprintf("\\set k random(1, %d)\nSELECT count(v) FROM kv WHERE k >= :k AND k < :k + %d;\n",
		clusterRows-scanRows, scanRows), 0.9, 0},
	{"single-row writes", fmt.Sprintf("\\set k random(1, %d)\nUPDATE kv SET v = 'x' || random()::text WHERE k = :k;\n", clusterRows), 0.25, 0},
}

// cluster measures three nodes on this machine against one node: the same loads on the
// same rows, alternating. With leases on the gateway reads should cost what they cost
// one node, and writes a round trip and syncs on two more nodes; all nodes share the
// processors. Then the last node is killed under load.
func (b *bench) cluster(ctx context.Context) error {
	nodes, err := b.startCluster(ctx, 3)
	defer func() {
		for _, n := range nodes {
			n.stop()
		}
	}()
	if err != nil {
		return err
	}
	for _, s := range []*server{b.hf, nodes[0]} {
		if err := loadCluster(ctx, s); err != nil {
			return err
		}
	}
	for _, apart := range []bool{false, true} {
		if err := b.placeLeases(ctx, nodes[0], apart); err != nil {
			return err
		}
		for _, l := range clusterLoads {
			where, target := "on the gateway", l.gateway
			if apart {
				where, target = "spread", l.apart
			}
			if err := b.clusterRates(ctx, nodes[0], fmt.Sprintf("%s, three nodes against one, leases %s", l.name, where), l.script, target); err != nil {
				return err
			}
		}
	}
	return b.killUnderLoad(ctx, nodes)
}

// startCluster starts a cluster of n nodes. What it started it returns with an error
// too.
func (b *bench) startCluster(ctx context.Context, n int) ([]*server, error) {
	var nodes []*server
	var addrs []string
	var http []int
	for range n {
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		httpPort, err := freePort()
		if err != nil {
			return nil, err
		}
		addrs = append(addrs, fmt.Sprintf("127.0.0.1:%d", port))
		http = append(http, httpPort)
		nodes = append(nodes, &server{name: fmt.Sprintf("node %d", len(nodes)+1), port: port,
			dir: filepath.Join(b.dir, fmt.Sprintf("node%d", len(nodes)+1)),
			url: fmt.Sprintf("postgresql://root@127.0.0.1:%d/defaultdb?sslmode=disable", port)})
	}
	for i, s := range nodes {
		err := s.start(b.binary, "start", "--insecure", "--store="+s.dir, "--join="+strings.Join(addrs, ","),
			"--listen-addr="+addrs[i], fmt.Sprintf("--http-addr=127.0.0.1:%d", http[i]))
		if err != nil {
			return nodes[:i], err
		}
		if i > 0 {
			continue // Ids are given in the order of joining.
		}
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(200 * time.Millisecond) {
			if _, err = b.client(ctx, s, "init"); err == nil {
				break
			} else if time.Now().After(deadline) {
				return nodes[:1], err
			}
		}
		if err := s.waitReady(ctx); err != nil {
			return nodes[:1], err
		}
	}
	for _, s := range nodes {
		if err := s.waitReady(ctx); err != nil {
			return nodes, err
		}
	}
	return nodes, nil
}

// client runs the holdfast program as a client of s.
func (b *bench) client(ctx context.Context, s *server, args ...string) (string, error) {
	return s.tool(ctx, b.binary, append(args, "--insecure", fmt.Sprintf("--host=127.0.0.1:%d", s.port))...)
}

func loadCluster(ctx context.Context, s *server) error {
	statements := []string{
		"CREATE TABLE kv (k int PRIMARY KEY, v text)",
		fmt.Sprintf("INSERT INTO kv SELECT i, repeat('v', 100) || i FROM generate_series(1, %d) AS g(i)", clusterRows),
	}
	for i := 1; i < clusterRanges; i++ {
		statements = append(statements, fmt.Sprintf("ALTER TABLE kv SPLIT AT VALUES (%d)", i*clusterRows/clusterRanges+1))
	}
	_, err := s.psql(ctx, statements...)
	return err
}

// placeLeases gives all ranges replicas on nodes 1, 2 and 3 and the leases to node 1,
// or those of the table by turns to all of them. The nodes themselves move leases to
// where they find them better, so of spread ones each node must have some, and not
// certain ones: the log says which.
func (b *bench) placeLeases(ctx context.Context, s *server, apart bool) error {
	if _, err := b.client(ctx, s, "node", "relocate", "--to=1,2,3"); err != nil {
		return err
	}
	const where = "SELECT range_id, lease_holder, array_length(replicas, 1) FROM [SHOW RANGES FROM TABLE kv WITH DETAILS] ORDER BY start_key"
	deadline := time.Now().Add(time.Minute)
	for try := 0; ; try++ {
		out, err := s.psql(ctx, where)
		if err != nil {
			return err
		}
		leases, whole := map[string]int{}, true
		var ranges []string
		for line := range strings.Lines(out) {
			f := strings.Split(strings.TrimSpace(line), "|")
			if len(f) != 3 {
				return fmt.Errorf("ranges of the table: %s", out)
			}
			ranges = append(ranges, f[0])
			leases[f[1]]++
			whole = whole && f[2] == "3"
		}
		fair := leases["1"] == clusterRanges
		if apart {
			fair = min(leases["1"], leases["2"], leases["3"]) > 0
		}
		if whole && fair {
			log.Printf("range, leaseholder, replicas: %s", strings.ReplaceAll(out, "\n", " "))
			return nil
		} else if time.Now().After(deadline) {
			return fmt.Errorf("ranges are not where they should be: %s", out)
		}
		if !apart || try > 0 {
			time.Sleep(time.Second)
			continue
		}
		for i, id := range ranges {
			to := []string{"1", "2", "3"}
			to = append(to[i%3:], to[:i%3]...)
			if _, err := b.client(ctx, s, "node", "relocate", "--range="+id, "--to="+strings.Join(to, ",")); err != nil {
				return err
			}
		}
	}
}

// clusterRates measures a script on one node and on the cluster by turns.
func (b *bench) clusterRates(ctx context.Context, cluster *server, name, script string, target float64) error {
	file := filepath.Join(b.dir, "load.sql")
	if err := os.WriteFile(file, []byte(script), 0o644); err != nil {
		return err
	}
	var one, three []float64
	for range b.runs {
		for _, on := range []struct {
			s     *server
			rates *[]float64
		}{{b.hf, &one}, {cluster, &three}} {
			r, err := pgbenchRate(ctx, on.s, b.seconds, "-M", "prepared", "-f", file)
			if err != nil {
				return err
			}
			*on.rates = append(*on.rates, r)
		}
	}
	if target > 0 {
		b.ratio(name, medianOf(three), medianOf(one), "/s", false, target)
	} else {
		b.plain(name, medianOf(three), medianOf(one), "/s")
	}
	return nil
}

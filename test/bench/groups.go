package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// idle measures a node that has nothing to do.
func (b *bench) idle(ctx context.Context) error {
	time.Sleep(5 * time.Second)
	before, err := b.hf.cpuSeconds()
	if err != nil {
		return err
	}
	const window = 20 * time.Second
	time.Sleep(window)
	after, err := b.hf.cpuSeconds()
	if err != nil {
		return err
	}
	rss, err := b.hf.rss()
	if err != nil {
		return err
	}
	b.value("idle node, resident memory", rss, "MiB", 150)
	b.value("idle node, share of a core", (after-before)/window.Seconds()*100, "%", 2)
	return nil
}

const createAccounts = `CREATE TABLE copied (aid int PRIMARY KEY, bid int, abalance int, filler char(84))`

// writeRows writes pgbench's account rows as COPY text and returns the file.
func (b *bench) writeRows() (string, error) {
	name := filepath.Join(b.dir, "accounts.tsv")
	f, err := os.Create(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var buf []byte
	for i := 1; i <= b.scale*100_000; i++ {
		buf = strconv.AppendInt(buf, int64(i), 10)
		buf = append(buf, '\t')
		buf = strconv.AppendInt(buf, int64((i-1)/100_000+1), 10)
		buf = append(buf, "\t0\t"...)
		buf = append(buf, strings.Repeat(" ", 84)...)
		buf = append(buf, '\n')
		if len(buf) > 1<<20 {
			if _, err := f.Write(buf); err != nil {
				return "", err
			}
			buf = buf[:0]
		}
	}
	if _, err := f.Write(buf); err != nil {
		return "", err
	}
	return name, f.Close()
}

func (b *bench) copyIn(ctx context.Context) error {
	file, err := b.writeRows()
	if err != nil {
		return err
	}
	defer os.Remove(file)
	load := func(s *server, sameTxn bool) func(int) (float64, error) {
		return func(int) (float64, error) {
			if _, err := s.psql(ctx, "DROP TABLE IF EXISTS copied"); err != nil {
				return 0, err
			}
			if !sameTxn {
				if _, err := s.psql(ctx, createAccounts); err != nil {
					return 0, err
				}
			}
			return seconds(func() error {
				copyCmd := fmt.Sprintf(`\copy copied FROM '%s'`, file)
				var err error
				if sameTxn {
					_, err = s.psql(ctx, "BEGIN", createAccounts, copyCmd, "COMMIT")
				} else {
					_, err = s.psql(ctx, copyCmd)
				}
				return err
			})
		}
	}
	for _, sameTxn := range []bool{true, false} {
		yard := 0.0
		if b.pg != nil {
			if yard, err = b.median(load(b.pg, sameTxn)); err != nil {
				return err
			}
		}
		ours, err := b.median(load(b.hf, sameTxn))
		if err != nil {
			return err
		}
		if sameTxn {
			b.ratio("COPY, table created in the same transaction", ours, yard, "s", true, 3)
		} else {
			b.ratio("COPY, table that existed", ours, yard, "s", true, 5)
		}
	}
	_, err = b.hf.psql(ctx, "DROP TABLE copied")
	return err
}

// load fills pgbench's tables on both servers, once.
func (b *bench) load(ctx context.Context) error {
	for _, s := range []*server{b.pg, b.hf} {
		if s == nil {
			continue
		}
		if n, err := s.psql(ctx, "SELECT count(*) FROM pgbench_branches"); err == nil && n == strconv.Itoa(b.scale) {
			continue
		}
		t, err := seconds(func() error {
			_, err := s.tool(ctx, "pgbench", "-i", "-I", "dtGvp", "-s", strconv.Itoa(b.scale))
			return err
		})
		if err != nil {
			return err
		}
		fmt.Printf("pgbench -i -I dtGvp -s %d on %s: %.1f s\n", b.scale, s.name, t)
	}
	return nil
}

func (b *bench) backup(ctx context.Context) error {
	if err := b.load(ctx); err != nil {
		return err
	}
	yard, err := b.dumpTimes(ctx)
	if err != nil {
		return err
	}
	if err := b.hf.resetPeak(); err != nil {
		return err
	}
	coll := func(i int) string { return fmt.Sprintf("'nodelocal://1/bench/%d'", i) }
	// pg_dump is a program, so the full is timed as one. An incremental is compared
	// with a full by what the statements take: psql's own start, some 30 ms, is
	// part of neither.
	var statements []float64
	full, err := b.median(func(i int) (float64, error) {
		return seconds(func() error {
			t, err := b.timed(ctx, "BACKUP DATABASE defaultdb INTO "+coll(i))
			statements = append(statements, t)
			return err
		})
	})
	if err != nil {
		return err
	}
	b.ratio("full BACKUP against pg_dump -Fd -j2", full, yard.dump, "s", true, 1)
	fullBytes, err := dirBytes(filepath.Join(b.hf.dir, "extern", "bench", "0"))
	if err != nil {
		return err
	}
	if err := b.incrementals(ctx, medianOf(statements), fullBytes, coll(0)); err != nil {
		return err
	}
	restore, err := b.median(func(i int) (float64, error) {
		db := fmt.Sprintf("restored%d", i)
		t, err := seconds(func() error {
			return b.exec(ctx, fmt.Sprintf("RESTORE DATABASE defaultdb FROM LATEST IN %s WITH new_db_name = '%s'", coll(1%b.runs), db))
		})
		if err != nil {
			return 0, err
		}
		return t, b.exec(ctx, "DROP DATABASE "+db+" CASCADE")
	})
	if err != nil {
		return err
	}
	b.ratio("RESTORE against pg_restore -j2", restore, yard.restore, "s", true, 0.7)
	peak, err := b.hf.peakRSS()
	if err != nil {
		return err
	}
	b.value("peak memory during backup and restore", peak, "MiB", 600)
	return nil
}

func (b *bench) incrementals(ctx context.Context, full, fullBytes float64, coll string) error {
	dir := filepath.Join(b.hf.dir, "extern", "bench", "0")
	var bytes float64
	inc, err := b.median(func(i int) (float64, error) {
		changed := b.scale * 100_000 / 100
		if err := b.exec(ctx, fmt.Sprintf("UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid BETWEEN %d AND %d",
			i*changed+1, (i+1)*changed)); err != nil {
			return 0, err
		}
		before, err := dirBytes(dir)
		if err != nil {
			return 0, err
		}
		t, err := b.timed(ctx, "BACKUP DATABASE defaultdb INTO LATEST IN "+coll)
		if err != nil {
			return 0, err
		}
		after, err := dirBytes(dir)
		bytes = after - before
		return t, err
	})
	if err != nil {
		return err
	}
	b.ratio("incremental of 1% against the full's time", inc, full, "s", true, 0.05)
	b.ratio("incremental of 1% against the full's bytes", bytes/1e6, fullBytes/1e6, "MB", true, 0.03)
	empty, err := b.median(func(int) (float64, error) {
		return b.timed(ctx, "BACKUP DATABASE defaultdb INTO LATEST IN "+coll)
	})
	if err != nil {
		return err
	}
	b.value("empty incremental", empty*1000, "ms", 80)
	show, err := b.median(func(int) (float64, error) { return b.timed(ctx, "SHOW BACKUP FROM LATEST IN "+coll) })
	if err != nil {
		return err
	}
	b.value("SHOW BACKUP", show, "s", 0.3)
	return nil
}

func (b *bench) exec(ctx context.Context, statement string) error {
	_, err := b.hf.psql(ctx, statement)
	return err
}

var timing = regexp.MustCompile(`Time: ([0-9.]+) ms`)

// timed returns the seconds that psql measures for a statement, without its own
// start.
func (b *bench) timed(ctx context.Context, statement string) (float64, error) {
	out, err := b.hf.psql(ctx, `\timing on`, statement)
	if err != nil {
		return 0, err
	}
	all := timing.FindAllStringSubmatch(out, -1)
	if len(all) == 0 {
		return 0, fmt.Errorf("psql printed no time: %s", out)
	}
	ms, err := strconv.ParseFloat(all[len(all)-1][1], 64)
	return ms / 1000, err
}

type dumpTimes struct{ dump, restore float64 }

// dumpTimes measures PostgreSQL's own tools.
func (b *bench) dumpTimes(ctx context.Context) (dumpTimes, error) {
	var t dumpTimes
	if b.pg == nil {
		return t, nil
	}
	dir := filepath.Join(b.dir, "dump")
	var err error
	if t.dump, err = b.median(func(int) (float64, error) {
		if err := os.RemoveAll(dir); err != nil {
			return 0, err
		}
		return seconds(func() error {
			_, err := b.pg.tool(ctx, "pg_dump", "-Fd", "-j2", "-f", dir)
			return err
		})
	}); err != nil {
		return t, err
	}
	defer os.RemoveAll(dir)
	t.restore, err = b.median(func(int) (float64, error) {
		if _, err := b.pg.psql(ctx, "DROP DATABASE IF EXISTS restored", "CREATE DATABASE restored"); err != nil {
			return 0, err
		}
		return seconds(func() error {
			_, err := b.pg.tool(ctx, "pg_restore", "-j2", "-d", "restored", dir)
			return err
		})
	})
	return t, err
}

var tps = regexp.MustCompile(`tps = ([0-9.]+)`)

func (b *bench) pgbench(ctx context.Context) error {
	if err := b.load(ctx); err != nil {
		return err
	}
	for _, c := range []struct {
		name   string
		args   []string
		target float64
	}{
		{"pgbench -S -M prepared -c 8, transactions/s", []string{"-S", "-M", "prepared"}, 0.4},
		{"pgbench -N -c 8, transactions/s", []string{"-N"}, 0.3},
	} {
		rate := func(s *server) (float64, error) {
			if s == nil {
				return 0, nil
			}
			return b.median(func(int) (float64, error) { return pgbenchRate(ctx, s, b.seconds, c.args...) })
		}
		yard, err := rate(b.pg)
		if err != nil {
			return err
		}
		ours, err := rate(b.hf)
		if err != nil {
			return err
		}
		b.ratio(c.name, ours, yard, "", false, c.target)
	}
	return nil
}

// pgbenchRate runs pgbench with eight clients and returns the transactions per second.
func pgbenchRate(ctx context.Context, s *server, seconds int, more ...string) (float64, error) {
	args := append([]string{"-n", "-c", "8", "-j", "2", "-T", strconv.Itoa(seconds)}, more...)
	out, err := s.tool(ctx, "pgbench", args...)
	if err != nil {
		return 0, err
	}
	m := tps.FindStringSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("pgbench printed no rate: %s", out)
	}
	return strconv.ParseFloat(m[1], 64)
}

// dirBytes adds up the sizes of all files below dir.
func dirBytes(dir string) (float64, error) {
	var total int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		total += info.Size()
		return nil
	})
	return float64(total), err
}

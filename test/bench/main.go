// Command bench measures Holdfast against PostgreSQL's own tools in one run and
// prints ratios, because machines differ.
//
// Without an installed PostgreSQL server it prints Holdfast's own times and no
// ratios. Needs psql and pgbench; see docs/operations.md for what each line means.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"sort"
	"strings"
	"time"
)

type options struct {
	binary  string
	scale   int
	runs    int
	seconds int
	only    string
	dir     string
}

func main() {
	log.SetFlags(log.Ltime)
	var o options
	flag.StringVar(&o.binary, "bin", "bin/holdfast", "the holdfast program")
	flag.IntVar(&o.scale, "scale", 50, "pgbench scale: 100,000 rows each")
	flag.IntVar(&o.runs, "runs", 5, "runs of each measurement; the median is printed")
	flag.IntVar(&o.seconds, "seconds", 10, "length of each pgbench run")
	flag.StringVar(&o.only, "only", "", "comma-separated groups: copy,backup,pgbench,idle,cluster (default), memory")
	flag.StringVar(&o.dir, "dir", "", "directory for data (default: a temporary one, removed at the end)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, o)
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, o options) error {
	if o.dir == "" {
		dir, err := os.MkdirTemp("", "holdfast-bench-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		o.dir = dir
	}
	if err := os.Chmod(o.dir, 0o755); err != nil {
		return err
	}
	pg, err := startPostgres(ctx, filepath.Join(o.dir, "pg"))
	if err != nil {
		return err
	}
	defer pg.stop()
	hf, err := startHoldfast(ctx, o.binary, filepath.Join(o.dir, "hf"))
	if err != nil {
		return err
	}
	defer hf.stop()
	b := &bench{options: o, pg: pg, hf: hf}
	groups := []struct {
		name string
		run  func(context.Context) error
	}{
		{"idle", b.idle}, {"copy", b.copyIn}, {"backup", b.backup}, {"pgbench", b.pgbench}, {"memory", b.memory},
		{"cluster", b.cluster},
	}
	only := o.only
	if only == "" {
		only = "idle,copy,backup,pgbench,cluster" // memory takes ten times as long, and ten times the disk
	}
	for _, g := range groups {
		if !strings.Contains(","+only+",", ","+g.name+",") {
			continue
		}
		log.Printf("group %s", g.name)
		if err := g.run(ctx); err != nil {
			return fmt.Errorf("group %s: %w", g.name, err)
		}
	}
	b.print()
	return nil
}

// bench collects results.
type bench struct {
	options
	pg, hf  *server
	results []result
}

type result struct {
	name     string
	ours     float64
	yard     float64 // 0: none
	unit     string
	target   string
	ok, hasT bool
}

// ratio records ours against yard; the figure is ours/yard and must be at most
// (or, for rates, at least) the target.
func (b *bench) ratio(name string, ours, yard float64, unit string, atMost bool, target float64) {
	r := result{name: name, ours: ours, yard: yard, unit: unit, hasT: yard > 0}
	if yard > 0 {
		if atMost {
			r.target, r.ok = fmt.Sprintf("<= %.2f", target), ours/yard <= target
		} else {
			r.target, r.ok = fmt.Sprintf(">= %.2f", target), ours/yard >= target
		}
	}
	b.results = append(b.results, r)
	log.Printf("%s: %.4g %s, yardstick %.4g", name, ours, unit, yard)
}

// plain records ours and what it is compared with; nothing is asked of it.
func (b *bench) plain(name string, ours, yard float64, unit string) {
	b.results = append(b.results, result{name: name, ours: ours, yard: yard, unit: unit})
	log.Printf("%s: %.4g %s, yardstick %.4g", name, ours, unit, yard)
}

// value records an absolute figure that must be at most limit.
func (b *bench) value(name string, ours float64, unit string, limit float64) {
	b.results = append(b.results, result{
		name: name, ours: ours, unit: unit, hasT: true,
		target: fmt.Sprintf("<= %g %s", limit, unit), ok: ours <= limit,
	})
	log.Printf("%s: %.4g %s", name, ours, unit)
}

func (b *bench) print() {
	fmt.Printf("\n%-52s %12s %12s %8s  %-14s\n", "figure", "holdfast", "yardstick", "ratio", "target")
	for _, r := range b.results {
		yard, ratio := "", ""
		if r.yard > 0 {
			yard, ratio = fmt.Sprintf("%.4g", r.yard), fmt.Sprintf("%.3f", r.ours/r.yard)
		}
		verdict := ""
		if r.hasT {
			verdict = map[bool]string{true: "met", false: "MISSED"}[r.ok]
		}
		fmt.Printf("%-52s %12s %12s %8s  %-14s %s\n", r.name, fmt.Sprintf("%.4g %s", r.ours, r.unit), yard, ratio, r.target, verdict)
	}
}

// median runs f o.runs times.
func (b *bench) median(f func(i int) (float64, error)) (float64, error) {
	var xs []float64
	for i := range b.runs {
		x, err := f(i)
		if err != nil {
			return 0, err
		}
		xs = append(xs, x)
	}
	return medianOf(xs), nil
}

func medianOf(xs []float64) float64 {
	sort.Float64s(xs)
	return xs[len(xs)/2]
}

// seconds times f.
func seconds(f func() error) (float64, error) {
	start := time.Now()
	err := f()
	return time.Since(start).Seconds(), err
}

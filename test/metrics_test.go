package test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/holdfastdb/holdfast/test/node"
)

// TestMetricsAreWellFormed reads /_status/vars as strictly as the text format is
// written down: each family is described once, before its samples, which stand
// together; no series appears twice; names, labels and values are valid; and a
// histogram adds up.
func TestMetricsAreWellFormed(t *testing.T) {
	n := node.Start(t)
	first := vars(t, n)
	n.Exec("defaultdb", "SET CLUSTER SETTING jobs.debug.pausepoints = 'backup.before.flow'", "CREATE TABLE p (a INT PRIMARY KEY)")
	waitJob(t, n, n.Value("defaultdb", "BACKUP TABLE p INTO 'nodelocal://1/p' WITH detached"), "paused")
	n.Exec("defaultdb", "RESET CLUSTER SETTING jobs.debug.pausepoints")
	n.Exec("defaultdb", "CREATE TABLE t (a INT PRIMARY KEY)", "INSERT INTO t VALUES (1)", "BACKUP TABLE t INTO 'nodelocal://1/c'",
		"CREATE DATABASE e", "RESTORE TABLE t FROM LATEST IN 'nodelocal://1/c' WITH into_db = 'e'")
	_ = n.TryExec("defaultdb", "BACKUP TABLE t INTO LATEST IN 'nodelocal://1/nothing'")
	second := vars(t, n)
	for name, was := range first {
		now, ok := second[name]
		if !ok {
			t.Errorf("%s is gone", name)
		} else if was.kind == "counter" && now.value < was.value {
			t.Errorf("counter %s went from %g to %g", name, was.value, now.value)
		}
	}
	for _, name := range []string{
		"jobs_backup_currently_running", "jobs_backup_currently_paused", "jobs_backup_currently_idle", "jobs_backup_resume_completed",
		"jobs_backup_resume_failed", "jobs_backup_resume_retry_error", "jobs_backup_fail_or_cancel_completed",
		"jobs_backup_fail_or_cancel_failed", "jobs_backup_fail_or_cancel_retry_error",
		"jobs_restore_currently_running", "jobs_restore_currently_paused", "jobs_restore_resume_completed", "jobs_restore_resume_failed",
		"jobs_restore_fail_or_cancel_completed", "jobs_adopt_iterations", "jobs_claimed_jobs", "jobs_resumed_claimed_jobs",
		"schedules_BACKUP_last_completed_time",
	} {
		if _, ok := second[name]; !ok {
			t.Errorf("%s is missing", name)
		}
	}
	for name, want := range map[string]float64{"jobs_backup_resume_completed": 1, "jobs_restore_resume_completed": 1,
		"jobs_backup_resume_failed": 1, "jobs_backup_fail_or_cancel_completed": 1, "jobs_backup_currently_running": 0, "jobs_backup_currently_paused": 1} {
		if got := second[name].value; got != want {
			t.Errorf("%s is %g, want %g", name, got, want)
		}
	}
}

// sample is a series and its value.
type sample struct {
	kind  string
	value float64
}

var (
	metricName = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*$`)
	sampleLine = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(.*)\})? (\S+)$`)
	labelPair  = regexp.MustCompile(`^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)`)
)

// vars reads and checks a node's metrics.
func vars(t *testing.T, n *node.Node) map[string]sample {
	t.Helper()
	res, err := http.Get(n.HTTP() + "/_status/vars")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if ct := res.Header.Get("Content-Type"); !strings.HasPrefix(ct, "text/plain") {
		t.Errorf("content type %q", ct)
	}
	all, problems := parseVars(res.Body)
	for _, p := range problems {
		t.Error(p)
	}
	return all
}

func parseVars(r io.Reader) (all map[string]sample, problems []string) {
	all = map[string]sample{}
	kinds, helped := map[string]string{}, map[string]bool{}
	closed := map[string]bool{} // families whose samples have ended
	current := ""
	buckets := map[string]float64{} // last bucket of each histogram
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		bad := func(format string, args ...any) {
			problems = append(problems, fmt.Sprintf("%s: %q", fmt.Sprintf(format, args...), line))
		}
		if line == "" {
			bad("empty line")
			continue
		}
		if strings.HasPrefix(line, "#") {
			f := strings.SplitN(line, " ", 4)
			if len(f) < 4 || f[0] != "#" || f[1] != "HELP" && f[1] != "TYPE" || !metricName.MatchString(f[2]) {
				bad("neither HELP nor TYPE")
				continue
			}
			name := f[2]
			if current != name {
				closed[current] = true
				current = name
			}
			if closed[name] {
				bad("the family is described in two places")
			}
			if f[1] == "HELP" {
				if helped[name] || strings.TrimSpace(f[3]) == "" {
					bad("empty or second HELP")
				}
				helped[name] = true
				continue
			}
			if kinds[name] != "" {
				bad("second TYPE")
			}
			switch f[3] {
			case "counter", "gauge", "histogram", "summary":
			default:
				bad("unknown type")
			}
			kinds[name] = f[3]
			continue
		}
		m := sampleLine.FindStringSubmatch(line)
		if m == nil {
			bad("no sample")
			continue
		}
		name, labels := m[1], m[3]
		family := name
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base, ok := strings.CutSuffix(name, suffix); ok && (kinds[base] == "histogram" || kinds[base] == "summary" && suffix != "_bucket") {
				family = base
			}
		}
		if family != current || kinds[family] == "" || !helped[family] {
			bad("sample outside of its family, which needs HELP and TYPE")
		}
		names, bound := map[string]bool{}, ""
		for rest := labels; rest != ""; {
			p := labelPair.FindStringSubmatch(rest)
			if p == nil {
				bad("malformed labels")
				break
			}
			if names[p[1]] {
				bad("label %s twice", p[1])
			}
			names[p[1]] = true
			if p[1] == "le" {
				bound = p[2]
			}
			rest = rest[len(p[0]):]
		}
		value, err := strconv.ParseFloat(m[4], 64)
		if err != nil {
			bad("value: %v", err)
		}
		if kinds[family] == "counter" && value < 0 {
			bad("negative counter")
		}
		series := name
		if labels = strings.Trim(strings.Replace(labels, `node_id="1"`, "", 1), ","); labels != "" {
			series += "{" + labels + "}"
		}
		if _, ok := all[series]; ok {
			bad("the series appears twice")
		}
		all[series] = sample{kinds[family], value}
		if kinds[family] == "histogram" && strings.HasSuffix(name, "_bucket") {
			key := family + strings.Replace(labels, `le="`+bound+`"`, "", 1)
			if value < buckets[key] {
				bad("buckets do not grow")
			}
			buckets[key] = value
			if bound == "" {
				bad("bucket without a bound")
			}
		}
	}
	if err := lines.Err(); err != nil {
		problems = append(problems, err.Error())
	}
	return all, problems
}

// TestMetricsParserIsStrict: the check above can fail.
func TestMetricsParserIsStrict(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want string
	}{
		"fine":       {"# HELP a b\n# TYPE a counter\na{x=\"1\",y=\"\\\"\"} 1\na{x=\"2\"} 1e+06\n", ""},
		"no type":    {"# HELP a b\na 1\n", "needs HELP and TYPE"},
		"twice":      {"# HELP a b\n# TYPE a gauge\na 1\na 2\n", "appears twice"},
		"scattered":  {"# HELP a b\n# TYPE a gauge\na 1\n# HELP c b\n# TYPE c gauge\nc 1\na{x=\"1\"} 2\n", "outside of its family"},
		"described":  {"# HELP a b\n# TYPE a gauge\na 1\n# HELP c b\n# TYPE c gauge\nc 1\n# HELP a b\n", "two places"},
		"bad labels": {"# HELP a b\n# TYPE a gauge\na{x=1} 1\n", "malformed labels"},
		"bad value":  {"# HELP a b\n# TYPE a gauge\na one\n", "value"},
		"bad name":   {"# HELP a.b c\n# TYPE a.b gauge\na.b 1\n", "neither HELP"},
		"negative":   {"# HELP a b\n# TYPE a counter\na -1\n", "negative"},
		"shrinking":  {"# HELP a b\n# TYPE a histogram\na_bucket{le=\"1\"} 2\na_bucket{le=\"+Inf\"} 1\n", "do not grow"},
	} {
		_, problems := parseVars(strings.NewReader(c.text))
		if got := strings.Join(problems, "; "); c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

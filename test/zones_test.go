package test

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfastdb/holdfast/test/node"
)

// awaitRows waits until a query through a node answers with rows, each "a|b|…".
func awaitRows(t *testing.T, n *node.Node, what, query string, want ...string) time.Duration {
	t.Helper()
	start := time.Now()
	for {
		var got []string
		rows, err := n.TryRows("defaultdb", query)
		for _, r := range rows {
			got = append(got, strings.Join(r, "|"))
		}
		if err == nil && strings.Join(got, "\n") == strings.Join(want, "\n") {
			t.Logf("%s: %s", what, time.Since(start).Round(10*time.Millisecond))
			return time.Since(start)
		}
		if time.Since(start) > 60*time.Second {
			t.Fatalf("%s: %v\ngot\n%s\nwant\n%s", what, err, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// metric is the value of a gauge of a node.
func metric(t *testing.T, n *node.Node, name string) int {
	t.Helper()
	res, err := http.Get(n.HTTP() + "/_status/vars")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^` + name + `\{[^}]*\} (\d+)$`).FindSubmatch(b)
	if m == nil {
		t.Fatalf("%s is not among the metrics", name)
	}
	v, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestPartitionsHaveHomes keeps partitions of one table in different regions, moves
// one of them, asks for what no node can give, and takes the lot to another cluster.
func TestPartitionsHaveHomes(t *testing.T) {
	if testing.Short() {
		t.Skip("moves replicas between three processes")
	}
	var places []node.Place
	for _, r := range []string{"east", "west", "eu"} {
		places = append(places, node.Place{Flags: []string{"--locality=region=" + r}})
	}
	nodes := node.StartClusterAt(t, places)
	awaitLive(t, nodes[0], 3)
	n := nodes[0]
	n.Exec("defaultdb", `CREATE TABLE homes (city TEXT, id INT, PRIMARY KEY (city, id), INDEX by_id (id) PARTITION BY RANGE (id) (
			PARTITION low VALUES FROM (MINVALUE) TO (100), PARTITION high VALUES FROM (100) TO (MAXVALUE)))
		PARTITION BY LIST (city) (PARTITION us_west VALUES IN ('seattle', 'portland'), PARTITION eu VALUES IN ('rome'), PARTITION rest VALUES IN (DEFAULT))`,
		"INSERT INTO homes SELECT c, i FROM (VALUES ('seattle'), ('portland'), ('rome'), ('boston')) AS v (c), generate_series(1, 50) AS g (i)")
	zone := func(target, vars string) {
		n.Exec("defaultdb", "ALTER "+target+" CONFIGURE ZONE USING "+vars)
	}
	one := func(region string) string {
		return fmt.Sprintf("num_replicas = 1, constraints = '[+region=%s]', lease_preferences = '[[+region=%s]]'", region, region)
	}
	zone("PARTITION us_west OF TABLE homes", one("west"))
	zone("PARTITION eu OF TABLE homes", one("eu"))
	zone("PARTITION rest OF TABLE homes", one("east"))
	zone("PARTITION high OF TABLE homes", one("eu"))
	zone("INDEX homes@by_id", one("west"))
	where := func(start string) string {
		return "SELECT replicas::TEXT, lease_holder FROM [SHOW RANGES FROM TABLE homes WITH DETAILS] WHERE start_key LIKE '%" + start + "'"
	}
	for start, want := range map[string]string{"/1": "{1}|1", `/"portland"`: "{2}|2", `/"rome"`: "{3}|3", `/"seattle"`: "{2}|2",
		`/"seattle"/PrefixEnd`: "{1}|1", "/2": "{2}|2", "/2/100": "{3}|3"} {
		awaitRows(t, n, start+" is at home", where(start), want)
	}
	if got := n.Value("defaultdb", "SELECT count(*) FROM homes WHERE city = 'rome'") + n.Value("defaultdb", "SELECT count(*) FROM homes@by_id"); got != "50200" {
		t.Errorf("rows: %s", got)
	}
	zone("PARTITION eu OF TABLE homes", one("west"))
	if d := awaitRows(t, n, "a changed zone is obeyed", where(`/"rome"`), "{2}|2"); d > 15*time.Second {
		t.Errorf("a changed zone was obeyed after %s", d)
	}
	// One node of the region cannot have two replicas: the rest are elsewhere, rows can
	// be written, and the operator is told.
	zone("PARTITION eu OF TABLE homes", "num_replicas = 3, constraints = '{+region=eu: 2}', lease_preferences = '[]'")
	awaitRows(t, n, "as many replicas as there can be", where(`/"rome"`), "{1,2,3}|2")
	n.Exec("defaultdb", "INSERT INTO homes VALUES ('rome', 1000)")
	violations := func() (sum int) {
		for _, n := range nodes {
			sum += metric(t, n, "ranges_constraint_violations")
		}
		return sum
	}
	for end := time.Now().Add(20 * time.Second); violations() != 1; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d ranges violate constraints, want 1", violations())
		}
	}
	zone("PARTITION eu OF TABLE homes", one("eu"))
	awaitRows(t, n, "what can be met is met", where(`/"rome"`), "{3}|3")

	// A partition without a zone shares ranges again.
	n.Exec("defaultdb", "ALTER TABLE homes PARTITION BY NOTHING")
	if got := n.Value("defaultdb", "SELECT count(*) FROM crdb_internal.zones WHERE table_name = 'homes' AND partition_name IS NOT NULL"); got != "1" {
		t.Errorf("%s zones of partitions are left, want that of high", got)
	}
}

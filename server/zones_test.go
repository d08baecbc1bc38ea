package server

import (
	"context"
	"testing"
	"time"
)

// TestDroppedZones drops a table, an index and a database that have zone
// configurations: they hold until the data may be collected and go then.
func TestDroppedZones(t *testing.T) {
	n := startNode(t, testConfig(t))
	c := connectNode(t, n, nil)
	ctx := context.Background()
	count := func() (k int) {
		if err := c.QueryRow(ctx, "SELECT count(*) FROM system.zones").Scan(&k); err != nil {
			t.Fatal(err)
		}
		return k
	}
	before := count()
	for _, sql := range []string{
		"CREATE DATABASE d", "CREATE TABLE d.a (x INT PRIMARY KEY, y INT, INDEX a_y (y))", "CREATE TABLE d.b (x INT)", "CREATE DATABASE e",
		"ALTER DATABASE d CONFIGURE ZONE USING gc.ttlseconds = 1", "ALTER DATABASE e CONFIGURE ZONE USING gc.ttlseconds = 1",
		"ALTER TABLE d.b CONFIGURE ZONE USING gc.ttlseconds = 3600", "ALTER INDEX d.a@a_y CONFIGURE ZONE USING gc.ttlseconds = 1",
	} {
		exec1(t, c, sql)
	}
	if k := count(); k != before+4 {
		t.Fatalf("%d zone rows, want %d", k, before+4)
	}
	exec1(t, c, "DROP INDEX d.a@a_y")
	exec1(t, c, "DROP DATABASE e CASCADE")
	exec1(t, c, "DROP TABLE d.b")
	wait := func(want int) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
			switch k := count(); {
			case k == want:
				return
			case time.Now().After(end):
				t.Fatalf("%d zone rows, want %d", k, want)
			}
		}
	}
	wait(before + 2) // d, and d.b, whose data stay for an hour.
	exec1(t, c, "DROP DATABASE d CASCADE")
	wait(before + 1)
}

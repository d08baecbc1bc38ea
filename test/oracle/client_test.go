package oracle

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/holdfastdb/holdfast/test/node"
)

// statementTimeout is far above what any statement here takes: a node that
// hangs is a failure.
const statementTimeout = 2 * time.Minute

// client keeps one connection per database of one node.
type client struct {
	n     *node.Node
	conns map[string]*pgx.Conn
}

func newClient(n *node.Node) *client { return &client{n: n, conns: map[string]*pgx.Conn{}} }

func (c *client) close() {
	for db, conn := range c.conns {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		conn.Close(ctx)
		cancel()
		delete(c.conns, db)
	}
}

// drop closes the connection to a database, which otherwise could not be dropped
// or renamed without leaving it behind.
func (c *client) drop(db string) {
	if conn := c.conns[db]; conn != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		conn.Close(ctx)
		cancel()
		delete(c.conns, db)
	}
}

func (c *client) conn(ctx context.Context, db string) (*pgx.Conn, error) {
	if conn := c.conns[db]; conn != nil && !conn.IsClosed() {
		return conn, nil
	}
	conn, err := pgx.Connect(ctx, c.n.URL(db))
	if err == nil {
		c.conns[db] = conn
	}
	return conn, err
}

// rows runs statements and returns the rows of the last one as text.
func (c *client) rows(db, query string) ([][]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), statementTimeout)
	defer cancel()
	conn, err := c.conn(ctx, db)
	if err != nil {
		return nil, err
	}
	res, err := conn.PgConn().Exec(ctx, query).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%.500s: %w", query, err)
	}
	if len(res) == 0 {
		return nil, nil
	}
	var out [][]string
	for _, r := range res[len(res)-1].Rows {
		line := make([]string, len(r))
		for i, v := range r {
			line[i] = "NULL"
			if v != nil {
				line[i] = string(v)
			}
		}
		out = append(out, line)
	}
	return out, nil
}

// transact runs one transaction that also leaves its mark with its commit
// timestamp.
func (c *client) transact(db string, ops []op, writer, seq int) (timestamp, error) {
	ctx, cancel := context.WithTimeout(context.Background(), statementTimeout)
	defer cancel()
	conn, err := c.conn(ctx, db)
	if err != nil {
		return timestamp{}, err
	}
	ts, err := func() (string, error) {
		if _, err := conn.PgConn().Exec(ctx, "BEGIN").ReadAll(); err != nil {
			return "", err
		}
		for _, o := range ops {
			if strings.HasPrefix(o.sql, "COPY ") {
				_, err = conn.PgConn().CopyFrom(ctx, strings.NewReader(o.copy), o.sql)
			} else {
				_, err = conn.PgConn().Exec(ctx, o.sql).ReadAll()
			}
			if err != nil {
				return "", fmt.Errorf("%.500s: %w", o.sql, err)
			}
		}
		res, err := conn.PgConn().Exec(ctx, markStatement(writer, seq)).ReadAll()
		if err != nil {
			return "", err
		}
		if _, err := conn.PgConn().Exec(ctx, "COMMIT").ReadAll(); err != nil {
			return "", err
		}
		return string(res[0].Rows[0][0]), nil
	}()
	if err != nil {
		if !conn.IsClosed() && !isBroken(err) {
			_, _ = conn.PgConn().Exec(ctx, "ROLLBACK").ReadAll() // The first error counts.
		}
		return timestamp{}, err
	}
	return parseTimestamp(ts)
}

// marks lists every committed transaction with its commit timestamp, so that one
// whose client lost its connection can still be judged.
const marksTable = "ctl.public.marks"

func markStatement(writer, seq int) string {
	return fmt.Sprintf("INSERT INTO %s VALUES (%d, %d, cluster_logical_timestamp()) RETURNING ts", marksTable, writer, seq)
}

// marked says whether a transaction committed, and when.
func (c *client) marked(writer, seq int) (ts timestamp, ok bool, err error) {
	rows, err := c.rows("ctl", fmt.Sprintf("SELECT ts FROM %s WHERE writer = %d AND seq = %d", marksTable, writer, seq))
	if err != nil || len(rows) == 0 {
		return timestamp{}, false, err
	}
	ts, err = parseTimestamp(rows[0][0])
	return ts, err == nil, err
}

// isRetry says whether a transaction may simply be run again.
func isRetry(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "40001" || pg.Code == "40P01")
}

// isBroken says whether the connection, or the node, went away.
func isBroken(err error) bool {
	var pg *pgconn.PgError
	return err != nil && (!errors.As(err, &pg) || strings.HasPrefix(pg.Code, "57P"))
}

// timestamp is an instant of the cluster's logical clock.
type timestamp struct {
	wall    int64
	logical int32
}

const lastTick = 1<<31 - 1

func parseTimestamp(s string) (timestamp, error) {
	wall, logical, _ := strings.Cut(s, ".")
	w, err := strconv.ParseInt(wall, 10, 64)
	if err != nil {
		return timestamp{}, fmt.Errorf("timestamp %q: %w", s, err)
	}
	l, err := strconv.ParseInt((logical + "0000000000")[:10], 10, 32)
	return timestamp{w, int32(l)}, err
}

func (t timestamp) String() string { return fmt.Sprintf("%d.%010d", t.wall, t.logical) }

func (t timestamp) less(u timestamp) bool {
	return t.wall < u.wall || t.wall == u.wall && t.logical < u.logical
}

// tick returns the instant just before or after t.
func (t timestamp) tick(by int) timestamp {
	switch {
	case by == 0:
	case by < 0 && t.logical == 0:
		return timestamp{t.wall - 1, lastTick}
	case by < 0:
		t.logical--
	case t.logical == lastTick:
		return timestamp{t.wall + 1, 0}
	default:
		t.logical++
	}
	return t
}

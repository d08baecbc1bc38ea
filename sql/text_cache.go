package sql

import (
	"strings"

	"github.com/lib/pq/oid"

	"github.com/holdfastdb/holdfast/sql/parser"
)

// textCache remembers statements with parameters by their text: drivers that
// use the unnamed statement prepare the same text over and over. Entries share
// their plan, which belongs to the session.
type textCache struct {
	byText map[string]*textEntry
	// order is a clock of the keys: the oldest goes when the cache is full.
	order []string
}

type textEntry struct {
	prep   *Prepared
	params []oid.Oid
}

// Larger texts are rarely repeated and cost more to keep.
const (
	maxCachedTexts    = 128
	maxCachedTextSize = 4 << 10
)

func (c *textCache) get(sql string) *textEntry {
	if c.byText == nil || len(sql) > maxCachedTextSize || strings.IndexByte(sql, '$') < 0 {
		return nil
	}
	return c.byText[sql]
}

// put remembers a statement that was just prepared from the whole text sql.
func (c *textCache) put(prep *Prepared, params []oid.Oid) {
	sql := prep.Stmt.SQL
	if prep.plan == nil || prep.Stmt.NumPlaceholders == 0 || len(sql) > maxCachedTextSize {
		return
	}
	if c.byText == nil {
		c.byText = map[string]*textEntry{}
	}
	if c.byText[sql] == nil {
		if len(c.order) >= maxCachedTexts {
			delete(c.byText, c.order[0])
			c.order = c.order[1:]
		}
		c.order = append(c.order, sql)
	}
	c.byText[sql] = &textEntry{prep: prep, params: append([]oid.Oid(nil), params...)}
}

// statements returns what Parse would make of sql, if it is known.
func (c *textCache) statements(sql string) []parser.Statement {
	if e := c.get(sql); e != nil {
		return []parser.Statement{e.prep.Stmt}
	}
	return nil
}

// prepared returns a copy of a remembered statement under another name, if it
// was prepared for the same parameter types.
func (c *textCache) prepared(name string, stmt parser.Statement, params []oid.Oid) *Prepared {
	e := c.get(stmt.SQL)
	if e == nil || len(e.params) != len(params) {
		return nil
	}
	for i, o := range params {
		if e.params[i] != o {
			return nil
		}
	}
	p := *e.prep
	p.Name, p.used = name, true
	return &p
}

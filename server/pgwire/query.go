package pgwire

import (
	"context"

	"github.com/jackc/pgproto3/v2"
	"github.com/lib/pq/oid"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql"
	"github.com/holdfastdb/holdfast/sql/pgcodec"
)

// statement is a prepared statement as the protocol sees it.
type statement struct {
	prep *sql.Prepared // nil for an empty query
	// codecs of the result columns, made when first needed, for exactly cols.
	cols   []sql.ResultColumn
	codecs []pgcodec.Codec
}

// portal is a statement with parameters and the formats its rows shall have.
type portal struct {
	stmt *statement
	po   *sql.Portal // nil for an empty query
}

func (p *portal) formats() []int16 {
	if p.po == nil {
		return nil
	}
	return p.po.ResultFormats
}

// simpleQuery runs the statements of one Query message.
func (c *conn) simpleQuery(ctx context.Context, text string) error {
	delete(c.stmts, "")
	delete(c.portals, "")
	stmts, err := c.sess.Parse(text)
	if err != nil {
		c.sendError(err)
		return c.ready(ctx)
	}
	if len(stmts) == 0 {
		c.w.empty('I')
	}
	for i, stmt := range stmts {
		if i == len(stmts)-1 {
			c.sess.SyncFollows()
		}
		c.result.start(nil, true)
		if err := c.sess.ExecStmt(ctx, stmt, &c.result); err != nil {
			if c.w.err != nil {
				return c.w.err
			}
			c.sendError(err)
			break
		}
	}
	return c.ready(ctx)
}

func (c *conn) parse(ctx context.Context, m *pgproto3.Parse) error {
	if m.Name != "" {
		if old := c.stmts[m.Name]; old != nil && old.prep == nil {
			return pgerr.Newf(pgerr.DuplicatePreparedStatement, "prepared statement \"%s\" already exists", m.Name)
		}
	}
	stmts, err := c.sess.Parse(m.Query)
	if err != nil {
		return err
	}
	s := &statement{}
	switch len(stmts) {
	case 0:
	case 1:
		types := make([]oid.Oid, len(m.ParameterOIDs))
		for i, id := range m.ParameterOIDs {
			types[i] = oid.Oid(id)
		}
		prep, err := c.sess.Prepare(ctx, m.Name, stmts[0], types)
		if err != nil {
			return err
		}
		s.prep = prep
	default:
		return c.sess.Fail(pgerr.New(pgerr.SyntaxError, "cannot insert multiple commands into a prepared statement"))
	}
	if c.stmts == nil {
		c.stmts = map[string]*statement{}
	}
	c.stmts[m.Name] = s
	c.w.empty('1')
	return nil
}

// lookup finds a prepared statement. Those made or dropped by SQL (PREPARE,
// DEALLOCATE) are the session's to know.
func (c *conn) lookup(name string) (*statement, error) {
	s := c.stmts[name]
	if s != nil && s.prep == nil {
		return s, nil
	}
	prep, err := c.sess.LookupPrepared(name)
	if err != nil {
		delete(c.stmts, name)
		return nil, c.sess.Fail(err)
	}
	if s == nil || s.prep != prep {
		s = &statement{prep: prep}
		if c.stmts == nil {
			c.stmts = map[string]*statement{}
		}
		c.stmts[name] = s
	}
	return s, nil
}

func (c *conn) bind(ctx context.Context, m *pgproto3.Bind) error {
	s, err := c.lookup(m.PreparedStatement)
	if err != nil {
		return err
	}
	var po *sql.Portal
	if s.prep == nil {
		if len(m.Parameters) > 0 {
			return c.sess.Fail(pgerr.Newf(pgerr.ProtocolViolation, "bind message supplies %d parameters, but prepared statement \"%s\" requires 0",
				len(m.Parameters), m.PreparedStatement))
		}
	} else {
		if err := checkFormats(m, s.prep); err != nil {
			return c.sess.Fail(err)
		}
		if po, err = c.sess.Bind(ctx, m.DestinationPortal, s.prep, m.Parameters, m.ParameterFormatCodes, m.ResultFormatCodes); err != nil {
			return err
		}
	}
	p := c.portals[m.DestinationPortal]
	if p == nil {
		p = &portal{}
		if c.portals == nil {
			c.portals = map[string]*portal{}
		}
		c.portals[m.DestinationPortal] = p
	}
	p.stmt, p.po = s, po
	c.w.empty('2')
	return nil
}

func checkFormats(m *pgproto3.Bind, prep *sql.Prepared) error {
	if n := len(m.ResultFormatCodes); n > 1 && n != len(prep.Columns) {
		return pgerr.Newf(pgerr.ProtocolViolation, "bind message has %d result formats but query has %d columns", n, len(prep.Columns))
	}
	for _, codes := range [][]int16{m.ParameterFormatCodes, m.ResultFormatCodes} {
		for _, f := range codes {
			if f != pgcodec.FormatText && f != pgcodec.FormatBinary {
				return pgerr.Newf(pgerr.InvalidParameterValue, "unsupported format code: %d", f)
			}
		}
	}
	return nil
}

// portal finds a portal. Those that SQL has ended (COMMIT, CLOSE) or made
// (DECLARE) are the session's to know.
func (c *conn) portal(name string) (*portal, error) {
	p := c.portals[name]
	if p != nil && p.po == nil {
		return p, nil
	}
	po, err := c.sess.LookupPortal(name)
	if err != nil {
		delete(c.portals, name)
		return nil, c.sess.Fail(err)
	}
	if p == nil || p.po != po {
		p = &portal{stmt: &statement{prep: po.Prep}, po: po}
	}
	return p, nil
}

// formatOf applies the protocol's rule: no code means text, one code is for all.
func formatOf(codes []int16, i int) int16 {
	switch len(codes) {
	case 0:
		return pgcodec.FormatText
	case 1:
		return codes[0]
	}
	if i < len(codes) {
		return codes[i]
	}
	return pgcodec.FormatText
}

func (c *conn) describe(m *pgproto3.Describe) error {
	switch m.ObjectType {
	case 'S':
		s, err := c.lookup(m.Name)
		if err != nil {
			return err
		}
		at := c.w.begin('t')
		if s.prep == nil {
			c.w.int16(0)
		} else {
			c.w.int16(int16(len(s.prep.ParamTypes)))
			for _, id := range s.prep.ParamTypes {
				c.w.int32(int32(id))
			}
		}
		c.w.end(at)
		c.describeRows(s, nil)
	case 'P':
		p, err := c.portal(m.Name)
		if err != nil {
			return err
		}
		c.describeRows(p.stmt, p.formats())
	default:
		return c.sess.Fail(pgerr.Newf(pgerr.ProtocolViolation, "invalid DESCRIBE message subtype %d", m.ObjectType))
	}
	return nil
}

func (c *conn) describeRows(s *statement, formats []int16) {
	if s.prep == nil || !s.prep.ReturnsRows {
		c.w.empty('n')
		return
	}
	c.rowDescription(s.prep.Columns, s.columnCodecs(s.prep.Columns), formats)
}

// columnCodecs returns codecs for cols, which seldom differ from one execution to
// the next.
func (s *statement) columnCodecs(cols []sql.ResultColumn) []pgcodec.Codec {
	if len(s.codecs) != len(cols) || (len(cols) > 0 && (len(s.cols) == 0 || &s.cols[0] != &cols[0])) {
		s.cols, s.codecs = cols, makeCodecs(cols)
	}
	return s.codecs
}

func makeCodecs(cols []sql.ResultColumn) []pgcodec.Codec {
	codecs := make([]pgcodec.Codec, len(cols))
	for i := range cols {
		codecs[i] = pgcodec.Make(cols[i].Typ, cols[i].OID, cols[i].TypMod)
	}
	return codecs
}

func (c *conn) execute(ctx context.Context, m *pgproto3.Execute) error {
	p, err := c.portal(m.Portal)
	if err != nil {
		return err
	}
	if p.po == nil {
		c.w.empty('I')
		return nil
	}
	if c.r.syncNext() {
		c.sess.SyncFollows()
	}
	c.result.start(p, false)
	suspended, err := c.sess.ExecutePortal(ctx, p.po, max(int(int32(m.MaxRows)), 0), &c.result)
	if err != nil {
		if c.w.err != nil {
			return c.w.err
		}
		return err
	}
	if suspended {
		c.w.empty('s')
	}
	return nil
}

func (c *conn) close(m *pgproto3.Close) error {
	switch m.ObjectType {
	case 'S':
		delete(c.stmts, m.Name)
		c.sess.CloseStatement(m.Name)
	case 'P':
		delete(c.portals, m.Name)
		c.sess.ClosePortal(m.Name)
	default:
		return c.sess.Fail(pgerr.Newf(pgerr.ProtocolViolation, "invalid CLOSE message subtype %d", m.ObjectType))
	}
	c.w.empty('3')
	return nil
}

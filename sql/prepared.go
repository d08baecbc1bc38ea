package sql

import (
	"context"
	"slices"
	"strconv"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/lib/pq/oid"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/exec"
	"github.com/holdfastdb/holdfast/sql/parser"
	"github.com/holdfastdb/holdfast/sql/pgcodec"
)

// Prepared is a prepared statement, of the protocol or of PREPARE.
type Prepared struct {
	Name string
	Stmt parser.Statement
	// ParamTypes are the OIDs of the parameters.
	ParamTypes []oid.Oid
	// Columns are those of the result; nil if ReturnsRows is false.
	Columns     []ResultColumn
	ReturnsRows bool

	types []*types.T // of the parameters
	hints []*types.T // as the client gave them; nil where it left them open
	plan  *plan
	// used: the syntax tree has been bound once.
	used   bool
	codecs []*pgcodec.Codec
	void   []bool // parameters of type void; nil: none
	// fromSQL: made by PREPARE.
	fromSQL bool
}

// Portal is a prepared statement with values for its parameters, ready to run.
type Portal struct {
	Name string
	Prep *Prepared
	// ResultFormats are the format codes the client asked for.
	ResultFormats []int16

	args tree.Datums
	run  *running
	p    *planner
	done bool
}

// Columns are the result columns of the portal, nil if it returns no rows.
func (po *Portal) Columns() []ResultColumn { return po.Prep.Columns }

// Prepare parses types and names of a statement and keeps it under name; "" is
// the unnamed statement, which can be replaced. params are the parameter types
// that the client declared, 0 where it left them open.
func (s *Session) Prepare(ctx context.Context, name string, stmt parser.Statement, params []oid.Oid) (*Prepared, error) {
	ctx, done := s.beginStatement(ctx, stmt.SQL)
	defer done()
	var prep *Prepared
	_, err := s.guarded(ctx, func() (_ bool, err error) {
		prep, err = s.prepare(ctx, name, stmt, params)
		return false, err
	})
	if err != nil {
		return nil, s.failBatch(mapError(ctx, err))
	}
	return prep, nil
}

func (s *Session) prepare(ctx context.Context, name string, stmt parser.Statement, params []oid.Oid) (*Prepared, error) {
	if name != "" && s.prepared[name] != nil {
		return nil, pgerr.Newf(pgerr.DuplicatePreparedStatement, "prepared statement %q already exists", name)
	}
	if prep := s.texts.prepared(name, stmt, params); prep != nil && s.tx.kind != txnAborted && prep.plan.epoch == s.planEpoch {
		// Whether the plan is still good is seen when it is run; its columns
		// must not change before that.
		if err := s.checkPlan(ctx, prep); err == nil {
			s.prepared[name] = prep
			return prep, nil
		}
	}
	prep := &Prepared{Name: name, Stmt: stmt}
	n := max(stmt.NumPlaceholders, len(params))
	prep.hints = make([]*types.T, n)
	for i, o := range params {
		if o == 0 || o == oid.T_unknown {
			continue
		}
		if o == oid.T_void {
			if prep.void == nil {
				prep.void = make([]bool, n)
			}
			prep.void[i], prep.hints[i] = true, types.String
			continue
		}
		t, err := s.typeByOID(ctx, o)
		if err != nil {
			return nil, err
		}
		prep.hints[i] = t
	}
	if stmt.AST != nil && !isTxnControl(stmt.AST) {
		if err := s.describe(ctx, prep); err != nil {
			return nil, err
		}
	}
	if prep.ParamTypes == nil {
		for i := range n {
			o := oid.T_text
			if i < len(params) && params[i] != 0 {
				o = params[i]
			}
			prep.ParamTypes = append(prep.ParamTypes, o)
			prep.types = append(prep.types, types.OidToType[o])
		}
	}
	s.prepared[name] = prep
	s.texts.put(prep, params)
	return prep, nil
}

// checkPlan says whether the descriptors behind prep's plan are the present ones.
func (s *Session) checkPlan(ctx context.Context, prep *Prepared) error {
	return s.withCatalog(ctx, func(cat *catalog.Collection) error {
		if cat.HasChanges() {
			return errStalePlan
		}
		for _, d := range prep.plan.deps {
			desc, err := cat.ByID(ctx, d.id)
			if err != nil {
				return err
			}
			if desc == nil || desc.Version() != d.version {
				return errStalePlan
			}
		}
		return nil
	})
}

var errStalePlan = pgerr.New(pgerr.FeatureNotSupported, "cached plan must be made anew")

// describe plans the statement of prep for its types, in the open transaction or
// in one of its own.
func (s *Session) describe(ctx context.Context, prep *Prepared) error {
	if s.tx.kind == txnAborted {
		return pgerr.New(pgerr.InFailedSQLTransaction,
			"current transaction is aborted, commands ignored until end of transaction block")
	}
	if s.tx.kind == noTxn {
		if err := s.tx.begin(txnImplicit, txnModes{}); err != nil {
			return err
		}
		// Nothing was done in it: the statement that follows may begin its own.
		defer func() {
			if s.tx.kind == txnImplicit && s.tx.statements == 0 {
				s.tx.rollback(ctx)
			}
		}()
	}
	p := s.newPlanner(ctx, prep.Stmt, &bufferedResult{})
	defer p.release()
	p.preparing = true
	pl, err := p.planPrepared(ctx, prep)
	if err != nil {
		return err
	}
	ph := &p.semaCtx.Placeholders
	prep.ParamTypes, prep.types = nil, nil
	for i := range ph.Types {
		t := ph.Types[i]
		if t == nil {
			t = ph.TypeHints[i]
		}
		if t == nil || t.Family() == types.UnknownFamily || t.Family() == types.AnyFamily {
			if pl != nil && t == nil && i >= prep.Stmt.NumPlaceholders {
				t = types.String
			} else if t == nil {
				return pgerr.Newf("42P18", "could not determine data type of parameter $%d", i+1)
			} else {
				t = types.String
			}
		}
		prep.types = append(prep.types, t)
		prep.ParamTypes = append(prep.ParamTypes, p.paramOID(ctx, t))
	}
	if pl != nil {
		prep.Columns, prep.ReturnsRows = pl.cols, pl.cols != nil
		if pl.cacheable {
			prep.plan = pl
		}
	}
	return nil
}

// paramOID is what a client is told of a parameter's type.
func (p *planner) paramOID(ctx context.Context, t *types.T) oid.Oid {
	set := catalog.EnumSet{}
	for _, o := range catalog.UserTypeOIDs(t) {
		if e, err := p.cat.EnumByOID(ctx, o); err == nil && e != nil {
			set[o] = e
		}
	}
	return catalog.PGOid(t, set)
}

// planPrepared plans the statement of prep; nil if it is not a query. The syntax
// tree is read anew each time, since binding writes into it.
func (p *planner) planPrepared(ctx context.Context, prep *Prepared) (*plan, error) {
	stmt := prep.Stmt.AST
	if prep.plan != nil || prep.used {
		again, err := parser.ParseOne(prep.Stmt.SQL)
		if err != nil {
			return nil, err
		}
		stmt = again.AST
	}
	prep.used = true
	p.voidParams = prep.void
	ph := &p.semaCtx.Placeholders
	n := max(prep.Stmt.NumPlaceholders, len(prep.hints))
	ph.Types = make(tree.PlaceholderTypes, n)
	ph.TypeHints = make(tree.PlaceholderTypes, n)
	copy(ph.TypeHints, prep.hints)
	if prep.types != nil {
		copy(ph.TypeHints, prep.types)
	}
	if cols, ok, err := p.describeOther(ctx, stmt); ok || err != nil {
		if err != nil {
			return nil, err
		}
		prep.Columns, prep.ReturnsRows = cols, cols != nil
		return nil, nil
	}
	return p.planStmt(ctx, stmt)
}

// typeByOID finds the type a client means.
func (s *Session) typeByOID(ctx context.Context, o oid.Oid) (*types.T, error) {
	if c, ok := pgcodec.ForOID(o); ok {
		return c.Type(), nil
	}
	if o > catalog.UserTypeOIDBase {
		// Whether it exists is seen when the statement is planned.
		return s.userType(ctx, o)
	}
	return nil, pgerr.Newf(pgerr.UndefinedObject, "type with OID %d does not exist", o)
}

// userType resolves the OID of an enum or of an array of one.
func (s *Session) userType(ctx context.Context, o oid.Oid) (*types.T, error) {
	id, _ := catalog.TypeIDFromOID(o)
	var typ *types.T
	err := s.withCatalog(ctx, func(cat *catalog.Collection) error {
		d, err := cat.TypeByID(ctx, id)
		if err != nil {
			return err
		}
		if d == nil {
			return pgerr.Newf(pgerr.UndefinedObject, "type with OID %d does not exist", o)
		}
		typ, err = cat.TypeOf(d)
		return err
	})
	return typ, err
}

// withCatalog runs fn with the transaction's view of descriptors, or with one of
// its own.
func (s *Session) withCatalog(ctx context.Context, fn func(*catalog.Collection) error) error {
	if s.tx.cat != nil {
		return fn(s.tx.cat)
	}
	txn := s.srv.db.NewTxn(ctx, "types")
	cat := s.srv.catalog.NewCollection(txn)
	defer cat.Release()
	defer txn.Rollback(ctx) //nolint:errcheck // It only read.
	return fn(cat)
}

// LookupPrepared finds a prepared statement.
func (s *Session) LookupPrepared(name string) (*Prepared, error) {
	if p := s.prepared[name]; p != nil {
		return p, nil
	}
	if name == "" {
		return nil, pgerr.New(pgerr.InvalidSQLStatementName, "unnamed prepared statement does not exist")
	}
	return nil, pgerr.Newf(pgerr.InvalidSQLStatementName, "prepared statement %q does not exist", name)
}

// LookupPortal finds a portal.
func (s *Session) LookupPortal(name string) (*Portal, error) {
	if p := s.portals[name]; p != nil {
		return p, nil
	}
	c := s.tx.cursors[name]
	if c == nil {
		c = s.held[name]
	}
	if c != nil { // DECLARE makes a portal too; psycopg describes it.
		stmt, err := parser.ParseOne("FETCH ALL FROM " + quoteIdent(name))
		if err != nil {
			return nil, err
		}
		return &Portal{Name: name, Prep: &Prepared{Stmt: stmt, Columns: c.columns(), ReturnsRows: true}}, nil
	}
	return nil, pgerr.Newf(pgerr.InvalidCursorName, "portal %q does not exist", name)
}

// CloseStatement forgets a prepared statement; a missing one is no error.
func (s *Session) CloseStatement(name string) { delete(s.prepared, name) }

// ClosePortal forgets a portal; a missing one is no error.
func (s *Session) ClosePortal(name string) {
	if p := s.portals[name]; p != nil {
		p.close()
		delete(s.portals, name)
	}
}

func (po *Portal) close() {
	if po.run != nil {
		po.run.close()
		po.run = nil
	}
	if po.p != nil {
		po.p.portal = nil
		po.p.release()
		po.p = nil
	}
}

func (s *Session) closePortals(context.Context) {
	for name, p := range s.portals {
		p.close()
		delete(s.portals, name)
	}
}

// Bind gives a prepared statement the values of its parameters, in text or
// binary as formats says (none: text, one: for all), and keeps the result as a
// portal.
func (s *Session) Bind(ctx context.Context, name string, prep *Prepared, args [][]byte, formats, resultFormats []int16) (*Portal, error) {
	var po *Portal
	_, err := s.guarded(ctx, func() (_ bool, err error) {
		po, err = s.bindPortal(ctx, name, prep, args, formats, resultFormats)
		return false, err
	})
	if err != nil {
		return nil, s.failBatch(mapError(ctx, err))
	}
	return po, nil
}

func (s *Session) bindPortal(ctx context.Context, name string, prep *Prepared, args [][]byte, formats, resultFormats []int16) (*Portal, error) {
	if name != "" && s.portals[name] != nil {
		return nil, pgerr.Newf("42P03", "cursor %q already exists", name)
	}
	if len(args) != len(prep.ParamTypes) {
		return nil, pgerr.Newf(pgerr.ProtocolViolation, "bind message supplies %d parameters, but prepared statement %q requires %d",
			len(args), prep.Name, len(prep.ParamTypes))
	}
	if len(formats) > 1 && len(formats) != len(args) {
		return nil, pgerr.Newf(pgerr.ProtocolViolation, "bind message has %d parameter formats but %d parameters", len(formats), len(args))
	}
	po := &Portal{Name: name, Prep: prep, ResultFormats: resultFormats}
	if len(args) > 0 {
		po.args = make(tree.Datums, len(args))
	}
	for i, a := range args {
		if a == nil {
			po.args[i] = tree.DNull
			continue
		}
		f := int16(0)
		switch {
		case len(formats) == 1:
			f = formats[0]
		case len(formats) > 1:
			f = formats[i]
		}
		d, err := s.decodeParam(ctx, prep, i, a, f)
		if err != nil {
			return nil, err
		}
		po.args[i] = d
	}
	if old := s.portals[name]; old != nil {
		old.close()
	}
	s.portals[name] = po
	return po, nil
}

// decodeParam reads the value of a parameter.
func (s *Session) decodeParam(ctx context.Context, prep *Prepared, i int, a []byte, format int16) (tree.Datum, error) {
	t, o := prep.types[i], prep.ParamTypes[i]
	if t.Family() == types.OidFamily && o != oid.T_oid && format == pgcodec.FormatText {
		if _, err := strconv.ParseUint(string(a), 10, 32); err != nil {
			return s.regParam(ctx, o, string(a))
		}
	}
	if users := catalog.UserTypeOIDs(t); len(users) > 0 {
		var out tree.Datum
		err := s.withCatalog(ctx, func(cat *catalog.Collection) error {
			e, err := cat.EnumByOID(ctx, users[0])
			if err != nil {
				return err
			}
			if e == nil {
				return pgerr.Newf(pgerr.UndefinedObject, "type with OID %d does not exist", users[0])
			}
			if t.Family() != types.ArrayFamily {
				out, err = e.FromLabel(string(a))
				return err
			}
			c := pgcodec.Make(types.StringArray, oid.T__text, -1)
			d, err := c.Decode(a, format, s.codecSettings())
			if err != nil {
				return err
			}
			out, err = e.Cast(d, true)
			return err
		})
		return out, err
	}
	if prep.codecs == nil {
		prep.codecs = make([]*pgcodec.Codec, len(prep.types))
	}
	c := prep.codecs[i]
	if c == nil {
		k := pgcodec.Make(t, o, -1)
		c = &k
		prep.codecs[i] = c
	}
	return c.Decode(a, format, s.codecSettings())
}

// regParam reads a name as the OID of a relation, type and so on.
func (s *Session) regParam(ctx context.Context, typ oid.Oid, name string) (d tree.Datum, err error) {
	err = s.withCatalog(ctx, func(cat *catalog.Collection) error {
		p := &planner{s: s, srv: s.srv}
		p.reset(ctx, parser.Statement{}, nil)
		defer p.mem.Close()
		p.cat = cat
		id, err := (&evalEnv{p}).ResolveRegtype(ctx, typ, name)
		if err == nil {
			d = tree.NewDOid(tree.DInt(id))
		}
		return err
	})
	return d, err
}

// ExecutePortal runs a portal until maxRows rows (0: all) have been sent.
// suspended says that there are more.
func (s *Session) ExecutePortal(ctx context.Context, po *Portal, maxRows int, res ResultWriter) (suspended bool, _ error) {
	return s.exec(ctx, execArgs{stmt: po.Prep.Stmt, res: res, prep: po.Prep, args: po.args, portal: po, max: maxRows})
}

// execPrepared runs a prepared statement with its cached plan, if that is still
// good.
func (p *planner) execPrepared(ctx context.Context, ea execArgs, res ResultWriter) (suspended bool, _ error) {
	prep := ea.prep
	p.args = ea.args
	pl, err := p.cachedPlan(ctx, prep)
	if err != nil {
		return false, err
	}
	if pl == nil {
		stmt, err := parser.ParseOne(prep.Stmt.SQL)
		if err != nil {
			return false, err
		}
		p.setArgs(ea.args)
		return false, p.execStmt(ctx, stmt.AST, res)
	}
	if pl.point != nil && ea.max == 0 {
		return false, p.execPoint(ctx, pl, res)
	}
	r := &running{}
	if ea.max > 0 && pl.mutation != nil {
		p.autoCommit = false // The portal may be suspended when the writes are done.
	}
	if err := p.start(ctx, pl, r); err != nil {
		r.close()
		return false, err
	}
	if ea.max > 0 && pl.mutation != nil {
		if err := p.finishFirst(ctx, r); err != nil {
			r.close()
			return false, err
		}
	}
	suspended, err = p.pull(ctx, r, res, ea.max)
	if suspended && ea.portal != nil {
		ea.portal.run, ea.portal.p, p.portal = r, p, ea.portal
		return true, nil
	}
	r.close()
	return suspended, err
}

// finishFirst runs a statement that writes to its end and keeps what it returns:
// a client that takes only the first rows, as asyncpg's fetchrow does, has
// nevertheless asked for all of the writes.
func (p *planner) finishFirst(ctx context.Context, r *running) error {
	done := &finishedOp{Operator: r.op}
	for {
		row, err := r.op.Next(ctx)
		if err != nil {
			return err
		}
		if row == nil {
			r.op = done
			return nil
		}
		size := int64(24)
		for _, d := range row {
			size += int64(d.Size()) + 16
		}
		if err := p.mem.Grow(size); err != nil {
			return err
		}
		done.rows = append(done.rows, slices.Clone(row))
	}
}

// finishedOp hands out the rows of an operator that has come to its end.
type finishedOp struct {
	exec.Operator
	rows []tree.Datums
}

func (o *finishedOp) Next(context.Context) (tree.Datums, error) {
	if len(o.rows) == 0 {
		return nil, nil
	}
	row := o.rows[0]
	o.rows = o.rows[1:]
	return row, nil
}

// cachedPlan returns the plan of prep, made anew if something it depends on has
// changed; nil if the statement is not planned.
func (p *planner) cachedPlan(ctx context.Context, prep *Prepared) (*plan, error) {
	if pl := prep.plan; pl != nil && pl.epoch == p.s.planEpoch && !p.cat.HasChanges() && p.s.tx.asOf.IsEmpty() {
		ok, err := p.current(ctx, pl)
		if err != nil {
			return nil, err
		}
		if ok {
			if pl.mutation != nil {
				if err := p.checkWritable(pl.tag); err != nil {
					return nil, err
				}
			}
			return pl, nil
		}
	}
	pl, err := p.planPrepared(ctx, prep)
	if err != nil || pl == nil {
		return nil, err
	}
	if prep.ReturnsRows && !sameColumns(prep.Columns, pl.cols) {
		return nil, errResultTypeChanged()
	}
	if pl.cacheable && p.s.tx.asOf.IsEmpty() {
		prep.plan = pl
	}
	return pl, nil
}

// errResultTypeChanged has the routine by which pgJDBC knows that preparing the
// statement again helps.
func errResultTypeChanged() *pgerr.Error {
	e := pgerr.New(pgerr.FeatureNotSupported, "cached plan must not change result type")
	e.Routine = "RevalidateCachedQuery"
	return e
}

func sameColumns(a, b []ResultColumn) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].OID != b[i].OID {
			return false
		}
	}
	return true
}

// current says whether the descriptors behind a plan are still the same.
func (p *planner) current(ctx context.Context, pl *plan) (bool, error) {
	for _, d := range pl.deps {
		desc, err := p.cat.ByID(ctx, d.id)
		if err != nil {
			return false, err
		}
		if desc == nil || desc.Version() != d.version {
			return false, nil
		}
	}
	return true, nil
}

package sql

import (
	"context"
	"slices"
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
	"github.com/holdfastdb/holdfast/sql/parser"
)

// tableMaker builds a relation and what comes with it: sequences of serial
// columns, back references in other descriptors. Nothing is written until
// finish, so an error leaves the transaction as it was.
type tableMaker struct {
	p      *planner
	db     *catalog.Database
	schema catalog.SchemaRef
	pb     *catalogpb.TableDescriptor

	// sequences belong to serial and identity columns.
	sequences []*catalogpb.TableDescriptor
	// parents have got back references of foreign keys, by id.
	fks []pendingFK
	// cols remembers the types of columns.
	colTypes map[uint32]*types.T
}

type pendingFK struct {
	def *tree.ForeignKeyConstraintTableDef
	// validated foreign keys need no look at rows: the table is new.
	validity catalogpb.ConstraintValidity
}

func (p *planner) newTableMaker(db *catalog.Database, schema catalog.SchemaRef, pb *catalogpb.TableDescriptor) *tableMaker {
	return &tableMaker{p: p, db: db, schema: schema, pb: pb, colTypes: map[uint32]*types.T{}}
}

// createTable runs CREATE TABLE.
func (p *planner) createTable(ctx context.Context, n *parser.CreateTable) (string, error) {
	if n.Interleave != nil {
		return "", pgerr.New(pgerr.FeatureNotSupported, "interleaved tables are not supported")
	}
	if n.Locality != nil {
		return "", pgerr.New(pgerr.ObjectNotInPrerequisiteState, "cannot set LOCALITY on a table in a database that is not multi-region enabled")
	}
	db, schema, err := p.targetSchema(ctx, &n.Table, n.Temporary)
	if err != nil {
		return "", err
	}
	name := n.Table.Table()
	if skip, err := p.checkNewRelation(ctx, db, schema, name, n.IfNotExists); err != nil || skip {
		return createTableTag(n), err
	}
	var as *asQuery
	if n.AsSource != nil {
		if as, err = p.describeQuery(ctx, n.AsSource); err != nil {
			return "", err
		}
	}
	id, err := p.newDescID(ctx)
	if err != nil {
		return "", err
	}
	pb := newTableDesc(id, db.ID(), schema.ID, name, p.defaultPrivilegesFor(db, schema, catalog.TableObject))
	pb.Temporary = n.Temporary
	m := p.newTableMaker(db, schema, pb)
	if as != nil {
		if err := m.addQueryColumns(n.Defs, as); err != nil {
			return "", err
		}
	} else if err := m.addDefs(ctx, n.Defs); err != nil {
		return "", err
	}
	if err := m.setStorageParams(n.StorageParams); err != nil {
		return "", err
	}
	if n.PartitionBy != nil {
		if err := p.setPartitioning(ctx, pb, pb.PrimaryIndex, n.PartitionBy); err != nil {
			return "", err
		}
	}
	if n.PartitionAll && n.PartitionBy != nil {
		pb.PartitionAllBy = true
		for _, x := range pb.Indexes {
			if err := p.setPartitioning(ctx, pb, x, n.PartitionBy); err != nil {
				return "", err
			}
		}
	}
	if err := m.finish(ctx); err != nil {
		return "", err
	}
	if as == nil {
		return "CREATE TABLE", nil
	}
	if n.NoData {
		return "CREATE TABLE AS", nil
	}
	target := tree.MakeTableNameWithSchema(tree.Name(db.Name()), tree.Name(schema.Name), tree.Name(name))
	rows, err := p.execCount(ctx, "INSERT INTO "+target.String()+" "+tree.AsString(n.AsSource))
	if err != nil {
		return "", err
	}
	return rowsTag("SELECT", rows), nil
}

func createTableTag(n *parser.CreateTable) string {
	if n.AsSource != nil {
		return "CREATE TABLE AS"
	}
	return "CREATE TABLE"
}

// addQueryColumns gives the table the columns of a query, renamed by defs.
func (m *tableMaker) addQueryColumns(defs tree.TableDefs, as *asQuery) error {
	var names []string
	for _, d := range defs {
		switch d := d.(type) {
		case *tree.ColumnTableDef:
			names = append(names, string(d.Name))
		default:
			return pgerr.New(pgerr.FeatureNotSupported, "unimplemented: constraints in CREATE TABLE AS")
		}
	}
	if len(names) > len(as.cols) {
		return pgerr.New(pgerr.SyntaxError, "CREATE TABLE AS specifies too many column names")
	}
	for i, c := range as.cols {
		name := c.Name
		if i < len(names) {
			name = names[i]
		}
		typ := c.Typ
		if typ.Family() == types.UnknownFamily {
			typ = types.String
		}
		if _, err := m.newColumn(name, typ, true); err != nil {
			return err
		}
	}
	return nil
}

// newColumn appends a column to the table and its first family.
func (m *tableMaker) newColumn(name string, typ *types.T, nullable bool) (*catalogpb.ColumnDescriptor, error) {
	enc, err := catalog.MarshalType(typ)
	if err != nil {
		return nil, err
	}
	col, err := addColumn(m.pb, &catalogpb.ColumnDescriptor{Name: name, Type: enc, Nullable: nullable})
	if err != nil {
		// A new table has no columns yet that could exist "already".
		return nil, pgerr.Newf(pgerr.DuplicateColumn, "column \"%s\" specified more than once", name)
	}
	m.colTypes[col.Id] = typ
	return col, nil
}

// addDefs adds the columns, indexes and constraints of a CREATE TABLE.
func (m *tableMaker) addDefs(ctx context.Context, defs tree.TableDefs) error {
	defs, err := m.expandLike(ctx, defs)
	if err != nil {
		return err
	}
	// Families are named before their columns are placed.
	inFamily := map[string]string{}
	for _, d := range defs {
		f, ok := d.(*tree.FamilyTableDef)
		if !ok {
			continue
		}
		name := string(f.Name)
		if name == "" {
			name = objectName("fam", strings.Join(f.Columns.ToStrings(), "_"), "family")
		}
		for _, c := range f.Columns {
			inFamily[string(c)] = name
		}
	}
	var columns []*tree.ColumnTableDef
	for _, d := range defs {
		c, ok := d.(*tree.ColumnTableDef)
		if !ok {
			continue
		}
		if err := m.addColumnDef(ctx, c, inFamily[string(c.Name)]); err != nil {
			return err
		}
		columns = append(columns, c)
	}
	for name := range inFamily {
		if findColumn(m.pb, name) == nil {
			return pgerr.Newf(pgerr.UndefinedColumn, "column \"%s\" does not exist", name)
		}
	}
	// Primary keys first: other indexes end in it, and names are given in order.
	for _, c := range columns {
		if c.PrimaryKey.IsPrimaryKey {
			if err := m.addUnique(ctx, &tree.UniqueConstraintTableDef{PrimaryKey: true, IndexTableDef: tree.IndexTableDef{
				Name: c.UniqueConstraintName, Columns: tree.IndexElemList{{Column: c.Name}}}}); err != nil {
				return err
			}
		}
	}
	for _, d := range defs {
		if u, ok := d.(*tree.UniqueConstraintTableDef); ok && u.PrimaryKey {
			if err := m.addUnique(ctx, u); err != nil {
				return err
			}
		}
	}
	if err := ensurePrimaryKey(m.pb); err != nil {
		return err
	}
	for _, c := range columns {
		if c.Unique {
			if err := m.addUnique(ctx, &tree.UniqueConstraintTableDef{IndexTableDef: tree.IndexTableDef{
				Name: c.UniqueConstraintName, Columns: tree.IndexElemList{{Column: c.Name}}}}); err != nil {
				return err
			}
		}
		for _, chk := range c.CheckExprs {
			if err := m.addCheck(ctx, string(chk.ConstraintName), chk.Expr, string(c.Name)); err != nil {
				return err
			}
		}
		if c.HasFKConstraint() {
			fk := &tree.ForeignKeyConstraintTableDef{Name: c.References.ConstraintName, Table: *c.References.Table,
				FromCols: tree.NameList{c.Name}, Actions: c.References.Actions, Match: c.References.Match}
			if c.References.Col != "" {
				fk.ToCols = tree.NameList{c.References.Col}
			}
			m.fks = append(m.fks, pendingFK{def: fk})
		}
	}
	for _, d := range defs {
		switch d := d.(type) {
		case *tree.ColumnTableDef, *tree.FamilyTableDef:
		case *tree.UniqueConstraintTableDef:
			if !d.PrimaryKey {
				err = m.addUnique(ctx, d)
			}
		case *tree.IndexTableDef:
			err = m.addIndex(ctx, d)
		case *parser.IndexDef:
			var x *catalogpb.IndexDescriptor
			if x, err = m.p.makeIndex(ctx, m.pb, string(d.Name), d.Unique, d.CreateIndex); err == nil {
				m.pb.Indexes = append(m.pb.Indexes, x)
			}
		case *tree.CheckConstraintTableDef:
			err = m.addCheck(ctx, string(d.Name), d.Expr, "")
		case *tree.ForeignKeyConstraintTableDef:
			m.fks = append(m.fks, pendingFK{def: d})
		default:
			err = pgerr.Newf(pgerr.FeatureNotSupported, "unimplemented: %s in CREATE TABLE", d)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// addColumnDef adds one column with its default.
func (m *tableMaker) addColumnDef(ctx context.Context, d *tree.ColumnTableDef, family string) error {
	typ, err := m.p.columnType(ctx, d.Type)
	if err != nil {
		return err
	}
	name := string(d.Name)
	col, err := m.newColumn(name, typ, d.Nullable.Nullability != tree.NotNull && !d.PrimaryKey.IsPrimaryKey)
	if err != nil {
		return err
	}
	identity, err := parser.IdentityOf(d)
	if err != nil {
		return err
	}
	switch {
	case d.IsSerial || identity != nil:
		// The parser keeps IDENTITY where the default would be.
		if d.HasDefaultExpr() && identity == nil {
			return pgerr.Newf(pgerr.SyntaxError, "multiple default values specified for column \"%s\" of table \"%s\"", name, m.pb.Name)
		}
		if d.Nullable.Nullability == tree.Null {
			return pgerr.Newf(pgerr.SyntaxError, "conflicting NULL/NOT NULL declarations for column \"%s\" of table \"%s\"", name, m.pb.Name)
		}
		if err := m.addOwnedSequence(ctx, col, typ, identity); err != nil {
			return err
		}
	case d.HasDefaultExpr():
		if err := m.p.setColumnDefault(ctx, m.pb, col, typ, d.DefaultExpr.Expr); err != nil {
			return err
		}
	}
	if d.HasColumnFamily() {
		family = string(d.Family.Name)
	}
	if d.IsComputed() {
		// The expression may name columns that follow; it is checked in finish.
		text := tree.AsString(d.Computed.Expr)
		col.ComputeExpr = &text
	}
	create := family != "" && !slices.ContainsFunc(m.pb.Families, func(f *catalogpb.ColumnFamilyDescriptor) bool { return f.Name == family })
	return addToFamily(m.pb, col, family, create || d.Family.Create, true)
}

// addOwnedSequence makes a column serial: a sequence of its own gives the
// default, and is dropped with the column.
func (m *tableMaker) addOwnedSequence(ctx context.Context, col *catalogpb.ColumnDescriptor, typ *types.T, identity *parser.Identity) error {
	if typ.Family() != types.IntFamily {
		return pgerr.New(pgerr.InvalidParameterValue, "identity column type must be smallint, integer, or bigint")
	}
	seqName, err := m.p.freeRelationName(ctx, m.db, m.schema, m.pb.Name, col.Name, "seq", func(n string) bool {
		return n == m.pb.Name || slices.ContainsFunc(m.sequences, func(s *catalogpb.TableDescriptor) bool { return s.Name == n })
	})
	if err != nil {
		return err
	}
	opts := defaultSequenceOpts(typ)
	if identity != nil {
		if err := applySequenceOptions(opts, identity.Options, true); err != nil {
			return err
		}
		col.GeneratedAsIdentityType = catalogpb.IdentityType_GENERATED_BY_DEFAULT
		if identity.Always {
			col.GeneratedAsIdentityType = catalogpb.IdentityType_GENERATED_ALWAYS
		}
	}
	opts.Owner = &catalogpb.SequenceOwner{TableId: m.pb.Id, ColumnId: col.Id}
	id, err := m.p.newDescID(ctx)
	if err != nil {
		return err
	}
	seq := catalog.NewSequence(seqName, id, m.db.ID(), m.schema.ID, opts, m.p.defaultPrivilegesFor(m.db, m.schema, catalog.SequenceObject))
	seq.Temporary = m.pb.Temporary
	seq.DependedOnBy = []*catalogpb.Reference{{Id: m.pb.Id, ColumnIds: []uint32{col.Id}, ById: true}}
	m.sequences = append(m.sequences, seq)
	def := nextvalExpr(m.schema.Name, seqName)
	col.DefaultExpr = &def
	col.Nullable = false
	col.OwnsSequenceIds = []uint32{id}
	col.UsesSequenceIds = []uint32{id}
	return nil
}

// nextvalExpr is the default of a serial column.
func nextvalExpr(schema, seq string) string {
	n := tree.Name(schema)
	s := tree.Name(seq)
	return "nextval(" + tree.NewDString(n.String()+"."+s.String()).String() + "::REGCLASS)"
}

// indexColumns resolves the elements of an index.
func indexColumns(pb *catalogpb.TableDescriptor, elems tree.IndexElemList) (cols []*catalogpb.ColumnDescriptor, dirs []catalogpb.Direction, err error) {
	for _, e := range elems {
		c := findColumn(pb, string(e.Column))
		if c == nil {
			return nil, nil, pgerr.Newf(pgerr.UndefinedColumn, "column \"%s\" named in key does not exist", string(e.Column))
		}
		if slices.Contains(cols, c) {
			return nil, nil, pgerr.Newf(pgerr.DuplicateColumn, "column \"%s\" appears twice in index", string(e.Column))
		}
		t, err := catalog.UnmarshalType(c.Type)
		if err != nil {
			return nil, nil, err
		}
		if err := checkIndexable(t, c.Name); err != nil {
			return nil, nil, err
		}
		dir := catalogpb.Direction_ASC
		if e.Direction == tree.Descending {
			dir = catalogpb.Direction_DESC
		}
		cols, dirs = append(cols, c), append(dirs, dir)
	}
	return cols, dirs, nil
}

// checkIndexable refuses types without a key encoding.
func checkIndexable(t *types.T, column string) error {
	switch t.Family() {
	case types.JsonFamily:
		return pgerr.Newf(pgerr.UndefinedObject, "data type jsonb of column \"%s\" is not indexable by this kind of index", column)
	case types.ArrayFamily, types.TupleFamily, types.AnyFamily, types.UnknownFamily:
		return pgerr.Newf(pgerr.FeatureNotSupported, "unimplemented: index on column \"%s\" of type %s", column, catalog.PGTypeName(t, nil))
	}
	return nil
}

func storingColumns(pb *catalogpb.TableDescriptor, names tree.NameList, key []*catalogpb.ColumnDescriptor) ([]*catalogpb.ColumnDescriptor, error) {
	var out []*catalogpb.ColumnDescriptor
	for _, n := range names {
		c := findColumn(pb, string(n))
		if c == nil {
			return nil, pgerr.Newf(pgerr.UndefinedColumn, "column \"%s\" does not exist", string(n))
		}
		if slices.Contains(out, c) {
			return nil, pgerr.Newf(pgerr.DuplicateColumn, "column \"%s\" appears twice in INCLUDE clause", string(n))
		}
		if c.Virtual {
			return nil, pgerr.New(pgerr.FeatureNotSupported, "virtual generated columns cannot be stored in an index")
		}
		if !slices.Contains(key, c) {
			out = append(out, c)
		}
	}
	return out, nil
}

// addUnique adds a UNIQUE or PRIMARY KEY constraint to a new table.
func (m *tableMaker) addUnique(ctx context.Context, d *tree.UniqueConstraintTableDef) error {
	x, err := makeUniqueIndex(m.pb, d)
	if err != nil {
		return err
	}
	if err := m.p.setPartitioning(ctx, m.pb, x, d.PartitionBy); err != nil {
		return err
	}
	if !d.PrimaryKey {
		m.pb.Indexes = append(m.pb.Indexes, x)
		return nil
	}
	if m.pb.PrimaryIndex != nil {
		return pgerr.Newf(pgerr.InvalidTableDefinition, "multiple primary keys for table \"%s\" are not allowed", m.pb.Name)
	}
	for _, id := range x.KeyColumnIds {
		findColumnByID(m.pb, id).Nullable = false
	}
	m.pb.PrimaryIndex = x
	return nil
}

// makeUniqueIndex returns the index of a UNIQUE or PRIMARY KEY constraint.
func makeUniqueIndex(pb *catalogpb.TableDescriptor, d *tree.UniqueConstraintTableDef) (*catalogpb.IndexDescriptor, error) {
	if d.Interleave != nil || d.Sharded != nil {
		return nil, pgerr.New(pgerr.FeatureNotSupported, "unimplemented: interleaved or hash-sharded indexes")
	}
	cols, dirs, err := indexColumns(pb, d.Columns)
	if err != nil {
		return nil, err
	}
	storing, err := storingColumns(pb, d.Storing, cols)
	if err != nil {
		return nil, err
	}
	name := string(d.Name)
	if name == "" {
		if d.PrimaryKey {
			name = chooseConstraintName(pb, nil, "pkey")
		} else {
			names := make([]string, len(cols))
			for i, c := range cols {
				names[i] = c.Name
			}
			name = chooseConstraintName(pb, names, "key")
		}
	} else if constraintNames(pb)[name] {
		return nil, errConstraintExists(pb, name)
	}
	return newIndexDesc(pb, name, true, cols, dirs, storing), nil
}

func errConstraintExists(pb *catalogpb.TableDescriptor, name string) error {
	if findIndex(pb, name) != nil {
		return pgerr.Newf(pgerr.DuplicateRelation, "relation \"%s\" already exists", name)
	}
	return pgerr.Newf(pgerr.DuplicateObject, "constraint \"%s\" for relation \"%s\" already exists", name, pb.Name)
}

// addIndex adds an INDEX element.
func (m *tableMaker) addIndex(ctx context.Context, d *tree.IndexTableDef) error {
	if d.Inverted || d.Interleave != nil || d.Sharded != nil {
		if d.Inverted {
			return errNoInverted()
		}
		return pgerr.New(pgerr.FeatureNotSupported, "unimplemented: interleaved or hash-sharded indexes")
	}
	n := &parser.CreateIndex{CreateIndex: &tree.CreateIndex{Columns: d.Columns, Storing: d.Storing, PartitionBy: d.PartitionBy}}
	x, err := m.p.makeIndex(ctx, m.pb, string(d.Name), false, n)
	if err != nil {
		return err
	}
	m.pb.Indexes = append(m.pb.Indexes, x)
	return nil
}

// makeIndex returns the index of CREATE INDEX.
func (p *planner) makeIndex(ctx context.Context, pb *catalogpb.TableDescriptor, name string, unique bool, n *parser.CreateIndex) (*catalogpb.IndexDescriptor, error) {
	elems := slices.Clone(n.Columns)
	parts := make([]string, len(elems)) // of a name to choose
	for i := range elems {
		if i >= len(n.Exprs) || n.Exprs[i] == nil {
			parts[i] = string(elems[i].Column)
			continue
		}
		col, err := p.exprColumn(ctx, pb, n.Exprs[i])
		if err != nil {
			return nil, err
		}
		elems[i].Column, parts[i] = tree.Name(col.Name), exprName(n.Exprs[i])
	}
	cols, dirs, err := indexColumns(pb, elems)
	if err != nil {
		return nil, err
	}
	predicate := ""
	if n.Predicate != nil {
		if predicate, err = p.indexPredicate(ctx, pb, n.Predicate); err != nil {
			return nil, err
		}
	}
	stored, err := storingColumns(pb, n.Storing, cols)
	if err != nil {
		return nil, err
	}
	if name == "" {
		name = chooseConstraintName(pb, parts, "idx")
	} else if constraintNames(pb)[name] {
		return nil, errConstraintExists(pb, name)
	}
	x := newIndexDesc(pb, name, unique, cols, dirs, stored)
	x.CreatedExplicitly, x.Predicate = true, predicate
	return x, p.setPartitioning(ctx, pb, x, n.PartitionBy)
}

// addCheck adds a CHECK constraint. column is set for one written beside a
// column.
func (m *tableMaker) addCheck(ctx context.Context, name string, expr tree.Expr, column string) error {
	c, err := m.p.makeCheck(ctx, m.pb, name, expr, column)
	if err != nil {
		return err
	}
	m.pb.Checks = append(m.pb.Checks, c)
	return nil
}

// finish checks what needs the whole table, and writes everything.
func (m *tableMaker) finish(ctx context.Context) error {
	if err := ensurePrimaryKey(m.pb); err != nil {
		return err
	}
	// Columns of CREATE TABLE AS have no family yet.
	for _, c := range m.pb.Columns {
		if !c.Virtual && !slices.ContainsFunc(m.pb.Families, func(f *catalogpb.ColumnFamilyDescriptor) bool { return slices.Contains(f.ColumnIds, c.Id) }) {
			if err := addToFamily(m.pb, c, "", false, false); err != nil {
				return err
			}
		}
	}
	for _, f := range m.pb.Families {
		slices.Sort(f.ColumnIds)
	}
	if err := finishIndexes(m.pb); err != nil {
		return err
	}
	if err := m.p.checkPartitions(ctx, m.pb); err != nil {
		return err
	}
	if err := m.p.checkComputed(ctx, m.pb); err != nil {
		return err
	}
	for _, s := range m.sequences {
		if err := m.p.writeNew(ctx, s); err != nil {
			return err
		}
		if err := m.p.initSequence(ctx, s); err != nil {
			return err
		}
	}
	// Before the table is written: both fill in what it says about its types and
	// sequences, which a restore of the table alone asks for.
	if err := m.p.syncTypeReferences(ctx, nil, m.pb); err != nil {
		return err
	}
	if err := m.p.syncSequenceReferences(ctx, nil, m.pb); err != nil {
		return err
	}
	if err := m.p.writeNew(ctx, m.pb); err != nil {
		return err
	}
	for _, fk := range m.fks {
		if err := m.p.addForeignKey(ctx, m.pb.Id, fk.def, fk.validity); err != nil {
			return err
		}
	}
	return nil
}

// expandLike replaces LIKE elements by definitions.
func (m *tableMaker) expandLike(ctx context.Context, defs tree.TableDefs) (tree.TableDefs, error) {
	out := make(tree.TableDefs, 0, len(defs))
	for _, d := range defs {
		l, ok := d.(*parser.LikeTableDef)
		if !ok {
			out = append(out, d)
			continue
		}
		src, err := m.p.resolveTable(ctx, l.Name)
		if err != nil {
			return nil, err
		}
		with := func(what string) bool { return l.Including["ALL"] || l.Including[what] }
		for _, c := range src.VisibleColumns() {
			def := &tree.ColumnTableDef{Name: tree.Name(c.Name), Type: c.Type}
			def.Nullable.Nullability = tree.SilentNull
			if !c.Nullable {
				def.Nullable.Nullability = tree.NotNull
			}
			if with("DEFAULTS") && c.DefaultExpr != "" {
				if def.DefaultExpr.Expr, err = parseExpr(c.DefaultExpr); err != nil {
					return nil, err
				}
			}
			out = append(out, def)
		}
		if with("CONSTRAINTS") {
			for _, chk := range src.Checks() {
				e, err := parseExpr(chk.Expr)
				if err != nil {
					return nil, err
				}
				out = append(out, &tree.CheckConstraintTableDef{Name: tree.Name(chk.Name), Expr: e})
			}
		}
		if with("INDEXES") {
			for _, x := range src.PublicIndexes() {
				if x.Primary && src.HasImplicitPrimaryKey() {
					continue
				}
				def := tree.IndexTableDef{}
				own := &parser.CreateIndex{CreateIndex: &tree.CreateIndex{Unique: x.Unique}}
				for i, c := range x.KeyColumns {
					e := tree.IndexElem{Column: tree.Name(c.Name)}
					var expr tree.Expr
					if c.Inaccessible {
						if expr, err = parseExpr(c.ComputeExpr); err != nil {
							return nil, err
						}
					}
					own.Exprs = append(own.Exprs, expr)
					if x.KeyDirections[i] == catalogpb.Direction_DESC {
						e.Direction = tree.Descending
					}
					def.Columns = append(def.Columns, e)
				}
				if !x.Primary {
					for _, c := range x.StoredColumns {
						def.Storing = append(def.Storing, tree.Name(c.Name))
					}
				}
				if x.Predicate != "" {
					if own.Predicate, err = parseExpr(x.Predicate); err != nil {
						return nil, err
					}
				}
				if !x.Primary && x.PB.CreatedExplicitly {
					own.Columns, own.Storing = def.Columns, def.Storing
					out = append(out, &parser.IndexDef{CreateIndex: own})
					continue
				}
				if x.Unique {
					out = append(out, &tree.UniqueConstraintTableDef{IndexTableDef: def, PrimaryKey: x.Primary})
				} else {
					out = append(out, &def)
				}
			}
		}
	}
	return out, nil
}

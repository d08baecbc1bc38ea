package sql

import (
	"context"
	"math"
	"slices"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
	"github.com/holdfastdb/holdfast/sql/parser"
	"github.com/holdfastdb/holdfast/sql/rowenc"
)

// sequenceBits is the size of the integer type a sequence counts in.
func sequenceBits(opts *catalogpb.SequenceOpts) int64 {
	switch opts.AsIntegerType {
	case "INT2":
		return 16
	case "INT4":
		return 32
	}
	return 64
}

func setSequenceBits(opts *catalogpb.SequenceOpts, bits int64) {
	opts.AsIntegerType = map[int64]string{16: "INT2", 32: "INT4", 64: "INT8"}[bits]
}

// typeBounds are the defaults of MINVALUE and MAXVALUE.
func typeBounds(bits, increment int64) (lo, hi int64) {
	lo, hi = 1, int64(1)<<(bits-1)-1
	if increment < 0 {
		lo, hi = -1-hi, -1
	}
	return lo, hi
}

// defaultSequenceOpts are those of a serial column of type typ.
func defaultSequenceOpts(typ *types.T) *catalogpb.SequenceOpts {
	bits := int64(64)
	if typ != nil && typ.Width() > 0 {
		bits = int64(typ.Width())
	}
	o := &catalogpb.SequenceOpts{Increment: 1, Start: 1, CacheSize: 1}
	setSequenceBits(o, bits)
	o.MinValue, o.MaxValue = typeBounds(bits, 1)
	return o
}

// applySequenceOptions changes opts as CREATE (isNew) or ALTER SEQUENCE say.
// OWNED BY and RESTART are for the caller.
func applySequenceOptions(opts *catalogpb.SequenceOpts, options tree.SequenceOptions, isNew bool) error {
	seen := map[string]bool{}
	var minSet, maxSet, startSet bool
	oldLo, oldHi := typeBounds(sequenceBits(opts), opts.Increment)
	autoMin, autoMax := opts.MinValue == oldLo, opts.MaxValue == oldHi
	for _, o := range options {
		key := o.Name
		if key == tree.SeqOptNoCycle {
			key = tree.SeqOptCycle
		}
		if seen[key] {
			return pgerr.New(pgerr.SyntaxError, "conflicting or redundant options")
		}
		seen[key] = true
		switch o.Name {
		case parser.SeqOptAs:
			setSequenceBits(opts, *o.IntVal)
		case tree.SeqOptIncrement:
			if opts.Increment = *o.IntVal; opts.Increment == 0 {
				return pgerr.New(pgerr.InvalidParameterValue, "INCREMENT must not be zero")
			}
		case tree.SeqOptMinValue:
			if minSet, autoMin = o.IntVal != nil, o.IntVal == nil; minSet {
				opts.MinValue = *o.IntVal
			}
		case tree.SeqOptMaxValue:
			if maxSet, autoMax = o.IntVal != nil, o.IntVal == nil; maxSet {
				opts.MaxValue = *o.IntVal
			}
		case tree.SeqOptStart:
			opts.Start, startSet = *o.IntVal, true
		case tree.SeqOptCache:
			if opts.CacheSize = *o.IntVal; opts.CacheSize < 1 {
				return pgerr.Newf(pgerr.InvalidParameterValue, "CACHE (%d) must be greater than zero", opts.CacheSize)
			}
		case tree.SeqOptCycle:
			opts.Cycle = true
		case tree.SeqOptNoCycle:
			opts.Cycle = false
		case tree.SeqOptVirtual:
			return pgerr.New(pgerr.FeatureNotSupported, "unimplemented: virtual sequences")
		}
	}
	bits := sequenceBits(opts)
	lo, hi := typeBounds(bits, opts.Increment)
	if !minSet && autoMin {
		opts.MinValue = lo
	}
	if !maxSet && autoMax {
		opts.MaxValue = hi
	}
	floor, ceil := int64(math.MinInt64)>>(64-bits), int64(math.MaxInt64)>>(64-bits)
	switch {
	case opts.MaxValue > ceil || opts.MaxValue < floor:
		return pgerr.Newf(pgerr.InvalidParameterValue, "MAXVALUE (%d) is out of range for sequence data type %s", opts.MaxValue, intName(bits))
	case opts.MinValue > ceil || opts.MinValue < floor:
		return pgerr.Newf(pgerr.InvalidParameterValue, "MINVALUE (%d) is out of range for sequence data type %s", opts.MinValue, intName(bits))
	case opts.MinValue >= opts.MaxValue:
		return pgerr.Newf(pgerr.InvalidParameterValue, "MINVALUE (%d) must be less than MAXVALUE (%d)", opts.MinValue, opts.MaxValue)
	}
	if isNew && !startSet {
		opts.Start = opts.MinValue
		if opts.Increment < 0 {
			opts.Start = opts.MaxValue
		}
	}
	switch {
	case opts.Start < opts.MinValue:
		return pgerr.Newf(pgerr.InvalidParameterValue, "START value (%d) cannot be less than MINVALUE (%d)", opts.Start, opts.MinValue)
	case opts.Start > opts.MaxValue:
		return pgerr.Newf(pgerr.InvalidParameterValue, "START value (%d) cannot be greater than MAXVALUE (%d)", opts.Start, opts.MaxValue)
	}
	return nil
}

func intName(bits int64) string {
	return map[int64]string{16: "smallint", 32: "integer", 64: "bigint"}[bits]
}

// createSequence runs CREATE SEQUENCE.
func (p *planner) createSequence(ctx context.Context, n *tree.CreateSequence) error {
	db, schema, err := p.targetSchema(ctx, &n.Name, n.Temporary)
	if err != nil {
		return err
	}
	name := n.Name.Table()
	if skip, err := p.checkNewRelation(ctx, db, schema, name, n.IfNotExists); err != nil || skip {
		return err
	}
	opts := defaultSequenceOpts(nil)
	if err := applySequenceOptions(opts, n.Options, true); err != nil {
		return err
	}
	id, err := p.newDescID(ctx)
	if err != nil {
		return err
	}
	pb := catalog.NewSequence(name, id, db.ID(), schema.ID, opts, p.defaultPrivilegesFor(db, schema, catalog.SequenceObject))
	pb.Temporary = n.Temporary
	if err := p.writeNew(ctx, pb); err != nil {
		return err
	}
	if err := p.initSequence(ctx, pb); err != nil {
		return err
	}
	return p.setSequenceOwner(ctx, id, n.Options)
}

// initSequence writes the counter of a new sequence: one step before its start.
func (p *planner) initSequence(ctx context.Context, pb *catalogpb.TableDescriptor) error {
	o := pb.SequenceOpts
	return p.txn.Put(ctx, rowenc.SequenceKey(pb.Id), rowenc.EncodeInt(rowenc.SequenceKey(pb.Id), o.Start-o.Increment))
}

// setSequenceOwner obeys OWNED BY.
func (p *planner) setSequenceOwner(ctx context.Context, id catalog.ID, options tree.SequenceOptions) error {
	i := slices.IndexFunc(options, func(o tree.SequenceOption) bool { return o.Name == tree.SeqOptOwnedBy })
	if i < 0 {
		return nil
	}
	seq, err := p.mutableTable(ctx, id)
	if err != nil {
		return err
	}
	if old := seq.SequenceOpts.Owner; old.GetTableId() != 0 {
		if err := p.editColumn(ctx, old.TableId, old.ColumnId, func(c *catalogpb.ColumnDescriptor) {
			c.OwnsSequenceIds = slices.DeleteFunc(c.OwnsSequenceIds, func(s uint32) bool { return s == id })
		}); err != nil {
			return err
		}
		seq.SequenceOpts.Owner = nil
	}
	item := options[i].ColumnItemVal
	if item == nil { // NONE
		return p.writeTable(ctx, seq)
	}
	if item.TableName == nil {
		return pgerr.New(pgerr.SyntaxError, "invalid OWNED BY option").WithHint("Specify OWNED BY table.column or OWNED BY NONE.")
	}
	tbl, err := p.resolveTable(ctx, item.TableName)
	if err != nil {
		return err
	}
	col, err := tbl.MustColumn(string(item.ColumnName))
	if err != nil {
		return err
	}
	if tbl.ParentSchemaID() != seq.UnexposedParentSchemaId {
		return pgerr.New(pgerr.ObjectNotInPrerequisiteState, "sequence must be in same schema as table it is linked to")
	}
	seq.SequenceOpts.Owner = &catalogpb.SequenceOwner{TableId: tbl.ID(), ColumnId: col.ID}
	if err := p.writeTable(ctx, seq); err != nil {
		return err
	}
	return p.editColumn(ctx, tbl.ID(), col.ID, func(c *catalogpb.ColumnDescriptor) {
		c.OwnsSequenceIds = append(c.OwnsSequenceIds, id)
	})
}

// editColumn changes one column of another table.
func (p *planner) editColumn(ctx context.Context, table catalog.ID, column uint32, edit func(*catalogpb.ColumnDescriptor)) error {
	pb, err := p.mutableTable(ctx, table)
	if err != nil {
		return err
	}
	if c := findColumnByID(pb, column); c != nil {
		edit(c)
	}
	return p.writeTable(ctx, pb)
}

// alterSequence runs ALTER SEQUENCE with options.
func (p *planner) alterSequence(ctx context.Context, n *tree.AlterSequence) error {
	seq, err := p.resolveRelation(ctx, n.Name, kindSequence, n.IfExists)
	if err != nil || seq == nil {
		return err
	}
	if err := p.checkOwner(ctx, seq); err != nil {
		return err
	}
	return p.alterSequenceOptions(ctx, seq, n.Options)
}

func (p *planner) alterSequenceOptions(ctx context.Context, seq *catalog.Table, options tree.SequenceOptions) error {
	pb := seq.Mutable()
	old := proto.CloneOf(pb.SequenceOpts)
	var rest tree.SequenceOptions
	var restart *int64
	restartAtStart := false
	for _, o := range options {
		switch {
		case o.Name != parser.SeqOptRestart:
			rest = append(rest, o)
		case o.IntVal != nil:
			restart = o.IntVal
		default:
			restartAtStart = true
		}
	}
	if err := applySequenceOptions(pb.SequenceOpts, rest, false); err != nil {
		return err
	}
	o := pb.SequenceOpts
	if restartAtStart {
		restart = &o.Start
	}
	switch {
	case restart != nil:
		if *restart < o.MinValue {
			return pgerr.Newf(pgerr.InvalidParameterValue, "RESTART value (%d) cannot be less than MINVALUE (%d)", *restart, o.MinValue)
		}
		if *restart > o.MaxValue {
			return pgerr.Newf(pgerr.InvalidParameterValue, "RESTART value (%d) cannot be greater than MAXVALUE (%d)", *restart, o.MaxValue)
		}
		if err := p.setSequenceCounter(ctx, pb, *restart-o.Increment); err != nil {
			return err
		}
	case old.Increment != o.Increment || old.Start != o.Start:
		// A sequence that has given no value yet starts at the new start.
		v, err := p.sequenceCounter(ctx, pb.Id)
		if err != nil {
			return err
		}
		if v == old.Start-old.Increment {
			if err := p.setSequenceCounter(ctx, pb, o.Start-o.Increment); err != nil {
				return err
			}
		}
	}
	if err := p.writeTable(ctx, pb); err != nil {
		return err
	}
	p.s.forgetSequence(pb.Id)
	return p.setSequenceOwner(ctx, pb.Id, options)
}

package sql

import (
	"context"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/lib/pq/oid"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/catalog"
)

var errNotHere = pgerr.New(pgerr.FeatureNotSupported, "this function is not available here")

func (e *evalEnv) GetVar(context.Context, string, bool) (string, bool, error) {
	return "", false, errNotHere
}
func (e *evalEnv) SetVar(context.Context, string, string, bool) error { return errNotHere }
func (e *evalEnv) SequenceNextval(context.Context, string) (int64, error) {
	return 0, errNotHere
}
func (e *evalEnv) SequenceCurrval(context.Context, string) (int64, error) { return 0, errNotHere }
func (e *evalEnv) SequenceSetval(context.Context, string, int64, bool) error {
	return errNotHere
}
func (e *evalEnv) SequenceLastval(context.Context) (int64, error) { return 0, errNotHere }
func (e *evalEnv) SerialSequence(context.Context, string, string) (string, bool, error) {
	return "", false, nil
}
func (e *evalEnv) ResolveRegtype(context.Context, oid.Oid, string) (oid.Oid, error) {
	return 0, errNotHere
}
func (e *evalEnv) RegtypeName(context.Context, oid.Oid, oid.Oid) (string, bool, error) {
	return "", false, nil
}
func (e *evalEnv) TypeByOID(context.Context, oid.Oid) (*types.T, string, bool, error) {
	return nil, "", false, nil
}
func (e *evalEnv) ConstraintDef(context.Context, oid.Oid) (string, bool, error) {
	return "", false, nil
}
func (e *evalEnv) IndexDef(context.Context, oid.Oid, int) (string, bool, error) {
	return "", false, nil
}
func (e *evalEnv) ViewDef(context.Context, oid.Oid) (string, bool, error)     { return "", false, nil }
func (e *evalEnv) FunctionDef(context.Context, oid.Oid) (string, bool, error) { return "", false, nil }
func (e *evalEnv) UserByID(context.Context, oid.Oid) (string, bool, error)    { return "", false, nil }
func (e *evalEnv) Visible(context.Context, string, oid.Oid) (bool, bool, error) {
	return true, true, nil
}
func (e *evalEnv) Comment(context.Context, string, oid.Oid, int) (string, bool, error) {
	return "", false, nil
}
func (e *evalEnv) RelationSize(context.Context, oid.Oid, bool) (int64, bool, error) {
	return 0, false, nil
}
func (e *evalEnv) DatabaseSize(context.Context, string) (int64, error) { return 0, nil }
func (e *evalEnv) HasPrivilege(context.Context, string, string, string, string, string) (bool, bool, error) {
	return true, true, nil
}
func (e *evalEnv) HasRole(context.Context, string, string, string) (bool, error) { return true, nil }

// EnumValue returns the value of an enum with a label.
func (e *evalEnv) EnumValue(ctx context.Context, id oid.Oid, label string) (tree.Datum, error) {
	en, err := e.p.cat.EnumByOID(ctx, id)
	if err != nil {
		return nil, err
	}
	if en == nil {
		return nil, pgerr.Newf(pgerr.UndefinedObject, "type with OID %d does not exist", id)
	}
	return en.FromLabel(label)
}

// EnumValues lists the values of an enum in order.
func (e *evalEnv) EnumValues(ctx context.Context, id oid.Oid) ([]tree.Datum, bool, error) {
	en, err := e.p.cat.EnumByOID(ctx, id)
	if err != nil || en == nil {
		return nil, false, err
	}
	var out []tree.Datum
	for _, v := range en.Values() {
		out = append(out, v)
	}
	return out, true, nil
}
func (e *evalEnv) CancelBackend(context.Context, int32, bool) (bool, error) { return false, errNotHere }
func (e *evalEnv) PBToJSON(context.Context, string, []byte) (string, error) { return "", errNotHere }

// checkTablePrivileges refuses what the user may not do to a table.
func (p *planner) checkTablePrivileges(ctx context.Context, desc *catalog.Table, privs ...string) error {
	return nil
}

func (p *planner) checkSelect(ctx context.Context, desc *catalog.Table) error {
	return p.checkTablePrivileges(ctx, desc, "SELECT")
}

func (p *planner) resetAllVars(ctx context.Context) error { return nil }
func (p *planner) discardState(ctx context.Context, mode string) error {
	return nil
}

// sequenceRows are the rows of SELECT … FROM a sequence.
func (p *planner) sequenceRows(desc *catalog.Table) *rowSource {
	return &rowSource{columns: []ResultColumn{
		MakeResultColumn("last_value", types.Int), MakeResultColumn("log_cnt", types.Int), MakeResultColumn("is_called", types.Bool),
	}}
}

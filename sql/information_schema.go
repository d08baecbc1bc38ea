package sql

import (
	"context"
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/lib/pq/oid"

	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
)

func informationSchemaTables() map[string]vpopulate {
	return map[string]vpopulate{
		"tables": visTables, "columns": visColumns, "schemata": visSchemata, "views": visViews, "sequences": visSequences,
		"table_constraints": visTableConstraints, "key_column_usage": visKeyColumnUsage,
		"referential_constraints": visReferentialConstraints, "constraint_column_usage": visConstraintColumnUsage,
		"constraint_table_usage": visConstraintTableUsage, "check_constraints": visCheckConstraints,
		"table_privileges": visTablePrivileges, "role_table_grants": visTablePrivileges,
		"information_schema_catalog_name": visCatalogName, "enabled_roles": visEnabledRoles, "applicable_roles": visApplicableRoles,
		"character_sets": visCharacterSets, "view_table_usage": visViewTableUsage, "view_column_usage": visViewColumnUsage,
		"column_privileges": nil, "routines": visRoutines, "collations": visCollations,
	}
}

func (v *vctx) dbName() string {
	if v.db == nil {
		return ""
	}
	return v.db.Name()
}

// visible says whether the user has any privilege on a relation: others are not
// listed in the information schema.
func (v *vctx) visible(ctx context.Context, t *catalog.Table) bool {
	roles, err := v.p.roles(ctx)
	return err == nil && catalog.HasAnyPrivilege(t.Privileges(), roles)
}

func visCatalogName(_ context.Context, v *vctx, add func(vrow) error) error {
	return add(vrow{"catalog_name": v.dbName()})
}

func visSchemata(_ context.Context, v *vctx, add func(vrow) error) error {
	for _, sc := range v.schemasIn(v.db) {
		if err := add(vrow{"catalog_name": v.dbName(), "schema_name": sc.Name(), "schema_owner": sc.Privileges().GetOwner()}); err != nil {
			return err
		}
	}
	for _, n := range catalog.VirtualSchemas {
		if err := add(vrow{"catalog_name": v.dbName(), "schema_name": n, "schema_owner": catalog.NodeUser}); err != nil {
			return err
		}
	}
	return nil
}

func visTables(ctx context.Context, v *vctx, add func(vrow) error) error {
	for _, t := range v.inDB(v.db) {
		if t.IsSequence() || t.IsMaterializedView() || !v.visible(ctx, t) {
			continue
		}
		typ := "BASE TABLE"
		switch {
		case t.IsView():
			typ = "VIEW"
		case t.Proto().Temporary:
			typ = "LOCAL TEMPORARY"
		}
		if err := add(vrow{"table_catalog": v.dbName(), "table_schema": v.schemaOf(t), "table_name": t.Name(), "table_type": typ,
			"is_insertable_into": t.IsTable(), "is_typed": false}); err != nil {
			return err
		}
	}
	for _, name := range catalog.VirtualSchemas {
		vs := virtualSchemas()[name]
		for _, t := range vs.order {
			typ := "VIEW"
			if vkind(vs, t) == "r" {
				typ = "BASE TABLE"
			}
			if err := add(vrow{"table_catalog": v.dbName(), "table_schema": name, "table_name": t.name, "table_type": typ,
				"is_insertable_into": false, "is_typed": false}); err != nil {
				return err
			}
		}
	}
	return nil
}

// columnType fills the columns of information_schema.columns that describe a type.
func (v *vctx) columnType(r vrow, t *types.T) {
	r["udt_catalog"], r["udt_schema"], r["udt_name"] = v.dbName(), catalog.PgCatalogName, t.PGName()
	r["data_type"] = catalog.PGTypeName(t, v.enums)
	if i := strings.IndexByte(r["data_type"].(string), '('); i >= 0 {
		s := r["data_type"].(string)
		j := strings.IndexByte(s, ')')
		r["data_type"] = s[:i] + s[j+1:]
	}
	el := t
	switch {
	case t.Family() == types.ArrayFamily && t.Oid() != oid.T_int2vector && t.Oid() != oid.T_oidvector:
		r["data_type"] = "ARRAY"
		el = t.ArrayContents()
		r["udt_name"] = "_" + el.PGName()
	}
	if o, ok := catalog.EnumOID(el); ok {
		if e := v.enums[o]; e != nil {
			r["udt_schema"], r["udt_name"] = e.Schema, e.Name
			if el == t {
				r["data_type"] = "USER-DEFINED"
			} else {
				r["udt_name"] = "_" + e.Name
			}
		}
	}
	switch t.Family() {
	case types.StringFamily:
		if t.Width() > 0 {
			r["character_maximum_length"], r["character_octet_length"] = t.Width(), int64(t.Width())*4
		} else if t.Oid() != oid.T_name && t.Oid() != oid.T_char {
			r["character_octet_length"] = 1 << 30
		}
	case types.IntFamily:
		r["numeric_precision"], r["numeric_precision_radix"], r["numeric_scale"] = t.Width(), 2, 0
		if t.Width() == 0 {
			r["numeric_precision"] = 64
		}
	case types.FloatFamily:
		r["numeric_precision_radix"] = 2
		if r["numeric_precision"] = 53; t.Width() == 32 {
			r["numeric_precision"] = 24
		}
	case types.DecimalFamily:
		r["numeric_precision_radix"] = 10
		if t.Precision() > 0 {
			r["numeric_precision"], r["numeric_scale"] = t.Precision(), t.Scale()
		}
	case types.TimestampFamily, types.TimestampTZFamily, types.TimeFamily, types.TimeTZFamily, types.IntervalFamily:
		r["datetime_precision"] = 6
		if t.InternalType.TimePrecisionIsSet {
			r["datetime_precision"] = t.Precision()
		}
	case types.DateFamily:
		r["datetime_precision"] = 0
	}
}

func visColumns(ctx context.Context, v *vctx, add func(vrow) error) error {
	for _, t := range v.inDB(v.db) {
		if t.IsSequence() || !v.visible(ctx, t) {
			continue
		}
		for _, c := range t.Columns() {
			if c.Hidden || c.Inaccessible {
				continue
			}
			r := vrow{"table_catalog": v.dbName(), "table_schema": v.schemaOf(t), "table_name": t.Name(), "column_name": c.Name,
				"ordinal_position": int(c.PGAttributeNum()), "is_nullable": c.Nullable, "is_identity": c.Identity != catalogpb.IdentityType_NOT_IDENTITY,
				"is_generated": "NEVER", "is_updatable": t.IsTable(), "is_self_referencing": false, "identity_cycle": false,
				"dtd_identifier": vtext(c.PGAttributeNum())}
			if text := v.columnDefaultText(c); text != "" {
				if c.IsComputed() {
					r["is_generated"], r["generation_expression"] = "ALWAYS", text
				} else {
					r["column_default"] = text
				}
			}
			if c.Identity != catalogpb.IdentityType_NOT_IDENTITY {
				r["identity_generation"] = "BY DEFAULT"
				if c.Identity == catalogpb.IdentityType_GENERATED_ALWAYS {
					r["identity_generation"] = "ALWAYS"
				}
				if len(c.PB.OwnsSequenceIds) > 0 {
					if s := v.tableByID[c.PB.OwnsSequenceIds[0]]; s != nil {
						o := s.Proto().SequenceOpts
						r["identity_start"], r["identity_increment"] = vtext(o.Start), vtext(o.Increment)
						r["identity_maximum"], r["identity_minimum"], r["identity_cycle"] = vtext(o.MaxValue), vtext(o.MinValue), o.Cycle
					}
				}
			}
			v.columnType(r, c.Type)
			if err := add(r); err != nil {
				return err
			}
		}
	}
	for _, name := range catalog.VirtualSchemas {
		for _, t := range virtualSchemas()[name].order {
			for i, c := range t.visible() {
				r := vrow{"table_catalog": v.dbName(), "table_schema": name, "table_name": t.name, "column_name": c.name, "ordinal_position": i + 1,
					"is_nullable": true, "is_identity": false, "is_generated": "NEVER", "is_updatable": false}
				v.columnType(r, c.typ)
				if err := add(r); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func visViews(ctx context.Context, v *vctx, add func(vrow) error) error {
	for _, t := range v.inDB(v.db) {
		if t.IsView() && !t.IsMaterializedView() && v.visible(ctx, t) {
			if err := add(vrow{"table_catalog": v.dbName(), "table_schema": v.schemaOf(t), "table_name": t.Name(), "view_definition": viewText(t),
				"check_option": "NONE", "is_updatable": false, "is_insertable_into": false, "is_trigger_updatable": false,
				"is_trigger_deletable": false, "is_trigger_insertable_into": false}); err != nil {
				return err
			}
		}
	}
	return nil
}

func visSequences(ctx context.Context, v *vctx, add func(vrow) error) error {
	for _, t := range v.inDB(v.db) {
		if !t.IsSequence() || !v.visible(ctx, t) {
			continue
		}
		o := t.Proto().SequenceOpts
		bits := sequenceBits(o)
		if err := add(vrow{"sequence_catalog": v.dbName(), "sequence_schema": v.schemaOf(t), "sequence_name": t.Name(), "data_type": intName(bits),
			"numeric_precision": bits, "numeric_precision_radix": 2, "numeric_scale": 0, "start_value": vtext(o.Start), "minimum_value": vtext(o.MinValue),
			"maximum_value": vtext(o.MaxValue), "increment": vtext(o.Increment), "cycle_option": o.Cycle}); err != nil {
			return err
		}
	}
	return nil
}

// visConstraint is a constraint for the tables below.
type visConstraint struct {
	t          *catalog.Table
	name, typ  string
	cols       []uint32
	parent     *catalog.Table
	parentCols []uint32
	fk         *catalogpb.ForeignKeyConstraint
	check      string
}

func (v *vctx) eachConstraint(ctx context.Context, fn func(c visConstraint) error) error {
	for _, t := range v.inDB(v.db) {
		if !t.IsTable() || !v.visible(ctx, t) {
			continue
		}
		for _, x := range visibleIndexes(t) {
			if !isUniqueConstraint(x.PB) {
				continue
			}
			typ := "UNIQUE"
			if x.Primary {
				typ = "PRIMARY KEY"
			}
			if err := fn(visConstraint{t: t, name: x.Name, typ: typ, cols: x.PB.KeyColumnIds}); err != nil {
				return err
			}
		}
		for _, fk := range t.OutboundFKs() {
			if err := fn(visConstraint{t: t, name: fk.Name, typ: "FOREIGN KEY", cols: fk.OriginColumnIds, parent: v.tableByID[fk.ReferencedTableId],
				parentCols: fk.ReferencedColumnIds, fk: fk}); err != nil {
				return err
			}
		}
		for _, c := range t.Checks() {
			if err := fn(visConstraint{t: t, name: c.Name, typ: "CHECK", cols: c.ColumnIds, check: pgExpr(c.Expr, nil, v.enums)}); err != nil {
				return err
			}
		}
		for _, c := range t.VisibleColumns() {
			if !c.Nullable {
				name := vtext(t.ParentSchemaID()) + "_" + vtext(t.ID()) + "_" + vtext(c.PGAttributeNum()) + "_not_null"
				if err := fn(visConstraint{t: t, name: name, typ: "CHECK", check: quoteIdent(c.Name) + " IS NOT NULL"}); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func visTableConstraints(ctx context.Context, v *vctx, add func(vrow) error) error {
	return v.eachConstraint(ctx, func(c visConstraint) error {
		return add(vrow{"constraint_catalog": v.dbName(), "constraint_schema": v.schemaOf(c.t), "constraint_name": c.name, "table_catalog": v.dbName(),
			"table_schema": v.schemaOf(c.t), "table_name": c.t.Name(), "constraint_type": c.typ, "is_deferrable": false, "initially_deferred": false,
			"enforced": true})
	})
}

func visKeyColumnUsage(ctx context.Context, v *vctx, add func(vrow) error) error {
	return v.eachConstraint(ctx, func(c visConstraint) error {
		if c.typ == "CHECK" {
			return nil
		}
		for i, id := range c.cols {
			col := c.t.ColumnByID(id)
			if col == nil {
				continue
			}
			r := vrow{"constraint_catalog": v.dbName(), "constraint_schema": v.schemaOf(c.t), "constraint_name": c.name, "table_catalog": v.dbName(),
				"table_schema": v.schemaOf(c.t), "table_name": c.t.Name(), "column_name": col.Name, "ordinal_position": i + 1}
			if c.parent != nil {
				if x, order := referencedIndex(c.parent, c.parentCols); x != nil {
					for pos, j := range order {
						if j == i {
							r["position_in_unique_constraint"] = pos + 1
						}
					}
				}
			}
			if err := add(r); err != nil {
				return err
			}
		}
		return nil
	})
}

func visReferentialConstraints(ctx context.Context, v *vctx, add func(vrow) error) error {
	rule := func(a catalogpb.ReferenceAction) string { return strings.ReplaceAll(a.String(), "_", " ") }
	return v.eachConstraint(ctx, func(c visConstraint) error {
		if c.fk == nil {
			return nil
		}
		match := [...]string{"NONE", "FULL", "PARTIAL"}[c.fk.Match]
		r := vrow{"constraint_catalog": v.dbName(), "constraint_schema": v.schemaOf(c.t), "constraint_name": c.name, "match_option": match,
			"update_rule": rule(c.fk.OnUpdate), "delete_rule": rule(c.fk.OnDelete)}
		if c.parent != nil {
			if x, _ := referencedIndex(c.parent, c.parentCols); x != nil {
				r["unique_constraint_catalog"], r["unique_constraint_schema"], r["unique_constraint_name"] = v.dbName(), v.schemaOf(c.parent), x.Name
			}
		}
		return add(r)
	})
}

func visConstraintColumnUsage(ctx context.Context, v *vctx, add func(vrow) error) error {
	return v.eachConstraint(ctx, func(c visConstraint) error {
		t, cols := c.t, c.cols
		if c.fk != nil {
			if t, cols = c.parent, c.parentCols; t == nil {
				return nil
			}
		}
		for _, id := range cols {
			col := t.ColumnByID(id)
			if col == nil {
				continue
			}
			if err := add(vrow{"table_catalog": v.dbName(), "table_schema": v.schemaOf(t), "table_name": t.Name(), "column_name": col.Name,
				"constraint_catalog": v.dbName(), "constraint_schema": v.schemaOf(c.t), "constraint_name": c.name}); err != nil {
				return err
			}
		}
		return nil
	})
}

func visConstraintTableUsage(ctx context.Context, v *vctx, add func(vrow) error) error {
	return v.eachConstraint(ctx, func(c visConstraint) error {
		t := c.t
		if c.fk != nil {
			if t = c.parent; t == nil {
				return nil
			}
		}
		if c.typ == "CHECK" {
			return nil
		}
		return add(vrow{"table_catalog": v.dbName(), "table_schema": v.schemaOf(t), "table_name": t.Name(), "constraint_catalog": v.dbName(),
			"constraint_schema": v.schemaOf(c.t), "constraint_name": c.name})
	})
}

func visCheckConstraints(ctx context.Context, v *vctx, add func(vrow) error) error {
	return v.eachConstraint(ctx, func(c visConstraint) error {
		if c.typ != "CHECK" {
			return nil
		}
		return add(vrow{"constraint_catalog": v.dbName(), "constraint_schema": v.schemaOf(c.t), "constraint_name": c.name, "check_clause": c.check})
	})
}

func visTablePrivileges(ctx context.Context, v *vctx, add func(vrow) error) error {
	for _, t := range v.inDB(v.db) {
		if t.IsSequence() || !v.visible(ctx, t) {
			continue
		}
		for _, u := range t.Privileges().GetUsers() {
			names := catalog.PrivilegeNames(u.Privileges)
			if u.Privileges&catalog.All.Mask() != 0 {
				names = []string{"DELETE", "INSERT", "REFERENCES", "SELECT", "TRIGGER", "TRUNCATE", "UPDATE"}
			}
			for _, n := range names {
				if err := add(vrow{"grantor": t.Privileges().GetOwner(), "grantee": u.User, "table_catalog": v.dbName(), "table_schema": v.schemaOf(t),
					"table_name": t.Name(), "privilege_type": n, "is_grantable": u.WithGrantOption != 0, "with_hierarchy": n == "SELECT"}); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func visEnabledRoles(ctx context.Context, v *vctx, add func(vrow) error) error {
	roles, err := v.p.roles(ctx)
	if err != nil {
		return err
	}
	for r := range roles {
		if r != catalog.PublicRole {
			if err := add(vrow{"role_name": r}); err != nil {
				return err
			}
		}
	}
	return nil
}

func visApplicableRoles(ctx context.Context, v *vctx, add func(vrow) error) error {
	roles, err := v.p.roles(ctx)
	if err != nil {
		return err
	}
	for r := range roles {
		if r != catalog.PublicRole && r != v.p.s.data.User {
			if err := add(vrow{"grantee": v.p.s.data.User, "role_name": r, "is_grantable": false}); err != nil {
				return err
			}
		}
	}
	return nil
}

func visCharacterSets(_ context.Context, v *vctx, add func(vrow) error) error {
	return add(vrow{"character_set_name": "UTF8", "character_repertoire": "UCS", "form_of_use": "UTF8", "default_collate_catalog": v.dbName(),
		"default_collate_schema": catalog.PgCatalogName, "default_collate_name": "C.UTF-8"})
}

func visCollations(_ context.Context, v *vctx, add func(vrow) error) error {
	for _, n := range []string{"default", "C", "POSIX"} {
		if err := add(vrow{"collation_catalog": v.dbName(), "collation_schema": catalog.PgCatalogName, "collation_name": n, "pad_attribute": "NO PAD"}); err != nil {
			return err
		}
	}
	return nil
}

func visViewTableUsage(_ context.Context, v *vctx, add func(vrow) error) error {
	for _, t := range v.inDB(v.db) {
		for _, id := range t.Proto().DependsOn {
			if src := v.tableByID[id]; src != nil {
				if err := add(vrow{"view_catalog": v.dbName(), "view_schema": v.schemaOf(t), "view_name": t.Name(), "table_catalog": v.dbName(),
					"table_schema": v.schemaOf(src), "table_name": src.Name()}); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func visViewColumnUsage(_ context.Context, v *vctx, add func(vrow) error) error {
	for _, t := range v.inDB(v.db) {
		for _, ref := range t.Proto().DependedOnBy {
			view := v.tableByID[ref.Id]
			if view == nil || !view.IsView() {
				continue
			}
			for _, id := range ref.ColumnIds {
				if c := t.ColumnByID(id); c != nil {
					if err := add(vrow{"view_catalog": v.dbName(), "view_schema": v.schemaOf(view), "view_name": view.Name(), "table_catalog": v.dbName(),
						"table_schema": v.schemaOf(t), "table_name": t.Name(), "column_name": c.Name}); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

func visRoutines(_ context.Context, v *vctx, add func(vrow) error) error {
	for _, f := range procs().all {
		if err := add(vrow{"specific_catalog": v.dbName(), "specific_schema": catalog.PgCatalogName, "specific_name": f.name + "_" + vtext(f.oid),
			"routine_catalog": v.dbName(), "routine_schema": catalog.PgCatalogName, "routine_name": f.name, "routine_type": "FUNCTION",
			"routine_body": "EXTERNAL", "external_language": "INTERNAL", "is_deterministic": false, "sql_data_access": "MODIFIES"}); err != nil {
			return err
		}
	}
	return nil
}

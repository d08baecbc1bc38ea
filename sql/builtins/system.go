package builtins

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/lib/pq/oid"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// followerReadLag is how far follower_read_timestamp() lies behind now.
const followerReadLag = 4200 * time.Millisecond

// envFn is the body of a function that needs the session.
type envFn = func(ctx context.Context, env Env, a tree.Datums) (tree.Datum, error)

func withEnv(f envFn) fn {
	return func(ctx *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		env, err := getEnv(ctx)
		if err != nil {
			return nil, err
		}
		c := ctx.Context
		if c == nil {
			c = context.Background()
		}
		return f(c, env, a)
	}
}

// orNull turns (text, ok, err) into a datum.
func orNull(s string, ok bool, err error) (tree.Datum, error) {
	if err != nil || !ok {
		return tree.DNull, err
	}
	return text(s)
}

func oidOf(d tree.Datum) oid.Oid {
	switch v := unwrap(d).(type) {
	case *tree.DOid:
		return oid.Oid(v.DInt)
	case *tree.DInt:
		return oid.Oid(*v)
	}
	return 0
}

func defineSystem(d definitions) {
	env := func(name string, args []*types.T, ret *types.T, f envFn, opts ...option) {
		d.scalar(name, args, ret, withEnv(f), opts...)
	}

	// Session.
	env("version", nil, tText, func(ctx context.Context, e Env, _ tree.Datums) (tree.Datum, error) {
		// Knex, TypeORM and SQLAlchemy read the version that they can count on from
		// the start of the text.
		v, _, err := e.GetVar(ctx, "server_version", true)
		if err != nil {
			return nil, err
		}
		return text("PostgreSQL " + v + " compatible, " + e.Version())
	})
	name := func(names []string, f func(Env) string) {
		for _, n := range names {
			env(n, nil, types.Name, func(_ context.Context, e Env, _ tree.Datums) (tree.Datum, error) { return tree.NewDString(f(e)), nil })
		}
	}
	name([]string{"current_user", "user", "current_role"}, Env.CurrentUser)
	name([]string{"session_user"}, Env.SessionUser)
	name([]string{"current_database", "current_catalog"}, Env.CurrentDatabase)
	env("current_schema", nil, types.Name, func(c context.Context, e Env, _ tree.Datums) (tree.Datum, error) {
		p, err := e.SearchPath(c, false)
		if err != nil || len(p) == 0 {
			return tree.DNull, err
		}
		return text(p[0])
	})
	env("current_schemas", ts(tBool), types.MakeArray(types.Name), func(c context.Context, e Env, a tree.Datums) (tree.Datum, error) {
		p, err := e.SearchPath(c, a[0] == tree.DBoolTrue)
		if err != nil {
			return nil, err
		}
		out := tree.NewDArray(types.Name)
		for _, s := range p {
			if err := out.Append(tree.NewDString(s)); err != nil {
				return nil, err
			}
		}
		return out, nil
	})
	env("pg_backend_pid", nil, tInt4, func(_ context.Context, e Env, _ tree.Datums) (tree.Datum, error) { return dint(int64(e.BackendPID())) })
	env("inet_client_addr", nil, tInet, func(_ context.Context, e Env, _ tree.Datums) (tree.Datum, error) {
		h, _ := e.RemoteAddr()
		ip, err := tree.ParseDIPAddrFromINetString(h)
		if err != nil {
			return tree.DNull, nil // A local socket has no address.
		}
		return ip, nil
	})
	env("inet_client_port", nil, tInt4, func(_ context.Context, e Env, _ tree.Datums) (tree.Datum, error) {
		_, p := e.RemoteAddr()
		if p == 0 {
			return tree.DNull, nil
		}
		return dint(int64(p))
	})
	getVar := func(missingOK bool) envFn {
		return func(c context.Context, e Env, a tree.Datums) (tree.Datum, error) {
			ok := missingOK
			if len(a) > 1 {
				ok = a[1] == tree.DBoolTrue
			}
			v, found, err := e.GetVar(c, str(a[0]), ok)
			return orNull(v, found, err)
		}
	}
	env("current_setting", ts(tText), tText, getVar(false))
	env("current_setting", ts(tText, tBool), tText, getVar(false))
	env("set_config", ts(tText, tText, tBool), tText, func(c context.Context, e Env, a tree.Datums) (tree.Datum, error) {
		if err := e.SetVar(c, str(a[0]), str(a[1]), a[2] == tree.DBoolTrue); err != nil {
			return nil, err
		}
		v, found, err := e.GetVar(c, str(a[0]), true)
		return orNull(v, found, err)
	}, volatile)
	for _, n := range []string{"pg_cancel_backend", "pg_terminate_backend"} {
		env(n, ts(tInt), tBool, func(c context.Context, e Env, a tree.Datums) (tree.Datum, error) {
			ok, err := e.CancelBackend(c, int32(num(a[0])), n == "pg_terminate_backend")
			return tree.MakeDBool(tree.DBool(ok)), err
		}, volatile)
	}
	for _, n := range []string{"txid_current", "pg_current_xact_id"} {
		env(n, nil, tInt, func(_ context.Context, e Env, _ tree.Datums) (tree.Datum, error) { return dint(e.TxnID()) }, volatile)
	}
	d.scalar("pg_is_in_recovery", nil, tBool, constant(tree.DBoolFalse))
	d.scalar("pg_is_wal_replay_paused", nil, tBool, constant(tree.DBoolFalse))
	d.scalar("pg_my_temp_schema", nil, tOid, constant(tree.NewDOid(0)))
	d.scalar("pg_is_other_temp_schema", ts(tOid), tBool, constant(tree.DBoolFalse))
	d.scalar("pg_trigger_depth", nil, tInt4, constant(tree.NewDInt(0)))
	d.scalar("pg_jit_available", nil, tBool, constant(tree.DBoolFalse))
	d.scalar("pg_client_encoding", nil, types.Name, constant(tree.NewDString("UTF8")))
	d.scalar("getdatabaseencoding", nil, types.Name, constant(tree.NewDString("UTF8")))
	d.scalar("pg_postmaster_start_time", nil, tTSTZ, func(ctx *tree.EvalContext, _ tree.Datums) (tree.Datum, error) {
		return ctx.GetTxnTimestamp(1000), nil
	})

	// Sequences.
	seqName := func(c context.Context, e Env, d tree.Datum) (string, error) {
		if o, ok := unwrap(d).(*tree.DOid); ok {
			n, found, err := e.RegtypeName(c, oid.T_regclass, oid.Oid(o.DInt))
			if err != nil {
				return "", err
			}
			if !found {
				return "", pgerr.Newf(pgerr.UndefinedTable, "could not open relation with OID %d", o.DInt)
			}
			return n, nil
		}
		return str(d), nil
	}
	seqInt := func(name string, f func(Env, context.Context, string) (int64, error)) {
		for _, t := range ts(tText, types.RegClass) {
			env(name, ts(t), tInt, func(c context.Context, e Env, a tree.Datums) (tree.Datum, error) {
				n, err := seqName(c, e, a[0])
				if err != nil {
					return nil, err
				}
				v, err := f(e, c, n)
				if err != nil {
					return nil, err
				}
				return dint(v)
			}, volatile)
		}
	}
	seqInt("nextval", func(e Env, c context.Context, n string) (int64, error) { return e.SequenceNextval(c, n) })
	seqInt("currval", func(e Env, c context.Context, n string) (int64, error) { return e.SequenceCurrval(c, n) })
	env("lastval", nil, tInt, func(c context.Context, e Env, _ tree.Datums) (tree.Datum, error) {
		v, err := e.SequenceLastval(c)
		if err != nil {
			return nil, err
		}
		return dint(v)
	}, volatile)
	for _, t := range ts(tText, types.RegClass) {
		setval := func(c context.Context, e Env, a tree.Datums) (tree.Datum, error) {
			called := len(a) < 3 || a[2] == tree.DBoolTrue
			n, err := seqName(c, e, a[0])
			if err != nil {
				return nil, err
			}
			if err := e.SequenceSetval(c, n, num(a[1]), called); err != nil {
				return nil, err
			}
			return a[1], nil
		}
		env("setval", ts(t, tInt), tInt, setval, volatile)
		env("setval", ts(t, tInt, tBool), tInt, setval, volatile)
	}
	env("pg_get_serial_sequence", ts(tText, tText), tText, func(c context.Context, e Env, a tree.Datums) (tree.Datum, error) {
		return orNull(e.SerialSequence(c, str(a[0]), str(a[1])))
	})

	defineCatalogFuncs(d)
	defineClusterFuncs(d)
}

func constant(v tree.Datum) fn {
	return func(*tree.EvalContext, tree.Datums) (tree.Datum, error) { return v, nil }
}

func defineCatalogFuncs(d definitions) {
	env := func(name string, args []*types.T, ret *types.T, f envFn, opts ...option) {
		d.scalar(name, args, ret, withEnv(f), opts...)
	}
	env("format_type", ts(tOid, tInt), tText, func(c context.Context, e Env, a tree.Datums) (tree.Datum, error) {
		if a[0] == tree.DNull {
			return tree.DNull, nil
		}
		mod := -1
		if a[1] != tree.DNull {
			mod = int(num(a[1]))
		}
		return formatType(c, e, oidOf(a[0]), mod)
	}, nullable)
	// pg_get_expr gets the text of stored expressions, which is kept as text.
	for _, t := range ts(tText) {
		d.scalar("pg_get_expr", ts(t, tOid), tText, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) { return text(str(a[0])) })
		d.scalar("pg_get_expr", ts(t, tOid, tBool), tText, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			if a[2] == tree.DBoolTrue {
				return text(withoutParens(str(a[0])))
			}
			return text(str(a[0]))
		})
	}
	def := func(name string, f func(Env, context.Context, oid.Oid) (string, bool, error)) {
		body := func(c context.Context, e Env, a tree.Datums) (tree.Datum, error) {
			def, ok, err := f(e, c, oidOf(a[0]))
			if len(a) > 1 && a[1] == tree.DBoolTrue {
				def = prettyDef(def)
			}
			return orNull(def, ok, err)
		}
		env(name, ts(tOid), tText, body)
		env(name, ts(tOid, tBool), tText, body)
	}
	def("pg_get_constraintdef", func(e Env, c context.Context, id oid.Oid) (string, bool, error) { return e.ConstraintDef(c, id) })
	def("pg_get_indexdef", func(e Env, c context.Context, id oid.Oid) (string, bool, error) { return e.IndexDef(c, id, 0) })
	env("pg_get_indexdef", ts(tOid, tInt, tBool), tText, func(c context.Context, e Env, a tree.Datums) (tree.Datum, error) {
		return orNull(e.IndexDef(c, oidOf(a[0]), int(num(a[1]))))
	})
	def("pg_get_viewdef", func(e Env, c context.Context, id oid.Oid) (string, bool, error) { return e.ViewDef(c, id) })
	env("pg_get_viewdef", ts(tText), tText, func(c context.Context, e Env, a tree.Datums) (tree.Datum, error) {
		id, err := e.ResolveRegtype(c, oid.T_regclass, str(a[0]))
		if err != nil {
			return nil, err
		}
		return orNull(e.ViewDef(c, id))
	})
	def("pg_get_functiondef", func(e Env, c context.Context, id oid.Oid) (string, bool, error) { return e.FunctionDef(c, id) })
	null := func(name string, ret *types.T, args ...*types.T) {
		d.scalar(name, args, ret, func(*tree.EvalContext, tree.Datums) (tree.Datum, error) { return tree.DNull, nil })
	}
	null("pg_get_triggerdef", tText, tOid)
	null("pg_get_triggerdef", tText, tOid, tBool)
	null("pg_get_ruledef", tText, tOid)
	null("pg_get_ruledef", tText, tOid, tBool)
	null("pg_get_partkeydef", tText, tOid)
	env("acldefault", ts(tText, tOid), types.StringArray, func(c context.Context, e Env, a tree.Datums) (tree.Datum, error) {
		owner, ok, err := e.UserByID(c, oidOf(a[1]))
		if err != nil {
			return nil, err
		}
		if !ok {
			owner = strconv.FormatUint(uint64(oidOf(a[1])), 10)
		}
		return aclDefault(str(a[0]), owner)
	})
	null("pg_get_statisticsobjdef", tText, tOid)
	null("pg_get_statisticsobjdef_columns", tText, tOid)
	null("pg_tablespace_location", tText, tOid)
	null("pg_relation_filenode", tOid, tOid)
	null("pg_get_partition_constraintdef", tText, tOid)
	null("pg_describe_object", tText, tOid, tOid, tInt)
	for _, n := range []string{"pg_get_function_result", "pg_get_function_arguments", "pg_get_function_identity_arguments"} {
		env(n, ts(tOid), tText, func(c context.Context, e Env, a tree.Datums) (tree.Datum, error) {
			args, result, ok, err := e.FunctionSignature(c, oidOf(a[0]))
			if n == "pg_get_function_result" {
				return orNull(result, ok, err)
			}
			return orNull(args, ok, err)
		})
	}
	null("pg_get_function_sqlbody", tText, tOid)
	env("pg_get_userbyid", ts(tOid), types.Name, func(c context.Context, e Env, a tree.Datums) (tree.Datum, error) {
		n, ok, err := e.UserByID(c, oidOf(a[0]))
		if err == nil && !ok {
			n = "unknown (OID=" + strconv.FormatUint(uint64(oidOf(a[0])), 10) + ")"
		}
		return tree.NewDString(n), err
	})
	for fnName, kind := range map[string]string{
		"pg_table_is_visible": "class", "pg_type_is_visible": "type", "pg_function_is_visible": "function",
		"pg_operator_is_visible": "operator", "pg_opclass_is_visible": "opclass", "pg_opfamily_is_visible": "opfamily",
		"pg_collation_is_visible": "collation", "pg_conversion_is_visible": "conversion", "pg_statistics_obj_is_visible": "statistics",
		"pg_ts_config_is_visible": "ts_config", "pg_ts_dict_is_visible": "ts_dict", "pg_ts_parser_is_visible": "ts_parser",
		"pg_ts_template_is_visible": "ts_template",
	} {
		env(fnName, ts(tOid), tBool, func(c context.Context, e Env, a tree.Datums) (tree.Datum, error) {
			v, ok, err := e.Visible(c, kind, oidOf(a[0]))
			if err != nil || !ok {
				return tree.DNull, err
			}
			return dbool(v)
		})
	}
	comment := func(catalog string, col func(tree.Datums) int) envFn {
		return func(c context.Context, e Env, a tree.Datums) (tree.Datum, error) {
			cat := catalog
			if cat == "arg" {
				cat = str(a[1])
			}
			return orNull(e.Comment(c, cat, oidOf(a[0]), col(a)))
		}
	}
	none := func(tree.Datums) int { return 0 }
	env("obj_description", ts(tOid, tText), tText, comment("arg", none))
	env("obj_description", ts(tOid), tText, comment("", none))
	env("shobj_description", ts(tOid, tText), tText, comment("arg", none))
	env("col_description", ts(tOid, tInt), tText, comment("pg_class", func(a tree.Datums) int { return int(num(a[1])) }))

	size := func(name string, total bool) {
		f := func(c context.Context, e Env, a tree.Datums) (tree.Datum, error) {
			id := oidOf(a[0])
			if s, ok := textOf(a[0]); ok {
				var err error
				if id, err = e.ResolveRegtype(c, oid.T_regclass, s); err != nil {
					return nil, err
				}
			}
			n, ok, err := e.RelationSize(c, id, total)
			if err != nil || !ok {
				return tree.DNull, err
			}
			return dint(n)
		}
		env(name, ts(types.RegClass), tInt, f)
		env(name, ts(tText), tInt, f)
		if name == "pg_relation_size" {
			env(name, ts(types.RegClass, tText), tInt, f)
		}
	}
	size("pg_relation_size", false)
	size("pg_table_size", false)
	size("pg_total_relation_size", true)
	d.scalar("pg_indexes_size", ts(types.RegClass), tInt, constant(tree.NewDInt(0)))
	env("pg_database_size", ts(tText), tInt, func(c context.Context, e Env, a tree.Datums) (tree.Datum, error) {
		n, err := e.DatabaseSize(c, str(a[0]))
		return tree.NewDInt(tree.DInt(n)), err
	})
	env("pg_database_size", ts(tOid), tInt, func(c context.Context, e Env, a tree.Datums) (tree.Datum, error) {
		n, err := e.DatabaseSize(c, strconv.FormatUint(uint64(oidOf(a[0])), 10))
		return tree.NewDInt(tree.DInt(n)), err
	})
	d.scalar("pg_tablespace_size", ts(tOid), tInt, constant(tree.NewDInt(0)))
	d.scalar("pg_size_pretty", ts(tInt), tText, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) { return text(sizePretty(num(a[0]))) })
	d.scalar("pg_size_pretty", ts(tDec), tText, func(ctx *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		n, err := castToInt(ctx, a[0], tInt)
		if err != nil {
			return nil, err
		}
		return text(sizePretty(num(n)))
	})
	d.scalar("pg_size_bytes", ts(tText), tInt, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		n, err := sizeBytes(str(a[0]))
		return tree.NewDInt(tree.DInt(n)), err
	})
	d.scalar("pg_encoding_to_char", ts(tInt), types.Name, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		return text(map[int64]string{0: "SQL_ASCII", 6: "UTF8", 8: "LATIN1"}[num(a[0])])
	})
	d.scalar("pg_char_to_encoding", ts(tText), tInt4, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		n, ok := map[string]int64{"utf8": 6, "unicode": 6, "sqlascii": 0, "latin1": 8}[normalEncoding(str(a[0]))]
		if !ok {
			n = -1
		}
		return dint(n)
	})
	d.scalar("pg_encoding_max_length", ts(tInt), tInt4, constant(tree.NewDInt(4)))
	d.scalar("pg_column_size", ts(tAny), tInt4, func(ctx *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		return dint(int64(a[0].Size()))
	})
	d.scalar("pg_column_is_updatable", ts(tOid, tInt, tBool), tBool, constant(tree.DBoolTrue))
	d.scalar("pg_relation_is_updatable", ts(tOid, tBool), tInt4, constant(tree.NewDInt(28)))
	d.scalar("pg_index_column_has_property", ts(tOid, tInt, tText), tBool, constant(tree.DNull))
	d.scalar("pg_indexam_has_property", ts(tOid, tText), tBool, constant(tree.DNull))
	d.scalar("pg_stat_get_numscans", ts(tOid), tInt, constant(tree.NewDInt(0)))
	d.scalar("pg_relation_is_publishable", ts(tOid), tBool, constant(tree.DBoolFalse))

	// to_regclass and its kin give NULL for what does not exist.
	for n, t := range map[string]*types.T{
		"to_regclass": types.RegClass, "to_regtype": types.RegType, "to_regproc": types.RegProc,
		"to_regprocedure": types.RegProcedure, "to_regnamespace": types.RegNamespace,
	} {
		d.scalar(n, ts(tText), t, func(ctx *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			v, err := castToOid(ctx, a[0], t)
			switch pgerr.GetCode(err) {
			case "":
				return v, err
			case pgerr.UndefinedTable, pgerr.UndefinedObject, pgerr.UndefinedFunction, pgerr.InvalidSchemaName:
				return tree.DNull, nil
			}
			return nil, err
		})
	}
	definePrivileges(d)
}

// definePrivileges defines the has_*_privilege family.
func definePrivileges(d definitions) {
	argText := func(e tree.Datum) string {
		if s, ok := textOf(unwrap(e)); ok {
			return s
		}
		return strconv.FormatUint(uint64(oidOf(e)), 10)
	}
	kinds := map[string]string{
		"has_table_privilege": "table", "has_schema_privilege": "schema", "has_database_privilege": "database",
		"has_sequence_privilege": "sequence", "has_type_privilege": "type", "has_function_privilege": "function",
		"has_language_privilege": "language", "has_tablespace_privilege": "tablespace", "has_server_privilege": "server",
		"has_foreign_data_wrapper_privilege": "foreign data wrapper", "has_any_column_privilege": "any column",
		"has_parameter_privilege": "parameter",
	}
	result := func(has, ok bool, err error) (tree.Datum, error) {
		if err != nil || !ok {
			return tree.DNull, err
		}
		return dbool(has)
	}
	for name, kind := range kinds {
		for _, obj := range ts(tText, tOid) {
			d.scalar(name, ts(obj, tText), tBool, withEnv(func(c context.Context, e Env, a tree.Datums) (tree.Datum, error) {
				return result(e.HasPrivilege(c, "", kind, argText(a[0]), "", str(a[1])))
			}))
			for _, user := range ts(tText, tOid) {
				d.scalar(name, ts(user, obj, tText), tBool, withEnv(func(c context.Context, e Env, a tree.Datums) (tree.Datum, error) {
					return result(e.HasPrivilege(c, argText(a[0]), kind, argText(a[1]), "", str(a[2])))
				}))
			}
		}
	}
	for _, obj := range ts(tText, tOid) {
		for _, col := range ts(tText, tInt) {
			colText := func(v tree.Datum) string {
				if s, ok := textOf(v); ok {
					return s
				}
				return strconv.FormatInt(num(v), 10)
			}
			d.scalar("has_column_privilege", ts(obj, col, tText), tBool, withEnv(func(c context.Context, e Env, a tree.Datums) (tree.Datum, error) {
				return result(e.HasPrivilege(c, "", "column", argText(a[0]), colText(a[1]), str(a[2])))
			}))
			for _, user := range ts(tText, tOid) {
				d.scalar("has_column_privilege", ts(user, obj, col, tText), tBool, withEnv(func(c context.Context, e Env, a tree.Datums) (tree.Datum, error) {
					return result(e.HasPrivilege(c, argText(a[0]), "column", argText(a[1]), colText(a[2]), str(a[3])))
				}))
			}
		}
	}
	for _, role := range ts(tText, tOid) {
		d.scalar("pg_has_role", ts(role, tText), tBool, withEnv(func(c context.Context, e Env, a tree.Datums) (tree.Datum, error) {
			has, err := e.HasRole(c, "", argText(a[0]), str(a[1]))
			return tree.MakeDBool(tree.DBool(has)), err
		}))
		for _, user := range ts(tText, tOid) {
			d.scalar("pg_has_role", ts(user, role, tText), tBool, withEnv(func(c context.Context, e Env, a tree.Datums) (tree.Datum, error) {
				has, err := e.HasRole(c, argText(a[0]), argText(a[1]), str(a[2]))
				return tree.MakeDBool(tree.DBool(has)), err
			}))
		}
	}
}

// prettyDef leaves out the parentheses around the condition of a CHECK constraint or
// a partial index.
func prettyDef(def string) string {
	for _, before := range []string{"CHECK (", " WHERE "} {
		head, cond, ok := strings.Cut(def, before)
		switch {
		case !ok || before == "CHECK (" && head != "":
		case before == "CHECK (":
			if cond, tail, ok := cutLast(cond, ")"); ok {
				return before + withoutParens(cond) + ")" + tail
			}
		default:
			return head + before + withoutParens(cond)
		}
	}
	return def
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// withoutParens takes off the parentheses around a whole expression.
func withoutParens(s string) string {
	if !strings.HasPrefix(s, "(") || !strings.HasSuffix(s, ")") {
		return s
	}
	depth, quote := 0, rune(0)
	for i, r := range s {
		switch {
		case quote != 0:
			if r == quote {
				quote = 0
			}
		case r == '\'' || r == '"':
			quote = r
		case r == '(':
			depth++
		case r == ')':
			if depth--; depth == 0 && i < len(s)-1 {
				return s
			}
		}
	}
	return s[1 : len(s)-1]
}

// aclDefault are the privileges on a new object of a kind: those of its owner, and
// of all roles.
func aclDefault(kind, owner string) (tree.Datum, error) {
	letters := map[string][2]string{ // of PUBLIC, of the owner
		"c": {}, "r": {"", "arwdDxt"}, "s": {"", "rwU"}, "d": {"Tc", "CTc"}, "f": {"X", "X"}, "l": {"U", "U"}, "L": {"", "rw"},
		"n": {"", "UC"}, "p": {"", "sA"}, "t": {"", "C"}, "F": {"", "U"}, "S": {"", "U"}, "T": {"U", "U"},
	}
	l, ok := letters[kind]
	if !ok {
		return nil, pgerr.Newf(pgerr.InvalidParameterValue, "unrecognized object type abbreviation: %q", kind)
	}
	out := tree.NewDArray(types.String)
	for i, grantee := range []string{"", owner} {
		if l[i] == "" {
			continue
		}
		if err := out.Append(tree.NewDString(grantee + "=" + l[i] + "/" + owner)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// formatType is format_type(oid, typmod).
func formatType(c context.Context, e Env, id oid.Oid, mod int) (tree.Datum, error) {
	if t, ok := types.OidToType[id]; ok {
		s := t.SQLStandardNameWithTypmod(true, mod)
		if mod < 0 {
			s = t.SQLStandardName()
		}
		switch id {
		case oid.T_bpchar:
			if mod < 0 {
				s = "character"
			}
		case oid.T_char:
			s = `"char"`
		case oid.T_anyelement:
			s = "anyelement"
		}
		if t.Family() == types.ArrayFamily && id != oid.T_int2vector && id != oid.T_oidvector {
			inner, err := formatType(c, e, t.ArrayContents().Oid(), mod)
			if err != nil {
				return nil, err
			}
			s = str(inner) + "[]"
		}
		return text(s)
	}
	_, name, ok, err := e.TypeByOID(c, id)
	if err == nil && !ok {
		if name, ok, err = e.RegtypeName(c, oid.T_regtype, id); ok {
			if element, isArray := strings.CutPrefix(name, "_"); isArray {
				name = element + "[]"
			}
		}
	}
	if err != nil {
		return nil, err
	}
	if !ok {
		return text("???")
	}
	return text(name)
}

func defineClusterFuncs(d definitions) {
	env := func(name string, args []*types.T, ret *types.T, f envFn, opts ...option) {
		d.scalar(name, args, ret, withEnv(f), opts...)
	}
	for _, n := range []string{"cluster_logical_timestamp", "crdb_internal.cluster_logical_timestamp"} {
		env(n, nil, tDec, func(c context.Context, e Env, _ tree.Datums) (tree.Datum, error) {
			v, err := e.ClusterLogicalTimestamp(c)
			if err != nil {
				return nil, err
			}
			return v, nil
		}, volatile)
	}
	env("pg_export_snapshot", nil, tText, func(c context.Context, e Env, _ tree.Datums) (tree.Datum, error) {
		v, err := e.ClusterLogicalTimestamp(c)
		if err != nil {
			return nil, err
		}
		return text(v.String())
	}, volatile)
	for _, n := range []string{"follower_read_timestamp", "experimental_follower_read_timestamp"} {
		d.scalar(n, nil, tTSTZ, func(ctx *tree.EvalContext, _ tree.Datums) (tree.Datum, error) {
			t := ctx.GetStmtTimestamp().Add(-followerReadLag)
			return tree.MakeDTimestampTZ(t, 1000), nil
		}, volatile)
	}
	env("crdb_internal.node_id", nil, tInt, func(_ context.Context, e Env, _ tree.Datums) (tree.Datum, error) { return dint(int64(e.NodeID())) })
	env("crdb_internal.cluster_id", nil, tUUID, func(_ context.Context, e Env, _ tree.Datums) (tree.Datum, error) {
		return tree.ParseDUuidFromString(e.ClusterID())
	})
	env("crdb_internal.node_executable_version", nil, tText, func(_ context.Context, e Env, _ tree.Datums) (tree.Datum, error) { return text(e.Version()) })
	env("crdb_internal.locality_value", ts(tText), tText, func(_ context.Context, e Env, a tree.Datums) (tree.Datum, error) {
		v, ok := e.Locality(str(a[0]))
		return orNull(v, ok, nil)
	})
	for _, n := range []string{"gateway_region", "default_to_database_primary_region"} {
		if n == "gateway_region" {
			env(n, nil, tText, func(_ context.Context, e Env, _ tree.Datums) (tree.Datum, error) {
				v, ok := e.Locality("region")
				if !ok {
					return nil, pgerr.New(pgerr.ObjectNotInPrerequisiteState, "no region set on the locality flag on this node")
				}
				return text(v)
			})
			continue
		}
		d.scalar(n, ts(tText), tText, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) { return a[0], nil })
	}
	env("crdb_internal.force_retry", ts(tIval), tInt, func(c context.Context, e Env, a tree.Datums) (tree.Datum, error) {
		if err := e.ForceRetry(c, a[0].(*tree.DInterval)); err != nil {
			return nil, err
		}
		return dint(0)
	}, volatile)
	d.scalar("crdb_internal.force_error", ts(tText, tText), tInt, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		if str(a[0]) == "" {
			return nil, pgerr.New(pgerr.Uncategorized, str(a[1]))
		}
		return nil, pgerr.New(pgerr.Code(str(a[0])), str(a[1]))
	}, volatile)
	env("crdb_internal.pb_to_json", ts(tText, tBytes), tJSON, func(c context.Context, e Env, a tree.Datums) (tree.Datum, error) {
		s, err := e.PBToJSON(c, str(a[0]), []byte(*a[1].(*tree.DBytes)))
		if err != nil {
			return nil, err
		}
		return tree.ParseDJSON(s)
	})
	env("crdb_internal.pb_to_json", ts(tText, tBytes, tBool), tJSON, func(c context.Context, e Env, a tree.Datums) (tree.Datum, error) {
		s, err := e.PBToJSON(c, str(a[0]), []byte(*a[1].(*tree.DBytes)))
		if err != nil {
			return nil, err
		}
		return tree.ParseDJSON(s)
	})
	// The enum functions are replaced by enumList nodes when they are type
	// checked: they look at the type of an argument that may be NULL.
	for _, n := range []string{"enum_first", "enum_last", "enum_range"} {
		ret := tree.IdentityReturnType(0)
		if n == "enum_range" {
			ret = arrayOf(0)
		}
		d.add(n, argTypes(types.AnyCollatedString), ret, func(*tree.EvalContext, tree.Datums) (tree.Datum, error) {
			return nil, pgerr.New("42P18", "could not determine actual enum type")
		}, nullable)
	}
}

package parser

import (
	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
)

// grant takes GRANT and REVOKE in all forms.
func (f *front) grant() tree.Statement {
	revoke := f.next().str == "revoke"
	verb := "GRANT"
	if revoke {
		verb = "REVOKE"
	}
	grantOption, adminOption := false, false
	if revoke {
		switch {
		case f.accept("grant", "option", "for"):
			grantOption = true
		case f.accept("admin", "option", "for"):
			adminOption = true
		}
	}
	if f.accept("system") {
		n := &Grant{Revoke: revoke, GrantOption: grantOption, On: GrantTarget{Kind: KindSystem}}
		n.Privileges, n.ColumnPrivileges = f.privileges()
		f.grantees(n)
		n.node = f.node(tree.DDL, verb)
		return n
	}
	on := f.until(func(i int) bool { return f.toks[i].is("on") || f.toks[i].is("to") || f.toks[i].is("from") })
	if on < len(f.toks) && !f.toks[on].is("on") {
		n := &GrantRole{Revoke: revoke, AdminOption: adminOption || grantOption, Roles: f.roles()}
		if revoke {
			f.expect("from")
		} else {
			f.expect("to")
		}
		n.Members = f.roles()
		if !revoke && (f.accept("with", "admin", "option") || f.accept("with", "admin", "true")) {
			n.AdminOption = true
		}
		f.grantedBy()
		f.dropBehavior()
		f.done()
		n.node = f.node(tree.DDL, verb)
		return n
	}
	n := &Grant{Revoke: revoke, GrantOption: grantOption}
	n.Privileges, n.ColumnPrivileges = f.privileges()
	f.expect("on")
	n.On = f.grantTarget()
	f.grantees(n)
	n.node = f.node(tree.DDL, verb)
	return n
}

// privileges takes ALL [PRIVILEGES] or a list.
func (f *front) privileges() (out []string, columns bool) {
	if f.accept("all") {
		f.accept("privileges")
		if f.peek().op("(") {
			f.i = f.skipParens(f.i)
			columns = true
		}
		return []string{"ALL"}, columns
	}
	for {
		out = append(out, upper(f.anyName()))
		if f.peek().op("(") {
			f.i = f.skipParens(f.i)
			columns = true
		}
		if !f.acceptOp(",") {
			return out, columns
		}
	}
}

func (f *front) grantedBy() {
	if f.accept("granted", "by") {
		f.role()
	}
}

func (f *front) grantees(n *Grant) {
	if n.Revoke {
		f.expect("from")
	} else {
		f.expect("to")
	}
	for {
		f.accept("group")
		n.Grantees = append(n.Grantees, f.role())
		if !f.acceptOp(",") {
			break
		}
	}
	if !n.Revoke && f.accept("with", "grant", "option") {
		n.GrantOption = true
	}
	f.grantedBy()
	n.Cascade = f.dropBehavior() == tree.DropCascade
	f.done()
}

// grantTarget takes what stands after ON.
func (f *front) grantTarget() (t GrantTarget) {
	schemas := func() {
		f.expect("in", "schema")
		t.AllInSchemas = append(t.AllInSchemas, f.schemaName())
		for f.acceptOp(",") {
			t.AllInSchemas = append(t.AllInSchemas, f.schemaName())
		}
	}
	switch {
	case f.accept("all", "tables"):
		t.Kind = KindTable
		schemas()
	case f.accept("all", "sequences"):
		t.Kind = KindSequence
		schemas()
	case f.accept("all", "functions"), f.accept("all", "routines"):
		t.Kind = KindFunction
		schemas()
	case f.accept("all", "procedures"):
		t.Kind = KindProcedure
		schemas()
	case f.looking("database") && f.at(1).isName():
		f.next()
		t.Kind, t.Names = KindDatabase, f.objects()
	case f.looking("schema") && f.at(1).isName():
		f.next()
		t.Kind, t.Names = KindSchema, f.objects()
	case f.looking("type") && f.at(1).isName(), f.looking("domain") && f.at(1).isName():
		f.next()
		t.Kind, t.Names = KindType, f.objects()
	case f.looking("sequence") && f.at(1).isName():
		f.next()
		t.Kind, t.Names = KindSequence, f.objects()
	case f.accept("external", "connection"):
		t.Kind = KindExternalConnection
		for {
			if s := f.peek(); s.kind == tokString {
				f.next()
				t.Names = append(t.Names, objectName([]string{s.str}))
			} else {
				t.Names = append(t.Names, f.object())
			}
			if !f.acceptOp(",") {
				break
			}
		}
	case f.looking("function") && f.at(1).isName(), f.looking("procedure") && f.at(1).isName(), f.looking("routine") && f.at(1).isName():
		t.Kind = KindFunction
		f.next()
		for {
			t.Names = append(t.Names, f.object())
			if f.peek().op("(") {
				f.i = f.skipParens(f.i)
			}
			if !f.acceptOp(",") {
				break
			}
		}
	case f.looking("language") && f.at(1).isName():
		f.next()
		t.Kind, t.Names = KindLanguage, f.objects()
	case f.looking("role") && f.at(1).isName():
		f.next()
		t.Kind, t.Names = KindRole, f.objects()
	default:
		if f.looking("table") && (f.at(1).isName() || f.at(1).op("*")) {
			f.next()
		}
		t.Kind, t.Tables = KindTable, f.patterns()
	}
	return t
}

// alterDefaultPrivileges takes ALTER DEFAULT PRIVILEGES …; the words are taken.
func (f *front) alterDefaultPrivileges() tree.Statement {
	n := &AlterDefaultPrivileges{}
	if f.accept("for") {
		switch {
		case f.accept("all", "roles"):
			n.AllRoles = true
		case f.accept("role"), f.accept("user"):
			n.Roles = f.roles()
		default:
			f.fail("expected ROLE or ALL ROLES")
		}
	}
	if f.accept("in", "schema") {
		n.Schemas = append(n.Schemas, f.schemaName())
		for f.acceptOp(",") {
			n.Schemas = append(n.Schemas, f.schemaName())
		}
	}
	switch {
	case f.accept("grant"):
	case f.accept("revoke"):
		n.Revoke = true
		n.GrantOption = f.accept("grant", "option", "for")
	default:
		f.fail("expected GRANT or REVOKE")
	}
	n.Privileges, _ = f.privileges()
	f.expect("on")
	switch {
	case f.accept("tables"):
		n.Kind = KindTable
	case f.accept("sequences"):
		n.Kind = KindSequence
	case f.accept("schemas"):
		n.Kind = KindSchema
	case f.accept("types"):
		n.Kind = KindType
	case f.accept("functions"), f.accept("routines"):
		n.Kind = KindFunction
	default:
		f.fail("expected TABLES, SEQUENCES, SCHEMAS, TYPES or FUNCTIONS")
	}
	g := &Grant{Revoke: n.Revoke}
	f.grantees(g)
	n.Grantees, n.GrantOption = g.Grantees, n.GrantOption || g.GrantOption
	n.node = f.node(tree.DDL, "ALTER DEFAULT PRIVILEGES")
	return n
}

package catalog

import (
	"context"
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// Resolver finds objects by the names that a statement uses, for one session.
//
// Of a name with one part the schemas of the search path are tried, pg_catalog
// first unless the path places it. a.b is schema a of the current database, else
// database a, schema public. a.b.c is database, schema, object.
type Resolver struct {
	*Collection
	// CurrentDatabase may be empty.
	CurrentDatabase string
	// SearchPath lists schemas; "$user" stands for User.
	SearchPath []string
	User       string
	// VirtualTable says whether a virtual schema has a table of this name.
	VirtualTable func(schema, table string) bool
}

// TableRef is a table or view that was found by name. Table is nil for a virtual
// table.
type TableRef struct {
	Database *Database // nil for a virtual table when no database is current
	Schema   SchemaRef
	Name     string
	Table    *Table
}

// QualifiedName returns database.schema.name.
func (r *TableRef) QualifiedName() string {
	s := quoteName(r.Schema.Name) + "." + quoteName(r.Name)
	if r.Database != nil {
		return quoteName(r.Database.Name()) + "." + s
	}
	return s
}

// NameParts returns the parts of a name in the order of writing.
func NameParts(n any) []string {
	switch n := n.(type) {
	case *tree.UnresolvedObjectName:
		return reverseParts(n.Parts[:n.NumParts])
	case *tree.UnresolvedName:
		return reverseParts(n.Parts[:n.NumParts])
	case *tree.TableName:
		var out []string
		if n.ExplicitCatalog {
			out = append(out, string(n.CatalogName))
		}
		if n.ExplicitSchema {
			out = append(out, string(n.SchemaName))
		}
		return append(out, string(n.TableName))
	case tree.TableName:
		return NameParts(&n)
	case string:
		return []string{n}
	case []string:
		return n
	}
	return nil
}

func reverseParts(p []string) []string {
	out := make([]string, len(p))
	for i, s := range p {
		out[len(p)-1-i] = s
	}
	return out
}

func joinName(parts []string) string { return strings.Join(parts, ".") }

// currentDB returns the current database. Without one, it is an error.
func (r *Resolver) currentDB(ctx context.Context) (*Database, error) {
	if r.CurrentDatabase == "" {
		return nil, pgerr.New(pgerr.InvalidCatalogName, "no database specified")
	}
	return r.MustDatabase(ctx, r.CurrentDatabase)
}

// Schemas returns the schemas of the search path that exist, in order, with
// pg_catalog first unless the path places it.
func (r *Resolver) Schemas(ctx context.Context) ([]SchemaRef, error) {
	db, err := r.currentDB(ctx)
	if err != nil {
		return nil, err
	}
	path := r.SearchPath
	implicit := true
	for _, s := range path {
		implicit = implicit && s != PgCatalogName
	}
	var out []SchemaRef
	if implicit {
		out = append(out, SchemaRef{Database: db, Name: PgCatalogName, Virtual: true})
	}
	for _, s := range path {
		if s == "$user" {
			s = r.User
		}
		ref, ok, err := r.Schema(ctx, db, s)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, ref)
		}
	}
	return out, nil
}

// CurrentSchema returns the schema in which unqualified names are created; ok is
// false when none of the search path exists.
func (r *Resolver) CurrentSchema(ctx context.Context) (SchemaRef, bool, error) {
	refs, err := r.Schemas(ctx)
	if err != nil {
		return SchemaRef{}, false, err
	}
	for _, s := range refs {
		if !s.Virtual {
			return s, true, nil
		}
	}
	return SchemaRef{}, false, nil
}

// candidates returns the schemas to search for a name and its last part.
func (r *Resolver) candidates(ctx context.Context, parts []string) ([]SchemaRef, string, error) {
	name := parts[len(parts)-1]
	switch len(parts) {
	case 1:
		refs, err := r.Schemas(ctx)
		return refs, name, err
	case 2:
		var out []SchemaRef
		if IsVirtualSchema(parts[0]) && r.CurrentDatabase == "" {
			return []SchemaRef{{Name: parts[0], Virtual: true}}, name, nil
		}
		if r.CurrentDatabase != "" {
			db, err := r.currentDB(ctx)
			if err != nil {
				return nil, "", err
			}
			ref, ok, err := r.Schema(ctx, db, parts[0])
			if err != nil {
				return nil, "", err
			}
			if ok {
				out = append(out, ref)
			}
		}
		db, err := r.Database(ctx, parts[0])
		if err != nil {
			return nil, "", err
		}
		if db != nil {
			ref, ok, err := r.Schema(ctx, db, PublicSchemaName)
			if err != nil {
				return nil, "", err
			}
			if ok {
				out = append(out, ref)
			}
		}
		return out, name, nil
	case 3:
		db, err := r.Database(ctx, parts[0])
		if err != nil || db == nil {
			return nil, name, err
		}
		ref, ok, err := r.Schema(ctx, db, parts[1])
		if err != nil || !ok {
			return nil, name, err
		}
		return []SchemaRef{ref}, name, nil
	}
	return nil, "", pgerr.Newf(pgerr.SyntaxError, "improper qualified name (too many dotted names): %s", joinName(parts))
}

// FindTable returns the table, view or sequence that a name means, or nil.
func (r *Resolver) FindTable(ctx context.Context, n any, flags Flags) (*TableRef, error) {
	parts := NameParts(n)
	if len(parts) == 0 {
		return nil, pgerr.New(pgerr.SyntaxError, "empty name")
	}
	refs, name, err := r.candidates(ctx, parts)
	if err != nil {
		return nil, err
	}
	for _, s := range refs {
		if s.Virtual {
			if r.VirtualTable != nil && r.VirtualTable(s.Name, name) {
				return &TableRef{Database: s.Database, Schema: s, Name: name}, nil
			}
			continue
		}
		t, err := r.TableByName(ctx, s.Database.ID(), s.ID, name, flags)
		if err != nil {
			return nil, err
		}
		if t != nil {
			return &TableRef{Database: s.Database, Schema: s, Name: name, Table: t}, nil
		}
	}
	return nil, nil
}

// Table is FindTable with the error for a missing one.
func (r *Resolver) Table(ctx context.Context, n any, flags Flags) (*TableRef, error) {
	ref, err := r.FindTable(ctx, n, flags)
	if err == nil && ref == nil {
		err = pgerr.Newf(pgerr.UndefinedTable, "relation \"%s\" does not exist", joinName(NameParts(n)))
	}
	return ref, err
}

// FindType returns the user-defined type that a name means, or nil.
func (r *Resolver) FindType(ctx context.Context, n any) (*Type, SchemaRef, error) {
	refs, name, err := r.candidates(ctx, NameParts(n))
	if err != nil {
		return nil, SchemaRef{}, err
	}
	for _, s := range refs {
		if s.Virtual {
			continue
		}
		d, err := r.ObjectByName(ctx, s.Database.ID(), s.ID, name)
		if err != nil {
			return nil, SchemaRef{}, err
		}
		if t, ok := d.(*Type); ok {
			if ok, err := visible(t, Flags{}); err != nil {
				return nil, SchemaRef{}, err
			} else if ok {
				return t, s, nil
			}
		}
	}
	return nil, SchemaRef{}, nil
}

// ResolveType returns the *types.T of the user-defined type that a name means,
// and the enum behind it.
func (r *Resolver) ResolveType(ctx context.Context, n any, array bool) (*types.T, *Enum, error) {
	t, _, err := r.FindType(ctx, n)
	if err != nil {
		return nil, nil, err
	}
	if t == nil {
		return nil, nil, pgerr.Newf(pgerr.UndefinedObject, "type \"%s\" does not exist", joinName(NameParts(n)))
	}
	typ, err := r.TypeOf(t)
	if err != nil {
		return nil, nil, err
	}
	el := typ
	if typ.Family() == types.ArrayFamily {
		el = typ.ArrayContents()
	} else if array {
		typ = ArrayOf(typ)
	}
	o, _ := EnumOID(el)
	e, err := r.EnumByOID(ctx, o)
	if err == nil && e == nil {
		err = pgerr.Newf(pgerr.UndefinedObject, "type \"%s\" does not exist", joinName(NameParts(n)))
	}
	return typ, e, err
}

// Target returns where an object of this name is to be created. Virtual schemas
// are refused.
func (r *Resolver) Target(ctx context.Context, n any) (SchemaRef, string, error) {
	parts := NameParts(n)
	if len(parts) == 0 {
		return SchemaRef{}, "", pgerr.New(pgerr.SyntaxError, "empty name")
	}
	if len(parts) == 1 {
		s, ok, err := r.CurrentSchema(ctx)
		if err == nil && !ok {
			err = pgerr.New(pgerr.InvalidSchemaName, "no schema has been selected to create in")
		}
		return s, parts[0], err
	}
	refs, name, err := r.candidates(ctx, parts)
	if err != nil {
		return SchemaRef{}, "", err
	}
	if len(refs) > 0 {
		s := refs[0]
		if s.Virtual {
			return SchemaRef{}, "", pgerr.Newf(pgerr.InsufficientPrivilege, "permission denied to create \"%s.%s\"", s.Name, name).
				WithDetail("System catalog modifications are currently disallowed.")
		}
		return s, name, nil
	}
	if len(parts) == 3 {
		if _, err := r.MustDatabase(ctx, parts[0]); err != nil {
			return SchemaRef{}, "", err
		}
	}
	return SchemaRef{}, "", pgerr.Newf(pgerr.InvalidSchemaName, "schema \"%s\" does not exist", parts[len(parts)-2])
}

// FindSchema returns the schema that database.schema or schema names.
func (r *Resolver) FindSchema(ctx context.Context, database, schema string) (SchemaRef, bool, error) {
	var db *Database
	var err error
	if database != "" {
		db, err = r.MustDatabase(ctx, database)
	} else {
		db, err = r.currentDB(ctx)
	}
	if err != nil {
		return SchemaRef{}, false, err
	}
	return r.Schema(ctx, db, schema)
}

package parser

import (
	"reflect"
	"strconv"
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
)

// fix puts what was smuggled through the module's grammar in its place.
func (s *side) fix(stmt tree.Statement) tree.Statement {
	holder := struct{ S tree.Statement }{stmt}
	s.walk(reflect.ValueOf(&holder).Elem())
	return holder.S
}

var (
	typeT   = reflect.TypeOf((*types.T)(nil))
	treePkg = reflect.TypeOf(tree.Select{}).PkgPath()
	ownPkg  = reflect.TypeOf(Backup{}).PkgPath()
)

// walk visits everything that the trees of a statement consist of. It is only
// used for statements that need it, so its cost does not matter.
func (s *side) walk(v reflect.Value) {
	switch v.Kind() {
	case reflect.Interface:
		if v.IsNil() {
			return
		}
		if v.CanSet() {
			if r := s.replacement(v.Interface()); r != nil {
				s.walk(reflect.ValueOf(r))
				v.Set(reflect.ValueOf(r))
				return
			}
		}
		s.walk(v.Elem())
	case reflect.Pointer:
		if v.IsNil() {
			return
		}
		if v.Type() == typeT {
			if t := s.realType(v.Interface().(*types.T)); t != nil && v.CanSet() {
				v.Set(reflect.ValueOf(t))
			}
			return
		}
		s.walk(v.Elem())
	case reflect.Struct:
		if p := v.Type().PkgPath(); p != treePkg && p != ownPkg && p != "" {
			return
		}
		for i := 0; i < v.NumField(); i++ {
			if v.Type().Field(i).IsExported() {
				s.walk(v.Field(i))
			}
		}
	case reflect.Slice, reflect.Array:
		for i := 0; i < v.Len(); i++ {
			s.walk(v.Index(i))
		}
	}
}

// ref returns the reference that a stand-in type carries.
func (s *side) ref(t *types.T) (name string, array, ok bool) {
	if t == nil {
		return "", false, false
	}
	if t.Family() == types.ArrayFamily {
		name, _, ok = s.ref(t.ArrayContents())
		return name, true, ok
	}
	if t.Family() != types.BitFamily || t.Width() < udtWidth {
		return "", false, false
	}
	if k := int(t.Width()) - udtWidth; k < len(s.types) {
		return s.types[k].name, false, true
	}
	return "", false, false
}

func (s *side) realType(t *types.T) *types.T {
	name, array, ok := s.ref(t)
	if !ok {
		return nil
	}
	return unresolvedType(name, array)
}

// replacement returns what stands in for n, or nil.
func (s *side) replacement(n any) any {
	switch n := n.(type) {
	case *tree.CastExpr:
		if name, array, ok := s.ref(n.Type); ok {
			return newUDTCast(n.Expr, name, array, false)
		}
	case *tree.AnnotateTypeExpr:
		if name, array, ok := s.ref(n.Type); ok {
			return newUDTCast(n.Expr, name, array, true)
		}
	case *tree.FuncExpr:
		if len(n.Exprs) > 0 {
			if in, ok := n.Exprs[0].(*tree.FuncExpr); ok && in.Func.String() == distinctFunc && len(in.Exprs) == 1 {
				n.Exprs[0], n.Type = in.Exprs[0], tree.DistinctFuncType
			}
		}
	case *tree.ShowVar:
		if k, ok := strings.CutPrefix(n.Name, ownPrefix); ok {
			if i, err := strconv.Atoi(k); err == nil && i < len(s.stmts) {
				return s.stmts[i]
			}
		}
	}
	return nil
}

func newUDTCast(e tree.Expr, name string, array, annotation bool) *UDTCast {
	c := &UDTCast{Expr: e, Array: array, Annotation: annotation}
	if o, ok := strings.CutPrefix(name, "@"); ok {
		if v, err := strconv.ParseUint(o, 10, 32); err == nil {
			c.OID = uint32(v)
			return c
		}
	}
	c.Name = objectName(strings.Split(name, "\x00"))
	return c
}

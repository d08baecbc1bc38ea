package jobs

import (
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// encode marshals what a row keeps. Texts may quote what storage or a damaged file
// holds, so bytes that are no UTF-8 are replaced: a job must be able to end with any
// error.
func encode(m proto.Message) ([]byte, error) {
	cleanTexts(m.ProtoReflect())
	return proto.Marshal(m)
}

// cleanTexts replaces invalid UTF-8 in all strings of m.
func cleanTexts(m protoreflect.Message) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap():
			return true // No text of others is kept in one.
		case f.IsList():
			list := v.List()
			for i := range list.Len() {
				switch f.Kind() {
				case protoreflect.StringKind:
					list.Set(i, protoreflect.ValueOfString(validText(list.Get(i).String())))
				case protoreflect.MessageKind:
					cleanTexts(list.Get(i).Message())
				}
			}
		case f.Kind() == protoreflect.StringKind:
			m.Set(f, protoreflect.ValueOfString(validText(v.String())))
		case f.Kind() == protoreflect.MessageKind:
			cleanTexts(v.Message())
		}
		return true
	})
}

func validText(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

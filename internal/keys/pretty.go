package keys

import (
	"fmt"
	"strings"

	"github.com/auxten/postgresql-parser/pkg/util/encoding"
)

// Pretty prints a key for people: /Table/106/1/"amsterdam"/5/0. Parts that are
// not understood are printed as hex.
func Pretty(k Key) string {
	switch {
	case len(k) == 0:
		return "/Min"
	case k.Equal(MaxKey):
		return "/Max"
	case k.IsLocal():
		return fmt.Sprintf("/Local/%x", []byte(k[1:]))
	case k[0] == 0x02:
		return "/Meta1/" + Pretty(k[1:])
	case k[0] == 0x03:
		return "/Meta2/" + Pretty(k[1:])
	case k[0] == 0x04:
		return fmt.Sprintf("/System/%q", []byte(k[1:]))
	}
	tableID, rest, ok := DecodeTablePrefix(k)
	if !ok {
		return fmt.Sprintf("/%x", []byte(k))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "/Table/%d", tableID)
	if len(rest) == 0 {
		return b.String()
	}
	id, rest, ok := decodeUvarint(rest)
	if !ok {
		fmt.Fprintf(&b, "/%x", []byte(rest))
		return b.String()
	}
	fmt.Fprintf(&b, "/%d", id)
	b.WriteString(prettyColumns(rest))
	return b.String()
}

// prettyColumns prints encoded columns; the decoders of the encoding package may
// panic on bytes that are no column, which then are printed as hex.
func prettyColumns(rest Key) (s string) {
	defer func() {
		if recover() != nil {
			s = fmt.Sprintf("/%x", []byte(rest))
		}
	}()
	if len(rest) == 0 {
		return ""
	}
	return "/" + strings.TrimPrefix(encoding.PrettyPrintValue(nil, rest, "/"), "/")
}

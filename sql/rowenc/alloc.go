package rowenc

import (
	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
)

// chunk hands out pointers into blocks, so that many datums cost one allocation.
// A datum that outlives the others keeps its block alive.
type chunk[T any] struct{ free []T }

const maxChunk = 64

func (c *chunk[T]) make() *T {
	if len(c.free) == 0 {
		c.free = make([]T, maxChunk)
	}
	p := &c.free[0]
	c.free = c.free[1:]
	return p
}

// DatumAlloc allocates datums in blocks. The zero value is ready. It is not safe
// for concurrent use.
type DatumAlloc struct {
	ints    chunk[tree.DInt]
	strings chunk[tree.DString]
	bytes   chunk[tree.DBytes]
	floats  chunk[tree.DFloat]
	decs    chunk[tree.DDecimal]
	dates   chunk[tree.DDate]
	times   chunk[tree.DTime]
	ts      chunk[tree.DTimestamp]
	tstz    chunk[tree.DTimestampTZ]
	timetz  chunk[tree.DTimeTZ]
	ivals   chunk[tree.DInterval]
	uuids   chunk[tree.DUuid]
	addrs   chunk[tree.DIPAddr]

	scratch []byte
	env     tree.CollationEnvironment
}

// NewInt returns a DInt.
func (a *DatumAlloc) NewInt(v int64) *tree.DInt {
	p := a.ints.make()
	*p = tree.DInt(v)
	return p
}

// NewString returns a DString.
func (a *DatumAlloc) NewString(s string) *tree.DString {
	p := a.strings.make()
	*p = tree.DString(s)
	return p
}

// NewFloat returns a DFloat.
func (a *DatumAlloc) NewFloat(f float64) *tree.DFloat {
	p := a.floats.make()
	*p = tree.DFloat(f)
	return p
}

// NewBytes returns a DBytes.
func (a *DatumAlloc) NewBytes(s string) *tree.DBytes {
	p := a.bytes.make()
	*p = tree.DBytes(s)
	return p
}

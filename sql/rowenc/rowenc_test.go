package rowenc

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"math/rand"
	"testing"
	"time"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/auxten/postgresql-parser/pkg/util/bitarray"
	"github.com/auxten/postgresql-parser/pkg/util/duration"
	"github.com/auxten/postgresql-parser/pkg/util/ipaddr"
	"github.com/auxten/postgresql-parser/pkg/util/json"
	"github.com/auxten/postgresql-parser/pkg/util/timeofday"
	"github.com/auxten/postgresql-parser/pkg/util/timetz"
	"github.com/auxten/postgresql-parser/pkg/util/timeutil/pgdate"
	"github.com/cockroachdb/apd"

	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/internal/systables"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
)

var testEnum = func() *catalog.Enum {
	d := &catalogpb.TypeDescriptor{Id: 200, Name: "mood", Version: 1, EnumMembers: catalog.NewEnumMembers([]string{"sad", "ok", "happy", "mad"})}
	return catalog.NewEnum(d, "d", "public")
}()

var testEnums = catalog.EnumSet{testEnum.OID: testEnum}

// testTypes are the column types that are exercised below.
var testTypes = []*types.T{
	types.Int, types.Int4, types.String, types.Bool, types.Bytes, types.Decimal, types.Float, types.Date, types.Time,
	types.TimeTZ, types.Timestamp, types.TimestampTZ, types.Interval, types.Uuid, types.INet, types.VarBit, types.Jsonb,
	types.Oid, types.Name, types.MakeCollatedString(types.String, "en"), testEnum.Type(),
	types.IntArray, types.StringArray, types.DecimalArray, types.MakeArray(types.Bool), types.MakeArray(testEnum.Type()),
}

// randDatum returns a random value of type t, never NULL.
func randDatum(rng *rand.Rand, t *types.T) tree.Datum {
	randBytes := func() []byte {
		b := make([]byte, rng.Intn(12))
		for i := range b {
			b[i] = []byte{0, 1, 0xff, 'a', 'b', 0xfe}[rng.Intn(6)]
		}
		return b
	}
	randInt := func() int64 {
		return int64(rng.Uint64()) >> uint(rng.Intn(64))
	}
	switch t.Family() {
	case types.IntFamily:
		return tree.NewDInt(tree.DInt(randInt()))
	case types.StringFamily:
		s := string([]rune("aä\x00bZ€")[rng.Intn(5)]) + fmt.Sprint(rng.Intn(50))
		if rng.Intn(5) == 0 {
			s = ""
		}
		if t == types.Name {
			return tree.NewDName(s)
		}
		return tree.NewDString(s)
	case types.BoolFamily:
		return tree.MakeDBool(rng.Intn(2) == 0)
	case types.BytesFamily:
		return tree.NewDBytes(tree.DBytes(randBytes()))
	case types.DecimalFamily:
		d := &tree.DDecimal{}
		switch rng.Intn(12) {
		case 0:
			d.Form = apd.NaN
		case 1:
			d.Form, d.Negative = apd.Infinite, rng.Intn(2) == 0
		default:
			d.Coeff.SetInt64(rng.Int63n(100000))
			d.Exponent = int32(rng.Intn(40) - 20)
			d.Negative = d.Sign() != 0 && rng.Intn(2) == 0
		}
		return d
	case types.FloatFamily:
		return tree.NewDFloat(tree.DFloat([]float64{0, math.Copysign(0, -1), 1.5, -1.5, math.Inf(1), math.Inf(-1), math.NaN(), rng.NormFloat64() * 1e20}[rng.Intn(8)]))
	case types.DateFamily:
		return tree.NewDDate(pgdate.MakeCompatibleDateFromDisk(rng.Int63n(100000) - 50000))
	case types.TimeFamily:
		return tree.MakeDTime(timeofday.TimeOfDay(rng.Int63n(microsPerDay + 1)))
	case types.TimeTZFamily:
		return tree.NewDTimeTZ(timetz.MakeTimeTZ(timeofday.TimeOfDay(rng.Int63n(microsPerDay+1)), int32(rng.Intn(60000)-30000)))
	case types.TimestampFamily:
		return &tree.DTimestamp{Time: time.Unix(rng.Int63n(4e9)-2e9, rng.Int63n(1e6)*1000).UTC()}
	case types.TimestampTZFamily:
		return &tree.DTimestampTZ{Time: time.Unix(rng.Int63n(4e9)-2e9, rng.Int63n(1e6)*1000).UTC()}
	case types.IntervalFamily:
		// Parts of one sign: the module's comparison of mixed ones is not by length.
		return &tree.DInterval{Duration: duration.MakeDuration(rng.Int63n(1e12), rng.Int63n(30), rng.Int63n(100))}
	case types.UuidFamily:
		u := &tree.DUuid{}
		rng.Read(u.UUID[:])
		return u
	case types.INetFamily:
		a := &tree.DIPAddr{}
		s := []string{"192.168.0.1/24", "10.0.0.0/8", "::1", "2001:db8::/32", "0.0.0.0"}[rng.Intn(5)]
		if err := ipaddr.ParseINet(s, &a.IPAddr); err != nil {
			panic(err)
		}
		return a
	case types.BitFamily:
		return &tree.DBitArray{BitArray: bitarray.Rand(rng, uint(rng.Intn(130)))}
	case types.OidFamily:
		return tree.NewDOid(tree.DInt(rng.Intn(1 << 30)))
	case types.JsonFamily:
		s := []string{`null`, `1.50`, `"a"`, `[]`, `{}`, `[1, [2, {"b": null}], "x"]`, `{"a": [1, true], "b": {"c": false}}`, `-12`, `"\u0000x"`}[rng.Intn(9)]
		j, err := json.ParseJSON(s)
		if err != nil {
			panic(err)
		}
		return tree.NewDJSON(j)
	case types.CollatedStringFamily:
		if _, ok := catalog.EnumOID(t); ok {
			return testEnum.Values()[rng.Intn(4)]
		}
		var env tree.CollationEnvironment
		d, err := tree.NewDCollatedString([]string{"", "a", "Ä", "b", "Bob"}[rng.Intn(5)], t.Locale(), &env)
		if err != nil {
			panic(err)
		}
		return d
	case types.ArrayFamily:
		a := tree.NewDArray(t.ArrayContents())
		for n := rng.Intn(4); n > 0; n-- {
			d := tree.Datum(tree.DNull)
			if rng.Intn(4) > 0 {
				d = randDatum(rng, t.ArrayContents())
			}
			if err := a.Append(d); err != nil {
				panic(err)
			}
		}
		return a
	}
	panic(t.String())
}

// same says whether two datums are the same value with the same spelling.
func same(a, b tree.Datum) bool {
	return fmt.Sprintf("%T %s", unwrap(a), a) == fmt.Sprintf("%T %s", unwrap(b), b)
}

func TestKeyRoundTripAndOrder(t *testing.T) {
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewSource(seed))
	evalCtx := &tree.EvalContext{}
	var a DatumAlloc
	for _, typ := range testTypes {
		_, isEnum := catalog.EnumOID(typ)
		for _, dir := range []Direction{Asc, Desc} {
			var prev tree.Datum
			var prevKey []byte
			for i := 0; i < 200; i++ {
				d := randDatum(rng, typ)
				if typ.Family() == types.JsonFamily {
					// The JSON order of the format is not that of the datums.
					prev = nil
				}
				b, err := EncodeKeyDatum(nil, d, dir)
				if err != nil {
					t.Fatalf("%s %s: %v", typ.DebugString(), d, err)
				}
				tail := []byte{0x88}
				got, rest, err := DecodeKeyDatum(&a, typ, testEnums, append(append([]byte(nil), b...), tail...), dir)
				if err != nil || !bytes.Equal(rest, tail) {
					t.Fatalf("%s %s %v: %x decodes to %v, rest %x, %v", typ.DebugString(), d, dir, b, got, rest, err)
				}
				collated := typ.Family() == types.CollatedStringFamily && !isEnum
				if !collated && got.Compare(evalCtx, d) != 0 && typ.Family() != types.JsonFamily {
					t.Fatalf("%s %v: %s decodes to %s", typ.DebugString(), dir, d, got)
				}
				if !IsComposite(d) && !same(got, d) {
					t.Fatalf("%s %v: %s is not composite and decodes to %s", typ.DebugString(), dir, d, got)
				}
				if rest, err := SkipKeyDatum(typ, append(append([]byte(nil), b...), tail...), dir); err != nil || !bytes.Equal(rest, tail) {
					t.Fatalf("%s %v: skipping %x leaves %x, %v", typ.DebugString(), dir, b, rest, err)
				}
				if prev != nil && typ.Family() != types.ArrayFamily {
					want := prev.Compare(evalCtx, d)
					if dir == Desc {
						want = -want
					}
					// Intervals of equal length are distinct keys.
					if c := bytes.Compare(prevKey, b); c != want && !(typ.Family() == types.IntervalFamily && want == 0) {
						t.Fatalf("%s %v: %s and %s compare %d, their keys %x and %x compare %d", typ.DebugString(), dir, prev, d, want, prevKey, b, c)
					}
				}
				prev, prevKey = d, b
			}
		}
	}
}

func TestValueRoundTrip(t *testing.T) {
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewSource(seed))
	var a DatumAlloc
	for _, typ := range testTypes {
		for i := 0; i < 200; i++ {
			d := randDatum(rng, typ)
			b, err := EncodeValueDatum(nil, uint32(1+rng.Intn(1000)), d)
			if err != nil {
				t.Fatalf("%s %s: %v", typ.DebugString(), d, err)
			}
			got, rest, err := DecodeValueDatum(&a, typ, testEnums, append(b, 0x13))
			if err != nil || len(rest) != 1 || !same(got, d) {
				t.Fatalf("%s: %s decodes to %v, rest %x, %v", typ.DebugString(), d, got, rest, err)
			}
			data, _, kind, err := decodeValueTag(b)
			if err != nil {
				t.Fatal(err)
			}
			if rest, err := skipValue(data, kind); err != nil || len(rest) != 0 {
				t.Fatalf("%s: skipping %x leaves %x, %v", typ.DebugString(), b, rest, err)
			}
			bare, err := encodeBare(nil, d)
			if err != nil {
				t.Fatalf("%s %s: %v", typ.DebugString(), d, err)
			}
			if got, err := decodeBare(&a, typ, testEnums, bare[0], bare[1:]); err != nil || !same(got, d) {
				t.Fatalf("%s: bare %s decodes to %v, %v", typ.DebugString(), d, got, err)
			}
		}
	}
}

// wideTable has a column of every type, three families and indexes over them.
func wideTable(t testing.TB) *catalog.Table {
	t.Helper()
	pb := &catalogpb.TableDescriptor{Name: "wide", Id: 300, ParentId: 100, UnexposedParentSchemaId: 101}
	var a, b []string
	for i, typ := range testTypes {
		m, err := catalog.MarshalType(typ)
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("c%d", i)
		pb.Columns = append(pb.Columns, &catalogpb.ColumnDescriptor{Name: name, Type: m, Nullable: true})
		if i%2 == 1 && i != 5 {
			a = append(a, name)
		}
	}
	b = append(b, "c8")
	pb.Families = []*catalogpb.ColumnFamilyDescriptor{{Name: "primary", ColumnNames: []string{"c0"}}, {Name: "a", Id: 1, ColumnNames: a}, {Name: "b", Id: 2, ColumnNames: b}}
	pb.PrimaryIndex = &catalogpb.IndexDescriptor{Name: "wide_pkey", KeyColumnNames: []string{"c5", "c0"}, KeyColumnDirections: []catalogpb.Direction{Desc, Asc}}
	pb.Indexes = []*catalogpb.IndexDescriptor{
		{Name: "i", KeyColumnNames: []string{"c2", "c6"}, KeyColumnDirections: []catalogpb.Direction{Desc, Asc}, StoreColumnNames: []string{"c1", "c16", "c8"}},
		{Name: "u", Unique: true, KeyColumnNames: []string{"c10", "c19"}, StoreColumnNames: []string{"c21"}},
		{Name: "e", KeyColumnNames: []string{"c20", "c21", "c16"}},
	}
	if err := catalog.AllocateIDs(pb); err != nil {
		t.Fatal(err)
	}
	tab, err := catalog.NewTable(pb)
	if err != nil {
		t.Fatal(err)
	}
	return tab.WithEnums(testEnums)
}

func randRow(rng *rand.Rand, tab *catalog.Table) tree.Datums {
	row := make(tree.Datums, len(tab.Columns()))
	for i, c := range tab.Columns() {
		row[i] = tree.DNull
		if !c.Nullable || rng.Intn(4) > 0 {
			row[i] = randDatum(rng, c.Type)
		}
	}
	return row
}

func TestRowRoundTrip(t *testing.T) {
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewSource(seed))
	tab := wideTable(t)
	cols := tab.Columns()
	e, err := NewEncoder(tab, cols)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < 300; i++ {
		row := randRow(rng, tab)
		kvs, err := e.EncodeRow(nil, row)
		if err != nil {
			t.Fatal(err)
		}
		rows := fetchAll(t, tab, tab.PrimaryIndex(), cols, kvs)
		if len(rows) != 1 {
			t.Fatalf("%d rows", len(rows))
		}
		for j := range row {
			if !same(rows[0][j], row[j]) {
				t.Fatalf("column %s: %s came back as %s", cols[j].Name, row[j], rows[0][j])
			}
		}
		prefix, err := e.RowPrefix(row)
		if err != nil {
			t.Fatal(err)
		}
		for _, kv := range kvs {
			if !keys.RowPrefix(kv.Key).Equal(prefix) {
				t.Fatalf("row prefix of %x is %x, want %x", kv.Key, keys.RowPrefix(kv.Key), prefix)
			}
		}
		update, err := e.UpdateRow(nil, row)
		if err != nil || len(update) != 3 {
			t.Fatalf("update writes %d pairs, %v", len(update), err)
		}
		for _, x := range tab.SecondaryIndexes() {
			entries, err := e.EncodeIndexEntries(nil, x, row)
			if err != nil {
				t.Fatal(err)
			}
			checkIndexScan(t, tab, x, cols, []tree.Datums{row}, entries)
		}
	}
}

func TestNotNullKey(t *testing.T) {
	tab := wideTable(t)
	e, err := NewEncoder(tab, tab.Columns())
	if err != nil {
		t.Fatal(err)
	}
	row := make(tree.Datums, len(tab.Columns()))
	for i := range row {
		row[i] = tree.DNull
	}
	if _, err := e.EncodeRow(nil, row); pgerr.GetCode(err) != pgerr.NotNullViolation {
		t.Errorf("error %v", err)
	}
}

// TestUniqueEntries: without NULL the key of a unique entry lacks the primary key.
func TestUniqueEntries(t *testing.T) {
	tab := wideTable(t)
	e, err := NewEncoder(tab, tab.Columns())
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewSource(1))
	row := randRow(rng, tab)
	u := tab.IndexByName("u")
	row[10] = &tree.DTimestamp{Time: time.Unix(1, 0).UTC()}
	row[19] = randDatum(rng, testTypes[19])
	k1, err := e.EncodeIndexEntries(nil, u, row)
	if err != nil {
		t.Fatal(err)
	}
	row[0] = tree.NewDInt(77)
	k2, err := e.EncodeIndexEntries(nil, u, row)
	if err != nil {
		t.Fatal(err)
	}
	if !k1[0].Key.Equal(k2[0].Key) {
		t.Errorf("unique keys differ: %x, %x", k1[0].Key, k2[0].Key)
	}
	row[10] = tree.DNull
	k3, _ := e.EncodeIndexEntries(nil, u, row)
	row[0] = tree.NewDInt(78)
	k4, _ := e.EncodeIndexEntries(nil, u, row)
	if k3[0].Key.Equal(k4[0].Key) {
		t.Errorf("keys with NULL are equal: %x", k3[0].Key)
	}
}

func TestSpans(t *testing.T) {
	tab := wideTable(t)
	e, err := NewEncoder(tab, tab.Columns())
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewSource(2))
	evalCtx := &tree.EvalContext{}
	i := tab.IndexByName("i") // (c2 DESC, c6 ASC)
	var rows []tree.Datums
	var entries []KV
	for n := 0; n < 200; n++ {
		row := randRow(rng, tab)
		kvs, err := e.EncodeIndexEntries(nil, i, row)
		if err != nil {
			t.Fatal(err)
		}
		rows, entries = append(rows, row), append(entries, kvs[0])
	}
	count := func(sp keys.Span) (n int) {
		for _, kv := range entries {
			if sp.Contains(kv.Key) {
				n++
			}
		}
		return n
	}
	for n := 0; n < 100; n++ {
		lo, hi := randDatum(rng, types.String), randDatum(rng, types.String)
		var lb, hb *Bound
		if rng.Intn(3) > 0 {
			lb = &Bound{Datum: lo, Inclusive: rng.Intn(2) == 0}
		}
		if rng.Intn(3) > 0 {
			hb = &Bound{Datum: hi, Inclusive: rng.Intn(2) == 0}
		}
		sp, ok, err := RangeSpan(i, nil, lb, hb)
		if err != nil {
			t.Fatal(err)
		}
		want := 0
		for _, r := range rows {
			if r[2] == tree.DNull {
				continue
			}
			if lb != nil {
				if c := r[2].Compare(evalCtx, lo); c < 0 || c == 0 && !lb.Inclusive {
					continue
				}
			}
			if hb != nil {
				if c := r[2].Compare(evalCtx, hi); c > 0 || c == 0 && !hb.Inclusive {
					continue
				}
			}
			want++
		}
		got := 0
		if ok {
			got = count(sp)
		}
		if got != want {
			t.Fatalf("bounds %v %v: %d entries in %s, want %d", lb, hb, got, sp, want)
		}
	}
	sp, err := NullSpan(i, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := 0
	for _, r := range rows {
		if r[2] == tree.DNull {
			want++
		}
	}
	if got := count(sp); got != want {
		t.Errorf("%d entries with NULL, want %d", got, want)
	}
}

// TestWorkedExamples holds pairs of the format's description.
func TestWorkedExamples(t *testing.T) {
	if k := SequenceKey(176); !bytes.Equal(k, unhex(t, "f6b0 89 88 88")) {
		t.Errorf("sequence key %x", k)
	}
	if v := EncodeInt(SequenceKey(176), 12); !bytes.Equal(v, unhex(t, "f1426cf0 01 18")) {
		t.Errorf("sequence value %x", v)
	}
	if v, err := DecodeInt(SequenceKey(176), unhex(t, "f1426cf0 01 18")); v != 12 || err != nil {
		t.Errorf("sequence value %d, %v", v, err)
	}
	if err := VerifyChecksum(unhex(t, "f6b1 89 8a 88"), unhex(t, "3ad829de 0a 2b 13 01 13 03 13 05 14 7ff8000000000001 14 fff0000000000000 15 03 268c01 16 00")); err != nil {
		t.Error(err)
	}
	if err := VerifyChecksum(unhex(t, "f6b1 89 8a 88"), unhex(t, "3ad829df 0a 2b 13 01")); pgerr.GetCode(err) != pgerr.DataCorrupted {
		t.Errorf("wrong checksum: %v", err)
	}
	for in, want := range map[string][]string{
		`{"a":[1,{"b":null}],"c":true}`: {"37 61 0002 0003 0001 2a0200", "37 61 0002 0003 62 0001 00", "37 63 0001 0a"},
		`[]`:                            {"37 0001 38"},
		`5`:                             {"37 0001 2a0a00"},
		`[1, 1]`:                        {"37 0003 0001 2a0200"},
	} {
		j, err := json.ParseJSON(in)
		if err != nil {
			t.Fatal(err)
		}
		got, err := InvertedKeys(tree.NewDJSON(j))
		if err != nil || len(got) != len(want) {
			t.Errorf("%s: %x, %v", in, got, err)
			continue
		}
		for i := range want {
			if !bytes.Equal(got[i], unhex(t, want[i])) {
				t.Errorf("%s: key %d is %x, want %s", in, i, got[i], want[i])
			}
			if rest, err := skipInverted(types.Jsonb, append(got[i], 0x88)); err != nil || len(rest) != 1 {
				t.Errorf("%s: skipping leaves %x, %v", in, rest, err)
			}
		}
	}
	j, err := json.ParseJSON(`[1, "a"]`)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := EncodeKeyDatum(nil, tree.NewDJSON(j), Asc); err != nil || !bytes.Equal(b, unhex(t, "4b8a 482a020000 4712610001 00 00")) {
		t.Errorf("JSON key %x, %v", b, err)
	}
	for fam, want := range map[uint32]string{0: "88", 1: "8989", 200: "f6c88a"} {
		if b := AppendFamily(nil, fam); !bytes.Equal(b, unhex(t, want)) {
			t.Errorf("family %d: %x", fam, b)
		} else if f, err := decodeFamily(b); f != fam || err != nil {
			t.Errorf("family %d decodes to %d, %v", fam, f, err)
		}
	}
}

// TestSystemTables compares this package with the datum-free codec below SQL.
func TestSystemTables(t *testing.T) {
	for _, st := range systables.All() {
		tab, err := catalog.SystemTable(st)
		if err != nil {
			t.Fatal(err)
		}
		raw := make(systables.Row, len(st.Columns))
		row := make(tree.Datums, len(st.Columns))
		ts := time.Unix(1700000000, 123456000).UTC()
		for i, c := range st.Columns {
			switch c.Type {
			case systables.Int:
				raw[i], row[i] = int64(-i*1000), tree.NewDInt(tree.DInt(-i*1000))
			case systables.OID:
				raw[i], row[i] = int64(i), tree.NewDOid(tree.DInt(i))
			case systables.Bool:
				raw[i], row[i] = true, tree.DBoolTrue
			case systables.Float:
				raw[i], row[i] = 1.5, tree.NewDFloat(1.5)
			case systables.String:
				raw[i], row[i] = "s\x00x", tree.NewDString("s\x00x")
			case systables.Bytes:
				raw[i], row[i] = []byte{0, 1, 255}, tree.NewDBytes("\x00\x01\xff")
			case systables.Timestamp:
				raw[i], row[i] = ts, &tree.DTimestamp{Time: ts}
			case systables.TimestampTZ:
				raw[i], row[i] = ts, &tree.DTimestampTZ{Time: ts}
			case systables.UUID:
				u := [16]byte{1, 2, 3}
				raw[i], row[i] = u, &tree.DUuid{UUID: u}
			case systables.Decimal:
				d := apd.New(1234500, -3)
				raw[i], row[i] = d, &tree.DDecimal{Decimal: *d}
			case systables.StringArray:
				a := tree.NewDArray(types.String)
				for _, s := range []string{"a", ""} {
					if err := a.Append(tree.NewDString(s)); err != nil {
						t.Fatal(err)
					}
				}
				raw[i], row[i] = []string{"a", ""}, a
			}
		}
		want, err := st.Encode(raw)
		if err != nil {
			t.Fatalf("system.%s: %v", st.Name, err)
		}
		e, err := NewEncoder(tab, tab.Columns())
		if err != nil {
			t.Fatal(err)
		}
		got, err := e.EncodeRow(nil, row)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range tab.SecondaryIndexes() {
			if got, err = e.EncodeIndexEntries(got, x, row); err != nil {
				t.Fatal(err)
			}
		}
		if len(got) != len(want) {
			t.Fatalf("system.%s: %d pairs, want %d", st.Name, len(got), len(want))
		}
		for i := range got {
			if !got[i].Key.Equal(want[i].Key) || !bytes.Equal(got[i].Value, want[i].Value) {
				t.Errorf("system.%s:\n got %x = %x\nwant %x = %x", st.Name, got[i].Key, got[i].Value, want[i].Key, want[i].Value)
			}
		}
	}
}

// FuzzFetcher: no key or value panics, and what decodes can be encoded.
func FuzzFetcher(f *testing.F) {
	tab := wideTable(f)
	e, err := NewEncoder(tab, tab.Columns())
	if err != nil {
		f.Fatal(err)
	}
	rng := rand.New(rand.NewSource(3))
	for i := 0; i < 20; i++ {
		row := randRow(rng, tab)
		kvs, err := e.EncodeRow(nil, row)
		if err != nil {
			f.Fatal(err)
		}
		for j, x := range tab.SecondaryIndexes() {
			n := len(kvs)
			if kvs, err = e.EncodeIndexEntries(kvs, x, row); err != nil {
				f.Fatal(err)
			}
			for _, kv := range kvs[n:] {
				f.Add(uint8(j+1), []byte(kv.Key[len(x.Prefix()):]), kv.Value[4:])
			}
			kvs = kvs[:n]
		}
		for _, kv := range kvs {
			f.Add(uint8(0), []byte(kv.Key[len(tab.PrimaryIndex().Prefix()):]), kv.Value[4:])
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, key, value []byte) {
		x := tab.PublicIndexes()[int(which)%len(tab.PublicIndexes())]
		kv := KV{Key: append(append(keys.Key(nil), x.Prefix()...), key...), Value: append([]byte{0, 0, 0, 0}, value...)}
		fetch := NewFetcher(tab, x, tab.Columns())
		row := make(tree.Datums, len(tab.Columns()))
		ok, err := fetch.Next(context.Background(), &SlicePairs{KVs: []KV{kv}}, row)
		if err != nil {
			if c := pgerr.GetCode(err); c != pgerr.DataCorrupted && c != pgerr.UndefinedObject && c != pgerr.InvalidParameterValue {
				t.Fatalf("error %v [%s]", err, c)
			}
			return
		}
		if !ok {
			t.Fatal("no row and no error")
		}
		for _, d := range row {
			if d == nil {
				t.Fatal("a nil datum")
			}
			_ = d.String()
		}
	})
}

// FuzzKeyDatum: what decodes from a key encodes to something that decodes to the
// same.
func FuzzKeyDatum(f *testing.F) {
	rng := rand.New(rand.NewSource(4))
	for i, typ := range testTypes {
		for n := 0; n < 5; n++ {
			b, err := EncodeKeyDatum(nil, randDatum(rng, typ), Direction(n%2))
			if err != nil {
				f.Fatal(err)
			}
			f.Add(uint8(i), n%2 == 1, b)
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, desc bool, b []byte) {
		typ, dir := testTypes[int(which)%len(testTypes)], Asc
		if desc {
			dir = Desc
		}
		var a DatumAlloc
		d, rest, err := DecodeKeyDatum(&a, typ, testEnums, b, dir)
		if _, serr := SkipKeyDatum(typ, b, dir); serr != nil && pgerr.GetCode(serr) != pgerr.DataCorrupted {
			t.Fatalf("skipping: %v", serr)
		}
		if err != nil {
			return
		}
		if len(rest) > len(b) {
			t.Fatal("more left over than there was")
		}
		again, err := EncodeKeyDatum(nil, d, dir)
		if err != nil {
			return // Intervals beyond the range of keys.
		}
		d2, _, err := DecodeKeyDatum(&a, typ, testEnums, again, dir)
		// Spellings that no encoder writes may come back in the usual one.
		if err != nil || d.String() != d2.String() && d.Compare(&tree.EvalContext{}, d2) != 0 {
			t.Fatalf("%x: %s, then %x: %v, %v", b, d, again, d2, err)
		}
	})
}

// pgbenchTable is pgbench_accounts.
func pgbenchTable(b testing.TB) *catalog.Table {
	b.Helper()
	pb := &catalogpb.TableDescriptor{Name: "pgbench_accounts", Id: 104, ParentId: 100, UnexposedParentSchemaId: 101}
	for _, c := range []struct {
		name string
		typ  *types.T
	}{{"aid", types.Int4}, {"bid", types.Int4}, {"abalance", types.Int4}, {"filler", types.MakeChar(84)}} {
		m, err := catalog.MarshalType(c.typ)
		if err != nil {
			b.Fatal(err)
		}
		pb.Columns = append(pb.Columns, &catalogpb.ColumnDescriptor{Name: c.name, Type: m, Nullable: true})
	}
	pb.PrimaryIndex = &catalogpb.IndexDescriptor{Name: "pgbench_accounts_pkey", KeyColumnNames: []string{"aid"}}
	if err := catalog.AllocateIDs(pb); err != nil {
		b.Fatal(err)
	}
	tab, err := catalog.NewTable(pb)
	if err != nil {
		b.Fatal(err)
	}
	return tab
}

type repeatPairs struct{ kv KV }

func (r *repeatPairs) Next(context.Context) (keys.Key, []byte, bool, error) {
	return r.kv.Key, r.kv.Value, true, nil
}

func BenchmarkPgbenchRow(b *testing.B) {
	tab := pgbenchTable(b)
	row := tree.Datums{tree.NewDInt(123456), tree.NewDInt(2), tree.NewDInt(-4711), tree.NewDString("")}
	e, err := NewEncoder(tab, tab.Columns())
	if err != nil {
		b.Fatal(err)
	}
	kvs, err := e.EncodeRow(nil, row)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("decode", func(b *testing.B) {
		f := NewFetcher(tab, tab.PrimaryIndex(), tab.Columns())
		src := &repeatPairs{kvs[0]}
		out := make(tree.Datums, 4)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := f.Next(context.Background(), src, out); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("decode-one-column", func(b *testing.B) {
		f := NewFetcher(tab, tab.PrimaryIndex(), tab.Columns()[2:3])
		src := &repeatPairs{kvs[0]}
		out := make(tree.Datums, 1)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := f.Next(context.Background(), src, out); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if kvs, err = e.EncodeRow(kvs[:0], row); err != nil {
				b.Fatal(err)
			}
		}
	})
}

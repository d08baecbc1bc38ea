package builtins

import (
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/auxten/postgresql-parser/pkg/util/json"
	"github.com/cockroachdb/apd"
	"github.com/lib/pq/oid"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/pgcodec"
)

// CastDatum casts a non-NULL value to type t with PostgreSQL's results and
// errors. The context decides about values that are too long: an explicit cast
// to varchar(n) cuts, an assignment fails (22001).
func CastDatum(ctx *tree.EvalContext, d tree.Datum, t *types.T, in CastContext) (tree.Datum, error) {
	if w, ok := d.(*tree.DOidWrapper); ok {
		d = w.Wrapped
	}
	if d == tree.DNull {
		return d, nil
	}
	switch t.Family() {
	case types.AnyFamily:
		return d, nil
	case types.UnknownFamily:
		return d, nil
	case types.IntFamily:
		return castToInt(ctx, d, t)
	case types.FloatFamily:
		return castToFloat(d, t)
	case types.DecimalFamily:
		return castToDecimal(ctx, d, t)
	case types.StringFamily:
		return castToString(ctx, d, t, in)
	case types.CollatedStringFamily:
		return castToCollated(ctx, d, t, in)
	case types.BoolFamily:
		if j, ok := d.(*tree.DJSON); ok {
			switch j.JSON.Type() {
			case json.TrueJSONType:
				return tree.DBoolTrue, nil
			case json.FalseJSONType:
				return tree.DBoolFalse, nil
			}
			return nil, jsonCastError(j, "boolean")
		}
	case types.BitFamily:
		if in != ExplicitCast && t.Width() > 0 {
			if b, ok := d.(*tree.DBitArray); ok {
				n := int32(b.BitLen())
				if t.Oid() == oid.T_bit && n != t.Width() {
					return nil, pgerr.Newf("22026", "bit string length %d does not match type bit(%d)", n, t.Width())
				}
				if n > t.Width() {
					return nil, pgerr.Newf("22001", "bit string too long for type bit varying(%d)", t.Width())
				}
			}
		}
	case types.OidFamily:
		return castToOid(ctx, d, t)
	case types.ArrayFamily:
		if a, ok := d.(*tree.DArray); ok {
			elem := t.ArrayContents()
			if a.ParamTyp.Identical(elem) && !needsCheck(elem) {
				return d, nil
			}
			out := tree.NewDArray(elem)
			out.Array = make(tree.Datums, 0, len(a.Array))
			for _, e := range a.Array {
				if e != tree.DNull {
					var err error
					if e, err = CastDatum(ctx, e, elem, in); err != nil {
						return nil, err
					}
				}
				if err := out.Append(e); err != nil {
					return nil, err
				}
			}
			return out, nil
		}
	case types.TupleFamily:
		if tup, ok := d.(*tree.DTuple); ok {
			contents := t.TupleContents()
			if len(contents) != len(tup.D) {
				return d, nil
			}
			out := make(tree.Datums, len(tup.D))
			for i, e := range tup.D {
				c, err := CastDatum(ctx, e, &contents[i], in)
				if err != nil {
					return nil, err
				}
				out[i] = c
			}
			return tree.NewDTuple(t, out...), nil
		}
	case types.IntervalFamily:
		if iv, ok := d.(*tree.DInterval); ok && t.Identical(types.Interval) {
			return iv, nil
		}
	case types.DateFamily, types.TimestampFamily, types.TimestampTZFamily, types.TimeFamily, types.TimeTZFamily:
		if out, done, err := castTime(ctx, d, t); done {
			return out, err
		}
	case types.JsonFamily:
		if j, ok := d.(*tree.DJSON); ok {
			return j, nil
		}
	}
	if s, ok := textOf(d); ok {
		return parseTextIn(ctx, s, t, in)
	}
	out, err := tree.PerformCast(ctx, d, t)
	if err != nil {
		return nil, MapError(err)
	}
	return out, nil
}

// textOf returns the contents of string datums.
func textOf(d tree.Datum) (string, bool) {
	switch v := d.(type) {
	case *tree.DString:
		return string(*v), true
	case *tree.DCollatedString:
		return v.Contents, true
	}
	return "", false
}

// codecSettings are the session's settings for text forms.
func codecSettings(ctx *tree.EvalContext) *pgcodec.Settings {
	if ctx == nil {
		return pgcodec.DefaultSettings()
	}
	loc := ctx.GetLocation()
	if env, ok := ctx.Planner.(TextEnv); ok {
		s := env.TextSettings()
		if s.Location != loc { // evaluated under another zone than the session's
			c := *s
			c.Location = loc
			return &c
		}
		return s
	}
	s := pgcodec.DefaultSettings()
	s.Location = loc
	return s
}

// TextEnv is what an Env may also implement: the settings of the session that
// shape text (DateStyle, IntervalStyle, bytea_output, extra_float_digits).
type TextEnv interface {
	TextSettings() *pgcodec.Settings
}

// FormatText is PostgreSQL's text form of a non-NULL value of type t.
func FormatText(ctx *tree.EvalContext, d tree.Datum, t *types.T) string {
	c := pgcodec.Make(t, t.Oid(), t.TypeModifier())
	return string(c.AppendText(nil, d, codecSettings(ctx)))
}

func parseText(s string, t *types.T) (tree.Datum, error) {
	return parseTextIn(nil, s, t, ExplicitCast)
}

func parseTextIn(ctx *tree.EvalContext, s string, t *types.T, in CastContext) (tree.Datum, error) {
	set := codecSettings(ctx)
	switch t.Family() {
	case types.DateFamily, types.TimestampFamily, types.TimestampTZFamily, types.TimeFamily:
		if d, ok := specialTime(ctx, strings.TrimSpace(s), t); ok {
			return d, nil
		}
	case types.IntervalFamily:
		iv, err := parseInterval(s, set)
		if err != nil {
			return nil, err
		}
		if itm, err := t.IntervalTypeMetadata(); err == nil && !t.Identical(types.Interval) {
			return tree.NewDInterval(iv.Duration, itm), nil
		}
		return iv, nil
	case types.ArrayFamily:
		if isEnumType(t.ArrayContents()) || t.ArrayContents().Family() == types.OidFamily && t.ArrayContents().Oid() != oid.T_oid {
			c := pgcodec.Make(types.StringArray, oid.T__text, -1)
			d, err := c.DecodeText([]byte(s), set)
			if err != nil {
				return nil, err
			}
			return CastDatum(ctx, d, t, in)
		}
	case types.TupleFamily:
		return nil, pgerr.New(pgerr.FeatureNotSupported, "input of anonymous composite types is not implemented")
	}
	c := pgcodec.Make(t, t.Oid(), t.TypeModifier())
	d, err := c.DecodeText([]byte(s), set)
	if err != nil {
		if t.Family() == types.DecimalFamily && numberWithExponent.MatchString(s) {
			return nil, pgerr.New(pgerr.NumericValueOutOfRange, "value overflows numeric format")
		}
		return nil, MapError(err)
	}
	if err := checkTimestampText(d, s); err != nil {
		return nil, err
	}
	switch t.Family() {
	case types.TimeFamily, types.TimeTZFamily, types.TimestampFamily, types.TimestampTZFamily:
		if t.Precision() < 6 {
			out, err := tree.PerformCast(ctx, d, t) // Rounds.
			return out, MapError(err)
		}
	}
	if needsCheck(t) {
		if _, isText := d.(*tree.DString); !isText {
			return CastDatum(ctx, d, t, in)
		}
	}
	return d, nil
}

func parseInterval(s string, set *pgcodec.Settings) (*tree.DInterval, error) {
	c := pgcodec.Make(types.Interval, oid.T_interval, -1)
	d, err := c.DecodeText([]byte(s), set)
	if err != nil {
		return nil, MapError(err)
	}
	return d.(*tree.DInterval), nil
}

// specialTime knows 'now', 'today', 'tomorrow' and 'yesterday'.
func specialTime(ctx *tree.EvalContext, s string, t *types.T) (tree.Datum, bool) {
	if ctx == nil || len(s) < 3 || len(s) > 9 {
		return nil, false
	}
	now := ctx.GetRelativeParseTime()
	midnight := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, now.Location())
	var at time.Time
	switch strings.ToLower(s) {
	case "now":
		at = now
	case "today":
		at = midnight
	case "tomorrow":
		at = midnight.AddDate(0, 0, 1)
	case "yesterday":
		at = midnight.AddDate(0, 0, -1)
	default:
		return nil, false
	}
	tz := tree.MakeDTimestampTZ(at, time.Microsecond)
	d, err := tree.PerformCast(ctx, tz, t)
	return d, err == nil
}

func castToInt(ctx *tree.EvalContext, d tree.Datum, t *types.T) (tree.Datum, error) {
	w := intWidth(t)
	switch v := d.(type) {
	case *tree.DInt:
		if err := checkIntRange(int64(*v), w); err != nil {
			return nil, err
		}
		return v, nil
	case *tree.DFloat:
		f := math.RoundToEven(float64(*v))
		if math.IsNaN(f) || f < -(1<<63) || f >= 1<<63 {
			return nil, errIntRange(w)
		}
		if err := checkIntRange(int64(f), w); err != nil {
			return nil, err
		}
		return tree.NewDInt(tree.DInt(f)), nil
	case *tree.DDecimal:
		if v.Form != apd.Finite {
			name := map[int32]string{16: "smallint", 32: "integer", 64: "bigint"}[w]
			if v.Form == apd.Infinite {
				return nil, pgerr.Newf(pgerr.FeatureNotSupported, "cannot convert infinity to %s", name)
			}
			return nil, pgerr.Newf(pgerr.FeatureNotSupported, "cannot convert NaN to %s", name)
		}
		r := roundDecimal(&v.Decimal, 0)
		i, err := r.Int64()
		if err != nil {
			return nil, errIntRange(w)
		}
		if err := checkIntRange(i, w); err != nil {
			return nil, err
		}
		return tree.NewDInt(tree.DInt(i)), nil
	case *tree.DBool:
		if *v {
			return tree.NewDInt(1), nil
		}
		return tree.NewDInt(0), nil
	case *tree.DOid:
		return tree.NewDInt(v.DInt), nil
	case *tree.DJSON:
		n, err := jsonNumber(v, typeName(t))
		if err != nil {
			return nil, err
		}
		return castToInt(ctx, n, t)
	}
	if s, ok := textOf(d); ok {
		return parseTextIn(ctx, s, t, ExplicitCast)
	}
	out, err := tree.PerformCast(ctx, d, t)
	return out, MapError(err)
}

func castToFloat(d tree.Datum, t *types.T) (tree.Datum, error) {
	var f float64
	switch v := d.(type) {
	case *tree.DFloat:
		f = float64(*v)
	case *tree.DInt:
		f = float64(*v)
	case *tree.DDecimal:
		f = decimalToFloat(&v.Decimal)
		if math.IsInf(f, 0) && v.Form == apd.Finite {
			return nil, pgerr.Newf(pgerr.NumericValueOutOfRange, "\"%s\" is out of range for type double precision", pgcodec.AppendDecimal(nil, &v.Decimal))
		}
	case *tree.DJSON:
		n, err := jsonNumber(v, typeName(t))
		if err != nil {
			return nil, err
		}
		return castToFloat(n, t)
	default:
		if s, ok := textOf(d); ok {
			return parseText(s, t)
		}
		return nil, pgerr.Newf("42846", "cannot cast type %s to %s", typeName(d.ResolvedType()), typeName(t))
	}
	if floatWidth(t) == 32 {
		g := float32(f)
		if dec, ok := d.(*tree.DDecimal); ok && math.IsInf(float64(g), 0) && dec.Form == apd.Finite {
			return nil, pgerr.Newf(pgerr.NumericValueOutOfRange, "\"%s\" is out of range for type real", pgcodec.AppendDecimal(nil, &dec.Decimal))
		}
		if math.IsInf(float64(g), 0) && !math.IsInf(f, 0) {
			return nil, pgerr.New(pgerr.NumericValueOutOfRange, "value out of range: overflow")
		}
		if g == 0 && f != 0 {
			return nil, pgerr.New(pgerr.NumericValueOutOfRange, "value out of range: underflow")
		}
		f = float64(g)
	} else if v, ok := d.(*tree.DFloat); ok {
		return v, nil
	}
	return tree.NewDFloat(tree.DFloat(f)), nil
}

func castToDecimal(ctx *tree.EvalContext, d tree.Datum, t *types.T) (tree.Datum, error) {
	switch v := d.(type) {
	case *tree.DDecimal:
		return limitDecimal(v, t)
	case *tree.DInt:
		out := &tree.DDecimal{}
		out.SetFinite(int64(*v), 0)
		return limitDecimal(out, t)
	case *tree.DFloat:
		f := float64(*v)
		out := &tree.DDecimal{}
		switch {
		case math.IsNaN(f):
			out.Form = apd.NaN
		case math.IsInf(f, 0):
			out.Form, out.Negative = apd.Infinite, f < 0
		default:
			// As PostgreSQL: 15 significant digits.
			if _, _, err := out.Decimal.SetString(strconv.FormatFloat(f, 'g', 15, 64)); err != nil {
				return nil, err
			}
			out.Set(plainScale(&out.Decimal))
		}
		return limitDecimal(out, t)
	case *tree.DJSON:
		n, err := jsonNumber(v, "numeric")
		if err != nil {
			return nil, err
		}
		return limitDecimal(n.(*tree.DDecimal), t)
	}
	if s, ok := textOf(d); ok {
		c := pgcodec.Make(types.Decimal, oid.T_numeric, -1)
		out, err := c.DecodeText([]byte(s), codecSettings(ctx))
		if err != nil {
			return nil, MapError(err)
		}
		return limitDecimal(out.(*tree.DDecimal), t)
	}
	out, err := tree.PerformCast(ctx, d, t)
	return out, MapError(err)
}

// limitDecimal rounds to the scale of numeric(p,s) and checks the precision.
func limitDecimal(d *tree.DDecimal, t *types.T) (tree.Datum, error) {
	p, s := t.Precision(), t.Scale()
	if p == 0 || d.Form == apd.NaN {
		return d, nil
	}
	overflow := func() error {
		bound := "1"
		if p-s > 0 {
			bound = "10^" + strconv.Itoa(int(p-s))
		}
		return pgerr.New(pgerr.NumericValueOutOfRange, "numeric field overflow").
			WithDetail("A field with precision %d, scale %d must round to an absolute value less than %s.", p, s, bound)
	}
	if d.Form == apd.Infinite {
		return nil, pgerr.New(pgerr.NumericValueOutOfRange, "numeric field overflow").
			WithDetail("A field with precision %d, scale %d cannot hold an infinite value.", p, s)
	}
	if -d.Exponent == s && d.NumDigits() <= int64(p) {
		return d, nil
	}
	r := roundDecimal(&d.Decimal, s)
	if r.NumDigits() > int64(p) && r.Coeff.Sign() != 0 {
		return nil, overflow()
	}
	return &tree.DDecimal{Decimal: *r}, nil
}

func jsonCastError(j *tree.DJSON, to string) error {
	kind := map[json.Type]string{
		json.NullJSONType: "null", json.StringJSONType: "string", json.NumberJSONType: "numeric", json.FalseJSONType: "boolean",
		json.TrueJSONType: "boolean", json.ArrayJSONType: "array", json.ObjectJSONType: "object",
	}[j.JSON.Type()]
	return pgerr.Newf(pgerr.InvalidParameterValue, "cannot cast jsonb %s to type %s", kind, to)
}

func jsonNumber(j *tree.DJSON, to string) (tree.Datum, error) {
	if j.JSON.Type() != json.NumberJSONType {
		return nil, jsonCastError(j, to)
	}
	d, err := tree.ParseDDecimal(j.JSON.String())
	if err != nil {
		return nil, MapError(err)
	}
	d.Set(plainScale(&d.Decimal))
	return d, nil
}

func castToString(ctx *tree.EvalContext, d tree.Datum, t *types.T, in CastContext) (tree.Datum, error) {
	var s string
	switch v := d.(type) {
	case *tree.DString:
		s = string(*v)
		if t.Width() == 0 && t.Oid() != oid.T_name && t.Oid() != oid.T_bpchar && t.Oid() != oid.T_char {
			return v, nil
		}
	case *tree.DCollatedString:
		s = v.Contents
	case *tree.DBool:
		s = strconv.FormatBool(bool(*v)) // Only the cast spells it out.
	case *tree.DIPAddr:
		s = FormatText(ctx, d, d.ResolvedType())
		if !strings.Contains(s, "/") {
			s += map[bool]string{true: "/32", false: "/128"}[v.Family == 0]
		}
	default:
		s = FormatText(ctx, d, d.ResolvedType())
	}
	return limitString(s, t, in)
}

// limitString fits s into a string type.
func limitString(s string, t *types.T, in CastContext) (tree.Datum, error) {
	switch t.Oid() {
	case oid.T_name:
		for len(s) > 63 {
			_, n := utf8.DecodeLastRuneInString(s)
			s = s[:len(s)-n]
		}
		return tree.NewDName(s), nil
	case oid.T_char:
		if len(s) > 1 {
			_, n := utf8.DecodeRuneInString(s)
			s = s[:n]
		}
		return tree.NewDString(s), nil
	}
	if w := int(t.Width()); w > 0 && len(s) > w && utf8.RuneCountInString(s) > w {
		cut := 0
		for range w {
			_, n := utf8.DecodeRuneInString(s[cut:])
			cut += n
		}
		if in != ExplicitCast && strings.TrimRight(s[cut:], " ") != "" {
			name := "character varying"
			if t.Oid() == oid.T_bpchar {
				name = "character"
			}
			return nil, pgerr.Newf("22001", "value too long for type %s(%d)", name, w)
		}
		s = s[:cut]
	}
	if t.Oid() == oid.T_bpchar {
		// Trailing blanks of char(n) mean nothing; they are added on the way out.
		s = strings.TrimRight(s, " ")
	}
	return tree.NewDString(s), nil
}

func castToCollated(ctx *tree.EvalContext, d tree.Datum, t *types.T, in CastContext) (tree.Datum, error) {
	if c, ok := d.(*tree.DCollatedString); ok && c.Locale == t.Locale() {
		return d, nil
	}
	s, ok := textOf(d)
	if !ok {
		s = FormatText(ctx, d, d.ResolvedType())
	}
	if isEnumType(t) {
		env, err := getEnv(ctx)
		if err != nil {
			return nil, err
		}
		id, err := strconv.ParseUint(t.Locale()[1:], 10, 32)
		if err != nil {
			return nil, pgerr.Newf(pgerr.Internal, "bad enum type %s", t.Locale())
		}
		return env.EnumValue(ctx.Context, oid.Oid(id), s)
	}
	if w := int(t.Width()); w > 0 && utf8.RuneCountInString(s) > w {
		limited, err := limitString(s, types.MakeVarChar(t.Width()), in)
		if err != nil {
			return nil, err
		}
		s = string(tree.MustBeDString(limited))
	}
	out, err := tree.NewDCollatedString(s, t.Locale(), &ctx.CollationEnv)
	if err != nil {
		return nil, MapError(err)
	}
	return out, nil
}

func castToOid(ctx *tree.EvalContext, d tree.Datum, t *types.T) (tree.Datum, error) {
	plain := t.Oid() == oid.T_oid
	named := func(id oid.Oid) (tree.Datum, error) {
		if plain {
			return tree.NewDOidWithName(tree.DInt(id), types.Oid, ""), nil
		}
		if env, err := getEnv(ctx); err == nil {
			name, ok, err := env.RegtypeName(ctx.Context, t.Oid(), id)
			if err != nil {
				return nil, err
			}
			if ok {
				return tree.NewDOidWithName(tree.DInt(id), t, name), nil
			}
		}
		return tree.NewDOidWithName(tree.DInt(id), t, ""), nil
	}
	switch v := d.(type) {
	case *tree.DOid:
		if v.ResolvedType().Oid() == t.Oid() {
			return v, nil
		}
		return named(oid.Oid(v.DInt))
	case *tree.DInt:
		if *v < 0 || *v > math.MaxUint32 {
			if *v >= math.MinInt32 && *v < 0 {
				return named(oid.Oid(uint32(int32(*v))))
			}
			return nil, pgerr.New(pgerr.NumericValueOutOfRange, "OID out of range")
		}
		return named(oid.Oid(*v))
	}
	s, ok := textOf(d)
	if !ok {
		return nil, pgerr.Newf("42846", "cannot cast type %s to %s", typeName(d.ResolvedType()), typeName(t))
	}
	trimmed := strings.TrimSpace(s)
	if n, err := strconv.ParseInt(trimmed, 10, 64); err == nil && n >= 0 && n <= math.MaxUint32 {
		return named(oid.Oid(n))
	}
	if plain {
		return nil, pgerr.Newf(pgerr.InvalidTextRepresentation, "invalid input syntax for type oid: %q", s)
	}
	if trimmed == "-" {
		return tree.NewDOidWithName(0, t, ""), nil
	}
	env, err := getEnv(ctx)
	if err != nil {
		return nil, err
	}
	id, err := env.ResolveRegtype(ctx.Context, t.Oid(), trimmed)
	if err != nil {
		return nil, err
	}
	return named(id)
}

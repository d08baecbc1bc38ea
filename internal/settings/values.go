package settings

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Option refines a setting when it is defined.
type Option func(*base)

// Private hides a setting from SHOW CLUSTER SETTINGS.
func Private() Option { return func(b *base) { b.private = true } }

// ReadOnly refuses SET CLUSTER SETTING.
func ReadOnly() Option { return func(b *base) { b.readOnly = true } }

type base struct {
	name, desc string
	private    bool
	readOnly   bool
	overridden atomic.Bool
	mu         sync.Mutex
	onChange   []func()
}

func newBase(name, desc string, opts []Option) *base {
	b := &base{name: name, desc: desc}
	for _, o := range opts {
		o(b)
	}
	return b
}

func (b *base) Name() string        { return b.name }
func (b *base) Description() string { return b.desc }
func (b *base) Public() bool        { return !b.private }
func (b *base) Overridden() bool    { return b.overridden.Load() }

func (b *base) OnChange(fn func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.onChange = append(b.onChange, fn)
}

func (b *base) changed() {
	b.mu.Lock()
	fns := b.onChange
	b.mu.Unlock()
	for _, fn := range fns {
		fn()
	}
}

func (b *base) checkWritable() error {
	if b.readOnly {
		return fmt.Errorf("cluster setting '%s' is currently read-only", b.name)
	}
	return nil
}

// value is the shared part of all typed settings: V is stored behind an atomic
// pointer, so Get never waits.
type value[V comparable] struct {
	*base
	kind     Kind
	def      V
	cur      atomic.Pointer[V]
	validate func(V) error
	parse    func(string) (V, error)
	encode   func(V) string
	decode   func(string) (V, error)
	human    func(V) string
}

// Get returns the current value.
func (s *value[V]) Get() V { return *s.cur.Load() }

// Default returns the default value.
func (s *value[V]) Default() V { return s.def }

func (s *value[V]) Kind() Kind            { return s.kind }
func (s *value[V]) Encoded() string       { return s.encode(s.Get()) }
func (s *value[V]) String() string        { return s.human(s.Get()) }
func (s *value[V]) DefaultString() string { return s.human(s.def) }

func (s *value[V]) Parse(input string) (string, error) {
	if err := s.checkWritable(); err != nil {
		return "", err
	}
	v, err := s.parse(input)
	if err != nil {
		return "", err
	}
	if s.validate != nil {
		if err := s.validate(v); err != nil {
			return "", err
		}
	}
	return s.encode(v), nil
}

func (s *value[V]) set(encoded string) error {
	v, err := s.decode(encoded)
	if err != nil {
		return err
	}
	old := s.cur.Swap(&v)
	s.overridden.Store(true)
	if old == nil || *old != v {
		s.changed()
	}
	return nil
}

func (s *value[V]) reset() {
	d := s.def
	old := s.cur.Swap(&d)
	s.overridden.Store(false)
	if old != nil && *old != d {
		s.changed()
	}
}

// SetForTest changes the value in this process only.
func (s *value[V]) SetForTest(v V) {
	s.cur.Store(&v)
	s.changed()
}

// Typed settings.
type (
	// Bool is on or off.
	Bool struct{ value[bool] }
	// Int is a whole number.
	Int struct{ value[int64] }
	// Float is a number.
	Float struct{ value[float64] }
	// ByteSize is a number of bytes, typed like '64MiB'.
	ByteSize struct{ value[int64] }
	// Duration is a span of time, typed like '1m30s'.
	Duration struct{ value[time.Duration] }
	// String is free text.
	String struct{ value[string] }
	// Enum is one of a list of words.
	Enum struct {
		value[string]
		Words []string
	}
)

// Bool defines a boolean setting.
func (r *Registry) Bool(name, desc string, def bool, opts ...Option) *Bool {
	s := &Bool{value[bool]{base: newBase(name, desc, opts), kind: KindBool, def: def,
		parse: parseBool, encode: strconv.FormatBool, decode: strconv.ParseBool, human: strconv.FormatBool}}
	s.reset()
	r.add(s)
	return s
}

// Int defines an integer setting; validate may be nil.
func (r *Registry) Int(name, desc string, def int64, validate func(int64) error, opts ...Option) *Int {
	s := &Int{value[int64]{base: newBase(name, desc, opts), kind: KindInt, def: def, validate: validate,
		parse: parseInt, encode: formatInt, decode: parseInt, human: formatInt}}
	s.reset()
	r.add(s)
	return s
}

// Float defines a floating-point setting; validate may be nil.
func (r *Registry) Float(name, desc string, def float64, validate func(float64) error, opts ...Option) *Float {
	format := func(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }
	parse := func(s string) (float64, error) {
		f, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return 0, fmt.Errorf("could not parse %q as a float", s)
		}
		return f, nil
	}
	s := &Float{value[float64]{base: newBase(name, desc, opts), kind: KindFloat, def: def, validate: validate,
		parse: parse, encode: format, decode: parse, human: format}}
	s.reset()
	r.add(s)
	return s
}

// ByteSize defines a size in bytes; validate may be nil.
func (r *Registry) ByteSize(name, desc string, def int64, validate func(int64) error, opts ...Option) *ByteSize {
	s := &ByteSize{value[int64]{base: newBase(name, desc, opts), kind: KindByteSize, def: def, validate: validate,
		parse: ParseBytes, encode: formatInt, decode: parseInt, human: FormatBytes}}
	s.reset()
	r.add(s)
	return s
}

// Duration defines a duration; validate may be nil.
func (r *Registry) Duration(name, desc string, def time.Duration, validate func(time.Duration) error, opts ...Option) *Duration {
	s := &Duration{value[time.Duration]{base: newBase(name, desc, opts), kind: KindDuration, def: def, validate: validate,
		parse: ParseDuration, encode: time.Duration.String, decode: time.ParseDuration, human: time.Duration.String}}
	s.reset()
	r.add(s)
	return s
}

// String defines a text setting; validate may be nil.
func (r *Registry) String(name, desc, def string, validate func(string) error, opts ...Option) *String {
	id := func(s string) string { return s }
	parse := func(s string) (string, error) { return s, nil }
	s := &String{value[string]{base: newBase(name, desc, opts), kind: KindString, def: def, validate: validate,
		parse: parse, encode: id, decode: parse, human: id}}
	s.reset()
	r.add(s)
	return s
}

// Enum defines a setting that takes one of words.
func (r *Registry) Enum(name, desc, def string, words []string, opts ...Option) *Enum {
	parse := func(in string) (string, error) {
		for i, w := range words {
			if strings.EqualFold(in, w) || in == strconv.Itoa(i) {
				return w, nil
			}
		}
		return "", fmt.Errorf("invalid string value '%s' for enum setting; valid values are: %s", in, strings.Join(words, ", "))
	}
	id := func(s string) string { return s }
	s := &Enum{Words: words, value: value[string]{base: newBase(name, desc, opts), kind: KindEnum, def: def,
		parse: parse, encode: id, decode: parse, human: id}}
	s.reset()
	r.add(s)
	return s
}

// NonNegative is a validator for integer settings and sizes.
func NonNegative(v int64) error {
	if v < 0 {
		return fmt.Errorf("cannot be set to a negative value: %d", v)
	}
	return nil
}

// Positive is a validator for integer settings and sizes.
func Positive(v int64) error {
	if v < 1 {
		return fmt.Errorf("cannot be set to a non-positive value: %d", v)
	}
	return nil
}

// NonNegativeDuration is a validator for durations.
func NonNegativeDuration(v time.Duration) error {
	if v < 0 {
		return fmt.Errorf("cannot be set to a negative duration: %s", v)
	}
	return nil
}

// PositiveDuration is a validator for durations.
func PositiveDuration(v time.Duration) error {
	if v <= 0 {
		return fmt.Errorf("cannot be set to a non-positive duration: %s", v)
	}
	return nil
}

func parseBool(s string) (bool, error) {
	switch strings.ToLower(s) {
	case "true", "t", "on", "yes", "1":
		return true, nil
	case "false", "f", "off", "no", "0":
		return false, nil
	}
	return false, fmt.Errorf("could not parse %q as a bool", s)
}

func formatInt(v int64) string { return strconv.FormatInt(v, 10) }

func parseInt(s string) (int64, error) {
	v, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("could not parse %q as an integer", s)
	}
	return v, nil
}

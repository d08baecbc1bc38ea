package settings

import (
	"fmt"
	"sort"
	"sync"
)

// Kind is the one-letter type of a setting, as stored in system.settings.
type Kind string

// The kinds of settings.
const (
	KindBool     Kind = "b"
	KindByteSize Kind = "z"
	KindDuration Kind = "d"
	KindEnum     Kind = "e"
	KindFloat    Kind = "f"
	KindInt      Kind = "i"
	KindString   Kind = "s"
	KindVersion  Kind = "m"
)

// Setting is what all settings have in common.
type Setting interface {
	Name() string
	Kind() Kind
	Description() string
	// Public settings are listed by SHOW CLUSTER SETTINGS; others only by
	// SHOW ALL CLUSTER SETTINGS.
	Public() bool
	// Parse reads what a user typed and returns the encoded value, or an error
	// that says what is wrong with it. The setting itself does not change.
	Parse(input string) (encoded string, err error)
	// Encoded is the current value as stored in system.settings.
	Encoded() string
	// String is the current value for people.
	String() string
	// DefaultString is the default value for people.
	DefaultString() string
	// Overridden says whether the value was set, even if to the default.
	Overridden() bool
	// OnChange calls fn after each change of the value. It is meant for wiring:
	// fn must be quick and stays for the life of the process.
	OnChange(fn func())

	set(encoded string) error
	reset()
}

// Registry holds the settings of one process. It is safe for concurrent use.
type Registry struct {
	mu struct {
		sync.RWMutex
		byName map[string]Setting
		// unknown keeps stored rows whose settings are not defined yet.
		unknown map[string]string
	}
}

// NewRegistry returns an empty registry.
func NewRegistry() *Registry {
	r := &Registry{}
	r.mu.byName = make(map[string]Setting)
	r.mu.unknown = make(map[string]string)
	return r
}

// Lookup finds a setting by its dotted name.
func (r *Registry) Lookup(name string) (Setting, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	s, ok := r.mu.byName[name]
	return s, ok
}

// All returns every setting, ordered by name.
func (r *Registry) All() []Setting {
	r.mu.RLock()
	defer r.mu.RUnlock()
	out := make([]Setting, 0, len(r.mu.byName))
	for _, s := range r.mu.byName {
		out = append(out, s)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name() < out[j].Name() })
	return out
}

// Apply makes the registry agree with the rows of system.settings, given as
// name → encoded value. Settings without a row go back to their defaults. Rows
// of settings that this process does not know are kept aside: a newer node may
// know them. A value that cannot be decoded leaves its setting as it was, and
// is reported after all others are applied.
func (r *Registry) Apply(rows map[string]string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var firstErr error
	for name, s := range r.mu.byName {
		enc, ok := rows[name]
		if !ok {
			s.reset()
			continue
		}
		if err := s.set(enc); err != nil && firstErr == nil {
			firstErr = fmt.Errorf("stored cluster setting %s: %w", name, err)
		}
	}
	clear(r.mu.unknown)
	for name, enc := range rows {
		if _, ok := r.mu.byName[name]; !ok {
			r.mu.unknown[name] = enc
		}
	}
	return firstErr
}

// add registers s. Two settings of one name are a bug of the process that
// defines them, found the first time it starts.
func (r *Registry) add(s Setting) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, dup := r.mu.byName[s.Name()]; dup {
		panic(fmt.Sprintf("cluster setting %s is defined twice", s.Name()))
	}
	r.mu.byName[s.Name()] = s
	if enc, ok := r.mu.unknown[s.Name()]; ok {
		delete(r.mu.unknown, s.Name())
		if err := s.set(enc); err != nil {
			s.reset() // The stored value is of another version; the default holds.
		}
	}
}

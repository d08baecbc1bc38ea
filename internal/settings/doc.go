// Package settings holds the cluster settings: named, typed values that an
// operator changes with SET CLUSTER SETTING and that every node follows.
//
// A Registry knows all settings of a process. The package that owns a setting
// defines it there once, when the process is put together, and keeps the typed
// handle (*Bool, *Duration, …); reading a handle is one atomic load. The rows of
// system.settings hold only what differs from the defaults; sql writes them and
// applies them to the registry, here only their encoding is known.
//
// Start reading at registry.go; the types are in values.go.
package settings

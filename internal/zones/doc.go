// Package zones is the codec and the rules of zone configurations: how long old
// versions of data are kept, how large ranges grow, how many replicas they have
// and where those may live.
//
// A Config holds only the fields that were set on its object; the rest is
// inherited along partition → index → table → database → RANGE default, which
// Inherit does one step at a time. system.zones stores Marshal's bytes under the
// id of the object; the named ranges have small fixed ids.
//
// Start reading at zones.go; parse.go reads constraints, validate.go has the
// rules and their texts, format.go prints.
package zones

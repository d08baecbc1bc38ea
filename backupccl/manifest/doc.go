// Package manifest knows how backups lie in a collection: how a layer is
// written, found, read and checked, and how layers make a chain.
//
// A collection is a place with full layers; each full may have incremental
// layers behind it. A layer is a directory; it exists when its BACKUP_MANIFEST
// does, and that file is written last, once, by put-if-absent. The manifest is a
// slim root: counts, hashes and whole-index spans. Each locality has a part
// manifest and a list of its data files in its own store, so that no row key
// leaves its region; descriptors are in a list of their own. Everything is
// checked against a SHA-256 when it is read.
//
// Start reading at names.go (what lies where), then locations.go, writer.go,
// layer.go and chain.go. The bytes are described in docs/format/backup.md.
package manifest

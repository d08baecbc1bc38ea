// Package catalogpb holds the messages of descriptors as they are stored in
// system.descriptor and in backups. Package catalog gives them meaning.
package catalogpb

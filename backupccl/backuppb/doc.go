// Package backuppb defines what a backup says about itself: manifest, part
// manifests, file and descriptor entries, and what the BACKUP and RESTORE jobs
// remember between runs.
//
// These messages are the contract with every backup ever taken. Field numbers
// below 1000 agree with the publicly documented manifest of CockroachDB, whose
// backups are to be readable one day; fields from 1000 on are ours. A number is
// never used again for something else, and a change that old readers must not
// ignore raises manifest.FormatVersion. docs/format/backup.md tells the meaning.
package backuppb

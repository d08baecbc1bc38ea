package manifest

import (
	"encoding/hex"
	"fmt"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/auxten/postgresql-parser/pkg/util/encoding"

	"github.com/holdfastdb/holdfast/internal/hlc"
)

// FormatVersion is the version of everything below a layer's directory. Readers
// refuse other versions. Numbers below 1000 belong to CockroachDB.
const FormatVersion = 1001

// Names below a collection and below a layer's directory.
const (
	manifestName       = "BACKUP_MANIFEST"
	manifestChecksum   = "BACKUP_MANIFEST-CHECKSUM"
	foreignManifest    = "BACKUP_METADATA" // written by others, read by preference there
	oldestManifest     = "BACKUP"
	lockPrefix         = "BACKUP-LOCK-"
	partPrefix         = "BACKUP_PART_"
	fileListSuffix     = "-filelist.sst"
	descriptorListName = "descriptorslist.sst"
	statisticsName     = "BACKUP-STATISTICS"
	checkpointDir      = "progress/"
	checkpointPrefix   = "BACKUP-CHECKPOINT-"
	dataDir            = "data/"
	latestDir          = "metadata/latest/"
	latestPrefix       = "LATEST-"
	latestLegacy       = "LATEST"
	incrementalsDir    = "incrementals"

	// DefaultLocality is the value of COCKROACH_LOCALITY for the store that holds
	// the root.
	DefaultLocality = "default"
)

const (
	subdirFormat      = "2006/01/02-150405.00"
	incrementalFormat = "20060102/150405.00"
	sinceFormat       = "20060102-150405.00"
)

var (
	fullManifestRE = regexp.MustCompile(`^/?[^/]+/[^/]+/[^/]+/` + manifestName + `$`)
	incrementalRE  = regexp.MustCompile(`^([0-9]+/[0-9]+\.[0-9][0-9](?:-[0-9]+-[0-9]+\.[0-9][0-9])?)/` + manifestName + `$`)
)

// Subdir names the full layer that ends at t: /2006/01/02-150405.00.
func Subdir(t hlc.Timestamp) string { return "/" + t.Time().Format(subdirFormat) }

// CleanSubdir gives a subdirectory as users write it its one leading slash.
func CleanSubdir(s string) string { return "/" + strings.Trim(s, "/") }

// FullDir is the directory of a full layer, relative to its collection.
func FullDir(subdir string) string { return strings.Trim(subdir, "/") }

// IncrementalDir is the directory of an incremental layer below the root of its
// chain's incrementals.
func IncrementalDir(root string, start, end hlc.Timestamp) string {
	return path.Join(root, end.Time().Format(incrementalFormat)+"-"+start.Time().Format(sinceFormat))
}

// IncrementalsRoot is where the incremental layers of a full lie.
func IncrementalsRoot(subdir string, own bool) string {
	if own {
		return FullDir(subdir)
	}
	return path.Join(incrementalsDir, FullDir(subdir))
}

// latestName names a pointer file. Its hex is a time in descending order, so
// the newest pointer sorts first and none is ever overwritten.
func latestName(t time.Time) string {
	return latestPrefix + descendingHex(t)
}

func descendingHex(t time.Time) string {
	return hex.EncodeToString(encoding.EncodeStringDescending(nil, t.UTC().Format("2006-01-02 15:04:05.000000000")))
}

// LockName is the file by which a job claims a layer's directory.
func LockName(jobID int64) string { return fmt.Sprintf("%s%d", lockPrefix, jobID) }

// DataName is the path of a data file, relative to the layer.
func DataName(unique string) string { return dataDir + unique + ".sst" }

// partName names the part manifest of the n-th store.
func partName(n int, localityKV string) string {
	if localityKV == "" {
		localityKV = DefaultLocality
	}
	var b strings.Builder
	for _, c := range []byte(localityKV) {
		switch {
		case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '=':
			b.WriteByte(c)
		default:
			b.WriteByte('_')
		}
	}
	return fmt.Sprintf("%s%d_%s", partPrefix, n, b.String())
}

package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/holdfastdb/holdfast/internal/settings"
)

// parseSize reads byte sizes: 1000000000, 1GB, 1GiB, and shares of a total as 25%
// or .25.
func parseSize(s string, total int64) (int64, error) {
	share := func(text string, scale float64) (int64, error) {
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || f < 0 || f*scale > 1 {
			return 0, fmt.Errorf("%q is not a share between 0 and 1", s)
		}
		if total == 0 {
			return 0, fmt.Errorf("%q: the total is not known here, give a number of bytes", s)
		}
		return int64(f * scale * float64(total)), nil
	}
	switch {
	case strings.HasSuffix(s, "%"):
		return share(strings.TrimSuffix(s, "%"), 0.01)
	case strings.HasPrefix(s, ".") || strings.HasPrefix(s, "0."):
		return share(s, 1)
	}
	return settings.ParseBytes(s)
}

// sizeFlag is a flag for a byte size.
type sizeFlag struct {
	bytes *int64
	total int64 // what shares are of
}

func (f sizeFlag) String() string {
	if f.bytes == nil {
		return ""
	}
	return settings.FormatBytes(*f.bytes)
}

func (f sizeFlag) Set(s string) error {
	n, err := parseSize(s, f.total)
	if err == nil {
		*f.bytes = n
	}
	return err
}

func (f sizeFlag) Type() string { return "bytes" }

// physicalMemory is 0 where it is not known.
func physicalMemory() int64 {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for _, line := range bytes.Split(b, []byte("\n")) {
		var kb int64
		if _, err := fmt.Sscanf(string(line), "MemTotal: %d kB", &kb); err == nil {
			return kb << 10
		}
	}
	return 0
}

// formatDuration prints what a statement took the way a person reads it.
func formatDuration(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%dms", d.Milliseconds())
	}
	return fmt.Sprintf("%.3fs", d.Seconds())
}

package settings

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

var byteUnits = []struct {
	suffix string
	size   float64
}{
	{"kib", 1 << 10}, {"mib", 1 << 20}, {"gib", 1 << 30}, {"tib", 1 << 40}, {"pib", 1 << 50},
	{"kb", 1e3}, {"mb", 1e6}, {"gb", 1e9}, {"tb", 1e12}, {"pb", 1e15},
	{"k", 1 << 10}, {"m", 1 << 20}, {"g", 1 << 30}, {"t", 1 << 40},
	{"b", 1}, {"", 1},
}

// ParseBytes reads a size such as "64MiB", "1.5 GB" or "1024".
func ParseBytes(in string) (int64, error) {
	s := strings.ToLower(strings.TrimSpace(in))
	for _, u := range byteUnits {
		num, ok := strings.CutSuffix(s, u.suffix)
		if !ok {
			continue
		}
		num = strings.TrimSpace(num)
		if v, err := strconv.ParseInt(num, 10, 64); err == nil && u.size == 1 {
			return v, nil
		}
		f, err := strconv.ParseFloat(num, 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			break
		}
		f *= u.size
		if f >= math.MaxInt64 || f <= math.MinInt64 {
			return 0, fmt.Errorf("value %q is too large", in)
		}
		return int64(f), nil
	}
	return 0, fmt.Errorf("could not parse %q as a number of bytes", in)
}

// FormatBytes prints a size with the binary unit that suits it.
func FormatBytes(v int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	f, i := math.Abs(float64(v)), 0
	for f >= 1024 && i < len(units)-1 {
		f /= 1024
		i++
	}
	sign := ""
	if v < 0 {
		sign = "-"
	}
	if i == 0 || f == math.Trunc(f) {
		return fmt.Sprintf("%s%d %s", sign, int64(f), units[i])
	}
	return fmt.Sprintf("%s%.1f %s", sign, f, units[i])
}

// ParseDuration reads "1m30s", PostgreSQL's "90 seconds" or "00:01:30", and a
// plain number of seconds.
func ParseDuration(in string) (time.Duration, error) {
	s := strings.TrimSpace(in)
	if d, err := time.ParseDuration(s); err == nil {
		return d, nil
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil && math.Abs(f) < math.MaxInt64/1e9 {
		return time.Duration(f * float64(time.Second)), nil
	}
	if d, ok := parseClock(s); ok {
		return d, nil
	}
	if d, ok := parseWords(s); ok {
		return d, nil
	}
	return 0, fmt.Errorf("could not parse %q as a duration", in)
}

func parseClock(s string) (time.Duration, bool) {
	parts := strings.Split(s, ":")
	if len(parts) != 3 {
		return 0, false
	}
	h, err1 := strconv.Atoi(parts[0])
	m, err2 := strconv.Atoi(parts[1])
	sec, err3 := strconv.ParseFloat(parts[2], 64)
	if err1 != nil || err2 != nil || err3 != nil || h < 0 || h > 1e6 || m < 0 || m > 59 || sec < 0 || sec >= 60 {
		return 0, false
	}
	return time.Duration(h)*time.Hour + time.Duration(m)*time.Minute + time.Duration(sec*float64(time.Second)), true
}

func parseWords(s string) (time.Duration, bool) {
	units := map[string]time.Duration{
		"us": time.Microsecond, "microsecond": time.Microsecond, "ms": time.Millisecond, "millisecond": time.Millisecond,
		"s": time.Second, "sec": time.Second, "second": time.Second, "m": time.Minute, "min": time.Minute, "minute": time.Minute,
		"h": time.Hour, "hour": time.Hour, "d": 24 * time.Hour, "day": 24 * time.Hour, "week": 7 * 24 * time.Hour,
	}
	f := strings.Fields(strings.ToLower(s))
	if len(f) == 1 {
		// "7d" and the like, which time.ParseDuration does not know.
		i := strings.IndexFunc(f[0], func(r rune) bool { return r >= 'a' && r <= 'z' })
		if i <= 0 {
			return 0, false
		}
		f = []string{f[0][:i], f[0][i:]}
	}
	if len(f)%2 != 0 || len(f) == 0 {
		return 0, false
	}
	var total time.Duration
	for i := 0; i < len(f); i += 2 {
		n, err := strconv.ParseFloat(f[i], 64)
		u, ok := units[f[i+1]]
		if !ok {
			u, ok = units[strings.TrimSuffix(f[i+1], "s")]
		}
		if err != nil || !ok || math.Abs(n)*float64(u) >= math.MaxInt64 {
			return 0, false
		}
		total += time.Duration(n * float64(u))
	}
	return total, true
}

// Package invariant switches costly self-checks on in tests and race builds.
package invariant

import (
	"fmt"
	"testing"
)

// Enabled says whether costly checks run: in tests and in builds with the race
// detector.
var Enabled = raceEnabled || testing.Testing()

// Check panics with the formatted message if ok is false: a bug of ours.
func Check(ok bool, format string, args ...any) {
	if !ok {
		panic("invariant violated: " + fmt.Sprintf(format, args...))
	}
}

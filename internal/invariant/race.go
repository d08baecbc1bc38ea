//go:build race

package invariant

const raceEnabled = true

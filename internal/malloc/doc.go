// Package malloc keeps the C heap small.
//
// The storage engine's block cache and memtables live in C memory. glibc by default
// gives each thread an arena of its own and raises, with every large piece that is
// freed, the size from which pieces are mapped singly; what is freed then stays
// with the process in many half-empty arenas. Tune takes both back: one arena, whose
// lock is held for moments only since pieces are tens of kilobytes large, and large
// pieces mapped singly. Other C libraries are left as they are.
package malloc

// Tune is called once, before the first store is opened.
func Tune() { tune() }

// Package malloc keeps the C heap small, and the Go heap where that is asked for.
//
// The storage engine's block cache and memtables live in C memory. glibc by default
// gives each thread an arena of its own and raises, with every large piece that is
// freed, the size from which pieces are mapped singly; what is freed then stays
// with the process in many half-empty arenas. Blocks that a cache keeps and gives up
// in no order leave holes besides that the next block, a little larger, does not fit
// into: a full cache was seen to take 1.75 times its size. Tune makes blocks pieces
// that are mapped singly, which costs them the rest of a page, a tenth, and returns
// what is freed at once; a backup takes the same time. The number of such pieces is
// bounded since the kernel bounds that of mappings: what is beyond comes from the
// heap, of which there is one arena. Other C libraries are left as they are.
package malloc

// Tune is called once, before the first store is opened.
func Tune() { tune() }

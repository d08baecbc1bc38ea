//go:build cgo && linux

package malloc

/*
#include <stdlib.h>
#if defined(__GLIBC__)
#include <malloc.h>
static void hf_tune(void) {
	mallopt(M_ARENA_MAX, 1);
	mallopt(M_MMAP_THRESHOLD, 16 << 10);
	mallopt(M_MMAP_MAX, 32 << 10);
	mallopt(M_TRIM_THRESHOLD, 256 << 10);
}
#else
static void hf_tune(void) {}
#endif
*/
import "C"

func tune() { C.hf_tune() }

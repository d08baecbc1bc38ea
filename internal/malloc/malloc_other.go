//go:build !cgo || !linux

package malloc

func tune() {}

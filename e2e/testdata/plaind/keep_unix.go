//go:build unix

package main

import "syscall"

// keep maps memory and writes to every page. Not Go's own: what the runtime does without
// memory depends on where it misses it.
func keep(bytes int) error {
	b, err := syscall.Mmap(-1, 0, bytes, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	for i := 0; i < len(b); i += syscall.Getpagesize() {
		b[i] = 1
	}
	return err
}

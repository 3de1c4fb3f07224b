// Package pack makes archives of pages.
package pack

import (
	"archive/tar"
	"compress/gzip"
	"io"
	"time"
)

// Write writes one page as a compressed archive.
func Write(w io.Writer, name string, page []byte, at time.Time) error {
	z := gzip.NewWriter(w)
	t := tar.NewWriter(z)
	if err := t.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(page)), ModTime: at}); err != nil {
		return err
	}
	if _, err := t.Write(page); err != nil {
		return err
	}
	if err := t.Close(); err != nil {
		return err
	}
	return z.Close()
}

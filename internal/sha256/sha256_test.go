package sha256

import (
	"bytes"
	"crypto/sha256"
	"testing"
)

// FuzzSum: the sum of anything, written in any two parts, is that of crypto/sha256, also
// in between.
func FuzzSum(f *testing.F) {
	for n := range 200 {
		f.Add(bytes.Repeat([]byte{0x5a, byte(n)}, n)[n:], n/3)
	}
	f.Fuzz(func(t *testing.T, b []byte, at int) {
		at = min(max(at, 0), len(b))
		var h Hash
		for i, part := range [][]byte{b[:at], b[at:]} {
			if n, err := h.Write(part); n != len(part) || err != nil {
				t.Fatal(n, err)
			}
			if got, want := h.Sum(), sha256.Sum256(b[:len(b)-(1-i)*(len(b)-at)]); got != want {
				t.Fatalf("of %d bytes: %x, not %x", len(b), got, want)
			}
		}
	})
}

func BenchmarkSum(b *testing.B) {
	buf := make([]byte, 1<<20)
	b.SetBytes(1 << 20)
	for b.Loop() {
		var h Hash
		_, _ = h.Write(buf)
		_ = h.Sum()
	}
}

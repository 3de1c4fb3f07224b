// Package sha256 is SHA-256 (FIPS 180-4) and nothing more.
//
// Whatever imports crypto/sha256 gets the whole of Go's FIPS module with it: AES, SHA-3,
// random numbers, and their preparation in each process that starts. That is 200 kB of an
// executable and 6 % of a cold launch, for every tool and daemon made with the SDK, for a
// sum that is asked for by hand (fastbind status --hash). This one is slower, which
// nobody notices who waits for a file to be read.
package sha256

import (
	"encoding/binary"
	"math/bits"
)

// Size is the length of a sum, in bytes.
const Size = 32

const blockSize = 64

// k are the first 32 bits of the fractional parts of the cube roots of the first 64
// primes (section 4.2.2).
var k = [blockSize]uint32{
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
}

// A Hash is what was written so far; the zero Hash is nothing. It is not safe for
// concurrent use.
type Hash struct {
	state   [8]uint32 // set by the first block
	begun   bool
	pending [blockSize]byte
	n       int    // bytes of pending
	length  uint64 // of all, in bytes
}

// Write adds to what is summed. It never fails.
func (h *Hash) Write(p []byte) (int, error) {
	written := len(p)
	h.length += uint64(written)
	if h.n > 0 {
		n := copy(h.pending[h.n:], p)
		h.n += n
		p = p[n:]
		if h.n < blockSize {
			return written, nil
		}
		h.block(h.pending[:])
	}
	for ; len(p) >= blockSize; p = p[blockSize:] {
		h.block(p[:blockSize])
	}
	h.n = copy(h.pending[:], p)
	return written, nil
}

// Sum returns the sum of what was written. The Hash goes on from there.
func (h *Hash) Sum() [Size]byte {
	end := *h
	// A one, zeros, and the length in bits in the last eight bytes of a block (5.1.1).
	pad := make([]byte, blockSize+8)
	pad[0] = 0x80
	pad = pad[:1+(2*blockSize-9-h.n)%blockSize]
	_, _ = end.Write(binary.BigEndian.AppendUint64(pad, 8*h.length))
	var sum [Size]byte
	for i, s := range end.state {
		binary.BigEndian.PutUint32(sum[4*i:], s)
	}
	return sum
}

// block adds one block (section 6.2.2).
func (h *Hash) block(p []byte) {
	if !h.begun {
		h.begun = true
		h.state = [8]uint32{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}
	}
	var w [blockSize]uint32
	for t := range 16 {
		w[t] = binary.BigEndian.Uint32(p[4*t:])
	}
	for t := 16; t < blockSize; t++ {
		x, y := w[t-2], w[t-15]
		w[t] = w[t-7] + w[t-16] +
			(bits.RotateLeft32(x, -17) ^ bits.RotateLeft32(x, -19) ^ x>>10) +
			(bits.RotateLeft32(y, -7) ^ bits.RotateLeft32(y, -18) ^ y>>3)
	}
	s := &h.state
	a, b, c, d, e, f, g, last := s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]
	for t := range blockSize {
		t1 := last + (bits.RotateLeft32(e, -6) ^ bits.RotateLeft32(e, -11) ^ bits.RotateLeft32(e, -25)) +
			(e&f ^ ^e&g) + k[t] + w[t]
		t2 := (bits.RotateLeft32(a, -2) ^ bits.RotateLeft32(a, -13) ^ bits.RotateLeft32(a, -22)) +
			(a&b ^ a&c ^ b&c)
		a, b, c, d, e, f, g, last = t1+t2, a, b, c, d+t1, e, f, g
	}
	for i, v := range [8]uint32{a, b, c, d, e, f, g, last} {
		s[i] += v
	}
}

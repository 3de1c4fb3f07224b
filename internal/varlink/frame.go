package varlink

import (
	"bytes"
	"errors"
	"io"
)

// ErrFrameTooLong ends a connection.
var ErrFrameTooLong = errors.New("frame longer than 64 KiB")

// minBuffer is what a connection costs while nothing is being said: an Identify
// request fits.
const minBuffer = 1 << 10

// A FrameReader cuts a stream at its NUL bytes. It is not safe for concurrent
// use.
type FrameReader struct {
	r   io.Reader
	buf []byte // read and not yet returned
}

// NewFrameReader returns a reader of the frames that come from r.
func NewFrameReader(r io.Reader) *FrameReader { return &FrameReader{r: r} }

// Next returns the next frame without its NUL byte, valid until the following
// call. It calls begun, unless that is nil, once, when the frame's first byte is
// there, and returns its error if it has one. Between frames the end of the stream is io.EOF,
// within one io.ErrUnexpectedEOF. No call succeeds after one that failed.
func (f *FrameReader) Next(begun func() error) ([]byte, error) {
	if len(f.buf) == 0 {
		f.buf = nil // an idle peer must not hold on to the space of its longest frame
	}
	started := false
	scanned := 0 // bytes of buf that are known to hold no NUL
	for {
		if !started && len(f.buf) > 0 {
			started = true
			if begun != nil {
				if err := begun(); err != nil {
					return nil, err
				}
			}
		}
		if n := bytes.IndexByte(f.buf[scanned:], 0); n >= 0 {
			frame := f.buf[:scanned+n]
			f.buf = f.buf[scanned+n+1:]
			return frame, nil
		}
		scanned = len(f.buf)
		if scanned > MaxFrame {
			return nil, ErrFrameTooLong
		}
		if err := f.fill(); err == io.EOF && started {
			return nil, io.ErrUnexpectedEOF
		} else if err != nil {
			return nil, err
		}
	}
}

// fill reads once, growing the buffer with what has arrived, not with what a
// peer may send.
func (f *FrameReader) fill() error {
	if len(f.buf) == cap(f.buf) {
		grown := make([]byte, len(f.buf), min(max(minBuffer, 2*len(f.buf)), MaxFrame+1))
		copy(grown, f.buf)
		f.buf = grown
	}
	n, err := f.r.Read(f.buf[len(f.buf):cap(f.buf)])
	f.buf = f.buf[:len(f.buf)+n]
	if n > 0 {
		return nil // an error will come again
	}
	if err == nil {
		return io.ErrNoProgress
	}
	return err
}

package gocache

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The protocol between client and daemon. Both directions are frames: a length
// of four bytes, big endian, then an op, an id of four bytes, and the payload.
// Requests are pipelined and answered in any order; an id of 0 wants no answer.
// Bodies never cross the socket: both sides see the store.
const (
	opHello byte = 'h' // version byte; answered opOK or opError
	opGet   byte = 'g' // action; answered opHit, opMiss or opError
	opPut   byte = 'p' // action, output, size, time: the client has committed it
	opUse   byte = 'u' // action: the client uses what it was told ahead
	opFull  byte = 'f' // a client met a full disk
	opStats byte = 's' // answered opOK with JSON
	opPrune byte = 'r' // size or 0; answered opOK with JSON when done

	opAhead byte = 'A' // action, output, size, time, identity: what may be asked for next
	opHit   byte = 'H' // output, size, time
	opMiss  byte = 'M'
	opOK    byte = 'K'
	opError byte = 'E' // message
)

const (
	wireVersion = 2
	frameHead   = 5
	maxRequest  = 256     // no request is longer
	maxReply    = 1 << 16 // statistics are the longest reply
)

var errFrame = errors.New("malformed frame")

// A frame is one message. payload is valid until the next one is read.
type frame struct {
	op      byte
	id      uint32
	payload []byte
}

// readFrame reads a frame of at most limit bytes, its length not counted. buf is
// where the payload goes if it is large enough. At the end of the stream between
// frames the error is io.EOF.
func readFrame(r *bufio.Reader, limit int, buf []byte) (frame, error) {
	var head [4 + frameHead]byte
	if _, err := io.ReadFull(r, head[:4]); err != nil {
		return frame{}, err
	}
	n := int64(binary.BigEndian.Uint32(head[:4]))
	if n < frameHead || n > int64(limit) {
		return frame{}, fmt.Errorf("%w: %d bytes", errFrame, n)
	}
	if _, err := io.ReadFull(r, head[4:]); err != nil {
		return frame{}, noEOF(err)
	}
	n -= frameHead
	if int64(cap(buf)) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	if _, err := io.ReadFull(r, buf); err != nil {
		return frame{}, noEOF(err)
	}
	return frame{head[4], binary.BigEndian.Uint32(head[5:]), buf}, nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// appendFrame appends the frame's bytes.
func appendFrame(b []byte, f frame) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(frameHead+len(f.payload)))
	b = append(b, f.op)
	b = binary.BigEndian.AppendUint32(b, f.id)
	return append(b, f.payload...)
}

// appendEntry and entryOf carry an entry in a payload.
func appendEntry(b []byte, e entry) []byte {
	b = append(b, e.output[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(e.size))
	return binary.BigEndian.AppendUint64(b, uint64(e.time))
}

func entryOf(p []byte) (e entry, err error) {
	if len(p) != 32+8+8 {
		return e, errFrame
	}
	copy(e.output[:], p)
	e.size, e.time = int64(binary.BigEndian.Uint64(p[32:])), int64(binary.BigEndian.Uint64(p[40:]))
	if e.size < 0 {
		return e, errFrame
	}
	return e, nil
}

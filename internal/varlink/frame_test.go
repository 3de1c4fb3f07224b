package varlink

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestFrames(t *testing.T) {
	long := strings.Repeat("x", MaxFrame)
	for _, tt := range []struct {
		name, stream string
		frames       []string
		err          error
	}{
		{"nothing", "", nil, io.EOF},
		{"one", "a\x00", []string{"a"}, io.EOF},
		{"empty", "\x00\x00", []string{"", ""}, io.EOF},
		{"pipelined", "a\x00bc\x00\x00d\x00", []string{"a", "bc", "", "d"}, io.EOF},
		{"cut short", "a\x00b", []string{"a"}, io.ErrUnexpectedEOF},
		{"longest", "a\x00" + long + "\x00b\x00", []string{"a", long, "b"}, io.EOF},
		{"longest cut short", long, nil, io.ErrUnexpectedEOF},
		{"too long", "a\x00" + long + "x\x00", []string{"a"}, ErrFrameTooLong},
		{"endless", strings.Repeat(long, 10), nil, ErrFrameTooLong},
	} {
		for way, wrap := range map[string]func(io.Reader) io.Reader{
			"at once":       func(r io.Reader) io.Reader { return r },
			"by bytes":      iotest.OneByteReader,
			"by halves":     iotest.HalfReader,
			"end with data": iotest.DataErrReader,
		} {
			t.Run(tt.name+"/"+way, func(t *testing.T) {
				f := FrameReader{r: wrap(strings.NewReader(tt.stream))}
				begun := 0
				var err error
				for i := 0; ; i++ {
					var frame []byte
					frame, err = f.Next(func() error { begun++; return nil })
					if err != nil {
						break
					}
					if i >= len(tt.frames) || string(frame) != tt.frames[i] {
						t.Fatalf("frame %d is %.20q", i, frame)
					}
					if begun != i+1 {
						t.Fatalf("after %d frames %d have begun", i+1, begun)
					}
					if cap(f.buf) > MaxFrame+1 {
						t.Fatalf("buffer of %d bytes", cap(f.buf))
					}
				}
				if err != tt.err {
					t.Fatalf("error %v, want %v", err, tt.err)
				}
				want := len(tt.frames)
				if err != io.EOF {
					want++
				}
				if begun != want {
					t.Errorf("%d frames have begun, want %d", begun, want)
				}
			})
		}
	}
}

func TestFrameNotWanted(t *testing.T) {
	no := errors.New("no")
	f := FrameReader{r: strings.NewReader("a\x00")}
	if _, err := f.Next(func() error { return no }); err != no {
		t.Errorf("error %v, want %v", err, no)
	}
}

func TestFrameNoProgress(t *testing.T) {
	f := FrameReader{r: readerFunc(func([]byte) (int, error) { return 0, nil })}
	if _, err := f.Next(func() error { return nil }); err != io.ErrNoProgress {
		t.Errorf("error %v, want %v", err, io.ErrNoProgress)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// FuzzFrames compares with bytes.Split, however the stream is cut into reads. To
// come near the bound with small inputs, each L stands for a third of it.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("a\x00bc\x00\x00d"), uint16(1))
	f.Add([]byte("LLL\x00LLLx\x00LLLxx\x00"), uint16(4096))
	f.Add([]byte{}, uint16(0))
	f.Fuzz(func(t *testing.T, stream []byte, step uint16) {
		stream = bytes.ReplaceAll(stream[:min(len(stream), 100)], []byte("L"), bytes.Repeat([]byte("x"), MaxFrame/3))
		rest := bytes.NewReader(stream)
		fr := FrameReader{r: readerFunc(func(p []byte) (int, error) {
			return rest.Read(p[:min(len(p), int(step)+1)])
		})}
		want := bytes.Split(stream, []byte{0})
		for i := 0; ; i++ {
			frame, err := fr.Next(func() error { return nil })
			if cap(fr.buf) > MaxFrame+1 {
				t.Fatalf("buffer of %d bytes", cap(fr.buf))
			}
			if err == nil {
				if i >= len(want)-1 || !bytes.Equal(frame, want[i]) {
					t.Fatalf("frame %d is %q", i, frame)
				}
				continue
			}
			switch {
			case len(want[i]) > MaxFrame:
				if err != ErrFrameTooLong {
					t.Fatalf("frame %d: %v", i, err)
				}
			case i != len(want)-1:
				t.Fatalf("frame %d of %d: %v", i, len(want)-1, err)
			case len(want[i]) == 0 && err != io.EOF, len(want[i]) > 0 && err != io.ErrUnexpectedEOF:
				t.Fatalf("at the end: %v", err)
			}
			return
		}
	})
}

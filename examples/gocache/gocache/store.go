package gocache

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"
)

// An id is an action's or an output's: 32 bytes that cmd/go made with SHA-256.
type id [sha256.Size]byte

func (i id) String() string { return hex.EncodeToString(i[:]) }

// parseID takes exactly what String gives.
func parseID(s string) (i id, ok bool) {
	if len(s) != 2*len(i) {
		return i, false
	}
	for j := range i {
		hi, lo := nibble(s[2*j]), nibble(s[2*j+1])
		if hi > 15 || lo > 15 {
			return i, false
		}
		i[j] = hi<<4 | lo
	}
	return i, true
}

func nibble(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 0xff
}

// An entry is what an action leads to.
type entry struct {
	output id
	size   int64
	time   int64 // when it was put, in Unix nanoseconds
}

// A store is a directory that needs no daemon:
//
//	objects/xx/<output>  bodies; the name is the SHA-256 of the content
//	actions/xx/<action>  entries: "v1 <output> <size> <time>\n"; the file's
//	                     modification time is the last use, to the hour
//	tmp/                 files being written
//	pins/                see pins
//	evict.lock           see barrier
//
// A put writes the body into tmp, renames it to its name, and then does the same
// with the entry. Whoever is killed in between leaves a file in tmp or a body
// that nothing refers to, never a torn entry or an entry without its body. The
// page cache belongs to the kernel, so that kill -9 needs no fsync; after a power
// cut a file may be torn, which reads as a miss: entries have one valid form,
// bodies are verified.
//
// A store has no state but its path and is safe for concurrent use, by any
// number of processes.
type store struct{ dir string }

func (s store) body(o id) string   { return s.shard("objects", o) }
func (s store) action(a id) string { return s.shard("actions", a) }

func (s store) shard(kind string, i id) string {
	name := i.String()
	return s.dir + string(filepath.Separator) + kind + string(filepath.Separator) + name[:2] + string(filepath.Separator) + name
}

// make creates the store's directories but for the 512 small ones, which are
// made when they are needed.
func (s store) make() error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	for _, d := range []string{"objects", "actions", "tmp", "pins"} {
		if err := os.Mkdir(filepath.Join(s.dir, d), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

const entryVersion = "v1"

// maxEntry bounds an entry file: version, output, two numbers of 19 digits.
const maxEntry = 128

func (e entry) format() []byte {
	b := make([]byte, 0, maxEntry)
	b = append(b, entryVersion+" "...)
	b = hex.AppendEncode(b, e.output[:])
	b = append(b, ' ')
	b = strconv.AppendInt(b, e.size, 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, e.time, 10)
	return append(b, '\n')
}

var errEntry = errors.New("malformed entry")

// parseEntry reads an entry file. It takes exactly what format gives, so that
// every prefix and every other damage is an error.
func parseEntry(b []byte) (e entry, err error) {
	head := len(entryVersion) + 1
	if len(b) > maxEntry || len(b) < head+2*len(e.output)+1 || string(b[:head]) != entryVersion+" " {
		return entry{}, errEntry
	}
	var ok bool
	if e.output, ok = parseID(string(b[head : head+2*len(e.output)])); !ok {
		return entry{}, errEntry
	}
	rest := b[head+2*len(e.output):]
	if rest[0] != ' ' || rest[len(rest)-1] != '\n' {
		return entry{}, errEntry
	}
	size, when, ok := bytes.Cut(rest[1:len(rest)-1], []byte{' '})
	if !ok {
		return entry{}, errEntry
	}
	if e.size, err = strconv.ParseInt(string(size), 10, 64); err != nil || e.size < 0 {
		return entry{}, errEntry
	}
	if e.time, err = strconv.ParseInt(string(when), 10, 64); err != nil || !bytes.Equal(e.format(), b) {
		return entry{}, errEntry
	}
	return e, nil
}

// lookup reads an action's entry and its last use. A malformed one is
// errEntry, a missing one fs.ErrNotExist.
func (s store) lookup(action id) (entry, time.Time, error) {
	return readEntry(s.action(action))
}

func readEntry(path string) (entry, time.Time, error) {
	b, mtime, err := readSmall(path, maxEntry+1)
	if err != nil {
		return entry{}, time.Time{}, err
	}
	e, err := parseEntry(b)
	return e, mtime, err
}

// useGrain is how exactly a last use is kept in the store.
const useGrain = time.Hour

// used notes a use of an entry whose last one is known, at most once an hour.
func (s store) used(action id, last, now time.Time) {
	if now.Sub(last) > useGrain {
		_ = os.Chtimes(s.action(action), now, now)
	}
}

// commit gives an entry its name: from then on it is in the cache.
func (s store) commit(action id, e entry, temp string) error {
	if err := os.WriteFile(temp, e.format(), 0o600); err != nil {
		_ = os.Remove(temp)
		return err
	}
	if err := renameInto(temp, s.action(action)); err != nil {
		_ = os.Remove(temp)
		return err
	}
	return nil
}

// renameInto renames, making the target's directory if that is missing.
func renameInto(from, to string) error {
	err := os.Rename(from, to)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return err
		}
		err = os.Rename(from, to)
	}
	return err
}

var errCorrupt = errors.New("body does not match its name")

// stat returns the identity of a body, or an error if it is missing or has not
// the size.
func (s store) stat(o id, size int64) (identity, error) {
	fi, err := os.Stat(s.body(o))
	if err != nil {
		return 0, err
	}
	if !fi.Mode().IsRegular() || fi.Size() != size {
		return 0, errCorrupt
	}
	return identityOf(fi), nil
}

// An identity tells one state of a file from another: device, inode, size and
// modification time, hashed, alike in all processes. It is never 0.
type identity uint64

func identityOf(fi fs.FileInfo) identity {
	dev, ino := fileNumber(fi)
	h := fnv.New64a()
	var b [8]byte
	for _, v := range [4]uint64{dev, ino, uint64(fi.Size()), uint64(fi.ModTime().UnixNano())} {
		binary.LittleEndian.PutUint64(b[:], v)
		_, _ = h.Write(b[:])
	}
	return identity(h.Sum64() | 1)
}

// check reads a whole body and returns errCorrupt if it is not what it is called.
func (s store) check(o id) error {
	f, err := os.Open(s.body(o))
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if id(h.Sum(nil)) != o {
		return errCorrupt
	}
	return nil
}

// A sink takes a body while it arrives: hashes it and writes it into a file in
// the store's tmp or, when that cannot be written, into the spill.
type sink struct {
	h     hash.Hash
	f     *os.File
	path  string
	n     int64
	tried int   // bases of the spill; 0: the body is in the store
	cause error // why it is not in the store
	err   error // it could be written nowhere
	spill *spill
}

func newSink(s store, temp string, sp *spill) *sink {
	k := &sink{h: sha256.New(), path: temp, spill: sp}
	k.f, k.err = createNew(temp)
	if errors.Is(k.err, fs.ErrNotExist) && s.make() == nil { // someone removed the store
		k.f, k.err = createNew(temp)
	}
	if k.err != nil {
		k.move()
	}
	return k
}

func createNew(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
}

// Write never fails: what arrives must be read to its end anyhow.
func (k *sink) Write(p []byte) (int, error) {
	k.h.Write(p)
	for k.err == nil {
		if _, k.err = k.f.WriteAt(p, k.n); k.err == nil {
			break
		}
		k.move()
	}
	k.n += int64(len(p))
	return len(p), nil
}

// move goes on in the spill after k.err, which it clears if it can.
func (k *sink) move() {
	if k.cause == nil {
		k.cause = k.err
	}
	old, path := k.f, k.path
	k.f, k.tried, k.err = k.spill.create(old, k.n, k.tried)
	if old != nil {
		_ = old.Close()
		_ = os.Remove(path)
	}
	if k.err == nil {
		k.path = k.f.Name()
	}
}

// done closes the file. The error is errCorrupt if the body is not what was
// announced, and the file is gone then.
func (k *sink) done(output id, size int64) error {
	if k.f != nil {
		if err := k.f.Close(); k.err == nil && err != nil {
			k.err = err
		}
	}
	if k.err == nil && (k.n != size || id(k.h.Sum(nil)) != output) {
		k.err = errCorrupt
	}
	if k.err != nil && k.f != nil {
		_ = os.Remove(k.path)
	}
	return k.err
}

// A temper names temporary files of one process in a store's tmp: the token of
// the process's pin file, which says whether it lives, and a number.
type temper struct {
	dir, token string
	n          atomic.Uint64
}

func (t *temper) name() string {
	return filepath.Join(t.dir, fmt.Sprintf("%s.%d", t.token, t.n.Add(1)))
}

// spillSink is a sink that writes into the spill from the start.
func spillSink(sp *spill) *sink {
	k := &sink{h: sha256.New(), spill: sp, err: errors.New("not for the store")}
	k.move()
	return k
}

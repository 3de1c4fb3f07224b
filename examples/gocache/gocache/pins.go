package gocache

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Pins keep bodies that were handed to a living go command. They are the store's
// and not the daemon's, so that they hold against the next daemon, a second one,
// and a prune without one:
//
//   - A client has a file in pins, locked as long as it lives, to which it
//     appends each output before it hands out the path.
//   - Who removes bodies holds evict.lock exclusively, reads all pin files whose
//     lock is held, and removes what none of them names.
//   - A client takes evict.lock shared and lets it go again between appending
//     and looking at the body (the barrier). A removal that could not see its pin
//     has ended by then, and shows; every later one sees the pin.
//
// The kernel frees both locks at kill -9.

const evictLock = "evict.lock"

// lockWithin bounds the wait for evict.lock: its holder may be stopped.
const lockWithin = 2 * time.Second

var errLockHeld = errors.New(evictLock + " is held for too long")

// A gate is evict.lock as one process has it open. Safe for concurrent use.
type gate struct {
	f    *os.File
	mu   sync.Mutex    // guards wait
	wait chan struct{} // a blocking wait under way, closed at its end
}

func openGate(s store) (*gate, error) {
	f, err := openShared(filepath.Join(s.dir, evictLock), os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	return &gate{f: f}, nil
}

// pass returns when no removal is under way that began before the call. All
// goroutines share the one shared lock of the process: each wants no more than
// that there was a moment without an exclusive one.
func (g *gate) pass() error {
	for timeout := time.After(lockWithin); ; {
		if ok, err := g.open(); ok || err != nil {
			return err
		}
		select {
		case <-g.changed(): // which may have happened before this call: look again
		case <-timeout:
			return errLockHeld
		}
	}
}

// open reports whether no removal is under way.
func (g *gate) open() (bool, error) {
	ok, err := tryLock(g.f, false)
	if ok {
		unlock(g.f)
	}
	return ok, err
}

// changed returns a channel that is closed when the lock was free for a moment.
func (g *gate) changed() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.wait != nil {
		return g.wait
	}
	done := make(chan struct{})
	g.wait = done
	go func() { // ends when the holder lets go or dies, or with this process
		if waitLock(g.f, false) == nil {
			unlock(g.f)
		}
		g.mu.Lock()
		g.wait = nil
		g.mu.Unlock()
		close(done)
	}()
	return done
}

// A pinner is a client's pin file. Safe for concurrent use.
type pinner struct {
	token string
	f     *os.File // nil: err says why
	gate  *gate
	err   error // guarded by mu once there is a file

	// needless says that the store is read-only: nothing can be pinned, and
	// nothing can be removed.
	needless bool

	mu     sync.Mutex  // guards pinned
	pinned map[id]bool // listed; true: and the gate was passed since
}

// newPinner makes the pin file. It always returns a pinner; one that cannot pin
// says so at each pin.
func newPinner(s store) *pinner {
	p := &pinner{pinned: map[id]bool{}}
	for range 10 {
		p.token = fmt.Sprintf("%d-%08x", os.Getpid(), rand.Uint32())
		p.f, p.err = createLocked(filepath.Join(s.dir, "pins", p.token))
		if !errors.Is(p.err, errTaken) {
			break
		}
	}
	if p.err == nil {
		p.gate, p.err = openGate(s)
	}
	if p.err != nil {
		p.needless = isReadOnly(p.err)
		p.token = orphanToken + p.token
	}
	return p
}

// orphanToken begins the token of who has no pin file: only the age tells
// whether its temporary files are left over.
const orphanToken = "free-"

var errTaken = errors.New("taken by a cleaner")

// createLocked creates a file and locks it. A cleaner may find it before it is
// locked, and remove it.
func createLocked(path string) (*os.File, error) {
	f, err := openShared(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL)
	if err != nil {
		if errors.Is(err, fs.ErrExist) {
			err = errTaken
		}
		return nil, err
	}
	ok, err := tryLock(f, true)
	if ok {
		var have, at fs.FileInfo
		if have, err = f.Stat(); err == nil {
			if at, err = os.Stat(path); err == nil && os.SameFile(have, at) {
				return f, nil
			}
		}
	}
	_ = f.Close()
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = errTaken
	}
	return nil, err
}

// pin keeps an output's body from now on, if it is there now: look afterwards.
// It waits while bodies are removed, at most lockWithin.
func (p *pinner) pin(o id) error {
	passed, err := p.list(o)
	if passed || err != nil {
		return err
	}
	if err := p.gate.pass(); err != nil {
		return err
	}
	p.pass(o)
	return nil
}

// try is pin where nothing may wait. It reports whether the output is pinned: if
// not, pin says why, or waits.
func (p *pinner) try(o id) bool {
	passed, err := p.list(o)
	if passed || err != nil {
		return err == nil
	}
	ok, _ := p.gate.open()
	if ok {
		p.pass(o)
	}
	return ok
}

// list appends an output to the pin file, once. passed says that nothing is left
// to do for it.
func (p *pinner) list(o id) (passed bool, err error) {
	if p.needless {
		return true, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return false, p.err
	}
	passed, listed := p.pinned[o]
	if listed {
		return passed, nil
	}
	if n, err := p.f.Write(o[:]); err != nil {
		if n > 0 { // the rest of the file would be read out of step
			p.err = err
		}
		return false, err
	}
	p.pinned[o] = false
	return false, nil
}

// pass notes that the gate was passed after an output was listed.
func (p *pinner) pass(o id) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pinned[o] = true
}

func (p *pinner) close() {
	if p.f != nil {
		_ = os.Remove(p.f.Name())
		_ = p.f.Close()
	}
}

// pins is what all living clients hold, as who removes bodies sees it. Used by
// one goroutine, under the exclusive lock.
type pins struct {
	dir   string
	files map[string]*pinFile
}

type pinFile struct {
	f      *os.File
	offset int64
	held   map[id]struct{}
}

// pinsWithin is how old a pin file may be that nobody can be asked about.
const pinsWithin = 24 * time.Hour

// refresh reads what is new: pin files only grow. The files of the dead go.
func (p *pins) refresh() error {
	names, err := readNames(p.dir)
	if err != nil {
		return err
	}
	seen := make(map[string]bool, len(names))
	for _, name := range names {
		seen[name] = true
		if err := p.read(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for name := range p.files {
		if !seen[name] {
			p.forget(name)
		}
	}
	return nil
}

func (p *pins) read(name string) error {
	pf := p.files[name]
	if pf == nil {
		f, err := openShared(filepath.Join(p.dir, name), os.O_RDWR)
		if err != nil {
			return err
		}
		pf = &pinFile{f: f, held: map[id]struct{}{}}
		p.files[name] = pf
	}
	dead, err := tryLock(pf.f, true)
	if err != nil {
		return err
	}
	if !haveLocks {
		fi, err := pf.f.Stat()
		dead = err == nil && time.Since(fi.ModTime()) > pinsWithin
	}
	if dead {
		err := os.Remove(pf.f.Name())
		p.forget(name)
		return err
	}
	b, err := io.ReadAll(io.NewSectionReader(pf.f, pf.offset, 1<<62))
	if err != nil {
		return err
	}
	for len(b) >= len(id{}) {
		pf.held[id(b[:len(id{})])] = struct{}{}
		b = b[len(id{}):]
		pf.offset += int64(len(id{}))
	}
	return nil
}

func (p *pins) forget(name string) {
	_ = p.files[name].f.Close()
	delete(p.files, name)
}

func (p *pins) holds(o id) bool {
	for _, pf := range p.files {
		if _, ok := pf.held[o]; ok {
			return true
		}
	}
	return false
}

// alive reports whether the client with a token lives, after a refresh.
func (p *pins) alive(token string) bool { return p.files[token] != nil }

func (p *pins) close() {
	for name := range p.files {
		p.forget(name)
	}
}

func readNames(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// A remover removes from a store what nobody holds. Safe for concurrent use.
type remover struct {
	s    store
	mu   sync.Mutex // guards the fields below, and that one removal runs at a time
	gate *gate
	pins pins
}

func newRemover(s store) *remover {
	return &remover{s: s, pins: pins{dir: filepath.Join(s.dir, "pins"), files: map[string]*pinFile{}}}
}

// do calls f under the exclusive lock, with the pins as they are.
func (r *remover) do(f func(p *pins)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gate == nil {
		g, err := openGate(r.s)
		if err != nil {
			return err
		}
		r.gate = g
	}
	// Clients hold the lock for microseconds. One that was stopped while it did
	// must not stop the daemon: the caller tries again some time.
	for deadline := time.Now().Add(lockWithin / 2); ; {
		ok, err := tryLock(r.gate.f, true)
		if err != nil {
			return err
		}
		if ok {
			break
		}
		if time.Now().After(deadline) {
			return errLockHeld
		}
		time.Sleep(time.Duration(50+rand.IntN(200)) * time.Microsecond)
	}
	defer unlock(r.gate.f)
	if err := r.pins.refresh(); err != nil {
		return err
	}
	f(&r.pins)
	return nil
}

// dropCorrupt removes a body that was found not to be what it is called, and the
// action's entry. A body that a living go command holds stays, for its path was
// handed out; the next put replaces it.
func (r *remover) dropCorrupt(action, output id, was identity) error {
	return r.do(func(p *pins) {
		path := r.s.body(output)
		fi, err := os.Stat(path)
		if err != nil || was != 0 && identityOf(fi) != was {
			return // gone, or replaced since
		}
		if e, _, err := r.s.lookup(action); err == nil && e.output == output {
			_ = os.Remove(r.s.action(action))
		}
		if !p.holds(output) {
			_ = os.Remove(path)
		}
	})
}

// sweepAge is how old a body must be that no entry refers to: a put may be about
// to write one.
const sweepAge = time.Hour

// sweep removes bodies that known does not know, and temporary files of clients
// that are dead.
func (r *remover) sweep(known func(id) bool, stopped func() bool) (n int, size int64) {
	var old []string
	now := time.Now()
	for shard := range 256 {
		if stopped() {
			return n, size
		}
		dir := filepath.Join(r.s.dir, "objects", fmt.Sprintf("%02x", shard))
		names, _ := readNames(dir)
		old = old[:0]
		for _, name := range names {
			if o, ok := parseID(name); ok && known(o) {
				continue
			}
			old = append(old, name)
		}
		if len(old) == 0 {
			continue
		}
		_ = r.do(func(p *pins) {
			for _, name := range old {
				path := filepath.Join(dir, name)
				fi, err := os.Lstat(path)
				o, ok := parseID(name)
				if err != nil || fi.IsDir() || now.Sub(fi.ModTime()) < sweepAge || ok && (known(o) || p.holds(o)) {
					continue
				}
				if os.Remove(path) == nil {
					n, size = n+1, size+fi.Size()
				}
			}
		})
	}
	temps, _ := readNames(filepath.Join(r.s.dir, "tmp"))
	_ = r.do(func(p *pins) {
		for _, name := range temps {
			path := filepath.Join(r.s.dir, "tmp", name)
			fi, err := os.Lstat(path)
			token, _, _ := strings.Cut(name, ".")
			young := err == nil && now.Sub(fi.ModTime()) < pinsWithin
			if err != nil || p.alive(token) || strings.HasPrefix(token, orphanToken) && young {
				continue
			}
			if os.Remove(path) == nil {
				n, size = n+1, size+fi.Size()
			}
		}
	})
	return n, size
}

func (r *remover) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pins.close()
	if r.gate != nil {
		_ = r.gate.f.Close()
		r.gate = nil
	}
}

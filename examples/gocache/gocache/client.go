package gocache

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"time"
)

// The protocol of cmd/go, as cmd/go/internal/cacheprog documents it.
type request struct {
	ID       int64
	Command  string
	ActionID []byte
	OutputID []byte
	BodySize int64
}

type response struct {
	ID            int64
	Err           string     `json:",omitempty"`
	KnownCommands []string   `json:",omitempty"`
	Miss          bool       `json:",omitempty"`
	OutputID      []byte     `json:",omitempty"`
	Size          int64      `json:",omitempty"`
	Time          *time.Time `json:",omitempty"`
	DiskPath      string     `json:",omitempty"`
}

// maxLine bounds a request without its body, and what is read of a body at once.
const maxLine = 64 << 10

// maxAnswering bounds the requests that are answered at the same time.
const maxAnswering = 256

// A client is cmd/go's child.
type client struct {
	cfg   config
	store store
	up    *uplink
	pins  *pinner
	temps temper
	spill *spill

	outMu sync.Mutex // guards out
	out   *bufio.Writer

	warnMu sync.Mutex // guards warned and writing to err
	warned bool
	err    io.Writer

	mu       sync.Mutex // guards the fields below
	verified map[id]identity
	copies   map[id]string // bodies that could not be pinned, in the spill
	kept     []string      // bodies that have only a temporary name
}

// runClient answers cmd/go until it says close or goes away.
func runClient(cfg config, stdin io.Reader, stdout, stderr io.Writer) int {
	// An interrupt goes to the whole process group. cmd/go dies of a dead child;
	// it ends us by closing our stdin.
	signal.Ignore(os.Interrupt)
	c := &client{cfg: cfg, store: store{cfg.dir}, out: bufio.NewWriter(stdout), err: stderr,
		spill: newSpill(), verified: map[id]identity{}, copies: map[id]string{}}
	c.respond(response{KnownCommands: []string{"get", "put", "close"}})
	c.up = newUplink(cfg, c.warn, c.flush)
	_ = c.store.make() // what cannot be made shows at each put
	c.pins = newPinner(c.store)
	c.temps = temper{dir: filepath.Join(cfg.dir, "tmp"), token: c.pins.token}
	err := c.serve(bufio.NewReaderSize(stdin, maxLine))
	c.end()
	if err != nil {
		fmt.Fprintf(stderr, "gocache: %v\n", err)
		return 1
	}
	return 0
}

// warn says once that this client goes on without the daemon.
func (c *client) warn(reason error) {
	c.warnMu.Lock()
	defer c.warnMu.Unlock()
	if !c.warned {
		c.warned = true
		fmt.Fprintf(c.err, "gocache: going on without the daemon: %v\n", reason)
	}
}

// respond writes a response at once.
func (c *client) respond(r response) {
	c.write(r)
	c.flush()
}

// write writes a response at the next flush.
func (c *client) write(r response) {
	b, err := json.Marshal(r)
	if err != nil {
		b, _ = json.Marshal(response{ID: r.ID, Err: err.Error()})
	}
	c.outMu.Lock()
	defer c.outMu.Unlock()
	_, _ = c.out.Write(append(b, '\n'))
}

func (c *client) flush() {
	c.outMu.Lock()
	defer c.outMu.Unlock()
	_ = c.out.Flush() // if cmd/go is gone the next read says so
}

// serve answers requests. The error is for a peer that does not speak the
// protocol.
func (c *client) serve(r *bufio.Reader) error {
	var asked *link // may have requests that wait to be written
	flush := func() {
		if asked != nil {
			asked.flush()
			asked = nil
		}
		c.flush()
	}
	var answering sync.WaitGroup
	wait := func() {
		flush()
		answering.Wait()
	}
	defer wait()
	slots := make(chan struct{}, maxAnswering)
	begin := func() {
		select {
		case slots <- struct{}{}:
		default:
			flush()
			slots <- struct{}{}
		}
		answering.Add(1)
	}
	end := func() {
		<-slots
		answering.Done()
	}
	decoded := make([]byte, maxLine)
	for {
		if !hasLine(r) {
			flush()
		}
		line, err := r.ReadSlice('\n')
		if errors.Is(err, io.EOF) && len(bytes.TrimSpace(line)) == 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading a request: %w", noEOF(err))
		}
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		var req request
		if err := json.Unmarshal(line, &req); err != nil {
			return fmt.Errorf("malformed request: %w", err)
		}
		res := response{ID: req.ID}
		switch req.Command {
		case "get":
			if len(req.ActionID) != len(id{}) {
				res.Err = "malformed action ID"
				c.respond(res)
				break
			}
			begin()
			if l := c.get(id(req.ActionID), req.ID, end); l != nil {
				asked = l
			}
		case "put":
			k := newSink(c.store, c.temps.name(), c.spill)
			if req.BodySize > 0 {
				flush()
				if err := readBody(r, k, decoded); err != nil {
					if k.f != nil {
						_ = k.f.Close()
						_ = os.Remove(k.path)
					}
					if !errors.Is(err, errBase64) {
						return fmt.Errorf("reading a body: %w", err)
					}
					res.Err = err.Error()
					c.respond(res)
					break
				}
			}
			begin()
			go func() {
				c.respond(c.put(req, k, res))
				end()
			}()
		case "close":
			wait()
			c.respond(res)
			return nil
		default:
			res.Err = fmt.Sprintf("unknown command %q", req.Command)
			c.respond(res)
		}
	}
}

// hasLine reports whether a further request has arrived.
func hasLine(r *bufio.Reader) bool {
	b, _ := r.Peek(r.Buffered())
	return bytes.IndexByte(bytes.TrimLeft(b, " \r\n\t"), '\n') >= 0
}

var errBase64 = errors.New("malformed base64 in a body")

// readBody decodes a body, a JSON string of base64 on a line of its own, into w.
// After errBase64 the stream is behind the body all the same. out is as large as
// r's buffer.
func readBody(r *bufio.Reader, w io.Writer, out []byte) error {
	for {
		b, err := r.ReadByte()
		if err != nil {
			return noEOF(err)
		}
		if b == '"' {
			break
		}
		if b != '\n' && b != ' ' && b != '\r' && b != '\t' {
			return fmt.Errorf("a body begins with %q", b)
		}
	}
	var bad error
	var carry []byte
	decode := func(text []byte) {
		n, err := base64.StdEncoding.Decode(out, text)
		if err != nil {
			bad = errBase64
		}
		_, _ = w.Write(out[:n])
	}
	for {
		text, err := r.ReadSlice('"')
		end := err == nil
		if !end && !errors.Is(err, bufio.ErrBufferFull) {
			return noEOF(err)
		}
		if end {
			text = text[:len(text)-1]
		}
		if len(carry) > 0 {
			n := min(4-len(carry), len(text))
			carry = append(carry, text[:n]...)
			text = text[n:]
			if len(carry) == 4 {
				decode(carry)
				carry = carry[:0]
			}
		}
		if whole := len(text) &^ 3; whole > 0 {
			decode(text[:whole])
			text = text[whole:]
		}
		carry = append(carry, text...)
		if end {
			if len(carry) > 0 {
				bad = errBase64
			}
			return bad
		}
	}
}

// get answers a get and calls end then. What was asked of the daemon waits to be
// written, to the link it returns.
func (c *client) get(action id, n int64, end func()) (asked *link) {
	answer := func(e entry, path string, hit bool) {
		res := response{ID: n, Miss: !hit}
		if hit {
			when := time.Unix(0, e.time)
			res.OutputID, res.Size, res.Time, res.DiskPath = e.output[:], e.size, &when, path
		}
		c.write(res)
		end()
	}
	alone := func() {
		answer(c.find(action))
		c.flush()
	}
	l := c.up.get()
	if l == nil {
		go alone()
		return nil
	}
	if g, ok := l.guess(action); ok && c.pins.try(g.output) {
		if file, err := c.store.stat(g.output, g.size); err == nil && file == g.file {
			l.use(action)
			answer(g.entry, c.store.body(g.output), true)
			return nil
		}
	}
	l.get(action, func(e entry, hit bool, err error) {
		switch {
		case err != nil:
			alone()
		case !hit:
			answer(e, "", false)
		case c.pins.try(e.output):
			path, hit := c.hold(e, false)
			answer(e, path, hit)
		default:
			go func() {
				path, hit := c.hold(e, false)
				answer(e, path, hit)
				c.flush()
			}()
		}
	})
	return l
}

// find asks the store, without the daemon.
func (c *client) find(action id) (e entry, path string, hit bool) {
	e, use, err := c.store.lookup(action)
	if err != nil {
		return e, "", false
	}
	if path, hit = c.hold(e, true); hit {
		c.store.used(action, use, time.Now())
	}
	return e, path, hit
}

// hold makes sure that a body stays for as long as this process lives, and
// returns where. With check its content is verified here, once.
func (c *client) hold(e entry, check bool) (path string, ok bool) {
	if c.pins.pin(e.output) != nil {
		return c.copyOut(e)
	}
	file, err := c.store.stat(e.output, e.size)
	if err != nil {
		return "", false
	}
	if check {
		c.mu.Lock()
		known := c.verified[e.output] == file
		c.mu.Unlock()
		if !known {
			if c.store.check(e.output) != nil {
				return "", false
			}
			c.mu.Lock()
			c.verified[e.output] = file
			c.mu.Unlock()
		}
	}
	return c.store.body(e.output), true
}

// copyOut makes a private copy of a body that cannot be pinned.
func (c *client) copyOut(e entry) (path string, ok bool) {
	c.mu.Lock()
	path = c.copies[e.output]
	c.mu.Unlock()
	if path != "" {
		return path, true
	}
	src, err := os.Open(c.store.body(e.output))
	if err != nil {
		return "", false
	}
	defer src.Close()
	k := spillSink(c.spill)
	if _, err := io.Copy(k, src); err != nil {
		k.err = err
	}
	if k.done(e.output, e.size) != nil {
		return "", false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.copies[e.output] = k.path
	return k.path, true
}

// put gives a body that has arrived its name, and the entry, and tells the
// daemon. What the store cannot take stays where it is until the client ends.
func (c *client) put(req request, k *sink, res response) response {
	if len(req.ActionID) != len(id{}) || len(req.OutputID) != len(id{}) {
		_ = k.done(id{}, -1)
		res.Err = "malformed action or output ID"
		return res
	}
	action := id(req.ActionID)
	e := entry{output: id(req.OutputID), size: req.BodySize, time: time.Now().UnixNano()}
	if err := k.done(e.output, e.size); err != nil {
		res.Err = err.Error()
		return res
	}
	err := k.cause
	if err == nil {
		err = c.pins.pin(e.output)
	}
	if err == nil {
		err = renameInto(k.path, c.store.body(e.output))
	}
	if err != nil {
		res.DiskPath = k.path
		c.mu.Lock()
		c.kept = append(c.kept, k.path)
		c.mu.Unlock()
	} else {
		res.DiskPath = c.store.body(e.output)
		err = c.store.commit(action, e, c.temps.name())
	}
	l := c.up.get()
	switch {
	case l == nil:
	case err == nil:
		l.put(action, e)
	case isFull(err):
		l.tell(opFull, nil)
	}
	return res
}

// end lets go of everything.
func (c *client) end() {
	c.flush()
	c.up.close()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, path := range c.kept {
		_ = os.Remove(path)
	}
	c.spill.close()
	c.pins.close()
}

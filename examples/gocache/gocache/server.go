package gocache

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A server is the daemon: the index, what loads and bounds it, and the
// connections. It answers from its first moment: what it has not loaded yet it
// looks up in the store.
type server struct {
	cfg     config
	store   store
	index   *index
	remover *remover
	misses  missTable
	started time.Time

	ctx      context.Context // of the background work
	cancel   context.CancelFunc
	work     sync.WaitGroup
	hashing  chan struct{} // bounds how many bodies are read at once
	kick     chan struct{} // the size wants looking at
	full     atomic.Bool   // a client met a full disk
	madeRoom time.Time     // for it; bound's alone
	loadedIn atomic.Int64  // nanoseconds; 0: still loading

	hits, ahead, missed, puts, evictions, evictedBytes, corrupt, malformed, conns atomic.Int64
}

// newServer makes a server and begins to load. An unusable store is no error:
// everything misses then.
func newServer(ctx context.Context, environ []string, progress func(string, float64), ready func()) (*server, error) {
	cfg, err := configOf(environ)
	if err != nil {
		fmt.Fprintln(os.Stderr, err) // into the service's log
	}
	s := serverOf(context.WithoutCancel(ctx), cfg)
	if err := s.store.make(); err != nil {
		fmt.Fprintln(os.Stderr, "the store cannot be written:", err)
	}
	s.work.Go(func() {
		s.load(progress)
		if s.ctx.Err() != nil {
			return
		}
		s.loadedIn.Store(max(1, int64(time.Since(s.started))))
		ready()
		// The load's garbage is the most there will be for long.
		debug.FreeOSMemory()
		s.sweep()
		s.bound()
	})
	return s, nil
}

func serverOf(ctx context.Context, cfg config) *server {
	s := &server{cfg: cfg, store: store{cfg.dir}, index: newIndex(), started: time.Now(),
		hashing: make(chan struct{}, runtime.GOMAXPROCS(0)), kick: make(chan struct{}, 1)}
	s.remover = newRemover(s.store)
	s.ctx, s.cancel = context.WithCancel(ctx)
	return s
}

// load reads all entries into the index; what is there already stays.
func (s *server) load(progress func(string, float64)) {
	begun := time.Now()
	progress("loading the index", 0)
	var next, done atomic.Int32
	var wg sync.WaitGroup
	for range 2 { // the disk's latency, not its bandwidth, is the cost; a build runs beside this
		wg.Go(func() {
			for {
				shard := int(next.Add(1)) - 1
				if shard >= 256 || s.ctx.Err() != nil {
					return
				}
				s.loadShard(shard)
				part := float64(done.Add(1)) / 256
				progress("loading the index", part)
				if pace := time.Duration(part*float64(s.cfg.loadFor)) - time.Since(begun); pace > 0 {
					select {
					case <-time.After(pace):
					case <-s.ctx.Done():
					}
				}
			}
		})
	}
	wg.Wait()
}

func (s *server) loadShard(shard int) {
	dir := filepath.Join(s.store.dir, "actions", fmt.Sprintf("%02x", shard))
	names, _ := readNames(dir)
	for _, name := range names {
		action, ok := parseID(name)
		if !ok {
			continue
		}
		e, use, err := readEntry(dir + string(filepath.Separator) + name)
		if err != nil {
			if errors.Is(err, errEntry) {
				s.malformed.Add(1)
			}
			continue
		}
		s.index.put(action, e, use, true)
	}
}

func (s *server) sweep() (int, int64) {
	return s.remover.sweep(s.index.hasBody, func() bool { return s.ctx.Err() != nil })
}

// Bounds of the pause before the next try when everything is held.
const heldPause = 2 * time.Second

// bound keeps the store within its size until the server ends.
func (s *server) bound() {
	for {
		s.shrink(s.limit())
		var again <-chan time.Time
		if s.index.size().disk > s.cfg.max {
			again = time.After(heldPause) // all that is left is held
		}
		select {
		case <-s.ctx.Done():
			return
		case <-s.kick:
		case <-again:
		}
	}
}

// fullPause is the least time between two evictions for a full disk: many puts
// fail until the first has made room, and others may have filled it.
const fullPause = 10 * time.Second

// limit is the size to hold: the cap, or after a full disk a tenth less than now.
func (s *server) limit() int64 {
	limit := s.cfg.max
	if s.full.Swap(false) && time.Since(s.madeRoom) > fullPause {
		s.madeRoom = time.Now()
		limit = min(limit, s.index.size().disk*9/10)
	}
	return limit
}

// evictBatch bounds how many files are removed while clients wait at the gate.
const evictBatch = 128

// shrink evicts what was not used for longest until the store is somewhat below
// limit, if it is above.
func (s *server) shrink(limit int64) (n int, bytes int64) {
	size := s.index.size().disk
	if size <= limit {
		return 0, 0
	}
	target := limit - limit/20
	old := s.index.oldest()
	for len(old) > 0 && s.ctx.Err() == nil {
		batch := old[:min(evictBatch, len(old))]
		old = old[len(batch):]
		err := s.remover.do(func(p *pins) {
			for _, c := range batch {
				if s.index.size().disk <= target {
					old = nil
					return
				}
				before := s.index.size().bytes
				action, output, last, ok := s.index.evict(c, p.holds)
				if !ok {
					continue
				}
				// The entry first: killed here, the body is left over, and swept.
				_ = os.Remove(s.store.action(action))
				if last {
					_ = os.Remove(s.store.body(output))
				}
				n, bytes = n+1, bytes+before-s.index.size().bytes
			}
		})
		if err != nil {
			break
		}
	}
	s.evictions.Add(int64(n))
	s.evictedBytes.Add(bytes)
	return n, bytes
}

func (s *server) lookAtSize() {
	if s.index.size().disk > s.cfg.max || s.full.Load() {
		select {
		case s.kick <- struct{}{}:
		default:
		}
	}
}

// get answers a get.
func (s *server) get(action id) (entry, bool) {
	now := time.Now()
	e, _, verified, ok := s.index.get(action)
	if !ok {
		var use time.Time
		var err error
		// Not loaded yet, or put by a client that had no daemon.
		if e, use, err = s.store.lookup(action); err != nil {
			why := "no entry"
			if !errors.Is(err, fs.ErrNotExist) {
				why = "unreadable entry"
			}
			return s.miss(action, why, now)
		}
		s.index.put(action, e, use, false)
	}
	file, err := s.store.stat(e.output, e.size)
	if err == nil && file != verified {
		s.hashing <- struct{}{}
		err = s.store.check(e.output)
		<-s.hashing
		if err == nil {
			s.index.verify(e.output, file)
		}
	}
	if err != nil {
		s.index.drop(action, e.output)
		if !errors.Is(err, errCorrupt) {
			return s.miss(action, "no body", now)
		}
		s.corrupt.Add(1)
		fmt.Fprintf(os.Stderr, "action %s: the body of output %s is corrupt\n", action, e.output)
		_ = s.remover.dropCorrupt(action, e.output, file)
		return s.miss(action, "corrupt body", now)
	}
	s.use(action, now)
	return e, true
}

// use notes a hit.
func (s *server) use(action id, now time.Time) {
	s.store.used(action, s.index.used(action, now), now)
	s.hits.Add(1)
}

// put takes notice of an entry that a client has committed. The client hashed the
// body while it wrote it: that counts as this daemon's check.
func (s *server) put(action id, e entry) {
	s.puts.Add(1)
	s.index.put(action, e, time.Now(), false)
	if file, err := s.store.stat(e.output, e.size); err == nil {
		s.index.verify(e.output, file)
	}
	s.lookAtSize()
}

func (s *server) miss(action id, why string, now time.Time) (entry, bool) {
	s.missed.Add(1)
	s.misses.add(action, why, now)
	return entry{}, false
}

// serve answers clients until ctx ends, then ends the connections: a client goes
// on without, and a later one starts the next daemon.
func (s *server) serve(ctx context.Context, ln net.Listener) error {
	var clients sync.WaitGroup
	for {
		conn, err := ln.Accept()
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
				return err
			}
			break
		}
		clients.Go(func() {
			defer conn.Close()
			s.conns.Add(1)
			defer s.conns.Add(-1)
			defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })()
			s.talk(conn)
		})
	}
	<-ctx.Done()
	clients.Wait()
	s.end()
	return nil
}

// end stops the background work and waits for it.
func (s *server) end() {
	s.cancel()
	s.work.Wait()
	s.remover.close()
}

// maxWaiting bounds a connection's requests that wait for the disk.
const maxWaiting = 64

// writeWithin bounds the write to a client that does not read.
const writeWithin = 10 * time.Second

// talk answers one connection's requests until it ends.
func (s *server) talk(conn net.Conn) {
	r := bufio.NewReaderSize(conn, 32<<10)
	out := replier{conn: conn, w: bufio.NewWriterSize(conn, 32<<10)}
	var waiting sync.WaitGroup
	defer waiting.Wait()
	slots := make(chan struct{}, maxWaiting)
	buf := make([]byte, maxRequest)
	greeted := false
	way := trail{credit: firstCredit}
	tell := func(payload []byte) { out.reply(frame{opAhead, 0, payload}, false) }
	for {
		f, err := readFrame(r, maxRequest, buf)
		if err != nil {
			out.flush()
			return
		}
		if !greeted && f.op != opHello {
			return
		}
		switch f.op {
		case opHello:
			if len(f.payload) < 1 || f.payload[0] != wireVersion {
				out.reply(frame{opError, f.id, []byte("the daemon speaks version " + strconv.Itoa(wireVersion))}, true)
				return
			}
			greeted = true
			out.reply(frame{opOK, f.id, nil}, false)
		case opGet:
			if len(f.payload) != len(id{}) {
				return
			}
			action := id(f.payload)
			s.answerGet(action, f.id, &out, slots, &waiting)
			way.use(s.index, action, true, tell)
		case opUse:
			if len(f.payload) != len(id{}) {
				return
			}
			action := id(f.payload)
			s.ahead.Add(1)
			s.use(action, time.Now())
			way.use(s.index, action, false, tell)
		case opPut:
			if len(f.payload) < len(id{}) {
				return
			}
			e, err := entryOf(f.payload[len(id{}):])
			if err != nil {
				return
			}
			s.put(id(f.payload), e)
		case opFull:
			s.full.Store(true)
			s.lookAtSize()
		case opStats:
			b, _ := json.Marshal(s.stats())
			out.reply(frame{opOK, f.id, b}, false)
		case opPrune:
			limit, err := strconv.ParseInt(string(f.payload), 10, 64)
			if err != nil || limit <= 0 {
				limit = s.cfg.max
			}
			slots <- struct{}{}
			waiting.Go(func() {
				b, _ := json.Marshal(s.prune(limit))
				out.reply(frame{opOK, f.id, b}, true)
				<-slots
			})
		default:
			out.reply(frame{opError, f.id, []byte("unknown request")}, false)
		}
		if r.Buffered() == 0 {
			out.flush()
		}
	}
}

// answerGet answers at once if the index can, else beside the other requests.
func (s *server) answerGet(action id, n uint32, out *replier, slots chan struct{}, waiting *sync.WaitGroup) {
	answer := func(beside bool) {
		e, hit := s.get(action)
		f := frame{op: opMiss, id: n}
		if hit {
			f.op, f.payload = opHit, appendEntry(nil, e)
		}
		out.reply(f, beside)
	}
	if e, _, verified, ok := s.index.get(action); ok && verified == 0 && e.size > 0 || !ok && s.loadedIn.Load() == 0 {
		slots <- struct{}{}
		waiting.Go(func() {
			answer(true)
			<-slots
		})
		return
	}
	answer(false)
}

// A replier writes answers. Safe for concurrent use.
type replier struct {
	mu   sync.Mutex // guards the fields below
	conn net.Conn
	w    *bufio.Writer
	buf  []byte
}

func (r *replier) reply(f frame, now bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.buf = appendFrame(r.buf[:0], f)
	if len(r.buf) > r.w.Available() {
		r.flushLocked()
	}
	_, _ = r.w.Write(r.buf)
	if now {
		r.flushLocked()
	}
}

func (r *replier) flush() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flushLocked()
}

func (r *replier) flushLocked() {
	if r.w.Buffered() == 0 {
		return
	}
	_ = r.conn.SetWriteDeadline(time.Now().Add(writeWithin))
	if r.w.Flush() != nil {
		_ = r.conn.Close() // ends the reading too
	}
}

// prune reads the store anew, shrinks it to limit and sweeps.
func (s *server) prune(limit int64) pruned {
	s.load(func(string, float64) {})
	n, bytes := s.shrink(limit)
	files, swept := s.sweep()
	size := s.index.size()
	return pruned{Evicted: n, EvictedBytes: bytes, Swept: files, SweptBytes: swept, Entries: size.entries, Disk: size.disk}
}

type pruned struct {
	Evicted      int   `json:"evicted"`
	EvictedBytes int64 `json:"evicted_bytes"`
	Swept        int   `json:"swept"`
	SweptBytes   int64 `json:"swept_bytes"`
	Entries      int   `json:"entries"`
	Disk         int64 `json:"disk_bytes"`
}

// Stats are what a daemon, or without one the store, says of itself. Counters
// are the daemon's since it started.
type stats struct {
	Service     string   `json:"service"`
	Dir         string   `json:"dir"`
	Phase       string   `json:"phase,omitempty"`
	PID         int      `json:"pid,omitempty"`
	Generation  uint64   `json:"generation,omitempty"`
	Progress    *float64 `json:"progress,omitempty"`
	Uptime      float64  `json:"uptime_seconds,omitempty"`
	LoadSeconds float64  `json:"load_seconds,omitempty"` // 0: still loading
	Max         int64    `json:"max_bytes"`
	Entries     int      `json:"entries"`
	Outputs     int      `json:"outputs"`
	Bytes       int64    `json:"bytes"`
	Disk        int64    `json:"disk_bytes"` // in blocks of 4 KiB, entries included
	Hits        int64    `json:"hits"`
	Ahead       int64    `json:"hits_told_ahead"` // of the hits
	Misses      int64    `json:"misses"`
	Puts        int64    `json:"puts"`
	Evictions   int64    `json:"evictions"`
	Evicted     int64    `json:"evicted_bytes"`
	Corrupt     int64    `json:"corrupt"`
	Malformed   int64    `json:"malformed"`
	Connections int64    `json:"connections"`
	RSS         int64    `json:"rss_bytes"`
	Heap        int64    `json:"heap_bytes"`
	TopMisses   []missed `json:"top_misses"`
	Differences []string `json:"differences,omitempty"` // of the daemon's environment from ours
}

func (s *server) stats() stats {
	size := s.index.size()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return stats{
		Service: s.cfg.serviceName(), Dir: s.cfg.dir, PID: os.Getpid(), Max: s.cfg.max,
		Uptime: time.Since(s.started).Seconds(), LoadSeconds: time.Duration(s.loadedIn.Load()).Seconds(),
		Entries: size.entries, Outputs: size.outputs, Bytes: size.bytes, Disk: size.disk,
		Hits: s.hits.Load(), Ahead: s.ahead.Load(), Misses: s.missed.Load(), Puts: s.puts.Load(),
		Evictions: s.evictions.Load(), Evicted: s.evictedBytes.Load(), Corrupt: s.corrupt.Load(),
		Malformed: s.malformed.Load(), Connections: s.conns.Load() - 1, // but for the one that asks
		RSS: residentSize(), Heap: int64(m.HeapInuse), TopMisses: s.misses.top(10),
	}
}

// residentSize is what Linux says; 0 elsewhere.
func residentSize() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0
	}
	n, _ := strconv.ParseInt(fields[1], 10, 64)
	return n * int64(os.Getpagesize())
}

// A missTable counts the misses of the actions that miss most: in a cache that
// is large enough an action misses once and is put, so that one that misses
// again and again names a store that is too small, or a put that fails. It has a
// bounded number of rows; when they are used up the rarest one makes room, and
// its count is the newcomer's error (the Space-Saving algorithm). The zero value
// is empty and ready. Safe for concurrent use.
type missTable struct {
	mu   sync.Mutex // guards rows
	rows map[id]*missed
}

type missed struct {
	Action string    `json:"action"`
	Count  int64     `json:"count"`
	AtMost int64     `json:"error,omitempty"` // the count may be too high by this
	Why    string    `json:"why"`             // of the last one
	Last   time.Time `json:"last"`
}

const maxMissRows = 256

func (t *missTable) add(action id, why string, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.rows == nil {
		t.rows = make(map[id]*missed, maxMissRows)
	}
	row := t.rows[action]
	if row == nil {
		row = &missed{Action: action.String()}
		if len(t.rows) == maxMissRows {
			var rarest id
			first := true
			for a, r := range t.rows {
				if first || r.Count < t.rows[rarest].Count {
					rarest, first = a, false
				}
			}
			row.Count = t.rows[rarest].Count
			row.AtMost = row.Count
			delete(t.rows, rarest)
		}
		t.rows[action] = row
	}
	row.Count++
	row.Why, row.Last = why, now
}

// top returns the n actions that missed most, of those that missed repeatedly.
func (t *missTable) top(n int) []missed {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := []missed{}
	for _, r := range t.rows {
		if r.Count-r.AtMost > 1 { // everything misses once
			list = append(list, *r)
		}
	}
	slices.SortFunc(list, func(a, b missed) int {
		return cmp.Or(cmp.Compare(b.Count-b.AtMost, a.Count-a.AtMost), cmp.Compare(b.Count, a.Count), cmp.Compare(a.Action, b.Action))
	})
	return list[:min(n, len(list))]
}

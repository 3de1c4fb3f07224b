package gocache

import (
	"encoding/binary"
	"slices"
	"sync"
	"time"
)

// An index is the store's entries in memory, with their last use and what their
// bodies take. Half a million entries are the normal case, so it has neither
// pointers nor strings: two paged arrays, and two maps from eight bytes of an
// action or output (uniform, for they are SHA-256) to a place. Two that agree in
// eight bytes displace each other, which costs a miss in 2^64.
//
// Safe for concurrent use. It touches no file.
type index struct {
	mu      sync.Mutex // guards everything below
	entries pages[indexEntry]
	outputs pages[indexOutput]
	actions map[uint64]uint32 // to entries
	bodies  map[uint64]uint32 // to outputs
	bytes   int64             // of the bodies
	disk    int64             // what they and the entries take, see onDisk
}

type indexEntry struct {
	action id
	output uint32
	then   uint32 // place, counted from 1, of what was used next; 0: none
	time   int64
	use    int64 // Unix nanoseconds; 0: this place is free
}

type indexOutput struct {
	output   id
	size     int64
	verified identity // of the file whose content was checked; 0: none
	refs     uint32   // entries; 0: this place is free
}

func newIndex() *index {
	return &index{actions: map[uint64]uint32{}, bodies: map[uint64]uint32{}}
}

func key(i id) uint64 { return binary.LittleEndian.Uint64(i[:]) }

// block is what file systems allocate by.
const block = 4096

// onDisk is what a file of that size takes.
func onDisk(size int64) int64 { return (size + block - 1) / block * block }

// find returns the place of an action's entry.
func (x *index) findLocked(action id) (uint32, *indexEntry) {
	if i, ok := x.actions[key(action)]; ok {
		if e := x.entries.at(i); e.action == action {
			return i, e
		}
	}
	return 0, nil
}

// get returns an entry, its last use and the identity under which its body was
// verified.
func (x *index) get(action id) (e entry, use time.Time, verified identity, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	_, ie := x.findLocked(action)
	if ie == nil {
		return entry{}, time.Time{}, 0, false
	}
	o := x.outputs.at(ie.output)
	return entry{o.output, o.size, ie.time}, time.Unix(0, ie.use), o.verified, true
}

// put adds or replaces an entry. With keep an existing one stays.
func (x *index) put(action id, e entry, use time.Time, keep bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if i, ok := x.actions[key(action)]; ok {
		if keep && x.entries.at(i).action == action {
			return
		}
		x.removeLocked(i)
	}
	out, ok := x.bodies[key(e.output)]
	if ok && x.outputs.at(out).output != e.output {
		return // displaced: as if it had not been put
	}
	if !ok {
		out = x.outputs.alloc()
		*x.outputs.at(out) = indexOutput{output: e.output, size: e.size}
		x.bodies[key(e.output)] = out
		x.bytes += e.size
		x.disk += onDisk(e.size)
	}
	x.outputs.at(out).refs++
	i := x.entries.alloc()
	*x.entries.at(i) = indexEntry{action: action, output: out, time: e.time, use: max(use.UnixNano(), 1)}
	x.actions[key(action)] = i
	x.disk += block
}

// remove takes the entry at a place out, and its body if nothing else refers to
// it; last says that.
func (x *index) removeLocked(i uint32) (output id, last bool) {
	e := x.entries.at(i)
	o := x.outputs.at(e.output)
	output = o.output
	delete(x.actions, key(e.action))
	x.disk -= block
	if o.refs--; o.refs == 0 {
		last = true
		x.bytes -= o.size
		x.disk -= onDisk(o.size)
		delete(x.bodies, key(o.output))
		x.outputs.free(e.output)
	}
	x.entries.free(i)
	*e = indexEntry{}
	return output, last
}

// drop forgets an entry, if it still leads to output.
func (x *index) drop(action, output id) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if i, e := x.findLocked(action); e != nil && x.outputs.at(e.output).output == output {
		x.removeLocked(i)
	}
}

// used notes a use and returns the one before.
func (x *index) used(action id, now time.Time) (last time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	_, e := x.findLocked(action)
	if e == nil {
		return now
	}
	last = time.Unix(0, e.use)
	e.use = now.UnixNano()
	return last
}

// follow notes that a client uses an action after the one at a place, and
// returns the action's place. Places are counted from 1 here: 0 is none. Another
// entry may have come to last meanwhile: that makes a bad guess.
func (x *index) follow(last uint32, action id) (place uint32) {
	x.mu.Lock()
	defer x.mu.Unlock()
	i, e := x.findLocked(action)
	if e == nil {
		return last
	}
	if last != 0 && last != i+1 {
		x.entries.at(last - 1).then = i + 1
	}
	return i + 1
}

// after returns what was used after the action at a place the last time. A guess
// about a body that was not verified has no identity.
func (x *index) after(last uint32) (place uint32, action id, g guess) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if last == 0 {
		return 0, action, g
	}
	if place = x.entries.at(last - 1).then; place == 0 {
		return 0, action, g
	}
	e := x.entries.at(place - 1)
	if e.use == 0 {
		return 0, action, g
	}
	o := x.outputs.at(e.output)
	return place, e.action, guess{entry{o.output, o.size, e.time}, o.verified}
}

// verify notes that a body's content was checked.
func (x *index) verify(output id, as identity) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if i, ok := x.bodies[key(output)]; ok && x.outputs.at(i).output == output {
		x.outputs.at(i).verified = as
	}
}

// hasBody reports whether an entry refers to the output.
func (x *index) hasBody(output id) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	i, ok := x.bodies[key(output)]
	return ok && x.outputs.at(i).output == output
}

// A candidate is an entry that may be evicted if it is not used meanwhile.
type candidate struct {
	place uint32
	use   int64
}

// oldest returns all entries, the longest unused first.
func (x *index) oldest() []candidate {
	x.mu.Lock()
	all := make([]candidate, 0, len(x.actions))
	for _, i := range x.actions {
		all = append(all, candidate{i, x.entries.at(i).use})
	}
	x.mu.Unlock()
	slices.SortFunc(all, func(a, b candidate) int {
		switch {
		case a.use < b.use:
			return -1
		case a.use > b.use:
			return 1
		}
		return 0
	})
	return all
}

// evict takes a candidate out unless it was used since, or spare holds its
// output.
func (x *index) evict(c candidate, spare func(id) bool) (action, output id, last, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	e := x.entries.at(c.place)
	if e.use != c.use || e.use == 0 || spare(x.outputs.at(e.output).output) {
		return action, output, false, false
	}
	action = e.action
	output, last = x.removeLocked(c.place)
	return action, output, last, true
}

type indexSize struct {
	entries, outputs int
	bytes, disk      int64
}

func (x *index) size() indexSize {
	x.mu.Lock()
	defer x.mu.Unlock()
	return indexSize{len(x.actions), len(x.bodies), x.bytes, x.disk}
}

// pages is an array that grows without being copied and reuses freed places.
type pages[T any] struct {
	list   [][]T
	n      uint32 // places ever used
	unused []uint32
}

const pageSize = 4096

func (p *pages[T]) at(i uint32) *T { return &p.list[i/pageSize][i%pageSize] }

func (p *pages[T]) alloc() uint32 {
	if n := len(p.unused); n > 0 {
		i := p.unused[n-1]
		p.unused = p.unused[:n-1]
		return i
	}
	if int(p.n) == len(p.list)*pageSize {
		p.list = append(p.list, make([]T, pageSize))
	}
	p.n++
	return p.n - 1
}

func (p *pages[T]) free(i uint32) { p.unused = append(p.unused, i) }

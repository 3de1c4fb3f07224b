package gocache

import "encoding/binary"

// A build asks for much the same as the last one, in much the same order. So the
// daemon tells a client ahead what was asked for next the last time, and a warm
// build waits for the daemon once in many gets. Told ahead is only what was
// verified, with the identity of the file that was. The client pins the body as
// ever, looks at the file, and asks after all if it is another one. What another
// client has put meanwhile it may not see: it has what the action led to a moment
// ago.

// A guess is what a client was told ahead of an action.
type guess struct {
	entry
	file identity
}

func appendGuess(b []byte, action id, g guess) []byte {
	b = appendEntry(append(b, action[:]...), g.entry)
	return binary.BigEndian.AppendUint64(b, uint64(g.file))
}

func guessOf(p []byte) (action id, g guess, err error) {
	tail := len(p) - 8
	if tail < len(action) {
		return action, g, errFrame
	}
	copy(action[:], p)
	g.file = identity(binary.BigEndian.Uint64(p[tail:]))
	g.entry, err = entryOf(p[len(action):tail])
	return action, g, err
}

// How far a client is told ahead: to a credit, of which each guess, some 100
// bytes, costs one. Guesses that are used give more, so that a build's jitter and
// bursts stay within what was told; who builds something else is told one for
// each get.
const (
	firstCredit = 64
	maxCredit   = 512
	leastTold   = 16 // at once
	perUse      = 3
	perGet      = 1
)

// maxGuesses bounds what a client keeps of what it was told.
const maxGuesses = 4 * maxCredit

// A trail is what one client asks for, as the daemon sees it. Used by one
// goroutine.
type trail struct {
	last   uint32 // place of what it used last
	at     uint32 // place that it was told up to
	credit int
}

// use notes that the client uses an action, asked for or told ahead, and sends
// what it should be told now.
func (t *trail) use(x *index, action id, asked bool, send func(payload []byte)) {
	t.last = x.follow(t.last, action)
	if asked {
		t.at, t.credit = t.last, t.credit+perGet
	} else {
		t.credit += perUse
	}
	t.credit = min(t.credit, maxCredit)
	if t.credit < leastTold {
		return
	}
	for t.credit > 0 {
		var next id
		var g guess
		if t.at, next, g = x.after(t.at); t.at == 0 {
			return
		}
		t.credit--
		if g.file != 0 {
			send(appendGuess(nil, next, g))
		}
	}
}

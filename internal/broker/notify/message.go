package notify

import (
	"bytes"
	"errors"
	"math"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	// MaxMessage is the most bytes that a message may have: what systemd takes
	// (NOTIFY_BUFFER_MAX, which is PIPE_BUF), so that no daemon was ever written
	// for more. A longer one is refused whole: half a message could say anything.
	MaxMessage = 4096

	// MaxStatus is the most bytes of a status text that are kept.
	MaxStatus = 512

	// maxName bounds the name of an error, which D-Bus has bounded like this.
	maxName = 255
)

// A State is what a daemon says of its own course.
type State uint8

// The states that a daemon can announce.
const (
	Silent    State = iota // it said nothing of that
	Ready                  // READY=1: it serves, or has reloaded
	Reloading              // RELOADING=1: it reloads, and will be Ready again
	Stopping               // STOPPING=1: it ends
)

func (s State) String() string { return [...]string{"silent", "ready", "reloading", "stopping"}[s] }

// A Pulse is what a daemon says to its watchdog.
type Pulse uint8

// The pulses.
const (
	NoPulse Pulse = iota
	Alive         // WATCHDOG=1
	Trigger       // WATCHDOG=trigger: it asks to be treated as hung
)

// A Message is what one message says. The zero Message says nothing.
type Message struct {
	// State is the last one of the message.
	State State

	// Monotonic is when the message was made, with Reloading: the time of
	// CLOCK_MONOTONIC, by which a reload that was asked for is told from an earlier
	// one. 0 if it does not say.
	Monotonic time.Duration

	// Status is a line for people, nil if the message has none, "" if it takes the
	// last one back. It is valid UTF-8, at most MaxStatus bytes, and has nothing in it
	// that a terminal would obey.
	Status *string

	// Errno, BusError and VarlinkError say why the daemon fails, 0 and "" if they
	// do not.
	Errno        syscall.Errno
	BusError     string
	VarlinkError string

	// MainPID is the process that the daemon says to be from now on, 0 if it does
	// not say. It is a bare number and no proof of anything; see Event.Main.
	MainPID int

	Pulse Pulse

	// WatchdogEvery is the interval in which pulses come from now on, 0 for none any
	// more, nil if the message does not change it.
	WatchdogEvery *time.Duration

	// ExtendBy asks for more time, from now on, for what the daemon is doing:
	// starting or stopping. 0 if it does not ask.
	ExtendBy time.Duration

	// Barrier asks for the descriptor that comes along to be closed when all
	// earlier messages have been handled. Nothing else is in such a message.
	Barrier bool

	// Stores says that it came with descriptors to be kept for the next
	// generation (FDSTORE=1). They are not kept.
	Stores bool

	// Problem is the first assignment that could not be used and why, "" if there
	// was none. The others count.
	Problem string
}

// Reasons for which a whole message is refused.
var (
	ErrTooLong = errors.New("the message is longer than 4096 bytes")
	ErrNUL     = errors.New("the message has a NUL byte in it")
	ErrEmpty   = errors.New("the message is empty")
	ErrBarrier = errors.New("BARRIER=1 must be alone in its message")
)

// Parse reads a message: lines of NAME=VALUE (sd_notify(3)), a NUL byte at its
// end allowed. Names that are not known, and lines without "=", are passed over, as the
// protocol wants it, so that it can grow. Of a name that occurs twice the last
// one counts. The errors are those above.
func Parse(text []byte) (Message, error) {
	if len(text) > MaxMessage {
		return Message{}, ErrTooLong
	}
	text = bytes.TrimSuffix(text, []byte{0})
	if len(text) == 0 {
		return Message{}, ErrEmpty
	}
	if bytes.IndexByte(text, 0) >= 0 {
		return Message{}, ErrNUL
	}
	var m Message
	lines := 0
	for line := range strings.SplitSeq(string(text), "\n") {
		if line == "" {
			continue
		}
		lines++
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			continue
		}
		if reason := m.set(name, value); reason != "" && m.Problem == "" {
			m.Problem = printable(line, maxName) + ": " + reason
		}
	}
	if m.Barrier && lines > 1 {
		return Message{}, ErrBarrier
	}
	return m, nil
}

// set takes one assignment and returns why it cannot, "" if it can or need not.
func (m *Message) set(name, value string) (reason string) {
	flag := func(set func()) string {
		if value != "1" {
			return "only 1 is defined"
		}
		set()
		return ""
	}
	span := func(set func(time.Duration)) string {
		d, reason := microseconds(value)
		if reason == "" {
			set(d)
		}
		return reason
	}
	switch name {
	case "READY":
		return flag(func() { m.State = Ready })
	case "RELOADING":
		return flag(func() { m.State = Reloading })
	case "STOPPING":
		return flag(func() { m.State = Stopping })
	case "MONOTONIC_USEC":
		return span(func(d time.Duration) { m.Monotonic = d })
	case "STATUS":
		s := printable(value, MaxStatus)
		m.Status = &s
	case "ERRNO":
		n, err := strconv.ParseUint(value, 10, 16)
		if err != nil || n == 0 || n > maxErrno {
			return "no error number"
		}
		m.Errno = syscall.Errno(n)
	case "BUSERROR":
		return errorName(value, &m.BusError)
	case "VARLINKERROR":
		return errorName(value, &m.VarlinkError)
	case "MAINPID":
		n, err := strconv.ParseUint(value, 10, 31)
		if err != nil || n < 2 {
			return "no process of a daemon" // 1 is the system's
		}
		m.MainPID = int(n)
	case "WATCHDOG":
		switch value {
		case "1":
			m.Pulse = Alive
		case "trigger":
			m.Pulse = Trigger
		default:
			return "only 1 and trigger are defined"
		}
	case "WATCHDOG_USEC":
		return span(func(d time.Duration) { m.WatchdogEvery = &d })
	case "EXTEND_TIMEOUT_USEC":
		return span(func(d time.Duration) { m.ExtendBy = d })
	case "BARRIER":
		return flag(func() { m.Barrier = true })
	case "FDSTORE":
		return flag(func() { m.Stores = true })
	}
	return ""
}

// maxErrno is MAX_ERRNO of Linux, above which no system call's error is.
const maxErrno = 4095

// microseconds reads a decimal count of microseconds, digits only.
func microseconds(s string) (d time.Duration, reason string) {
	n, err := strconv.ParseUint(s, 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange) || err == nil && n > math.MaxInt64/uint64(time.Microsecond):
		return 0, "more than 292 years"
	case err != nil:
		return 0, "no number of microseconds"
	}
	return time.Duration(n) * time.Microsecond, ""
}

// errorName takes the dotted name of an error of D-Bus or Varlink.
func errorName(s string, to *string) (reason string) {
	if s == "" || len(s) > maxName || strings.ContainsFunc(s, func(r rune) bool {
		return r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("._-", r)
	}) {
		return "no name of an error"
	}
	*to = s
	return ""
}

// printable makes a daemon's words harmless: one line of at most max bytes in
// valid UTF-8, cut at a character, without escape sequences, changes of
// direction or whatever else is not printed.
func printable(s string, max int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return unicode.ReplacementChar
		}
		return r
	}, strings.ToValidUTF8(s, string(unicode.ReplacementChar)))
	if len(s) <= max {
		return s
	}
	const more = "…"
	end := max - len(more)
	for !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + more
}

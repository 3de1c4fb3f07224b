// Package handover is how a broker hands a listener down to the daemon it
// starts, and how the daemon takes it.
//
// Foreign daemons are handed systemd's variables (sd_listen_fds(3)); SDK
// backends find one variable of ours, because a parent cannot know its child's
// pid before exec. The package's init runs in every program that links the SDK
// and does its work before main and, as far as the order of package
// initialisation allows, before anything can fork: it makes the inherited
// descriptors close-on-exec and clears the variables, so that no child of the
// daemon sees a listener, a lock or a variable (REQUIREMENTS R38), and it undoes
// what a caller's shell left on the process: umask and resource limits.
package handover

import (
	"errors"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/fastbind/fastbind/internal/record"
)

// Variable carries a Handover.
const Variable = "FASTBIND_HANDOVER"

// Major is the version of the variable's format. A daemon refuses any other.
const Major = 1

// The first descriptor after stdin, stdout and stderr (SD_LISTEN_FDS_START).
const FirstFD = 3

// None stands for a descriptor that is not handed over.
const None = -1

// A Handover is what a broker tells the daemon it starts.
type Handover struct {
	Service, Instance string
	Generation        uint64

	Dir    string // the service's directory
	Addr   string // Dir, by a name short enough for socket addresses
	GenDir string // the name of the generation's directory below Dir
	Inode  record.Inode

	// Succeeds names the directory, below Dir, of the generation that the daemon
	// asks for its listener; "" if it inherits or binds one.
	Succeeds string

	// Descriptors, or None. Without Listen the daemon binds the endpoint.
	// Without Control and Life it makes its own, in its generation's directory.
	// On Windows Life is a handle, and Pipes is in place of the other two.
	Listen, Control, Life int

	Pipes

	// Holder is the directory of the standing broker's generation that has the
	// listener as well, and will say so at the control endpoint; "" if none has.
	Holder string

	// Further are the listeners of further endpoints, right behind Listen. Only
	// foreign daemons take them, by systemd's convention; one that finds them here
	// is none, and says so.
	Further []Further

	// PID is the process the variable is meant for, 0 for the first that reads
	// it. The trampoline knows it, and foreign daemons' children, who inherit
	// the variable, are thereby told apart.
	PID int

	Version    string
	StopWithin time.Duration
	IdleExit   time.Duration // 0: never
}

// A Further is the listener of a further endpoint.
type Further struct {
	Name string
	FD   int
}

// GenPath returns the path of the generation's directory.
func (h Handover) GenPath() string { return filepath.Join(h.Dir, h.GenDir) }

// Encode returns the variable's value: the format's version, then a key=value
// pair a line, so that a shell can add one.
func (h Handover) Encode() string {
	e := encoded(append(make([]byte, 0, 512), strconv.Itoa(Major)...))
	e.add("service", h.Service)
	e.add("instance", h.Instance)
	e.add("generation", strconv.FormatUint(h.Generation, 10))
	e.add("dir", h.Dir)
	e.add("addr", h.Addr)
	e.add("gendir", h.GenDir)
	e.add("succeeds", h.Succeeds)
	if !h.Inode.IsZero() {
		e.add("inode", record.InodeLine(h.Inode).Value)
	}
	e.fd("listen", h.Listen)
	e.fd("control", h.Control)
	e.fd("life", h.Life)
	for _, f := range h.Further {
		e.add("further", f.Name+":"+strconv.Itoa(f.FD))
	}
	e.add("holder", h.Holder)
	h.Pipes.encode(&e)
	if h.PID != 0 {
		e.add("pid", strconv.Itoa(h.PID))
	}
	e.add("version", h.Version)
	e.add("stop_within", h.StopWithin.String())
	if h.IdleExit != 0 {
		e.add("idle_exit", h.IdleExit.String())
	}
	return string(e)
}

// encoded is the value so far. Inlined, its methods are 2 kB of code in every client.
type encoded []byte

//go:noinline
func (e *encoded) add(k, v string) {
	if v != "" {
		*e = append(append(append(append(*e, '\n'), k...), '='), v...)
	}
}

//go:noinline
func (e *encoded) fd(k string, n int) {
	if n != None {
		e.add(k, strconv.Itoa(n))
	}
}

// maxSize bounds the variable: two paths and small values.
const maxSize = 32 << 10

// Decode is the inverse of Encode. Unknown keys are for later releases and are
// passed over.
func Decode(s string) (Handover, error) {
	h := Handover{Listen: None, Control: None, Life: None}
	if len(s) > maxSize {
		return h, errors.New(Variable + " is longer than 32 KiB")
	}
	first, rest, _ := strings.Cut(s, "\n")
	if first != strconv.Itoa(Major) {
		return h, errors.New(Variable + " has format " + strconv.Quote(first) + "; this release takes format " + strconv.Itoa(Major))
	}
	for rest != "" {
		var line string
		line, rest, _ = strings.Cut(rest, "\n")
		k, v, _ := strings.Cut(line, "=")
		if err := h.set(k, v); err != nil {
			return h, errors.New(Variable + ": " + k + ": " + err.Error())
		}
	}
	if h.Service == "" || h.GenDir == "" || !filepath.IsAbs(h.Dir) || !filepath.IsAbs(h.Addr) {
		return h, errors.New(Variable + " is incomplete")
	}
	return h, nil
}

func (h *Handover) set(k, v string) (err error) {
	switch k {
	case "service":
		h.Service = v
	case "instance":
		h.Instance = v
	case "generation":
		h.Generation, err = strconv.ParseUint(v, 10, 64)
	case "dir":
		h.Dir = v
	case "addr":
		h.Addr = v
	case "gendir":
		h.GenDir = v
	case "succeeds":
		h.Succeeds = v
	case "inode":
		h.Inode, err = record.ParseInode(v)
	case "listen":
		h.Listen, err = parseFD(v)
	case "control":
		h.Control, err = parseFD(v)
	case "life":
		h.Life, err = parseFD(v)
	case "holder":
		h.Holder = v
	case "further":
		var f Further
		name, fd, _ := strings.Cut(v, ":")
		f.Name = name
		if f.FD, err = parseFD(fd); err == nil {
			h.Further = append(h.Further, f)
		}
	case "pid":
		h.PID, err = strconv.Atoi(v)
	case "version":
		h.Version = v
	case "stop_within":
		h.StopWithin, err = time.ParseDuration(v)
	case "idle_exit":
		h.IdleExit, err = time.ParseDuration(v)
	default:
		err = h.Pipes.set(k, v)
	}
	return err
}

func parseFD(s string) (int, error) {
	fd, err := strconv.Atoi(s)
	if err == nil && !inherits(fd) {
		return 0, errors.New("no descriptor that a broker hands over")
	}
	return fd, err
}

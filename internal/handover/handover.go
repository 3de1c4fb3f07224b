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
	// On Windows Life is a handle, and the other two are not used but the next.
	Listen, Control, Life int

	// Holder is the directory of the standing broker's generation that has the
	// listener as well, and will say so at the control endpoint; "" if none has.
	Holder string

	// Further are the listeners of further endpoints, right behind Listen. Only
	// foreign daemons take them, by systemd's convention; one that finds them here
	// is none, and says so.
	Further []Further

	// On Windows, the handles of the instances of the endpoint's pipe and of the
	// control endpoint's: in their place.
	Instances, ControlInstances Handles

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
	s := strconv.Itoa(Major)
	add := func(k, v string) {
		if v != "" {
			s += "\n" + k + "=" + v
		}
	}
	fd := func(k string, n int) {
		if n != None {
			add(k, strconv.Itoa(n))
		}
	}
	add("service", h.Service)
	add("instance", h.Instance)
	add("generation", strconv.FormatUint(h.Generation, 10))
	add("dir", h.Dir)
	add("addr", h.Addr)
	add("gendir", h.GenDir)
	add("succeeds", h.Succeeds)
	if !h.Inode.IsZero() {
		add("inode", record.InodeLine(h.Inode).Value)
	}
	fd("listen", h.Listen)
	fd("control", h.Control)
	fd("life", h.Life)
	for _, f := range h.Further {
		add("further", f.Name+":"+strconv.Itoa(f.FD))
	}
	add("holder", h.Holder)
	add("instances", string(h.Instances))
	add("control_instances", string(h.ControlInstances))
	if h.PID != 0 {
		add("pid", strconv.Itoa(h.PID))
	}
	add("version", h.Version)
	add("stop_within", h.StopWithin.String())
	if h.IdleExit != 0 {
		add("idle_exit", h.IdleExit.String())
	}
	return s
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
	case "instances":
		h.Instances, err = parseHandles(v)
	case "control_instances":
		h.ControlInstances, err = parseHandles(v)
	case "pid":
		h.PID, err = strconv.Atoi(v)
	case "version":
		h.Version = v
	case "stop_within":
		h.StopWithin, err = time.ParseDuration(v)
	case "idle_exit":
		h.IdleExit, err = time.ParseDuration(v)
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

// maxHandles bounds the instances of a pipe.
const maxHandles = 64

// Handles are some handles as text, "" for none.
type Handles string

// HandlesOf makes Handles of their values.
func HandlesOf[H ~uintptr](values []H) Handles {
	var b strings.Builder
	for i, v := range values {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.FormatUint(uint64(v), 10))
	}
	return Handles(b.String())
}

// List returns their values.
func (h Handles) List() (values []uintptr) {
	for part := range strings.SplitSeq(string(h), ",") {
		if v, err := strconv.ParseUint(part, 10, 64); err == nil {
			values = append(values, uintptr(v))
		}
	}
	return values
}

func parseHandles(s string) (Handles, error) {
	if strings.Count(s, ",") >= maxHandles {
		return "", errors.New("more than " + strconv.Itoa(maxHandles) + " handles")
	}
	for part := range strings.SplitSeq(s, ",") {
		if _, err := parseFD(part); err != nil {
			return "", err
		}
	}
	return Handles(s), nil
}

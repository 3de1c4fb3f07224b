// Package record is the file that says who a generation is.
//
// A record is append-only text: a header line with the format's major version,
// then one "key value" pair a line. The last pair of a key wins, except that
// the first report of a failure is kept and a phase never goes back, since a
// launcher's "bound" may come after its child's "ready"; keys this release does
// not know survive because no line is ever rewritten. One process writes at a time:
// the launcher before it forks, then the daemon (or the trampoline in front of
// a foreign one), and after its death whoever saw it die; what a launcher still
// adds after the fork is the same as its child writes, or its own to say. Each
// writes whole lines with one write(2), so a writer killed at any instruction
// leaves at most one unterminated line, which readers ignore. The next writer
// ends it with a NUL byte, which no whole line has: half a line must not join
// with a whole one.
//
// Append-only, instead of a document replaced by rename, makes each phase a
// single system call, needs no temporary file to clean up, and lets a shell
// trampoline write.
package record

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/fastbind/fastbind/internal/definition"
)

// Major is the version of the record's format. A reader refuses any other.
const Major = 1

const header = "fastbind-record"

// MaxSize is the most of a record that is read, in bytes: the definition's
// bounded vectors, quoted, and a few hundred lines of phases.
const MaxSize = 512 << 10

// FileName is the record's name in its generation's directory.
const FileName = "record"

// A Phase is a stage in a generation's life. None ever stands for another.
type Phase string

// The phases, in the order of a life without failure.
const (
	Launching Phase = "launching" // the broker prepares or starts it
	Bound     Phase = "bound"     // the endpoint accepts connections; the daemon has begun
	Loading   Phase = "loading"   // the daemon loads its state
	Ready     Phase = "ready"     // the daemon serves
	Draining  Phase = "draining"  // no new connections; the accepted ones are served
	Gone      Phase = "gone"      // ended as it was meant to
	Failed    Phase = "failed"    // ended otherwise; Failure has the reason
)

// Final reports whether nothing follows the phase.
func (p Phase) Final() bool { return p == Gone || p == Failed }

// precludes reports whether q, written after p, is a line that came late. What a
// later release calls a phase is taken as it comes.
func (p Phase) precludes(q Phase) bool {
	if p.Final() {
		return p != q
	}
	return q.rank() >= 0 && q.rank() < p.rank()
}

// rank is a phase's place in their order, -1 of one that is not known. A list of them
// would be made anew, in code, wherever this is inlined.
func (p Phase) rank() int {
	switch p {
	case Launching:
		return 0
	case Bound:
		return 1
	case Loading:
		return 2
	case Ready:
		return 3
	case Draining:
		return 4
	case Gone:
		return 5
	case Failed:
		return 6
	}
	return -1
}

// Inode is a file system object's identity on this machine.
type Inode struct{ Dev, Ino uint64 }

// IsZero reports whether no inode is known.
func (i Inode) IsZero() bool { return i == Inode{} }

// Executable is the identity of a program file: its content may only change
// together with one of these.
type Executable struct {
	Path    string
	Inode   Inode
	Size    int64
	MTimeNS int64
}

// A Variable is a contracted environment variable and a digest of its value:
// enough to see a difference, without keeping a secret in a file.
type Variable struct{ Name, Digest string }

// A Replacement is one build taking over from another.
type Replacement struct {
	At       time.Duration // boot-time clock
	From, To string        // what tells the builds apart, for people too
}

// A Lease is a directory or a process that a generation's life is tied to.
type Lease struct {
	Directory string // absolute, or ""
	PID       int
	Start     uint64 // of the process, in the kernel's unit, so that a pid is no stranger's
}

// A Failure is why a generation failed.
type Failure struct {
	Stage  string // what was being done
	Cause  string // first line, as seen by who noticed
	Kind   string // bind errors: their class; "hung" of a generation that was killed for it
	Errno  syscall.Errno
	Status int    // exit status, -1 if unknown
	Signal string // the signal that ended the process, "" if none or unknown
	At     time.Duration
	Time   time.Time

	// Unknown: nobody saw the process end; Cause is an inference.
	Unknown bool
}

// A Record is the content of a record file.
type Record struct {
	Generation uint64
	Definition definition.Definition
	Launcher   int // pid

	Launched     time.Time
	LaunchedBoot time.Duration // the boot-time clock, for comparisons
	BootID       string
	PIDNamespace string

	Log       string
	LogOffset int64 // where this generation's output begins
	LogEnd    int64 // where the next one's does, 0 if none has come since
	LogInode  Inode // with LogEnd: of the file, which may have been moved aside since
	Inode     Inode // of the endpoint's name; zero until bound
	Variables []Variable

	// Directory is the name of the generation's directory, in a copy of a record
	// that is kept elsewhere.
	Directory string

	// Written by the daemon, or by the trampoline for it.
	PID        int
	Start      uint64 // kernel start time, clock ticks since boot
	Version    string
	BuildID    string
	Executable Executable
	Backend    bool // it is an SDK backend: it holds the life lock, answers at ctl
	ByHand     bool // nobody launched it: it bound its endpoint itself

	// Succeeds names the generation's directory whose listener this one asks
	// for, "" for one that was launched beside nobody. The replacements that led
	// to it are carried on from record to record, for the flap detector.
	Succeeds     string
	Replacements []Replacement

	Leases []Lease // that were ever taken; whether they still hold is seen by looking
	Ended  string  // why it ended by itself, "" if it was asked to or has not

	Phase    Phase
	PhaseAt  time.Duration // boot-time clock
	WasReady bool          // it was ready at some time
	TookOver bool          // it took over from the one it succeeds
	Drained  bool          // it was draining at some time
	Killed   bool          // who stopped it killed it: it came to no end of its own
	Failure  *Failure

	// BoundAfter is the time from the launch's start until the endpoint
	// accepted connections, zero until then.
	BoundAfter time.Duration

	// Written by a standing broker, of what it launched.
	Place  string   // the cgroup that it was put in, in package limit's form
	Limits []string // what became of each limit that was wanted, for people
	Notify string   // path of the socket that it was told to notify

	// Reset: a person has looked at the failure; it spends no budget.
	Reset bool

	// HungAt is the boot-time clock when evidence of a hang was last written to
	// the log and the generation left as it was, zero if never.
	HungAt time.Duration

	// Stopped: somebody ordered its end. However it dies, it did not by itself.
	Stopped bool

	// Shut: nobody new can connect to it, though its name looks as if its queue were
	// full, as that of a pipe does until the last connection has ended.
	Shut bool

	// Unknown holds the lines whose keys this release does not know.
	Unknown []string
}

// A Line is one pair of a record.
type Line struct{ Key, Value string }

// Int makes a line of a number.
func Int[N ~int | ~int64 | ~uint64](key string, n N) Line {
	if n < 0 {
		return Line{key, strconv.FormatInt(int64(n), 10)}
	}
	return Line{key, strconv.FormatUint(uint64(n), 10)}
}

// KilledLine says that whoever stops the generation kills it, and is written before
// that.
func KilledLine() Line { return Line{"killed", "true"} }

// TookOverLine says that a successor is the owner now.
func TookOverLine() Line { return Line{"took-over", "true"} }

// PhaseLines are the lines of a change of phase at boot-time at.
func PhaseLines(p Phase, at time.Duration) []Line {
	return []Line{{"phase", string(p)}, Int("phase-at", at)}
}

// FailureLines are the lines of a failure, phase included.
func FailureLines(f Failure) []Line {
	// The phase comes last: a reader that sees it has seen all the rest.
	return append(CauseLines(f), PhaseLines(Failed, f.At)...)
}

// CauseLines are the lines of a failure without its phase: of a generation that
// is about to be killed, written first so that this is the cause that is kept.
func CauseLines(f Failure) []Line {
	l := []Line{
		{"failed-stage", f.Stage}, {"failed-cause", bounded(f.Cause)}, {"failed-kind", f.Kind},
		Int("failed-errno", uint64(f.Errno)), Int("failed-status", f.Status), {"failed-signal", f.Signal},
		Int("failed-at", f.At), {"failed-time", f.Time.UTC().Format(time.RFC3339Nano)},
	}
	if f.Unknown {
		l = append(l, Line{"failed-unknown", "true"})
	}
	return known(l)
}

// maxCause bounds a cause: a panic's value can be of any length.
const maxCause = 2048

func bounded(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	if len(s) > maxCause {
		n := maxCause // strings.ToValidUTF8 would be in each client for this alone: TestClientSize
		for n > maxCause-utf8.UTFMax && !utf8.RuneStart(s[n]) {
			n--
		}
		s = s[:n] + "…"
	}
	return s
}

// IdentityLines are the lines by which a daemon says who it is. What it does not
// know it leaves as the launcher wrote it: a process without a start time or a pid
// namespace on record is never ended.
func IdentityLines(r Record) []Line {
	l := []Line{
		Int("pid", r.PID), Int("start", r.Start), {"pid-namespace", r.PIDNamespace},
		{"running-version", r.Version}, {"build-id", r.BuildID},
		{"executable", r.Executable.Path},
		{"executable-id", strings.Join([]string{
			strconv.FormatUint(r.Executable.Inode.Dev, 10), strconv.FormatUint(r.Executable.Inode.Ino, 10),
			strconv.FormatInt(r.Executable.Size, 10), strconv.FormatInt(r.Executable.MTimeNS, 10)}, ":")},
	}
	if !r.Inode.IsZero() {
		l = append(l, InodeLine(r.Inode))
	}
	if r.Backend {
		l = append(l, Line{"backend", "true"})
	}
	return known(l)
}

// known leaves out what has no value.
func known(lines []Line) []Line {
	return slices.DeleteFunc(lines, func(l Line) bool {
		return l.Value == "" || l.Value == "0" && (l.Key == "failed-errno" || l.Key == "start")
	})
}

// LaunchLines are the lines that the launcher writes before it forks.
func LaunchLines(r Record) []Line {
	l := []Line{
		Int("generation", r.Generation),
		Int("launcher", r.Launcher),
		{"launched", r.Launched.UTC().Format(time.RFC3339Nano)},
		Int("launched-boot", r.LaunchedBoot),
		{"boot-id", r.BootID}, {"pid-namespace", r.PIDNamespace},
		{"log", r.Log}, Int("log-offset", r.LogOffset),
	}
	if r.ByHand {
		l = append(l, Line{"by-hand", "true"})
	}
	for _, f := range r.Definition.Fields() {
		l = append(l, Line{"definition." + f.Key, f.Value})
	}
	if r.Succeeds != "" {
		l = append(l, Line{"succeeds", r.Succeeds})
	}
	for _, x := range r.Replacements {
		l = append(l, Line{"replacement", strconv.FormatInt(int64(x.At), 10) + "\t" + x.From + "\t" + x.To})
	}
	for _, v := range r.Variables {
		l = append(l, Line{"variable", v.Name + " " + v.Digest})
	}
	return append(l, PhaseLines(Launching, r.LaunchedBoot)...)
}

// LogEndLines are the lines that a launcher adds to the record of a dead
// generation when the next one is about to write to their log.
func LogEndLines(end int64, log Inode) []Line {
	return []Line{{"log-inode", inodeText(log)}, Int("log-end", end)}
}

// DirectoryLine is the line by which a copy of a record says whose it is.
func DirectoryLine(name string) Line { return Line{"directory", name} }

// StoppedLine is the line that is written before a generation is signalled: who
// ordered its end may die before it sees it.
func StoppedLine() Line { return Line{"stopped", "true"} }

// NotifyLine is the line that says where a daemon was told to notify.
func NotifyLine(path string) Line { return Line{"notify-socket", path} }

// LimitLines are the lines that say where a daemon was put, and what became of each
// limit that was wanted.
func LimitLines(place string, limits []string) []Line {
	l := []Line{{"place", place}}
	for _, limit := range limits {
		l = append(l, Line{"limit", limit})
	}
	return known(l)
}

// MainLines are the lines that say which process is the generation's main one. A start
// of 0 is unknown, and takes the former one's back.
func MainLines(pid int, start uint64) []Line {
	return []Line{Int("pid", pid), Int("start", start)}
}

// ShutLine says that nobody new can connect, and is written once that is so.
func ShutLine() Line { return Line{"shut", "true"} }

// InodeLine is the line that names the bound endpoint's inode.
func InodeLine(i Inode) Line {
	return Line{"inode", inodeText(i)}
}

func inodeText(i Inode) string {
	return strconv.FormatUint(i.Dev, 10) + ":" + strconv.FormatUint(i.Ino, 10)
}

// LeaseLine is the line that a daemon writes when it takes a lease.
func LeaseLine(l Lease) Line {
	if l.Directory != "" {
		return Line{"lease-directory", l.Directory}
	}
	return Line{"lease-process", strconv.Itoa(l.PID) + ":" + strconv.FormatUint(l.Start, 10)}
}

// Encode returns the lines as they stand in a record, for a trampoline to write.
func Encode(lines []Line) []byte { return encode(nil, lines) }

func encode(dst []byte, lines []Line) []byte {
	for _, l := range lines {
		dst = append(dst, l.Key...)
		dst = append(dst, ' ')
		dst = append(dst, quote(l.Value)...)
		dst = append(dst, '\n')
	}
	return dst
}

// quote leaves plain values as they are: people read records, and a shell
// writes some.
func quote(s string) string {
	if strings.HasPrefix(s, `"`) || strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}

func unquote(s string) (string, error) {
	if !strings.HasPrefix(s, `"`) {
		return s, nil
	}
	return strconv.Unquote(s)
}

// LogOf returns the log that a record names, "" of none and of a daemon that was started
// by hand. It is for who needs nothing else: Parse takes 8 kB of stack.
func LogOf(content []byte) string {
	log, byHand := "", false
	for rest := string(content); ; {
		line, tail, ok := strings.Cut(rest, "\n")
		if !ok { // as in Parse
			break
		}
		rest = tail
		if strings.IndexByte(line, 0) >= 0 { // torn, as in Parse
			continue
		}
		switch key, raw, _ := strings.Cut(line, " "); key {
		case "log":
			log, _ = unquote(raw)
		case "by-hand":
			byHand = raw == "true"
		}
	}
	if byHand {
		return ""
	}
	return log
}

// Create writes a new record with the launcher's lines, mode 0600. It fails
// with fs.ErrExist if there is one.
func Create(path string, lines []Line) error {
	b := append(append(make([]byte, 0, usual), header...), ' ')
	b = strconv.AppendInt(b, Major, 10)
	return write(path, os.O_CREATE|os.O_EXCL, encode(append(b, '\n'), lines))
}

// Append adds lines to an existing record with one write.
func Append(path string, lines ...Line) error {
	return write(path, 0, Encode(lines))
}

// Content returns the text of the record at path, to be restored if an outsider
// removes it.
func Content(path string) ([]byte, error) {
	f, err := open(path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f, MaxSize)
}

// usual is more than most records are long: they are read and written as one.
const usual = 2 << 10

// readAll reads at most max bytes.
func readAll(f *os.File, max int) ([]byte, error) {
	b := make([]byte, 0, usual)
	for len(b) < max {
		n, err := f.Read(b[len(b):min(cap(b), max)])
		b = b[:len(b)+n]
		if err == io.EOF {
			return b, nil
		}
		if err != nil {
			return b, err
		}
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
	}
	return b, nil
}

// Restore writes the text of a record that is missing.
func Restore(path string, content []byte) error {
	return write(path, os.O_CREATE|os.O_EXCL, content)
}

func write(path string, flags int, b []byte) error {
	f, err := open(path, os.O_RDWR|os.O_APPEND|flags)
	if err != nil {
		return err
	}
	done := alone(f)
	if endsTorn(f) {
		b = append([]byte(tornEnd), b...)
	}
	_, err = f.Write(b)
	done()
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// open opens a regular file. An outsider can put anything at the path, also a
// FIFO, and whoever looks at a record must not wait for its other end. flags are
// O_RDONLY or O_RDWR|O_APPEND, the latter also with O_CREATE|O_EXCL.
func open(path string, flags int) (*os.File, error) {
	f, err := openFile(path, flags)
	if err != nil {
		return nil, err
	}
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		_ = f.Close()
		return nil, &fs.PathError{Op: "open", Path: path, Err: errNoFile}
	}
	if flags&os.O_EXCL != 0 {
		return f, makePrivate(f)
	}
	return f, nil
}

var errNoFile = errors.New("it is not a regular file")

// tornEnd ends a line whose writer was killed, or had no space left, within it.
const tornEnd = "\x00\n"

func endsTorn(f *os.File) bool {
	fi, err := f.Stat()
	if err != nil || fi.Size() == 0 {
		return false
	}
	var last [1]byte
	_, err = f.ReadAt(last[:], fi.Size()-1)
	return err == nil && last[0] != '\n'
}

// Read reads the record at path. A missing file is fs.ErrNotExist; an
// unknown format a *FormatError.
func Read(path string) (Record, error) {
	f, err := open(path, os.O_RDONLY)
	if err != nil {
		return Record{}, err
	}
	defer f.Close()
	b, err := readAll(f, MaxSize+1)
	if err != nil {
		return Record{}, err
	}
	r, err := Parse(b)
	if err != nil {
		return Record{}, &fs.PathError{Op: "read record", Path: path, Err: err}
	}
	return r, nil
}

// A FormatError reports a record of another major version.
type FormatError struct{ Have, Supported string }

func (e *FormatError) Error() string {
	return "record format " + strconv.Quote(e.Have) + " is not supported by this release, which reads format " + e.Supported
}

var errTooLarge = errors.New("record larger than " + strconv.Itoa(MaxSize>>10) + " KiB")

// Parse parses a record. It never panics and keeps at most its input's size.
func Parse(b []byte) (Record, error) {
	var r Record
	if len(b) > MaxSize {
		return r, errTooLarge
	}
	first, rest, ok := strings.Cut(string(b), "\n")
	name, major, _ := strings.Cut(first, " ")
	if !ok || name != header || major != strconv.Itoa(Major) {
		if name == header && ok {
			return r, &FormatError{major, strconv.Itoa(Major)}
		}
		return r, errors.New("not a record: the first line is not " + strconv.Quote(header+" "+strconv.Itoa(Major)))
	}
	late := false // the last phase was not taken, nor is its time
	for n := 2; len(rest) > 0; n++ {
		line, tail, ok := strings.Cut(rest, "\n")
		if !ok {
			break // its writer died, or is not done
		}
		rest = tail
		if strings.IndexByte(line, 0) >= 0 {
			continue // torn, or never written out before a power cut
		}
		key, raw, _ := strings.Cut(line, " ")
		value, err := unquote(raw)
		if key == "phase" {
			late = r.Phase.precludes(Phase(value))
		}
		if late && (key == "phase" || key == "phase-at") {
			continue
		}
		if err == nil {
			err = r.set(key, value)
		}
		if errors.Is(err, definition.ErrUnknownKey) {
			r.Unknown = append(r.Unknown, line)
		} else if err != nil {
			return r, errors.New("line " + strconv.Itoa(n) + ": " + key + ": " + err.Error())
		}
	}
	return r, nil
}

func (r *Record) set(key, value string) error {
	if k, ok := strings.CutPrefix(key, "definition."); ok {
		return r.Definition.Set(k, value)
	}
	if k, ok := strings.CutPrefix(key, "failed-"); ok {
		return r.setFailure(k, value)
	}
	var err error
	switch key {
	case "generation":
		err = num(&r.Generation, value)
	case "launcher":
		err = num(&r.Launcher, value)
	case "launched":
		r.Launched, err = parseTime(value)
	case "launched-boot":
		err = num(&r.LaunchedBoot, value)
	case "boot-id":
		r.BootID = value
	case "pid-namespace":
		r.PIDNamespace = value
	case "log":
		r.Log = value
	case "log-offset":
		err = num(&r.LogOffset, value)
	case "log-end":
		err = num(&r.LogEnd, value)
	case "log-inode":
		r.LogInode, err = ParseInode(value)
	case "inode":
		r.Inode, err = ParseInode(value)
	case "variable":
		// A variable's name may hold spaces, a digest does not.
		i := strings.LastIndexByte(value, ' ')
		r.Variables = append(r.Variables, Variable{value[:max(i, 0)], value[i+1:]})
	case "pid":
		err = num(&r.PID, value)
	case "start":
		err = num(&r.Start, value)
	case "running-version":
		r.Version = value
	case "build-id":
		r.BuildID = value
	case "executable":
		r.Executable.Path = value
	case "executable-id":
		err = r.Executable.parse(value)
	case "lease-directory":
		r.Leases = append(r.Leases, Lease{Directory: value})
	case "lease-process":
		pid, start, _ := strings.Cut(value, ":")
		l := Lease{}
		err = cmp.Or(num(&l.PID, pid), num(&l.Start, start))
		r.Leases = append(r.Leases, l)
	case "ended":
		r.Ended = value
	case "succeeds":
		r.Succeeds = value
	case "killed":
		r.Killed = value == "true"
	case "took-over":
		r.TookOver = value == "true"
	case "replacement":
		at, builds, _ := strings.Cut(value, "\t")
		x := Replacement{}
		x.From, x.To, _ = strings.Cut(builds, "\t")
		err = num(&x.At, at)
		r.Replacements = append(r.Replacements, x)
	case "backend":
		r.Backend = value == "true"
	case "by-hand":
		r.ByHand = value == "true"
	case "phase":
		r.Phase = Phase(value)
		r.WasReady = r.WasReady || r.Phase == Ready
		r.Drained = r.Drained || r.Phase == Draining
	case "directory":
		r.Directory = value
	case "stopped":
		r.Stopped = value == "true"
	case "shut":
		r.Shut = value == "true"
	case "reset":
		r.Reset = value == "true"
	case "hung-at":
		err = num(&r.HungAt, value)
	case "phase-at":
		err = num(&r.PhaseAt, value)
	case "place":
		r.Place = value
	case "limit":
		r.Limits = append(r.Limits, value)
	case "notify-socket":
		r.Notify = value
	case "bound-after":
		err = num(&r.BoundAfter, value)
	default:
		return definition.ErrUnknownKey
	}
	return err
}

// setFailure keeps what was reported first, and lets later lines fill gaps: a
// daemon that panicked says why, its launcher adds the exit status.
func (r *Record) setFailure(key, value string) error {
	f := r.Failure
	if f == nil {
		f = &Failure{Status: -1}
	}
	var err error
	switch key {
	case "stage":
		f.Stage = cmp.Or(f.Stage, value)
	case "cause":
		f.Cause = cmp.Or(f.Cause, value)
	case "kind":
		f.Kind = cmp.Or(f.Kind, value)
	case "errno":
		if f.Errno == 0 {
			err = num(&f.Errno, value)
		}
	case "status":
		if f.Status < 0 {
			err = num(&f.Status, value)
			f.Unknown = f.Unknown && f.Status < 0
		}
	case "signal":
		f.Signal = cmp.Or(f.Signal, value)
		f.Unknown = f.Unknown && f.Signal == ""
	case "at":
		if f.At == 0 {
			err = num(&f.At, value)
		}
	case "time":
		if f.Time.IsZero() {
			f.Time, err = parseTime(value)
		}
	case "unknown":
		// Only of the first report, whose phase comes after it: that a later
		// writer knows no exit status makes nothing an inference that was said.
		f.Unknown = value == "true" && f.Status < 0 && f.Signal == "" && (f.Unknown || r.Phase != Failed)
	default:
		return definition.ErrUnknownKey
	}
	r.Failure = f
	return err
}

// num refuses what dst cannot hold: a pid or an inode that lost its upper bits
// would be a stranger's.
func num[N ~int | ~int64 | ~uint64 | ~uintptr](dst *N, value string) error {
	var n N
	var fits bool
	if strings.HasPrefix(value, "-") {
		i, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return err
		}
		n = N(i)
		fits = int64(n) == i && n <= 0
	} else {
		u, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			return err
		}
		n = N(u)
		fits = uint64(n) == u && n >= 0
	}
	if !fits {
		return strconv.ErrRange
	}
	*dst = n
	return nil
}

// parseTime reads a time as records have it: of RFC 3339 and in UTC, with a fraction
// or without. time.Parse, which knows every layout, is 20 kB of code in every client.
func parseTime(s string) (time.Time, error) {
	const layout = "2006-01-02T15:04:05"
	rest, utc := strings.CutSuffix(s, "Z")
	clock, fraction, dot := strings.Cut(rest, ".")
	if !utc || len(clock) != len(layout) || dot && fraction == "" || len(fraction) > 9 {
		return time.Time{}, errNoTime
	}
	ns, err := strconv.ParseUint((fraction + "000000000")[:9], 10, 32)
	if err != nil {
		return time.Time{}, errNoTime
	}
	number := func(from, to int) int {
		n, _ := strconv.Atoi(clock[from:to]) // what is no number is seen below
		return n
	}
	t := time.Date(number(0, 4), time.Month(number(5, 7)), number(8, 10), number(11, 13), number(14, 16), number(17, 19), int(ns), time.UTC)
	if t.Format(layout) != clock {
		return time.Time{}, errNoTime
	}
	return t, nil
}

var errNoTime = errors.New("want a time such as 2006-01-02T15:04:05.999999999Z")

// ParseInode is the inverse of InodeLine's value.
func ParseInode(s string) (Inode, error) {
	dev, ino, _ := strings.Cut(s, ":")
	var i Inode
	if err := num(&i.Dev, dev); err != nil {
		return i, err
	}
	return i, num(&i.Ino, ino)
}

func (x *Executable) parse(s string) error {
	parts := strings.Split(s, ":")
	if len(parts) != 4 {
		return errors.New("want device:inode:size:mtime")
	}
	return cmp.Or(num(&x.Inode.Dev, parts[0]), num(&x.Inode.Ino, parts[1]),
		num(&x.Size, parts[2]), num(&x.MTimeNS, parts[3]))
}

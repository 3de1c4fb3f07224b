package control

import (
	"math"
	"strconv"
	"time"

	"github.com/fastbind/fastbind/internal/jsonlite"
	"github.com/fastbind/fastbind/internal/varlink"
)

// Phase says how far a generation is. A reader may meet a phase of a later
// release, which it shows as it is.
type Phase string

// The phases, in their order; Failed can follow any but Gone.
const (
	Launching Phase = "launching"
	Bound     Phase = "bound"
	Loading   Phase = "loading"
	Ready     Phase = "ready"
	Draining  Phase = "draining"
	Gone      Phase = "gone"
	Failed    Phase = "failed"
)

// Settled reports whether waiting for readiness is over, well or badly.
func (p Phase) Settled() bool {
	return p == Ready || p == Draining || p == Gone || p == Failed
}

// Identity is what a daemon says of itself. It is a plain value; what its
// pointers and slices refer to is not to be modified.
type Identity struct {
	Format       int    // of the reply; set by the server
	Nonce        string // of the request; set by the server
	Service      string
	Instance     string
	Generation   int64
	PID          int    // as the daemon sees it, in PIDNamespace
	StartedTicks uint64 // start of the process, in the kernel's unit, since the boot BootID
	BootID       string
	PIDNamespace string // empty where the system has none
	Version      string
	BuildID      string
	Executable   Executable
	Phase        Phase
	Progress     *Progress // nil if the daemon has said nothing of it
	Connections  int       // clients being served
	Failure      string    // why Phase is Failed; otherwise mostly empty
	Uptime       time.Duration

	Leases int // that are held

	// EndsIn is when the daemon ends by itself if nothing changes; negative if
	// it does not.
	EndsIn time.Duration

	// Unused is for how long nobody needs it: it has no connection, lease, or
	// load under way. It is negative if somebody does, or it does not say.
	Unused time.Duration

	// Unknown are the reply's fields that this release does not know, in their
	// order. Those that lie within executable and progress are members of an
	// object of that name, which holds nothing else.
	Unknown []jsonlite.Member
}

// Executable identifies the file that a daemon runs, as it was at the start.
// Two are the same file with the same content if they are equal with ==, the
// path left aside.
type Executable struct {
	Device  uint64
	Inode   uint64
	Size    int64 // in bytes
	MtimeNS int64 // nanoseconds since 1970
	Path    string
}

// Progress says how far loading has come.
type Progress struct {
	Message  string
	Fraction float64 // 0 to 1; negative if unknown
}

// parseIdentity decodes the parameters of a reply to Identify. It refuses a
// format that it does not know with a *FormatError before it looks at any other
// field: their meaning may have changed.
func parseIdentity(v jsonlite.Value) (Identity, error) {
	f := varlink.FieldsOf(v)
	format := f.Integer("format", 1, math.MaxInt64)
	if f.Err != nil {
		return Identity{}, f.Err
	}
	if format != Format {
		return Identity{}, &FormatError{Peer: format, Ours: Format}
	}
	id := Identity{
		Format:       Format,
		Nonce:        f.TextOrNull("nonce"),
		Service:      f.Text("service"),
		Instance:     f.Text("instance"),
		Generation:   f.Integer("generation", 0, math.MaxInt64),
		PID:          int(f.Integer("pid", 1, math.MaxInt32)), // kill(2) gives 0 and -1 a meaning of their own
		StartedTicks: f.Bits("started_ticks"),
		BootID:       f.Text("boot_id"),
		PIDNamespace: f.Text("pid_namespace"),
		Version:      f.Text("version"),
		BuildID:      f.Text("build_id"),
		Phase:        Phase(f.Text("phase")),
		Connections:  int(f.Integer("connections", 0, math.MaxInt32)),
		Failure:      f.TextOrNull("failure"),
		Uptime:       time.Duration(f.Integer("uptime_ms", 0, math.MaxInt64/int64(time.Millisecond))) * time.Millisecond,
		Leases:       int(f.IntegerOr("leases", 0)),
		EndsIn:       span(f.IntegerOr("ends_in_ms", -1)),
		Unused:       span(f.IntegerOr("unused_ms", -1)),
	}
	exe := f.Inner("executable")
	id.Executable = Executable{
		Device:  exe.Bits("device"),
		Inode:   exe.Bits("inode"),
		Size:    exe.Integer("size", 0, math.MaxInt64),
		MtimeNS: exe.Integer("mtime_ns", math.MinInt64, math.MaxInt64),
		Path:    exe.Text("path"),
	}
	progress := varlink.FieldsOf(jsonlite.Value{})
	if f.ObjectOrNull("progress").Kind() == jsonlite.KindObject {
		progress = f.Inner("progress")
		id.Progress = &Progress{
			Message:  progress.Text("message"),
			Fraction: fraction(progress.FloatOr("fraction", -1)),
		}
	}
	for _, err := range []error{f.Err, exe.Err, progress.Err} {
		if err != nil {
			return Identity{}, err
		}
	}
	id.Unknown = f.Unknown()
	if rest := exe.Unknown(); rest != nil {
		id.Unknown = append(id.Unknown, jsonlite.Member{Name: "executable", Value: jsonlite.Object(rest...)})
	}
	if rest := progress.Unknown(); rest != nil {
		id.Unknown = append(id.Unknown, jsonlite.Member{Name: "progress", Value: jsonlite.Object(rest...)})
	}
	return id, nil
}

// span is a duration of so many milliseconds, -1 if they are none.
func span(ms int64) time.Duration {
	if ms < 0 || ms > math.MaxInt64/int64(time.Millisecond) {
		return -1
	}
	return time.Duration(ms) * time.Millisecond
}

// appendTo appends id as the parameters of a reply.
func (id *Identity) appendTo(dst []byte) []byte {
	dst = append(dst, '{')
	dst = appendInt(dst, "format", int64(id.Format))
	dst = appendTextOrNull(dst, "nonce", id.Nonce)
	dst = appendText(dst, "service", id.Service)
	dst = appendText(dst, "instance", id.Instance)
	dst = appendInt(dst, "generation", id.Generation)
	dst = appendInt(dst, "pid", int64(id.PID))
	dst = appendInt(dst, "started_ticks", int64(id.StartedTicks))
	dst = appendText(dst, "boot_id", id.BootID)
	dst = appendText(dst, "pid_namespace", id.PIDNamespace)
	dst = appendText(dst, "version", id.Version)
	dst = appendText(dst, "build_id", id.BuildID)

	dst = append(jsonlite.AppendName(dst, "executable"), '{')
	dst = appendInt(dst, "device", int64(id.Executable.Device)) // Varlink's int has a sign: the bits
	dst = appendInt(dst, "inode", int64(id.Executable.Inode))
	dst = appendInt(dst, "size", id.Executable.Size)
	dst = appendInt(dst, "mtime_ns", id.Executable.MtimeNS)
	dst = appendText(dst, "path", id.Executable.Path)
	dst = append(id.appendUnknown(dst, "executable"), '}')

	dst = appendText(dst, "phase", string(id.Phase))
	if p := id.Progress; p != nil {
		dst = append(jsonlite.AppendName(dst, "progress"), '{')
		dst = appendText(dst, "message", p.Message)
		if x := fraction(p.Fraction); x >= 0 {
			dst = strconv.AppendFloat(jsonlite.AppendName(dst, "fraction"), x, 'g', -1, 64)
		}
		dst = append(id.appendUnknown(dst, "progress"), '}')
	}
	dst = appendInt(dst, "connections", int64(id.Connections))
	dst = appendTextOrNull(dst, "failure", id.Failure)
	dst = appendInt(dst, "uptime_ms", id.Uptime.Milliseconds())
	dst = appendInt(dst, "leases", int64(id.Leases))
	if id.EndsIn >= 0 {
		dst = appendInt(dst, "ends_in_ms", id.EndsIn.Milliseconds())
	}
	if id.Unused >= 0 {
		dst = appendInt(dst, "unused_ms", id.Unused.Milliseconds())
	}
	return append(id.appendUnknown(dst, ""), '}')
}

// appendUnknown appends the unknown members of the object called within, or of
// the reply itself if within is empty.
func (id *Identity) appendUnknown(dst []byte, within string) []byte {
	for _, m := range id.Unknown {
		inner := m.Name == "executable" || m.Name == "progress"
		switch {
		case within == "" && !inner:
			dst = m.Value.Append(jsonlite.AppendName(dst, m.Name))
		case within != "" && m.Name == within:
			for name, v := range m.Value.All() {
				dst = v.Append(jsonlite.AppendName(dst, name))
			}
		}
	}
	return dst
}

func appendInt(dst []byte, name string, i int64) []byte {
	return strconv.AppendInt(jsonlite.AppendName(dst, name), i, 10)
}

func appendText(dst []byte, name, s string) []byte {
	return jsonlite.AppendString(jsonlite.AppendName(dst, name), s)
}

// appendTextOrNull leaves the field out if s is empty.
func appendTextOrNull(dst []byte, name, s string) []byte {
	if s == "" {
		return dst
	}
	return appendText(dst, name, s)
}

// fraction returns x within its range: at most 1, and -1 if unknown.
func fraction(x float64) float64 {
	if !(x >= 0) { // NaN too, which JSON cannot express
		return -1
	}
	return min(x, 1)
}

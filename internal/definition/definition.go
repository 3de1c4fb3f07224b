// Package definition says how a service is started: command, environment
// contract, limits and policies.
//
// A Definition is a plain value. It comes from a tool's code (fastbind.Service),
// from a file or from a command line, and it is stored in each generation's
// record as the key and value pairs of Fields, so that a service can be
// restarted, and a differing definition refused, by any later process.
package definition

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fastbind/fastbind/internal/version"
)

// Bind says who binds the service's endpoint.
type Bind string

// The bind policies.
const (
	BindBroker Bind = "broker" // the broker binds, the daemon inherits the listener
	BindDaemon Bind = "daemon" // the daemon binds, within Definition.BoundWithin
)

// EnvPolicy says what a client does whose contracted variables differ from
// those its generation was launched with.
type EnvPolicy string

// The environment policies.
const (
	EnvIgnore  EnvPolicy = "ignore"  // use the generation; status and why name the variables
	EnvCoexist EnvPolicy = "coexist" // the values are part of the endpoint: a daemon each
	EnvRefuse  EnvPolicy = "refuse"  // refuse the dial and name the variables
)

// HangPolicy says what a client does that finds the generation hung: it
// answers neither its protocol nor its control endpoint.
type HangPolicy string

// The hang policies.
const (
	HangReplace HangPolicy = "replace" // note the evidence, kill it; the next dial launches anew
	HangReport  HangPolicy = "report"  // note the evidence
)

// VersionPolicy says what a client does that finds a generation of another build
// than it would have launched.
type VersionPolicy string

// The version policies.
const (
	VersionIgnore  VersionPolicy = "ignore"  // use it
	VersionCoexist VersionPolicy = "coexist" // the version is part of the endpoint: a daemon each
	VersionReplace VersionPolicy = "replace" // a successor takes its listener over
	VersionRefuse  VersionPolicy = "refuse"  // refuse the dial and name the fields that differ
)

// Budgets used where a definition names none.
const (
	DefaultBoundWithin = 500 * time.Millisecond
	DefaultAdoptWithin = 10 * time.Second
	DefaultStopWithin  = 10 * time.Second
	DefaultHangAfter   = 30 * time.Second
)

// MaxIdleExit is the longest idle_exit: a year, beyond which "never" is meant.
const MaxIdleExit = 365 * 24 * time.Hour

// A Definition is how to start a service. The zero value of every field but
// Service and Command is a usable default once Complete was called.
type Definition struct {
	Service  string
	Instance string

	// Command is the daemon's argument vector. With Self the program is the
	// launching executable itself, spawned through the kernel's own link to
	// it, and Command[0] is only its name, "" until the launch.
	Command []string
	Self    bool

	// Foreign marks a program that may know nothing of fastbind: it is
	// launched through the trampoline and gets no life lock.
	Foreign bool

	Bind Bind
	Dir  string // working directory; "" is /, on Windows the root of the system's drive

	// Env extends the environment contract: NAME passes the client's value,
	// NAME=VALUE sets one.
	Env       []string
	EnvPolicy EnvPolicy

	// FDEnv are NAME=TEMPLATE variables in which {fd} stands for the inherited
	// listener and {socket} for the endpoint's path. Both also stand in
	// Command's arguments.
	FDEnv []string

	// Endpoints name further endpoints of a foreign daemon, beside the service's
	// own. {fd:NAME} and {socket:NAME} stand for them where {fd} and {socket} do.
	Endpoints []string

	Version string

	BoundWithin time.Duration // bind "daemon": exec until listening
	AdoptWithin time.Duration // exec until the inherited listener is adopted
	StopWithin  time.Duration // stop request until the process is killed

	IdleExit  time.Duration // without connection and lease for that long, it ends; 0: never
	HangAfter time.Duration // first write until a silent generation is asked whether it lives
	OnHang    HangPolicy

	// OnVersion applies to generations of another build; with replace and refuse
	// the running version must also be at least MinVersion and, if there are
	// any, match one of AllowVersions (see package version).
	OnVersion     VersionPolicy
	MinVersion    string
	AllowVersions []string
}

// Complete returns d with the defaults in place of zero values.
func (d Definition) Complete() Definition {
	d.Instance = cmpOr(d.Instance, "default")
	d.Bind = Bind(cmpOr(string(d.Bind), string(BindBroker)))
	d.EnvPolicy = EnvPolicy(cmpOr(string(d.EnvPolicy), string(EnvIgnore)))
	d.Dir = cmpOr(d.Dir, defaultDir())
	if d.BoundWithin == 0 {
		d.BoundWithin = DefaultBoundWithin
	}
	if d.AdoptWithin == 0 {
		d.AdoptWithin = DefaultAdoptWithin
	}
	if d.StopWithin == 0 {
		d.StopWithin = DefaultStopWithin
	}
	if d.HangAfter == 0 {
		d.HangAfter = DefaultHangAfter
	}
	d.OnHang = HangPolicy(cmpOr(string(d.OnHang), string(HangReplace)))
	d.OnVersion = VersionPolicy(cmpOr(string(d.OnVersion), string(VersionIgnore)))
	return d
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// An Invalid error names the field of a definition that cannot be used.
type Invalid struct {
	Field, Value, Reason string
}

func (e *Invalid) Error() string {
	s := "invalid " + e.Field
	if e.Value != "" {
		s += " " + strconv.Quote(e.Value)
	}
	return s + ": " + e.Reason
}

// MaxName is the length of the longest service or instance name, in bytes.
const MaxName = 64

// CheckName reports whether name may name a service or an instance:
// [a-z0-9][a-z0-9._-]{0,63}. The error is an *Invalid for field.
func CheckName(field, name string) error {
	if name == "" {
		return &Invalid{Field: field, Reason: "it is empty"}
	}
	if len(name) > MaxName {
		return &Invalid{Field: field, Value: name, Reason: "longer than 64 bytes"}
	}
	for i := 0; i < len(name); i++ {
		c := name[i]
		alnum := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || c != '.' && c != '_' && c != '-') {
			return &Invalid{Field: field, Value: name,
				Reason: "use lower-case letters, digits and, after the first character, . _ -"}
		}
	}
	return nil
}

// MaxVector is the most bytes that a definition's command and environment may
// have, with a NUL and a pointer for each element as execve counts them: the
// record that holds them is bounded, and so is what the system passes on.
const MaxVector = 64 << 10

// vectorOverhead keeps a vector of many empty elements within that bound: in
// the record each is a line of its own.
const vectorOverhead = 1 + 8

// maxDir bounds the working directory: PATH_MAX, of which no system has more.
const maxDir = 4096

// Check reports the first field of a completed definition that cannot be used,
// as an *Invalid error.
func (d Definition) Check() error {
	if err := CheckName("service", d.Service); err != nil {
		return err
	}
	if err := CheckName("instance", d.Instance); err != nil {
		return err
	}
	if len(d.Command) == 0 || d.Command[0] == "" && !d.Self {
		return &Invalid{Field: "command", Reason: "it is empty"}
	}
	size := 0
	for _, v := range []struct {
		field string
		list  []string
	}{{"command", d.Command}, {"env", d.Env}, {"fd_env", d.FDEnv}} {
		for _, s := range v.list {
			if strings.IndexByte(s, 0) >= 0 {
				return &Invalid{Field: v.field, Value: s, Reason: "it contains a NUL byte"}
			}
			size += len(s) + vectorOverhead
		}
	}
	if size > MaxVector {
		return &Invalid{Field: "command", Reason: "command and environment are longer than 64 KiB"}
	}
	if d.Bind != BindBroker && d.Bind != BindDaemon {
		return &Invalid{Field: "bind", Value: string(d.Bind), Reason: `use "broker" or "daemon"`}
	}
	if !slices.Contains([]EnvPolicy{EnvIgnore, EnvCoexist, EnvRefuse}, d.EnvPolicy) {
		return &Invalid{Field: "env_policy", Value: string(d.EnvPolicy), Reason: `use "ignore", "coexist" or "refuse"`}
	}
	if !isAbs(d.Dir) {
		return &Invalid{Field: "dir", Value: d.Dir, Reason: "use an absolute path: a daemon has no caller's directory"}
	}
	if strings.IndexByte(d.Dir, 0) >= 0 {
		return &Invalid{Field: "dir", Value: d.Dir, Reason: "it contains a NUL byte"}
	}
	if len(d.Dir) >= maxDir {
		return &Invalid{Field: "dir", Reason: "the path is longer than 4095 bytes"}
	}
	for _, e := range d.Env {
		if err := checkVariable("env", e, false); err != nil {
			return err
		}
	}
	for _, e := range d.FDEnv {
		if err := checkVariable("fd_env", e, true); err != nil {
			return err
		}
	}
	if err := d.checkEndpoints(); err != nil {
		return err
	}
	if strings.ContainsFunc(d.Version, func(r rune) bool { return r < ' ' || r == 0x7f }) || len(d.Version) > 128 {
		return &Invalid{Field: "version", Value: d.Version, Reason: "use at most 128 printable bytes"}
	}
	for _, b := range []struct {
		field string
		d     time.Duration
	}{{"bound_within", d.BoundWithin}, {"adopt_within", d.AdoptWithin}, {"stop_within", d.StopWithin}, {"hang_after", d.HangAfter}} {
		if b.d < time.Millisecond || b.d > time.Hour {
			return &Invalid{Field: b.field, Value: b.d.String(), Reason: "use 1ms to 1h"}
		}
	}
	if d.IdleExit != 0 && (d.IdleExit < time.Millisecond || d.IdleExit > MaxIdleExit) {
		return &Invalid{Field: "idle_exit", Value: d.IdleExit.String(), Reason: "use 1ms to 8760h, or leave it out: it never ends by itself then"}
	}
	if d.OnHang != HangReplace && d.OnHang != HangReport {
		return &Invalid{Field: "on_hang", Value: string(d.OnHang), Reason: `use "replace" or "report"`}
	}
	return d.checkVersions()
}

// Bounds of endpoints. A socket's path has room for so long a name because it has
// room for that of a generation's control endpoint (package runtimedir).
const (
	MaxEndpoints    = 16
	maxEndpointName = 32
)

func (d Definition) checkEndpoints() error {
	const field = "endpoints"
	switch {
	case len(d.Endpoints) == 0:
		return nil
	case len(d.Endpoints) > MaxEndpoints:
		return &Invalid{Field: field, Reason: "more than 16"}
	case d.Bind == BindDaemon:
		return &Invalid{Field: field, Reason: `a daemon that binds its endpoint itself is handed none; leave out bind = "daemon"`}
	case !d.Foreign:
		return &Invalid{Field: field, Reason: "a daemon made with package daemon has one endpoint; only a foreign one is handed more"}
	}
	for i, name := range d.Endpoints {
		reason := ""
		switch {
		case !isEndpointName(name):
			reason = "use at most 32 lower-case letters, digits and, after the first character, _ -"
		case name == d.Service:
			reason = "the service's own endpoint has this name"
		case slices.Contains(d.Endpoints[:i], name):
			reason = "it is there twice"
		default:
			continue
		}
		return &Invalid{Field: field, Value: name, Reason: reason}
	}
	return nil
}

// CheckTemplates reports, as an *Invalid error, a {fd:NAME} or {socket:NAME} of a
// definition with further endpoints that is of none of them. It is apart from Check for
// those who have a definition from a user: a tool's own code is not worth the size.
func (d Definition) CheckTemplates() error {
	if len(d.Endpoints) == 0 {
		return nil
	}
	var known []string
	for _, name := range d.Endpoints {
		known = append(known, "{fd:"+name+"}", "", "{socket:"+name+"}", "")
	}
	r := strings.NewReplacer(known...)
	for _, v := range []struct {
		field string
		list  []string
	}{{"command", d.Command}, {"fd_env", d.FDEnv}} {
		for _, s := range v.list {
			if left := r.Replace(s); strings.Contains(left, "{fd:") || strings.Contains(left, "{socket:") {
				return &Invalid{Field: v.field, Value: s, Reason: "it has {fd:NAME} or {socket:NAME} of a NAME that is not in endpoints"}
			}
		}
	}
	return nil
}

// isEndpointName reports whether name may name a further endpoint:
// [a-z0-9][a-z0-9_-]{0,31}, which is part of a file's name and of LISTEN_FDNAMES.
func isEndpointName(name string) bool {
	return len(name) <= maxEndpointName && CheckName("", name) == nil && !strings.Contains(name, ".")
}

// maxAllow bounds allow_versions.
const maxAllow = 64

func (d Definition) checkVersions() error {
	switch {
	case !slices.Contains([]VersionPolicy{VersionIgnore, VersionCoexist, VersionReplace, VersionRefuse}, d.OnVersion):
		return &Invalid{Field: "on_version", Value: string(d.OnVersion), Reason: `use "ignore", "coexist", "replace" or "refuse"`}
	case d.OnVersion == VersionCoexist && d.Version == "":
		return &Invalid{Field: "on_version", Value: string(d.OnVersion), Reason: "it needs version, which becomes part of the endpoint"}
	case d.OnVersion == VersionReplace && d.Bind == BindDaemon:
		return &Invalid{Field: "on_version", Value: string(d.OnVersion), Reason: `a daemon that binds its endpoint itself cannot take a listener over`}
	case (d.MinVersion != "" || len(d.AllowVersions) > 0) && d.OnVersion != VersionReplace && d.OnVersion != VersionRefuse:
		return &Invalid{Field: "on_version", Value: string(d.OnVersion), Reason: `min_version and allow_versions go with "replace" or "refuse"`}
	case len(d.AllowVersions) > maxAllow:
		return &Invalid{Field: "allow_versions", Reason: "more than 64"}
	}
	if d.MinVersion != "" {
		if _, err := version.Parse(d.MinVersion); err != nil {
			return versionInvalid("min_version", d.MinVersion, err)
		}
	}
	for _, a := range d.AllowVersions {
		if _, err := version.ParseWant(a); err != nil {
			return versionInvalid("allow_versions", a, err)
		}
	}
	return nil
}

func versionInvalid(field, value string, err error) error {
	if m, ok := errors.AsType[*version.Malformed](err); ok {
		return &Invalid{Field: field, Value: value, Reason: m.Reason}
	}
	return &Invalid{Field: field, Value: value, Reason: err.Error()}
}

// reserved are the variables by which a listener is handed over: a definition
// that sets them would lie to the daemon.
var reserved = []string{"FASTBIND_HANDOVER", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID"}

func checkVariable(field, e string, needsValue bool) error {
	name, _, valued := strings.Cut(e, "=")
	if name == "" || needsValue && !valued {
		return &Invalid{Field: field, Value: e, Reason: "use NAME=VALUE"}
	}
	for i := 0; i < len(name); i++ {
		c := name[i]
		if c != '_' && (c|0x20 < 'a' || c|0x20 > 'z') && (i == 0 || c < '0' || c > '9') {
			return &Invalid{Field: field, Value: e, Reason: "a variable's name has letters, digits and _"}
		}
	}
	if slices.Contains(reserved, name) {
		return &Invalid{Field: field, Value: e, Reason: "this variable belongs to the handover"}
	}
	return nil
}

// A Field is one stored line of a definition.
type Field struct{ Key, Value string }

// Fields returns the definition as key and value pairs, in a fixed order;
// lists give a pair for each element. Set is its inverse.
func (d Definition) Fields() []Field {
	var f fields
	f.add("service", d.Service)
	f.add("instance", d.Instance)
	f.add("command", d.Command...)
	f.add("self", flag(d.Self))
	f.add("foreign", flag(d.Foreign))
	f.add("bind", string(d.Bind))
	f.add("dir", d.Dir)
	f.add("env", d.Env...)
	f.add("env_policy", string(d.EnvPolicy))
	f.add("fd_env", d.FDEnv...)
	f.add("endpoints", d.Endpoints...)
	f.add("version", d.Version)
	f.add("bound_within", d.BoundWithin.String())
	f.add("adopt_within", d.AdoptWithin.String())
	f.add("stop_within", d.StopWithin.String())
	if d.IdleExit != 0 {
		f.add("idle_exit", d.IdleExit.String())
	}
	if d.HangAfter != 0 {
		f.add("hang_after", d.HangAfter.String())
	}
	f.add("on_hang", string(d.OnHang))
	f.add("on_version", string(d.OnVersion))
	f.add("min_version", d.MinVersion)
	f.add("allow_versions", d.AllowVersions...)
	return f
}

type fields []Field

// add appends a pair for each value. Inlined, it is 5 kB of code in every client.
//
//go:noinline
func (f *fields) add(key string, values ...string) {
	for _, v := range values {
		if v != "" || key == "command" { // an empty argument is an argument
			*f = append(*f, Field{key, v})
		}
	}
}

func flag(b bool) string {
	if b {
		return "true"
	}
	return ""
}

// ErrUnknownKey is returned by Set for a key that this release does not know.
var ErrUnknownKey = errors.New("unknown key")

// Set takes one pair of Fields. Lists grow by one element.
func (d *Definition) Set(key, value string) error {
	var err error
	switch key {
	case "service":
		d.Service = value
	case "instance":
		d.Instance = value
	case "command":
		d.Command = append(d.Command, value)
	case "self":
		d.Self = value == "true"
	case "foreign":
		d.Foreign = value == "true"
	case "bind":
		d.Bind = Bind(value)
	case "dir":
		d.Dir = value
	case "env":
		d.Env = append(d.Env, value)
	case "env_policy":
		d.EnvPolicy = EnvPolicy(value)
	case "fd_env":
		d.FDEnv = append(d.FDEnv, value)
	case "endpoints":
		d.Endpoints = append(d.Endpoints, value)
	case "version":
		d.Version = value
	case "bound_within":
		d.BoundWithin, err = time.ParseDuration(value)
	case "adopt_within":
		d.AdoptWithin, err = time.ParseDuration(value)
	case "stop_within":
		d.StopWithin, err = time.ParseDuration(value)
	case "idle_exit":
		d.IdleExit, err = time.ParseDuration(value)
	case "hang_after":
		d.HangAfter, err = time.ParseDuration(value)
	case "on_hang":
		d.OnHang = HangPolicy(value)
	case "on_version":
		d.OnVersion = VersionPolicy(value)
	case "min_version":
		d.MinVersion = value
	case "allow_versions":
		d.AllowVersions = append(d.AllowVersions, value)
	default:
		return ErrUnknownKey
	}
	return err
}

// A Difference is a field in which two definitions, environments or identities
// are not alike.
type Difference struct {
	Field string
	Have  string // of the generation
	Want  string // of the caller
}

func (d Difference) String() string {
	return d.Field + ": have " + orNone(d.Have) + ", want " + orNone(d.Want)
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// Diff returns the fields in which the definition a generation was launched
// with differs from the wanted one. Self is left out: it says how the program
// was found, not which one it is.
func Diff(have, want Definition) []Difference {
	have.Self, want.Self = false, false
	have, want = have.Complete(), want.Complete() // a record of an older release lacks later fields
	var diffs []Difference
	h, w := have.joined(), want.joined()
	for _, key := range keys {
		if h[key] != w[key] {
			diffs = append(diffs, Difference{key, h[key], w[key]})
		}
	}
	return diffs
}

var keys = []string{"service", "instance", "command", "foreign", "bind", "dir", "env", "env_policy",
	"fd_env", "endpoints", "version", "bound_within", "adopt_within", "stop_within", "idle_exit", "hang_after", "on_hang",
	"on_version", "min_version", "allow_versions"}

// joined returns each key with its values, list elements quoted where a reader
// could not tell them apart.
func (d Definition) joined() map[string]string {
	m := map[string]string{}
	for _, f := range d.Fields() {
		v := f.Value
		if v == "" || strings.ContainsAny(v, " \t\n\"") {
			v = strconv.Quote(v)
		}
		if have, ok := m[f.Key]; ok {
			v = have + " " + v
		}
		m[f.Key] = v
	}
	return m
}

package limit

import (
	"errors"
	"path"
	"strconv"
	"strings"
)

// A Place is the cgroup that a daemon was put in. Plain value, made to be kept in
// a record, so that a later broker can read, empty and remove it. The zero value
// is no place.
type Place struct {
	By     Mechanism // Scope, Cgroup or None
	Name   string    // the scope's unit name, or the last element of Cgroup
	Cgroup string    // path in the cgroup v2 hierarchy, as in /proc/PID/cgroup
	System bool      // the scope is the system manager's, not the user's
}

// placeFormat begins an encoded Place. A later form has another number.
const placeFormat = "1"

// maxPlace is the longest encoded Place, in bytes: what PATH_MAX allows.
const maxPlace = 4096 + 512

// Encode returns p as one line of text; "" for no place.
func (p Place) Encode() string {
	if p.By == None {
		return ""
	}
	owner := "own"
	if p.By == Scope {
		owner = "user"
		if p.System {
			owner = "system"
		}
	}
	return strings.Join([]string{placeFormat, string(p.By), owner, strconv.Quote(p.Name), strconv.Quote(p.Cgroup)}, " ")
}

var errPlace = errors.New("it is no place of a daemon that this release could have written")

// ParsePlace is the reverse of Encode. It takes nothing that Prepare and Admit
// could not have made, for what it names is emptied and removed: a name without
// our prefix, or a path that leads elsewhere, is an error.
func ParsePlace(s string) (Place, error) {
	if s == "" {
		return Place{}, nil
	}
	if len(s) > maxPlace {
		return Place{}, errPlace
	}
	version, rest, _ := strings.Cut(s, " ")
	if version != placeFormat {
		return Place{}, errPlace
	}
	by, rest, _ := strings.Cut(rest, " ")
	owner, rest, _ := strings.Cut(rest, " ")
	name, rest, err := unquote(rest)
	if err != nil {
		return Place{}, errPlace
	}
	cgroup, rest, err := unquote(strings.TrimPrefix(rest, " "))
	if err != nil || rest != "" {
		return Place{}, errPlace
	}
	p := Place{By: Mechanism(by), Name: name, Cgroup: cgroup, System: owner == "system"}
	if p.Encode() != s || !p.ours() {
		return Place{}, errPlace
	}
	return p, nil
}

func unquote(s string) (value, rest string, err error) {
	q, err := strconv.QuotedPrefix(s)
	if err != nil {
		return "", "", err
	}
	value, err = strconv.Unquote(q)
	return value, s[len(q):], err
}

// ours says whether p can be something that this package made.
func (p Place) ours() bool {
	if !validName(strings.TrimSuffix(p.Name, scopeSuffix)) || !path.IsAbs(p.Cgroup) || path.Clean(p.Cgroup) != p.Cgroup {
		return false
	}
	switch p.By {
	case Scope:
		// Its cgroup is what the manager said, which may be unknown to a fork of it.
		return strings.HasSuffix(p.Name, scopeSuffix) && path.Base(p.Cgroup) == p.Name
	case Cgroup:
		return path.Base(p.Cgroup) == p.Name
	}
	return false
}

const (
	prefix      = "fastbind-"
	scopeSuffix = ".scope"

	// maxName leaves room for the suffix in a unit's name, which has at most 255
	// bytes (systemd.unit(5)), as a file's name has.
	maxName = 240
)

// Name returns the name of the place of a generation: unique as long as the name
// of its directory is. The parts must be of the form [a-z0-9._-]+, as the names of
// services, instances and generations are: they mean nothing special to systemd
// or a file system.
func Name(instance, service, generation string) string {
	return namePrefix(instance) + service + "-" + generation
}

func namePrefix(instance string) string { return prefix + instance + "-" }

// validName says whether name could be a result of Name.
func validName(name string) bool {
	rest, ok := strings.CutPrefix(name, prefix)
	if !ok || rest == "" || len(name) > maxName {
		return false
	}
	for i := range len(rest) {
		c := rest[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

// Survives says whether a daemon in one cgroup outlives another one's end, and
// why. Paths are as in /proc/PID/cgroup. It is a pure function of what systemd's
// tree looks like: a unit's cgroup is ended as a whole, with all that is below.
func Survives(daemon, caller string) (bool, string) {
	unit := unitOf(caller)
	if unit == "" {
		if daemon == caller {
			return false, "it shares the cgroup " + strconv.Quote(caller) + " with its caller: who ends that as a whole ends both"
		}
		return true, "its cgroup " + strconv.Quote(daemon) + " is not its caller's"
	}
	if below(daemon, unit) {
		return false, "it is in " + path.Base(unit) + ", its caller's, and ends with that"
	}
	s := "its cgroup is not in " + path.Base(unit) + ", its caller's"
	for dir := daemon; dir != "/" && dir != "."; dir = path.Dir(dir) {
		if base := path.Base(dir); strings.HasPrefix(base, "user@") && strings.HasSuffix(base, ".service") {
			s += "; it ends with the last logout unless the user lingers (loginctl enable-linger)"
		}
	}
	return true, s
}

// unitOf returns the path of the innermost systemd service or scope that a cgroup
// belongs to, "" if to none.
func unitOf(cgroup string) string {
	for dir := path.Clean(cgroup); dir != "/" && dir != "."; dir = path.Dir(dir) {
		if strings.HasSuffix(dir, ".service") || strings.HasSuffix(dir, scopeSuffix) {
			return dir
		}
	}
	return ""
}

func below(p, dir string) bool {
	return p == dir || dir == "/" || strings.HasPrefix(p, dir+"/")
}

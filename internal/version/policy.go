package version

import (
	"strconv"
	"strings"
)

// Policy says what a client does that finds a generation of another build than
// its own.
type Policy string

// The version policies.
const (
	Ignore  Policy = "ignore"  // use it, unless an explicit want excludes it
	Coexist Policy = "coexist" // the version is part of the endpoint: a daemon each
	Replace Policy = "replace" // a successor takes over
	Refuse  Policy = "refuse"  // refuse the dial and name the differences
)

// Action is what a dial does.
type Action string

// The actions.
const (
	Use            Action = "use"
	UseAndReplace  Action = "use and replace"  // be served, and start a successor
	WaitForReplace Action = "wait for replace" // start or join a successor, be served by it only
	RefuseIt       Action = "refuse"
)

// An Identity says which build a generation is, or would be if this client
// launched it. What is not known is zero.
type Identity struct {
	Version    string
	BuildID    string
	Executable Executable
}

// Executable identifies a program file. Two are the same file with the same
// content if they are equal with ==, the path left aside.
type Executable struct {
	Device  uint64
	Inode   uint64
	Size    int64 // in bytes
	MtimeNS int64 // nanoseconds since 1970
	Path    string
}

// Limits are what a dial and its definition demand of the running version.
type Limits struct {
	Want  Want   // of this dial, explicitly
	Floor Want   // of the definition
	Allow []Want // of the definition: any of them will do; none: all will
}

func (l Limits) allowed(version string) bool {
	for _, w := range l.Allow {
		if w.Allows(version) {
			return true
		}
	}
	return len(l.Allow) == 0
}

// Meets reports whether the limits allow a version.
func Meets(version string, l Limits) bool { return !l.excludes(version) }

func (l Limits) excludes(version string) bool {
	return !l.Want.Allows(version) || !l.Floor.Allows(version) || !l.allowed(version)
}

// A Difference is a field in which the running generation is not what the
// client wants: a field of Identity in the words of the control protocol, or
// "want", "floor" or "allow" with the running version and the limit it misses.
type Difference struct {
	Field, Have, Want string
}

// Decide says what a client does that finds the generation have and would have
// launched want. Unless that is Use, the differences have all fields that
// differ and, where known, the paths of both executables, differing or not.
// Refuse always tells what differs, so that is what why asks with.
//
// Under Replace a client never replaces a newer daemon that its limits allow:
// with two versions of a tool installed and used in turn, each would replace the
// other's daemon for ever. So the newer one serves both. Where neither is the
// newer, the flap detector ends that.
//
// Decide does not ask whether want meets the limits itself: after
// WaitForReplace the caller refuses a successor that does not, else it replaces
// without end.
func Decide(policy Policy, have, want Identity, limits Limits) (Action, []Difference) {
	action := Use
	switch policy {
	case Coexist:
	case Replace:
		if limits.excludes(have.Version) {
			action = WaitForReplace
		} else if differ, newer := compare(&have, &want); differ && !newer {
			action = UseAndReplace
		}
	case Refuse:
		if differ, _ := compare(&have, &want); differ || limits.excludes(have.Version) {
			action = RefuseIt
		}
	default: // Ignore
		limits = Limits{Want: limits.Want}
		if limits.excludes(have.Version) {
			action = RefuseIt
		}
	}
	if action == Use {
		return Use, nil
	}
	return action, differences(have, want, limits)
}

// compare reports whether two builds differ, and whether have is the higher
// version. The first of version, build id and executable that both know tells;
// what one side does not know is no difference.
func compare(have, want *Identity) (differ, newer bool) {
	if h, w := have.Version, want.Version; h != "" && w != "" {
		if h != w {
			a, _, _, bad := parse(h, 3)
			b, _, _, worse := parse(w, 3)
			if bad != "" || worse != "" {
				return true, false
			}
			if c := a.Compare(b); c != 0 {
				return true, c > 0
			}
		}
		if tellsBuild(h) && tellsBuild(w) {
			return false, false
		}
	}
	if have.BuildID != "" && want.BuildID != "" {
		return have.BuildID != want.BuildID, false
	}
	h, w := have.Executable.file(), want.Executable.file()
	return h != w && h != Executable{} && w != Executable{}, false
}

// tellsBuild reports whether builds of this version pass for the same one. Go's
// "(devel)" is any state of a working tree, and its "+dirty" any state with
// uncommitted changes (Go 1.24 release notes); other build metadata, too, is
// there to tell builds of one version apart (semver.org 10).
func tellsBuild(version string) bool {
	return version != "(devel)" && strings.IndexByte(version, '+') < 0
}

func (e Executable) file() Executable {
	e.Path = ""
	return e
}

func differences(have, want Identity, limits Limits) []Difference {
	var texts []string
	for _, w := range limits.Allow {
		texts = append(texts, w.text)
	}
	var all []Difference
	for _, l := range []struct {
		name    string
		allowed bool
		want    string
	}{
		{"want", limits.Want.Allows(have.Version), limits.Want.text},
		{"floor", limits.Floor.Allows(have.Version), limits.Floor.text},
		{"allow", limits.allowed(have.Version), strings.Join(texts, " or ")},
	} {
		if !l.allowed {
			all = append(all, Difference{l.name, have.Version, l.want})
		}
	}
	h, w := have.Executable, want.Executable
	fields := []Difference{
		{"version", have.Version, want.Version}, {"build_id", have.BuildID, want.BuildID}, {"path", h.Path, w.Path},
	}
	if h.file() != (Executable{}) && w.file() != (Executable{}) {
		fields = append(fields,
			Difference{"device", strconv.FormatUint(h.Device, 10), strconv.FormatUint(w.Device, 10)},
			Difference{"inode", strconv.FormatUint(h.Inode, 10), strconv.FormatUint(w.Inode, 10)},
			Difference{"size", strconv.FormatInt(h.Size, 10), strconv.FormatInt(w.Size, 10)},
			Difference{"mtime_ns", strconv.FormatInt(h.MtimeNS, 10), strconv.FormatInt(w.MtimeNS, 10)})
	}
	for _, f := range fields {
		differs := f.Have != f.Want && f.Have != "" && f.Want != ""
		if differs || f.Field == "path" && f.Have+f.Want != "" { // who compares files wants to see them
			all = append(all, f)
		}
	}
	return all
}

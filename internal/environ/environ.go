// Package environ makes a daemon's environment from a contract, not from
// whoever happened to dial first.
//
// A daemon outlives the client that launched it and serves others, so it gets
// an allow-list of variables that say where and who the user is, what the
// definition names, and nothing else.
//
// On Windows names have no case: they are contracted in upper case.
package environ

import (
	"hash/fnv"
	"slices"
	"strconv"
	"strings"

	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/record"
)

// ofSession belong to one login session, or to one start of one program in it
// (the token): the daemon belongs to none (pam_systemd(8), xdg-activation).
var ofSession = []string{"XDG_SEAT", "XDG_SEAT_PATH", "XDG_VTNR", "XDG_ACTIVATION_TOKEN"}

// Account is what the password database says of the user.
type Account struct{ Home, Name, Shell string }

// Contract returns the daemon's environment, sorted by name: the allowed
// variables of the client's environment, what the definition's env adds, and
// HOME, USER, LOGNAME and SHELL from the account where the client has none: else
// it is not asked for. A client without PATH gets the system's default one.
func Contract(client, env []string, account func() Account) []string {
	vars := map[string]string{}
	has := map[string]string{}
	for _, e := range client {
		name, value, ok := strings.Cut(e, "=")
		if !ok || name == "" {
			continue
		}
		name = canonical(name)
		has[name] = value
		if isAllowed(name) {
			vars[name] = value
		}
	}
	for _, e := range env {
		name, value, valued := strings.Cut(e, "=")
		if name = canonical(name); !valued {
			if value, valued = has[name]; !valued {
				continue
			}
		}
		vars[name] = value
	}
	if vars["HOME"] == "" || vars["USER"] == "" || vars["LOGNAME"] == "" || vars["SHELL"] == "" {
		a := account()
		complete(vars, "HOME", a.Home)
		complete(vars, "USER", a.Name)
		complete(vars, "LOGNAME", a.Name)
		complete(vars, "SHELL", a.Shell)
	}
	complete(vars, "PATH", defaultPath())
	out := make([]string, 0, len(vars))
	for name, value := range vars {
		out = insert(out, name+"="+value)
	}
	return out
}

// complete gives a variable without a value one.
func complete(vars map[string]string, name, value string) {
	if vars[name] == "" && value != "" {
		vars[name] = value
	}
}

// insert puts s into a sorted list unless it is there. The lists are short, and
// slices.Sort is 7 kB of code in every client.
func insert(list []string, s string) []string {
	i := len(list)
	for i > 0 && list[i-1] >= s {
		i--
	}
	if i < len(list) && list[i] == s {
		return list
	}
	list = append(list, "")
	copy(list[i+1:], list[i:])
	list[i] = s
	return list
}

func isAllowed(name string) bool {
	if slices.Contains(allowed, name) {
		return true
	}
	if strings.HasPrefix(name, "XDG_SESSION_") || slices.Contains(ofSession, name) {
		return false
	}
	return slices.ContainsFunc(allowedPrefixes, func(p string) bool { return strings.HasPrefix(name, p) })
}

// Digest is a short digest of a whole contracted environment. It tells
// environments apart; it is no defence against someone who forges one, who
// would need the user's own uid.
func Digest(contract []string) string {
	h := fnv.New64a()
	for _, e := range contract {
		h.Write([]byte(e))
		h.Write([]byte{0})
	}
	return hex(h.Sum64())
}

func hex(n uint64) string {
	s := strconv.FormatUint(n, 16)
	return ("0000000000000000" + s)[len(s):]
}

// Variables returns each contracted variable with the digest of its value.
func Variables(contract []string) []record.Variable {
	vars := make([]record.Variable, 0, len(contract))
	for _, e := range contract {
		name, value, _ := strings.Cut(e, "=")
		vars = append(vars, record.Variable{Name: name, Digest: Digest([]string{value})})
	}
	return vars
}

// Diff names the variables that a generation was launched with other values of
// than a client would contract. The values themselves are not in the record;
// Have and Want say what is known: "unset", "set", "another value" or the
// client's value.
func Diff(have []record.Variable, contract []string) []definition.Difference {
	was, is := map[string]string{}, map[string]string{}
	var names []string
	for _, v := range have {
		was[v.Name] = v.Digest
		names = insert(names, v.Name)
	}
	for _, v := range Variables(contract) {
		is[v.Name] = v.Digest
		names = insert(names, v.Name)
	}
	var diffs []definition.Difference
	for _, name := range names {
		before, had := was[name]
		now, has := is[name]
		d := definition.Difference{Field: "env " + name}
		switch {
		case !had:
			d.Have, d.Want = "unset", "set"
		case !has:
			d.Have, d.Want = "set", "unset"
		case before != now:
			d.Have, d.Want = "another value", "this client's value"
		default:
			continue
		}
		diffs = append(diffs, d)
	}
	return diffs
}

// Package unit is what makes the system's service manager start the standing
// broker: a pair of systemd user units, a socket and a service, or a launchd
// agent. The manager stays the manager: the files say what it needs to know, and
// nothing else is installed.
//
//	m, err := unit.Here(os.Getenv, home, os.Geteuid())
//	u := unit.Unit{Executable: exe, Instance: "default", Root: root, Environment: unit.Environment(os.Getenv)}
//	plan, err := m.Plan(u)                      // reads, changes nothing: for --dry-run
//	result, err := m.Install(ctx, u, unit.Exec) // writes, then tells the manager
//	result, err := m.Uninstall(ctx, "default", unit.Exec)
//
// What a file says is a pure function of a [Unit]. A file is written beside its
// place and renamed, so the manager never reads half of one; one that is not ours
// is neither changed nor removed. Both calls can be repeated: what is as it should
// be is left alone.
//
// # The broker under systemd
//
// The socket unit binds a control endpoint of its own, [Socket], and not the
// endpoint of a service named broker: systemd removes whatever it finds at the
// path that it binds, living or not, and only who holds a service's launch lock
// may do that (R7). So a broker that was started otherwise is never
// cut off from its clients, who try [Socket] first.
//
// The service starts with the user's manager, to hold the endpoints of all
// services, and again at the next connection once it has ended because it held
// nothing, or has crashed. It must
//
//   - take its sockets and send READY=1, as package activation does, even if it
//     ends at once: Type=notify counts anything else as a failure;
//   - send WATCHDOG=1 at half of [Watchdog]: a broker that hangs is ended with
//     SIGABRT, on which a Go program prints its stacks, and started again;
//   - stay for a while when it holds nothing: after 20 starts within a minute, of
//     whatever kind, systemd gives both units up until they are reset;
//   - exit with status 5 only where another try would be refused too, since it is
//     not restarted then. (Status 2 is that of a Go program that has panicked.)
//
// # What lives on
//
// Daemons outlive the broker (KillMode=process), also those in its own cgroup, and
// one that runs out of memory does not take the broker with it (OOMPolicy=continue).
//
//	what ends           broker         daemon in its cgroup   daemon in a scope of its own
//	stop, restart       is asked to    lives on               lives on
//	kill -9, hang       starts again   lives on               lives on
//	session, lingering  lives on       lives on               lives on
//	the user's manager  is asked to    is killed              is asked to
//
// The user's manager ends with the last session of a user who does not linger, and
// always by loginctl terminate-user. So a scope is the better place. A daemon that is
// launched from a session, by an embedded broker, ends with the session where logind
// says KillUserProcesses=yes.
package unit

import (
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/fastbind/fastbind/internal/definition"
)

// Watchdog is how long the broker may be silent before it counts as hung.
const Watchdog = time.Minute

// SocketName is the name, in LISTEN_FDNAMES and in the agent's Sockets, of the
// socket at [Socket].
const SocketName = "control"

// A Unit says which broker is to be started, and how.
type Unit struct {
	// Executable is the absolute path of the fastbind command. A symbolic link
	// stays one, so that upgrades which move it count.
	Executable string

	Instance string

	// Root is the root of the run-time files, an absolute path. Under systemd ""
	// is the user's own, $XDG_RUNTIME_DIR/fastbind, which launchd does not have.
	Root string

	// Environment is what is set for the broker, NAME=VALUE each.
	Environment []string
}

// variables say where the files of this project are: a broker that does not have
// them as its clients do would look elsewhere (R13).
var variables = []string{"FASTBIND_CONFIG_DIR", "FASTBIND_RUNTIME_DIR", "FASTBIND_STATE_DIR", "XDG_CONFIG_HOME", "XDG_STATE_HOME"}

// Environment returns the variables that a broker needs of the environment that
// get reads, of those that are set. PATH is not among them: what a user's manager
// has is the user's to set, for all services alike (environment.d(5)).
func Environment(get func(string) string) []string {
	var set []string
	for _, name := range variables {
		if value := get(name); value != "" {
			set = append(set, name+"="+value)
		}
	}
	return set
}

// Socket returns the path of the socket that the manager binds for the broker of
// an instance. Its name begins with a dot, as no service's does.
func Socket(root, instance string) string {
	return filepath.Join(root, instance, ".broker.sock")
}

// A File is one that the manager reads.
type File struct {
	Name string // within the manager's directory
	Text string
}

// check reports what no manager takes. The error is a *definition.Invalid.
func (u Unit) check() error {
	if err := definition.CheckName("instance", u.Instance); err != nil {
		return err
	}
	if err := checkPath("executable", u.Executable); err != nil {
		return err
	}
	if u.Root != "" {
		if err := checkPath("root", u.Root); err != nil {
			return err
		}
	}
	for _, assignment := range u.Environment {
		name, value, found := strings.Cut(assignment, "=")
		if !found || !variableName(name) {
			return &definition.Invalid{Field: "environment", Value: assignment, Reason: "it is not NAME=VALUE"}
		}
		if reason := unfit(value); reason != "" {
			return &definition.Invalid{Field: name, Value: value, Reason: reason}
		}
		if name == "FASTBIND_RUNTIME_DIR" && filepath.Clean(value) != filepath.Clean(u.Root) {
			return &definition.Invalid{Field: name, Value: value, Reason: "the socket would be below another root, " + strconv.Quote(u.Root)}
		}
	}
	return nil
}

func checkPath(field, path string) error {
	if reason := unfit(path); reason != "" {
		return &definition.Invalid{Field: field, Value: path, Reason: reason}
	}
	if !filepath.IsAbs(path) {
		return &definition.Invalid{Field: field, Value: path, Reason: "it is not an absolute path"}
	}
	return nil
}

// unfit says why a value has no place in a unit file, "" if it has. Neither
// format can hold what is not UTF-8, and of control characters none is worth the
// trouble.
func unfit(value string) string {
	switch {
	case !utf8.ValidString(value):
		return "it is not UTF-8"
	case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0xfffe || r == 0xffff }):
		return "it has control characters"
	}
	return ""
}

// variableName reports whether a shell could set the variable.
func variableName(name string) bool {
	for i, r := range name {
		letter := r == '_' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z'
		if !letter && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return name != ""
}

// suffix tells the files of the instances apart.
func suffix(separator, instance string) string {
	if instance == "default" {
		return ""
	}
	return separator + instance
}

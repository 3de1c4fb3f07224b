package unit

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fastbind/fastbind/internal/definition"
)

// systemdMark begins the files that are ours.
const systemdMark = `# Written by "fastbind broker install"`

// maxSocketPath is what a socket address holds, without its NUL byte; systemd
// refuses longer ones (sun_path in unix(7)).
const maxSocketPath = 107

// longestRuntimeDir stands for %t in that: the path for the highest uid.
const longestRuntimeDir = len("/run/user/4294967295")

// systemdUnits are the names of the pair: who is enabled, started and stopped.
func systemdUnits(instance string) (socket, service string) {
	name := "fastbind-broker" + suffix("-", instance)
	return name + ".socket", name + ".service"
}

// systemd returns the pair of units for systemd's user manager: the service, then
// its socket. It needs systemd 239 or later.
func (u Unit) systemd() ([]File, error) {
	if err := u.check(); err != nil {
		return nil, err
	}
	// string_is_safe in systemd's load-fragment.c, whatever is quoted.
	if strings.ContainsAny(u.Executable, `'"\`) {
		return nil, &definition.Invalid{Field: "executable", Value: u.Executable,
			Reason: `systemd takes no program whose path has quotes or backslashes; install it elsewhere`}
	}
	root, length := "%t/fastbind", longestRuntimeDir+len("/fastbind")
	if u.Root != "" {
		root, length = specifier(filepath.Clean(u.Root)), len(filepath.Clean(u.Root))
	}
	listen := Socket(root, u.Instance)
	if length += len(Socket("/", u.Instance)); length > maxSocketPath {
		return nil, &definition.Invalid{Field: "root", Value: u.Root,
			Reason: fmt.Sprintf("its socket's path has %d bytes, and systemd binds none of more than %d; use a shorter root", length, maxSocketPath)}
	}
	var environment strings.Builder
	for _, assignment := range u.Environment {
		fmt.Fprintf(&environment, "Environment=%s\n", quote(assignment))
	}
	socket, service := systemdUnits(u.Instance)
	mark := systemdMark + `; "fastbind broker uninstall" removes it.` + "\n" +
		"# Changes belong into drop-ins: systemctl --user edit "
	return []File{
		{service, fmt.Sprintf(serviceText, mark+service, u.Instance, socket, quote(u.Executable), environment.String(), int(Watchdog.Seconds()))},
		{socket, fmt.Sprintf(socketText, mark+socket, u.Instance, listen)},
	}, nil
}

// systemd counts every start against the limit, also those by a connection after a
// clean end and by hand. Once it is reached the service stays down, and its socket
// with it: clients are refused there and launch their daemons themselves.
const serviceText = `%s

[Unit]
Description=fastbind broker, instance %[2]s
Requires=%[3]s
After=%[3]s
StartLimitIntervalSec=1min
StartLimitBurst=20

[Service]
Type=notify
ExecStart=%[4]s broker --instance %[2]s
%[5]sRestart=on-failure
RestartSec=500ms
# Refused: the next try would be, too.
RestartPreventExitStatus=5
WatchdogSec=%[6]ds
# Daemons outlive the broker, and what befalls one is its own affair.
KillMode=process
OOMPolicy=continue
# Listeners that are kept over a crash, for clients who wait.
FileDescriptorStoreMax=4096

[Install]
WantedBy=default.target
Also=%[3]s
`

const socketText = `%s

[Unit]
Description=fastbind broker, instance %s

[Socket]
ListenStream=%s
SocketMode=0600
DirectoryMode=0700
RemoveOnStop=yes
FileDescriptorName=` + SocketName + `

[Install]
WantedBy=sockets.target
`

// quote makes one word of a list of words that systemd splits, unquotes and
// expands (systemd.syntax(7), systemd.unit(5)). In a program's path a dollar sign
// stands for itself, as it does in Environment= (systemd.service(5)).
func quote(word string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `%`, `%%`).Replace(word) + `"`
}

// specifier makes text of which nothing is expanded.
func specifier(s string) string { return strings.ReplaceAll(s, "%", "%%") }

// Systemd returns systemd's manager of a user. config is $XDG_CONFIG_HOME.
func Systemd(config string) Manager {
	return Manager{filepath.Join(config, "systemd", "user"), systemd{}}
}

type systemd struct{}

func (systemd) files(u Unit) ([]File, error) { return u.systemd() }
func (systemd) mark() string                 { return systemdMark }
func (systemd) directory(Unit) string        { return "" }

func (systemd) names(instance string) []string {
	socket, service := systemdUnits(instance)
	return []string{service, socket}
}

func (systemd) links(name string) []string {
	return []string{"default.target.wants/" + name, "sockets.target.wants/" + name}
}

func systemctl(verb string, units ...string) step {
	return step{argv: append([]string{"systemctl", "--user", verb}, units...)}
}

// resetFailed forgets earlier failures, which would count against the start limit.
// A unit that is not loaded has none, which is a failure.
func (s systemd) resetFailed(instance string) step {
	return systemctl("reset-failed", s.names(instance)...).orNot()
}

func (s systemd) load(_, instance string, plan []Change) []step {
	start := "start"
	if slices.ContainsFunc(plan, func(c Change) bool { return c.Action != Keep }) {
		start = "restart"
	}
	units := s.names(instance)
	return []step{systemctl("daemon-reload"), s.resetFailed(instance), systemctl("enable", units...), systemctl(start, units...)}
}

func (s systemd) unload(_ string, files []string) []step {
	return []step{systemctl("disable", files...).orNot(), systemctl("stop", files...)}
}

func (s systemd) forget(instance string) []step {
	return []step{systemctl("daemon-reload"), s.resetFailed(instance)}
}

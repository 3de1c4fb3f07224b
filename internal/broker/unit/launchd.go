package unit

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/fastbind/fastbind/internal/definition"
)

// launchdMark is the second line of the files that are ours: the first must be
// the XML declaration.
const launchdMark = `<!-- Written by "fastbind broker install"`

// maxLaunchdPath is what a socket address holds there, without its NUL byte.
const maxLaunchdPath = 103

// launchdLabel is the agent's name.
func launchdLabel(instance string) string { return "io.fastbind.broker" + suffix(".", instance) }

// launchd returns the agent for launchd (launchd.plist(5)). The broker takes its
// socket with launch_activate_socket, by the name [SocketName]. Root must be set,
// and the socket's directory must exist when the agent is loaded.
func (u Unit) launchd() ([]File, error) {
	if err := u.check(); err != nil {
		return nil, err
	}
	if u.Root == "" {
		return nil, &definition.Invalid{Field: "root", Reason: "launchd does not know the user's own; it has to be named"}
	}
	socket := Socket(u.Root, u.Instance)
	if len(socket) > maxLaunchdPath {
		return nil, &definition.Invalid{Field: "root", Value: u.Root,
			Reason: fmt.Sprintf("its socket's path has %d bytes, and a socket address holds %d; use a shorter root", len(socket), maxLaunchdPath)}
	}
	var environment strings.Builder
	if len(u.Environment) > 0 {
		environment.WriteString("\t<key>EnvironmentVariables</key>\n\t<dict>\n")
		for _, assignment := range u.Environment {
			name, value, _ := strings.Cut(assignment, "=")
			fmt.Fprintf(&environment, "\t\t<key>%s</key>\n\t\t<string>%s</string>\n", text(name), text(value))
		}
		environment.WriteString("\t</dict>\n")
	}
	label := launchdLabel(u.Instance)
	return []File{{label + ".plist", fmt.Sprintf(agentText, label, text(u.Executable), u.Instance, environment.String(), text(socket))}}, nil
}

// KeepAlive starts it at login too, and again after a crash; after a clean exit
// the next connection does. AbandonProcessGroup: daemons outlive the broker.
// Interactive: of any other type launchd throttles what the job has started too.
// SockPathMode is decimal: 384 is 0600.
const agentText = `<?xml version="1.0" encoding="UTF-8"?>
` + launchdMark + `; "fastbind broker uninstall" removes it. -->
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
	<key>Label</key>
	<string>%s</string>
	<key>ProgramArguments</key>
	<array>
		<string>%s</string>
		<string>broker</string>
		<string>--instance</string>
		<string>%s</string>
	</array>
%s	<key>Sockets</key>
	<dict>
		<key>` + SocketName + `</key>
		<dict>
			<key>SockPathName</key>
			<string>%s</string>
			<key>SockPathMode</key>
			<integer>384</integer>
		</dict>
	</dict>
	<key>KeepAlive</key>
	<dict>
		<key>SuccessfulExit</key>
		<false/>
	</dict>
	<key>AbandonProcessGroup</key>
	<true/>
	<key>ProcessType</key>
	<string>Interactive</string>
</dict>
</plist>
`

// text makes character data of a string. The result has no error: what XML cannot
// hold was refused before.
func text(s string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(s))
	return b.String()
}

// Launchd returns launchd's manager of a user who is logged in at the screen.
func Launchd(home string, uid int) Manager {
	return Manager{filepath.Join(home, "Library", "LaunchAgents"), launchd{"gui/" + strconv.Itoa(uid)}}
}

type launchd struct{ domain string }

func (launchd) files(u Unit) ([]File, error)   { return u.launchd() }
func (launchd) names(instance string) []string { return []string{launchdLabel(instance) + ".plist"} }
func (launchd) links(string) []string          { return nil }
func (launchd) mark() string                   { return launchdMark }
func (launchd) directory(u Unit) string        { return filepath.Dir(Socket(u.Root, u.Instance)) }
func (launchd) forget(string) []step           { return nil }

func (l launchd) target(instance string) string { return l.domain + "/" + launchdLabel(instance) }

func launchctl(args ...string) step { return step{argv: append([]string{"launchctl"}, args...)} }

// load has launchd read the agent anew if it has changed, and at all if it has not
// yet: it fails to load what is loaded and to unload what is not.
func (l launchd) load(dir, instance string, plan []Change) []step {
	bootstrap := launchctl("bootstrap", l.domain, filepath.Join(dir, l.names(instance)[0]))
	if !slices.ContainsFunc(plan, func(c Change) bool { return c.Action != Keep }) {
		return []step{bootstrap.orNot(), launchctl("kickstart", l.target(instance))}
	}
	return []step{launchctl("bootout", l.target(instance)).orNot(), bootstrap}
}

func (l launchd) unload(instance string, _ []string) []step {
	return []step{launchctl("bootout", l.target(instance))}
}

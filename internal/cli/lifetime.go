package cli

import (
	"context"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/fastbind/fastbind/internal/broker/limit"
	"github.com/fastbind/fastbind/internal/cli/responsible"
)

// A lifetime is what a daemon's life depends on beside itself (R21).
type lifetime struct {
	daemon, caller string // cgroups, as in /proc/PID/cgroup
	logind         logind
}

// logind is what systemd-logind says. Nil is not known.
type logind struct {
	kills   *bool // KillUserProcesses: a session's end ends what is in its scope
	lingers *bool // the user's manager outlives the last session
}

const ownScope = "own_scope = true in its definition, and a broker: fastbind broker install"

// judge says what would take the daemon along. With level "" there is nothing to say.
func (l lifetime) judge() (level, message, hint string) {
	survives, why := limit.Survives(l.daemon, l.caller)
	session := strings.HasPrefix(path.Base(l.caller), "session-") && strings.HasSuffix(l.caller, ".scope")
	managed := strings.Contains(l.daemon, "/user@")
	switch {
	case l.daemon == "/":
		return "", "", "" // nobody ends that one
	case !survives && session && l.logind.kills == nil:
		return levelNote, why + ", if logind has KillUserProcesses=yes", ownScope
	case !survives && session && !*l.logind.kills:
		return levelOK, why + " only if logind had KillUserProcesses=yes", ""
	case !survives && session:
		return levelFinding, why + ": logind has KillUserProcesses=yes", ownScope
	case !survives && strings.Contains(why, "shares"):
		return levelNote, why, ownScope
	case !survives:
		return levelFinding, why, ownScope
	case managed && l.logind.lingers != nil && *l.logind.lingers:
		return levelOK, "it is in a unit of the user's manager, which stays after the last logout", ""
	case managed:
		return levelNote, why, "run: loginctl enable-linger"
	}
	return levelOK, why, ""
}

// lifetime tells what would take a daemon along.
func (d *doctor) lifetime(ctx context.Context, v view, label string) {
	if v.pid == 0 {
		return
	}
	daemon, err := limit.Where(v.pid)
	if err == nil {
		var caller string
		if caller, err = limit.Where(os.Getpid()); err == nil {
			if d.logind == nil {
				l := askLogind(ctx, d.a.uid)
				d.logind = &l
			}
			if level, message, hint := (lifetime{daemon, caller, *d.logind}).judge(); level != "" {
				d.say(level, "lifetime", label, message, hint)
			}
		}
	}
	d.responsible(v, label)
}

// responsible names the process whose permissions macOS asks about when the daemon
// touches the user's files (R39). Elsewhere there is none.
func (d *doctor) responsible(v view, label string) {
	pid, program, err := responsible.For(v.pid)
	if err != nil || pid == v.pid {
		return
	}
	d.say(levelNote, "privacy", label, "macOS asks whether "+program+", pid "+strconv.Itoa(pid)+", may touch the user's files, not whether the daemon may",
		"let launchd start it: fastbind broker install; or give "+program+" the permission in System Settings")
}

// logindWithin bounds the questions to logind together.
const logindWithin = time.Second

const (
	systemBus   = "unix:path=/run/dbus/system_bus_socket"
	logindName  = "org.freedesktop.login1"
	logindPath  = dbus.ObjectPath("/org/freedesktop/login1")
	logindIface = "org.freedesktop.login1."
)

// askLogind asks systemd-logind, if it runs, of a user (org.freedesktop.login1(5)). It
// starts nothing.
func askLogind(ctx context.Context, uid int) (l logind) {
	ctx, cancel := context.WithTimeout(ctx, logindWithin)
	defer cancel()
	conn, err := dbus.Dial(systemBus, dbus.WithContext(ctx))
	if err != nil {
		return l
	}
	defer conn.Close()
	if conn.Auth(nil) != nil || conn.Hello() != nil {
		return l
	}
	ask := func(object dbus.ObjectPath, iface, name string) *bool {
		var v dbus.Variant
		err := conn.Object(logindName, object).CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", dbus.FlagNoAutoStart, logindIface+iface, name).Store(&v)
		if b, ok := v.Value().(bool); err == nil && ok {
			return &b
		}
		return nil
	}
	l.kills = ask(logindPath, "Manager", "KillUserProcesses")
	l.lingers = ask(logindPath+dbus.ObjectPath("/user/_"+strconv.Itoa(uid)), "User", "Linger")
	return l
}

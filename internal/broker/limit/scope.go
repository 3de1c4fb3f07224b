package limit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

// A Manager is a systemd manager that can be asked for scopes. Plain value.
type Manager struct {
	Address string // as D-Bus has them: unix:path=…
	Direct  bool   // it is the manager's own socket and not a message bus
	System  bool   // the system's manager, not the user's
}

// Managers returns those that may serve a uid, in the order to try them. Root has
// the system's. Others have their own, at the bus of runtimeDir
// ($XDG_RUNTIME_DIR, or "") and of /run/user/UID, or at the socket that the manager
// itself listens on, which is there without a message bus too, as systemctl
// knows.
func Managers(uid int, runtimeDir string) []Manager {
	if uid == 0 {
		return []Manager{
			{Address: address("/run/systemd/private"), Direct: true, System: true},
			{Address: address("/run/dbus/system_bus_socket"), System: true},
		}
	}
	var ms []Manager
	usual := filepath.Join("/run/user", strconv.Itoa(uid))
	for _, dir := range slices.Compact([]string{runtimeDir, usual}) {
		if !filepath.IsAbs(dir) {
			continue
		}
		ms = append(ms,
			Manager{Address: address(filepath.Join(dir, "bus"))},
			Manager{Address: address(filepath.Join(dir, "systemd/private")), Direct: true})
	}
	return ms
}

func address(path string) string { return "unix:path=" + dbus.EscapeBusAddressValue(path) }

// askWithin bounds one question to a manager, connecting included. Managers
// answer in milliseconds; one that reloads hundreds of units takes seconds.
const askWithin = 5 * time.Second

const (
	destination = "org.freedesktop.systemd1"
	object      = dbus.ObjectPath("/org/freedesktop/systemd1")
	managerName = "org.freedesktop.systemd1.Manager"
	scopeName   = "org.freedesktop.systemd1.Scope"
	unitName    = "org.freedesktop.systemd1.Unit"

	noSuchUnit = "org.freedesktop.systemd1.NoSuchUnit"
)

// manager is one connection to a Manager, for one question or two: it keeps no
// state that a manager executed anew would not know of.
type manager struct {
	conn *dbus.Conn
	obj  dbus.BusObject
}

// open connects. The context bounds all that is asked through the connection:
// when it ends, the connection is closed.
func (m Manager) open(ctx context.Context) (*manager, error) {
	conn, err := dbus.Dial(m.Address, dbus.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	c := &manager{conn, conn.Object(destination, object)}
	err = conn.Auth(nil)
	switch {
	case err != nil:
	case m.Direct:
		err = c.wake(ctx)
	default:
		err = conn.Hello()
	}
	if err != nil {
		c.close()
		if ctx.Err() != nil {
			err = fmt.Errorf("%s: %w", m.Address, ctx.Err())
		}
		return nil, err
	}
	return c, nil
}

// wake makes sure that the manager reads what comes after the authentication. Its
// sd-bus reads as much as there is, and when our first message comes in one read
// with the end of the authentication it lies in its buffer until more arrives
// (systemd issues 5520 and 17425; with version 252 one connection of ten hung).
// A message bus does not do that. So more arrives until the first answer.
func (c *manager) wake(ctx context.Context) error {
	answers := make(chan *dbus.Call, maxPings)
	tick := time.NewTicker(askWithin / maxPings)
	defer tick.Stop()
	for range maxPings {
		c.obj.GoWithContext(ctx, "org.freedesktop.DBus.Peer.Ping", 0, answers)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case call := <-answers:
			return call.Err
		case <-tick.C:
		}
	}
	return fmt.Errorf("the manager has not answered for %v", askWithin)
}

const maxPings = 250

func (c *manager) close() { _ = c.conn.Close() }

// version is the number before anything else in "252.38-1~deb12u1".
func (c *manager) version(ctx context.Context) (int, error) {
	v, err := property[string](ctx, c.obj, managerName, "Version")
	if err != nil {
		return 0, err
	}
	return leadingNumber(v), nil
}

func leadingNumber(s string) int {
	end := 0
	for end < len(s) && s[end] >= '0' && s[end] <= '9' {
		end++
	}
	n, _ := strconv.Atoi(s[:end])
	return n
}

func property[T any](ctx context.Context, obj dbus.BusObject, iface, name string) (T, error) {
	var v dbus.Variant
	var zero T
	if err := obj.CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, iface, name).Store(&v); err != nil {
		return zero, err
	}
	t, ok := v.Value().(T)
	if !ok {
		return zero, fmt.Errorf("%s of the manager is %s, not what was expected", name, v)
	}
	return t, nil
}

// A prop is a property of a unit, as StartTransientUnit takes them: (sv).
type prop struct {
	Name  string
	Value dbus.Variant
}

// scopeProps are the properties of the scope of a process. MemorySwapMax: swap
// would be memory beyond the limit. OOMPolicy: half a service is worse than none;
// before version 253 scopes do not have it.
func scopeProps(name string, w Wanted, version int, system bool, pid int) []prop {
	props := []prop{
		{"Description", dbus.MakeVariant("fastbind: " + strings.TrimPrefix(name, prefix))},
		{"PIDs", dbus.MakeVariant([]uint32{uint32(pid)})},
	}
	if !system {
		props = append(props, prop{"Slice", dbus.MakeVariant("app.slice")})
	}
	if w.Memory > 0 {
		props = append(props, prop{"MemoryMax", dbus.MakeVariant(uint64(w.Memory))}, prop{"MemorySwapMax", dbus.MakeVariant(uint64(0))})
		if version >= 253 {
			props = append(props, prop{"OOMPolicy", dbus.MakeVariant("kill")})
		}
	}
	if w.Tasks > 0 {
		props = append(props, prop{"TasksMax", dbus.MakeVariant(uint64(w.Tasks))})
	}
	if w.CPUWeight > 0 {
		props = append(props, prop{"CPUWeight", dbus.MakeVariant(uint64(w.CPUWeight))})
	}
	return props
}

// startScope moves a process into a new scope and waits until it is there. With an
// error and a place the scope may be there nevertheless.
func (m Manager) startScope(ctx context.Context, name string, w Wanted, version, pid int) (Place, error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	c, err := m.open(ctx)
	if err != nil {
		return Place{}, err
	}
	defer c.close()
	p := Place{By: Scope, Name: name + scopeSuffix, System: m.System}

	// Listen before asking: the job may be over before its path is known here.
	signals := make(chan *dbus.Signal, 64)
	c.conn.Signal(signals)
	if !m.Direct {
		err := c.conn.AddMatchSignalContext(ctx, dbus.WithMatchSender(destination), dbus.WithMatchObjectPath(object),
			dbus.WithMatchInterface(managerName), dbus.WithMatchMember("JobRemoved"))
		if err == nil {
			// Without subscribers a manager sends no signals to a bus. The
			// subscription ends with the connection.
			err = c.obj.CallWithContext(ctx, managerName+".Subscribe", 0).Err
		}
		if err != nil {
			return Place{}, err
		}
	}
	type aux struct {
		Name  string
		Props []prop
	}
	var job dbus.ObjectPath
	err = c.obj.CallWithContext(ctx, managerName+".StartTransientUnit", 0,
		p.Name, "fail", scopeProps(p.Name, w, version, m.System, pid), []aux(nil)).Store(&job)
	if err != nil {
		return Place{}, err
	}
	result, err := jobResult(ctx, signals, job)
	if err == nil && result != "done" {
		err = fmt.Errorf("the start of %s ended as %q", p.Name, result)
	}
	if err != nil {
		return p, err
	}
	return p, nil
}

func jobResult(ctx context.Context, signals <-chan *dbus.Signal, job dbus.ObjectPath) (string, error) {
	for {
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("the job %s: %w", job, ctx.Err())
		case s, ok := <-signals:
			if !ok {
				return "", cmp.Or(ctx.Err(), errors.New("the manager closed the connection"))
			}
			var id uint32
			var removed dbus.ObjectPath
			var unit, result string
			if s.Name == managerName+".JobRemoved" && dbus.Store(s.Body, &id, &removed, &unit, &result) == nil && removed == job {
				return result, nil
			}
		}
	}
}

func (c *manager) unit(ctx context.Context, name string) (dbus.BusObject, error) {
	var p dbus.ObjectPath
	if err := c.obj.CallWithContext(ctx, managerName+".GetUnit", 0, name).Store(&p); err != nil {
		return nil, err
	}
	return c.conn.Object(destination, p), nil
}

func isNoUnit(err error) bool {
	var e dbus.Error
	return errors.As(err, &e) && e.Name == noSuchUnit
}

// result returns the Result of a scope, "" if the manager does not know it any
// more: it forgets those that ended well at once.
func (m Manager) result(ctx context.Context, name string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	c, err := m.open(ctx)
	if err != nil {
		return "", err
	}
	defer c.close()
	unit, err := c.unit(ctx, name)
	if err == nil {
		var result string
		if result, err = property[string](ctx, unit, scopeName, "Result"); err == nil {
			return result, nil
		}
	}
	if isNoUnit(err) {
		err = nil
	}
	return "", err
}

// killScope sends a signal to every process of a scope; one that is gone has none.
func (m Manager) killScope(ctx context.Context, name string, signal int32) error {
	return m.call(ctx, "KillUnit", name, "all", signal)
}

// resetScope makes the manager forget a scope that failed.
func (m Manager) resetScope(ctx context.Context, name string) error {
	return m.call(ctx, "ResetFailedUnit", name)
}

func (m Manager) call(ctx context.Context, method string, args ...any) error {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	c, err := m.open(ctx)
	if err != nil {
		return err
	}
	defer c.close()
	if err := c.obj.CallWithContext(ctx, managerName+"."+method, 0, args...).Err; err != nil && !isNoUnit(err) {
		return err
	}
	return nil
}

// scopeGone waits until the manager does not know a scope, or knows it as failed,
// and then makes it forget that. A scope ends when its cgroup is empty, some
// milliseconds later, without a word to us: the manager is asked again until ctx
// ends.
func (m Manager) scopeGone(ctx context.Context, name string) error {
	c, err := m.open(ctx)
	if err != nil {
		return err
	}
	defer c.close()
	for {
		unit, err := c.unit(ctx, name)
		if err != nil {
			if isNoUnit(err) {
				return nil
			}
			return err
		}
		state, err := property[string](ctx, unit, unitName, "ActiveState")
		if err == nil && state == "failed" {
			err = c.obj.CallWithContext(ctx, managerName+".ResetFailedUnit", 0, name).Err
		}
		if err != nil && !isNoUnit(err) {
			var e dbus.Error
			if !errors.As(err, &e) { // an answer about a unit that just went is no fault
				return err
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is still %s: %w", name, state, ctx.Err())
		case <-time.After(goneInterval):
		}
	}
}

const goneInterval = 20 * time.Millisecond

// failedScopes returns the scopes that failed and whose names begin as given.
func (m Manager) failedScopes(ctx context.Context, prefix string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	c, err := m.open(ctx)
	if err != nil {
		return nil, err
	}
	defer c.close()
	var units []struct {
		Name, Description, Load, Active, Sub, Following string
		Path                                            dbus.ObjectPath
		JobID                                           uint32
		JobType                                         string
		JobPath                                         dbus.ObjectPath
	}
	err = c.obj.CallWithContext(ctx, managerName+".ListUnitsByPatterns", 0,
		[]string{"failed"}, []string{prefix + "*" + scopeSuffix}).Store(&units)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, u := range units {
		if len(names) < maxLeftovers && strings.HasPrefix(u.Name, prefix) && validName(strings.TrimSuffix(u.Name, scopeSuffix)) {
			names = append(names, u.Name)
		}
	}
	return names, nil
}

package fastbindtest

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// nobody is the uid that other users are tried as (systemd's uids-gids.md).
const nobody = 65534

// connectable: some were renamed since they were bound, and their old names lead nowhere.
func (w *world) connectable(found []socket) []socket {
	found = slices.DeleteFunc(found, func(s socket) bool {
		return s.addr == "(unnamed)" || filepath.IsAbs(s.addr) && inodeAt(s.addr) == 0
	})
	for path := range w.sockets() {
		if !slices.ContainsFunc(found, func(s socket) bool { return s.addr == path }) {
			found = append(found, socket{"", "unix", path})
		}
	}
	return found
}

func (w *world) asOther(s socket) (how string, open bool) {
	if os.Geteuid() == 0 {
		return w.connectAs(nobody, s.addr)
	}
	return permitted(s.addr)
}

// hostPort makes an address of what /proc/net/tcp has: hexadecimal words in the
// byte order of the machine.
func hostPort(s string) string {
	host, port, _ := strings.Cut(s, ":")
	p, _ := strconv.ParseUint(port, 16, 16)
	var b []byte
	for i := 0; i+8 <= len(host); i += 8 {
		word, _ := strconv.ParseUint(host[i:i+8], 16, 32)
		b = append(b, byte(word), byte(word>>8), byte(word>>16), byte(word>>24))
	}
	addr, ok := netip.AddrFromSlice(b)
	if !ok {
		return s
	}
	return netip.AddrPortFrom(addr, uint16(p)).String()
}

// connectAs connects to a socket as another user, which only root can. Another
// user's connection that is closed unanswered was turned away too.
func (w *world) connectAs(uid int, addr string) (how string, open bool) {
	var c net.Conn
	var err error
	if derr := as(uid, func() { c, err = net.DialTimeout("unix", addr, time.Second) }); derr != nil {
		return permitted(addr)
	}
	if err != nil {
		return fmt.Sprintf("uid %d: %v", uid, errors.Unwrap(err)), false
	}
	defer c.Close()
	_ = w.send(c)
	const patience = 500 * time.Millisecond
	_ = c.SetReadDeadline(time.Now().Add(patience))
	n, err := c.Read(make([]byte, 1))
	switch {
	case n > 0:
		return fmt.Sprintf("uid %d connected and was answered", uid), true
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Sprintf("uid %d connected and was not turned away", uid), true
	}
	return fmt.Sprintf("uid %d connected and was turned away", uid), false
}

// as runs f with another effective uid and no group of ours. The raw calls change
// one thread only, where those of package syscall change all (nptl(7)).
func as(uid int, f func()) error {
	done := make(chan error, 1)
	go func() {
		// Not unlocked: the thread ends with the goroutine, and its identity with it.
		runtime.LockOSThread()
		done <- func() error {
			if _, _, e := syscall.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0); e != 0 {
				return os.NewSyscallError("setgroups", e)
			}
			const keep = ^uintptr(0)
			if _, _, e := syscall.RawSyscall(unix.SYS_SETRESGID, keep, uintptr(uid), keep); e != 0 {
				return os.NewSyscallError("setresgid", e)
			}
			if _, _, e := syscall.RawSyscall(unix.SYS_SETRESUID, keep, uintptr(uid), keep); e != 0 {
				return os.NewSyscallError("setresuid", e)
			}
			f()
			return nil
		}()
	}()
	return <-done
}

// permitted looks at modes, where nobody else can be tried.
func permitted(addr string) (how string, open bool) {
	if strings.HasPrefix(addr, "@") {
		return "an abstract name, open to every user of the machine", true
	}
	const write, search = 0o002, 0o001
	fi, err := os.Stat(addr)
	if err != nil {
		return "it has no name any more", false
	}
	if fi.Mode()&write == 0 {
		return fmt.Sprintf("mode %v", fi.Mode().Perm()), false
	}
	for dir := filepath.Dir(addr); ; dir = filepath.Dir(dir) {
		fi, err := os.Stat(dir)
		if err != nil || fi.Mode()&search == 0 {
			return fmt.Sprintf("others cannot pass %s", dir), false
		}
		if dir == filepath.Dir(dir) {
			return "every user can write to it, and pass all directories to it", true
		}
	}
}

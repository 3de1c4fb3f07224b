package fastbindtest

import (
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/windows"

	"github.com/fastbind/fastbind/internal/runtimedir"
)

func addrPort(addr []byte, port uint16) string {
	a, _ := netip.AddrFromSlice(addr)
	return netip.AddrPortFrom(a, port).String()
}

// connectable: a pipe has one name, for everybody.
func (w *world) connectable(found []socket) []socket { return found }

// connects are the rights of which one is enough to open a pipe as a client.
const connects = windows.FILE_READ_DATA | windows.FILE_WRITE_DATA | windows.GENERIC_READ | windows.GENERIC_WRITE | windows.GENERIC_ALL

// asOther reads the pipe's access list. Nobody can be another user here without that one's
// password.
func (w *world) asOther(s socket) (how string, open bool) {
	how = "its access list cannot be read"
	t := listeners()
	for _, p := range w.family.members() {
		t.each(p.pid, func(h handle) {
			if is, state := h.instance(); open || state == 0 || is.id != s.id {
				return
			}
			sd, err := windows.GetSecurityInfo(h.h, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION|windows.DACL_SECURITY_INFORMATION)
			if err != nil {
				return
			}
			other, err := runtimedir.Access(sd, connects)
			switch {
			case err != nil:
				how = os.NewSyscallError("reading its access list", err).Error()
			case other != "":
				how, open = fmt.Sprintf("its access list lets %s in", other), true
			default:
				how, open = "its access list lets its user in, and nobody else", false
			}
		})
	}
	return how, open
}

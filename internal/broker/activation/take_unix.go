//go:build unix && !darwin

package activation

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// firstFD is the first descriptor that is handed down (SD_LISTEN_FDS_START).
const firstFD = 3

// take takes the announced descriptors; nobody is to be asked for others.
func take(announced, _ []string) ([]Socket, error) {
	var sockets []Socket
	for i, name := range announced {
		fd := firstFD + i
		// If it is not there, the number may by now be that of another file of this
		// process, which is not to be touched: the Go runtime has some.
		if _, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err != nil {
			return nil, fmt.Errorf("descriptor %d was announced as the socket %q: %w", fd, bounded(name), err)
		}
		unix.CloseOnExec(fd)
		sockets = append(sockets, Socket{name, os.NewFile(uintptr(fd), "descriptor "+strconv.Itoa(fd)+" of the service manager")})
	}
	return sockets, nil
}

//go:build unix

package standing

import (
	"bytes"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// listenHeir listens for who takes over.
func listenHeir(path string) (*net.UnixListener, error) {
	return net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
}

// sendFile sends a descriptor and its label, which is one line.
func sendFile(conn *net.UnixConn, label string, f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	err = raw.Control(func(fd uintptr) {
		_, _, sent = conn.WriteMsgUnix([]byte(label+"\n"), unix.UnixRights(int(fd)), nil)
	})
	if err == nil {
		err = sent
	}
	return err
}

// receiveFiles takes what sendFile has sent until the sender hangs up. Labels and
// descriptors come in the same order, though not always in the same message.
func receiveFiles(conn *net.UnixConn, each func(label string, f *os.File)) error {
	var text []byte
	var files []*os.File
	defer func() {
		for _, f := range files {
			_ = f.Close()
		}
	}()
	data, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(16*4))
	for {
		n, oobn, flags, _, err := conn.ReadMsgUnix(data, oob)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		received, bad := filesIn(oob[:oobn])
		files, text = append(files, received...), append(text, data[:n]...)
		for len(files) > 0 {
			line, rest, ok := bytes.Cut(text, []byte("\n"))
			if !ok {
				break
			}
			each(string(line), files[0])
			files, text = files[1:], rest
		}
		switch {
		case n == 0 && oobn == 0:
			return nil
		case bad || flags&unix.MSG_CTRUNC != 0 || len(text) > maxLabel || len(files) > 16:
			return errLabel
		}
	}
}

// filesIn returns the descriptors of a message, close-on-exec.
func filesIn(oob []byte) (files []*os.File, bad bool) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, true
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			bad = true
			continue
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "listener left by another broker"))
		}
	}
	return files, bad
}

//go:build unix

package control

import (
	"os"

	"golang.org/x/sys/unix"
)

// rightsSpace takes a few descriptors: who sends more than one is refused them.
var rightsSpace = unix.CmsgSpace(4 * 4)

func rights(fd int) []byte { return unix.UnixRights(fd) }

// filesIn takes the descriptors of a control message, close-on-exec
// (MSG_CMSG_CLOEXEC, which package net asks for where there is one).
func filesIn(oob []byte) (files []*os.File) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "listener"))
		}
	}
	return files
}

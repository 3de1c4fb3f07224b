//go:build !linux

package notify

import (
	"errors"
	"net"
)

const oobLen = 0

func bind(string) (*net.UnixConn, error) { return nil, errors.ErrUnsupported }

func passCredentials(*net.UnixConn) error { return errors.ErrUnsupported }

func receiveMessage(uintptr, []byte, []byte) (datagram, error) {
	return datagram{}, errors.ErrUnsupported
}

func closeFD(int) {}

//go:build !linux

package notify

import (
	"errors"
	"net"
)

func bind(string) (*net.UnixConn, error) { return nil, errors.ErrUnsupported }

func passCredentials(*net.UnixConn) error { return errors.ErrUnsupported }

// receiver: no Socket exists here.
type receiver struct {
	socket *Socket
	queue  *queue
	judge  judge
}

func (r *receiver) run() error { return errors.ErrUnsupported }

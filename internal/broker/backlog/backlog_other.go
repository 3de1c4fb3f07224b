//go:build !linux

package backlog

import (
	"errors"
	"syscall"
)

func inodeOf(syscall.Conn) (Inode, error) { return 0, errors.ErrUnsupported }

func of(syscall.Conn) (Queue, error) { return Queue{}, errors.ErrUnsupported }

func dump() (map[Inode]Queue, error) { return nil, errors.ErrUnsupported }

func waiting(syscall.Conn) ([]Inode, error) { return nil, errors.ErrUnsupported }

func accepted(syscall.Conn) (bool, error) { return false, errors.ErrUnsupported }

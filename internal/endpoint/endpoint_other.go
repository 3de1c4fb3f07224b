//go:build !unix

package endpoint

import (
	"errors"
	"io/fs"
	"net"
	"os"

	"github.com/fastbind/fastbind/internal/record"
)

func inodeOf(fs.FileInfo) (record.Inode, bool) { return record.Inode{}, false }

func Bind(path string) (*Socket, error) { return nil, sysError("bind", path, errors.ErrUnsupported) }

func (s *Socket) Listen() error { return errors.ErrUnsupported }

func (s *Socket) Close() error { return nil }

func Adopt(int) (*net.UnixListener, error) { return nil, errors.ErrUnsupported }

func AdoptCopy(*os.File) (*net.UnixListener, error) { return nil, errors.ErrUnsupported }

// AdoptFile makes a listener of another process's.
func AdoptFile(f *os.File) (*net.UnixListener, error) {
	return nil, errors.Join(f.Close(), errors.ErrUnsupported)
}

// TakeFile makes a Socket of a listener's file.
func TakeFile(f *os.File) (*Socket, error) { return nil, errors.Join(f.Close(), errors.ErrUnsupported) }

func (s *Socket) File(string) (*os.File, error) { return nil, errors.ErrUnsupported }

func (s *Socket) Shut() error { return errors.ErrUnsupported }

func (s *Socket) Waits() bool { return false }

// Relisten makes this process the one named as the listener's.
func Relisten(*net.UnixListener) error { return errors.ErrUnsupported }

func (s *Socket) Listener() (*net.UnixListener, error) { return nil, errors.ErrUnsupported }

func Shut(*net.UnixListener) error { return errors.ErrUnsupported }

func (s *Socket) Copy() (*Socket, error) { return nil, errors.ErrUnsupported }

func (s *Socket) Discard() error { return errors.ErrUnsupported }

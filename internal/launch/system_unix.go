//go:build unix

package launch

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/journal"
	"github.com/fastbind/fastbind/internal/lock"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/record"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// newName is the temporary name under which a link is made before it is renamed
// over another. It is fixed: only the lock's holder uses it, and what a killed
// one left is removed by the next.
const newName = "new"

// openLocked opens what the launch lock is on: the service's directory itself.
func openLocked(dir string) (*os.File, error) {
	return os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
}

// lockedPath is where that is.
func lockedPath(dir string) string { return dir }

// connect is [endpoint.Connect].
func (b *Broker) connect(ctx context.Context, path string) (*endpoint.Conn, endpoint.Reach, error) {
	return endpoint.Connect(ctx, path)
}

// dirOf returns the service's directory of an endpoint.
func (b *Broker) dirOf(sock string) string { return filepath.Dir(sock) }

// endpointNames are the endpoint's addresses of a service's directory.
func endpointNames(dir string) []string {
	return []string{filepath.Join(dir, runtimedir.SockName), filepath.Join(dir, runtimedir.KeepName)}
}

func (s *system) probeKeep(ctx context.Context) Outcome {
	return s.connectTo(ctx, s.place.Addr+"/"+runtimedir.KeepName)
}

// makeDir makes a private directory, whatever the umask is.
func makeDir(path string) error {
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	return os.Chmod(path, 0o700)
}

// dirfd is the locked directory's descriptor, valid while it is locked. Fd
// would make it blocking, which a directory is anyway.
func (s *system) dirfd() int { return int(s.dir.Fd()) }

// restore gives the listener that answered at keep its deleted name back.
func (s *system) restore() Outcome {
	err := s.putBack(runtimedir.KeepName, runtimedir.SockName)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		s.dropConn()
		return Absent
	case err != nil:
		return s.fault(StageBind, &fs.PathError{Op: "restore", Path: s.place.Sock(), Err: err})
	}
	s.b.Note(s.place.Root, journal.Event{Kind: "restored", Reason: "the endpoint's name was deleted; its listener lives"})
	s.restoreFurther()
	return OK
}

// putBack makes a name in the locked directory lead to where the other one does.
func (s *system) putBack(keep, sock string) error {
	fd := s.dirfd()
	_ = unix.Unlinkat(fd, newName, 0)
	err := unix.Linkat(fd, keep, fd, newName, 0)
	if err == nil {
		err = unix.Renameat(fd, newName, fd, sock)
		// Renaming one link of an inode over another does nothing and leaves
		// both (rename(2)).
		_ = unix.Unlinkat(fd, newName, 0)
	}
	return err
}

// executable reports, as exec(3) would, whether path is a file we may execute.
func executable(path string) error {
	fi, err := os.Stat(path)
	if err != nil {
		return err
	}
	if fi.IsDir() {
		return &fs.PathError{Op: "exec", Path: path, Err: syscall.EISDIR}
	}
	if err := unix.Faccessat(unix.AT_FDCWD, path, unix.X_OK, unix.AT_EACCESS); err != nil {
		return &fs.PathError{Op: "exec", Path: path, Err: err}
	}
	return nil
}

// CreateLife makes a generation's life lock and holds it.
func CreateLife(genDir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(genDir, runtimedir.LifeName), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(0o600); err != nil { // whatever the umask is
		_ = f.Close()
		return nil, err
	}
	// A probe holds a shared lock for an instant.
	for range 1000 {
		ok, err := lock.Try(f)
		if ok {
			return f, nil
		}
		if err != nil {
			_ = f.Close()
			return nil, err
		}
		time.Sleep(100 * time.Microsecond)
	}
	_ = f.Close()
	return nil, &fs.PathError{Op: "lock", Path: f.Name(), Err: syscall.EAGAIN}
}

// BindControl binds a generation's control endpoint and listens on it.
func BindControl(path string) (*endpoint.Socket, error) {
	c, err := endpoint.Bind(path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		_ = c.Close()
		return nil, err
	}
	if err := c.Listen(); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// unlink removes both stale names, once on one probe, and only those of the
// locked directory. A directory that an outsider made under one of our names is
// removed as well: nobody is ever told to delete a file.
func (s *system) unlink() Outcome {
	names, err := s.furtherNames()
	if err != nil {
		return s.fault(StageBind, err)
	}
	return s.unlinkNames(append(names, runtimedir.SockName, runtimedir.KeepName, newName)...)
}

func (s *system) unlinkNames(names ...string) Outcome {
	for _, name := range names {
		path := filepath.Join(s.place.Dir, name)
		err := unix.Unlinkat(s.dirfd(), name, 0)
		if err == unix.EISDIR || err == unix.EPERM {
			err = os.RemoveAll(path)
		}
		if err != nil && err != unix.ENOENT {
			return s.fault(StageBind, &fs.PathError{Op: "unlink", Path: path, Err: err})
		}
	}
	return OK
}

func (s *system) bind() Outcome {
	var err error
	switch s.mode {
	case Holds:
		err = s.b.standing.bind(s)
	case ByHand:
		s.gen.ln, err = s.b.Listen(s.place.Sock())
	default:
		s.gen.sock, err = endpoint.Bind(s.place.Sock())
	}
	if o := s.boundAt(runtimedir.SockName, err); o != OK {
		return o
	}
	return s.bindFurther()
}

// boundAt is the outcome of a bind at a name.
func (s *system) boundAt(name string, err error) Outcome {
	switch {
	case err == nil:
		return OK
	case errors.Is(err, syscall.EADDRINUSE) && !atPath(s.dir, s.place.Dir):
		return Moved // the name is in the directory that took the place of ours
	case errors.Is(err, syscall.EADDRINUSE) && s.named(name):
		return InUse
	case s.vanished(err):
		return Moved
	}
	return s.fault(StageBind, err)
}

// named reports whether an endpoint's name exists: a backend's own Bind may say
// "in use" of something else.
func (s *system) named(name string) bool {
	var st unix.Stat_t
	return unix.Fstatat(s.dirfd(), name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil
}

// verifyBind makes the name private and proves that it is in the locked
// directory: an outsider may have put another one at the path before we bound.
func (s *system) verifyBind() Outcome {
	inode, err := s.sockInode(runtimedir.SockName)
	if err != nil {
		return s.fault(StageBind, err)
	}
	if inode.IsZero() {
		return Moved
	}
	if s.mode == Holds {
		s.held.Inode = inode
	} else {
		s.gen.inode = inode
	}
	return OK
}

// sockInode returns the inode of an endpoint's name, zero if it is not in the locked
// directory, or that directory not at its path.
func (s *system) sockInode(name string) (record.Inode, error) {
	var st unix.Stat_t
	path := s.place.Addr + "/" + name
	switch err := unix.Fstatat(s.dirfd(), name, &st, unix.AT_SYMLINK_NOFOLLOW); {
	case err == unix.ENOENT:
		return record.Inode{}, nil
	case err != nil:
		return record.Inode{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return record.Inode{}, nil
	}
	if err := unix.Fchmodat(s.dirfd(), name, 0o600, 0); err != nil {
		return record.Inode{}, &fs.PathError{Op: "chmod", Path: path, Err: err}
	}
	inode := record.Inode{Dev: uint64(st.Dev), Ino: st.Ino} //nolint:unconvert // the widths differ between systems
	if at, err := endpoint.Inode(path); err != nil || at != inode {
		return record.Inode{}, ignoreMissing(err)
	}
	if at, err := endpoint.Inode(s.place.Dir); err != nil || at != s.dirInode {
		return record.Inode{}, ignoreMissing(err)
	}
	return inode, nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// keep gives the listener its second name. A file system without hard links to
// sockets has none: a deleted name then costs the generation.
func (s *system) keep() Outcome {
	if s.mode == DaemonBinds {
		inode, err := s.sockInode(runtimedir.SockName)
		if err != nil {
			return s.fault(StageBound, err)
		}
		if s.gen.inode = inode; inode.IsZero() {
			// Starting over would launch again and again what does this every time.
			return s.fault(StageBound, errors.New("it accepts connections, and its socket is not "+s.place.Sock()))
		}
	}
	if o := s.linkKeep(runtimedir.SockName, runtimedir.KeepName); o != OK {
		return o
	}
	return s.keepFurther(*s.made())
}

func (s *system) linkKeep(sock, keep string) Outcome {
	err := unix.Linkat(s.dirfd(), sock, s.dirfd(), keep, 0)
	if err == nil || errors.Is(err, errors.ErrUnsupported) || err == unix.EPERM || err == unix.EMLINK {
		return OK
	}
	if err == unix.ENOENT || err == unix.EEXIST {
		return Moved
	}
	return s.fault(StageBind, &fs.PathError{Op: "link", Path: filepath.Join(s.place.Dir, keep), Err: err})
}

// leadCurrent makes current in the locked directory, whose path was dir, lead to the
// generation.
func leadCurrent(locked *os.File, dir, generation string) error {
	return lead(locked, dir, runtimedir.CurrentName, generation)
}

// lead makes a name in the locked directory, whose path was dir, a link.
func lead(locked *os.File, dir, name, to string) error {
	fd, path := int(locked.Fd()), filepath.Join(dir, name)
	_ = unix.Unlinkat(fd, newName, 0)
	err := unix.Symlinkat(to, fd, newName)
	if err == nil {
		err = unix.Renameat(fd, newName, fd, name)
	}
	if err == unix.EISDIR || err == unix.ENOTEMPTY {
		if err = os.RemoveAll(path); err == nil {
			err = unix.Renameat(fd, newName, fd, name)
		}
	}
	if err != nil {
		return &fs.PathError{Op: "link", Path: path, Err: err}
	}
	return nil
}

// unlinkMade removes the names of the endpoint and its further ones that this launch
// made, if they still are its own.
func (s *system) unlinkMade(own record.Inode, list []*further) {
	s.unlinkFurther(list)
	s.unlinkOwn(own, runtimedir.SockName, runtimedir.KeepName)
}

// unlinkOwn removes the names that this launch made, if they still are its own.
func (s *system) unlinkOwn(own record.Inode, names ...string) {
	for _, name := range names {
		var st unix.Stat_t
		err := unix.Fstatat(s.dirfd(), name, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err == nil && (record.Inode{Dev: uint64(st.Dev), Ino: st.Ino}) == own { //nolint:unconvert // as above
			_ = unix.Unlinkat(s.dirfd(), name, 0)
		}
	}
}

// restoreCurrent leads current back to the generation before ours.
func (s *system) restoreCurrent() {
	_ = unix.Unlinkat(s.dirfd(), runtimedir.CurrentName, 0)
	if s.current != "" {
		_ = unix.Symlinkat(s.current, s.dirfd(), runtimedir.CurrentName)
	}
}

// createCurrent makes current lead to the generation, unless anything is there.
func createCurrent(dir, generation string) error {
	return os.Symlink(generation, filepath.Join(dir, runtimedir.CurrentName))
}

// IsNamed reports whether a name of the endpoint leads to the listener. A cleaner
// may have removed one: who dials puts it back.
func IsNamed(dir string, inode record.Inode) bool {
	return leadsTo(dir, inode, runtimedir.SockName, runtimedir.KeepName)
}

func removeNamesLocked(dir string, own record.Inode) {
	for _, path := range endpointNames(dir) {
		if inode, err := endpoint.Inode(path); err == nil && inode == own {
			_ = os.Remove(path)
		}
	}
}

// askToEnd sends the signal.
func askToEnd(_ context.Context, _ runtimedir.Place, _ Entry, h *proc.Handle, sig syscall.Signal) error {
	return h.Signal(sig)
}

func removeAll(path string) error { return os.RemoveAll(path) }

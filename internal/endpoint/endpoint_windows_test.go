package endpoint

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/windows"

	"github.com/fastbind/fastbind/internal/owner"
	"github.com/fastbind/fastbind/internal/pipe"
)

func newName() string { return pipe.Prefix + "fastbind-test-" + rand.Text() }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t testing.TB, name string, reach Reach) {
	t.Helper()
	c, got, err := Connect(context.Background(), name)
	if c != nil {
		_ = c.Close()
	}
	if got != reach || (err == nil) != (reach == Reached) {
		t.Errorf("connect: %d, %v; want %d", got, err, reach)
	}
}

// TestConnect: what each name tells about a daemon. Only "absent" says that nobody can
// accept there (R8).
func TestConnect(t *testing.T) {
	name := newName()
	want(t, name, Absent)
	s, err := Bind(name, 1)
	must(t, err)
	c, reach, err := Connect(t.Context(), name)
	if reach != Reached || err != nil || c == nil {
		t.Fatalf("%v, %v", reach, err)
	}
	defer c.Close()
	if pid, err := PeerPID(c); err != nil || pid != os.Getpid() {
		t.Errorf("the peer is %d, %v", pid, err)
	}
	want(t, name, Busy)
	must(t, s.Close())
	want(t, name, Absent)
	want(t, `C:\no\pipe`, Broken)
}

// TestClassify: whoever's name is not ours is foreign, and a lack of memory says nothing
// about the daemon (R35).
func TestClassify(t *testing.T) {
	for err, reach := range map[error]Reach{
		owner.Check(nil):                       Foreign,
		windows.ERROR_ACCESS_DENIED:            Foreign,
		windows.ERROR_PIPE_BUSY:                Busy,
		windows.ERROR_PIPE_NOT_CONNECTED:       Busy,
		windows.ERROR_FILE_NOT_FOUND:           Absent,
		windows.ERROR_NO_SYSTEM_RESOURCES:      Broken,
		context.Canceled:                       Broken,
		&fs.PathError{Err: windows.ERROR_BUSY}: Broken,
	} {
		if got := classify(err); got != reach {
			t.Errorf("%v: %d, want %d", err, got, reach)
		}
	}
	if !IsLack(windows.ERROR_NO_SYSTEM_RESOURCES) || IsLack(windows.ERROR_ACCESS_DENIED) {
		t.Error("a lack is not told from a refusal")
	}
}

// TestBindBeside: a name whose listener was shut can be served by the next one while the
// last connections go on, and any that is gone claimed.
func TestBindBeside(t *testing.T) {
	name := newName()
	s, err := Bind(name, 2)
	must(t, err)
	if _, err := Bind(name, 2); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second claimer: %v (R35)", err)
	}
	old, err := s.Listener()
	must(t, err)
	client, _, err := Connect(t.Context(), name)
	must(t, err)
	defer client.Close()
	served, err := old.AcceptPipe()
	must(t, err)
	must(t, Shut(old))
	want(t, name, Busy)
	next, err := BindBeside(name, 2)
	must(t, err)
	want(t, name, Reached)
	must(t, served.Close())
	must(t, old.Close())
	must(t, next.Close())
	_ = client.Close()
	want(t, name, Absent)
	again, err := BindBeside(name, 1)
	must(t, err)
	want(t, name, Reached)
	must(t, again.Close())
}

// TestInode: it is the file's, whatever its name is, and no two have the same.
func TestInode(t *testing.T) {
	dir := t.TempDir()
	a, b, c := filepath.Join(dir, "a"), filepath.Join(dir, "b"), filepath.Join(dir, "c")
	f, err := os.Create(a)
	must(t, err)
	must(t, os.WriteFile(b, nil, 0o600))
	ia, err := Inode(a)
	must(t, err)
	ib, err := Inode(b)
	must(t, err)
	of, err := InodeOf(f)
	must(t, err)
	must(t, f.Close())
	must(t, os.Rename(a, c))
	ic, err := Inode(c)
	must(t, err)
	fi, err := os.Stat(c)
	must(t, err)
	if ia.IsZero() || ia == ib || ia != of || ia != ic || FileID(c, fi) != ia {
		t.Errorf("%v, %v, open %v, renamed %v", ia, ib, of, ic)
	}
	if _, err := Inode(a); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of nothing: %v", err)
	}
	if i, err := Inode(dir); err != nil || i.IsZero() || i == ia {
		t.Errorf("of a directory: %v, %v", i, err)
	}
}

package journal

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/fastbind/fastbind/internal/reexec"
)

func TestMain(m *testing.M) { os.Exit(reexec.Main(m)) }

// echoHelper is a daemon that writes what it is told to its standard error.
var echoHelper = reexec.Helper("echo", func([]string) {
	for s := bufio.NewScanner(os.Stdin); s.Scan(); {
		fmt.Fprintln(os.Stderr, s.Text())
		fmt.Println("written")
	}
})

// TestRotateUnderDaemon: a log is moved aside while a daemon has it for its standard
// error and somebody reads it; each goes on with the file it has.
func TestRotateUnderDaemon(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	log, err := Open(path, os.O_WRONLY)
	if err != nil {
		t.Fatal(err)
	}
	cmd := reexec.Command(t, echoHelper)
	cmd.Stderr = log
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	log.Close()
	defer func() { in.Close(); cmd.Wait() }()
	said := bufio.NewReader(out)
	say := func(line string) {
		t.Helper()
		fmt.Fprintln(in, line)
		if s, err := said.ReadString('\n'); err != nil {
			t.Fatalf("%q, %v", s, err)
		}
	}

	say("before")
	reader, err := openRead(path)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if err := os.Truncate(path, MaxSize); err != nil {
		t.Fatal(err)
	}
	if err := Rotate(path); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("still there: %v", err)
	}
	say("after")
	if lines, err := Tail(path+".1", 0, 1, 1<<10); err != nil || len(lines) != 1 || !strings.HasSuffix(lines[0], "after") {
		t.Errorf("the moved log ends with %q, %v", lines, err)
	}
	if n, err := reader.Seek(0, io.SeekEnd); n != MaxSize+int64(len("after\n")) || err != nil {
		t.Errorf("the reader's file has %d bytes, %v", n, err)
	}
	// The next log is another file, and the old one can be replaced and deleted.
	next, err := Open(path, os.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	if err := os.Truncate(path, MaxSize); err != nil {
		t.Fatal(err)
	}
	if err := Rotate(path); err != nil {
		t.Errorf("over one that is open: %v", err)
	}
	if err := os.Remove(path + ".1"); err != nil {
		t.Errorf("one that is open: %v", err)
	}
	// What is open keeps a name on some systems, and no longer than it is open.
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	reader.Close()
	next.Close()
	if names, err := os.ReadDir(filepath.Dir(path)); len(names) != 0 || err != nil {
		t.Errorf("there are %v, %v", names, err)
	}
}

// TestAppends: whoever writes through whatever handle, it goes to the end. In turns, as Wine
// looks for the end and writes in two steps; Windows makes one of it.
func TestAppends(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	var files []*os.File
	for _, access := range []int{os.O_WRONLY, os.O_RDWR, os.O_WRONLY} {
		f, err := Open(path, access)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files = append(files, f)
	}
	var want strings.Builder
	for i := range 100 {
		line := strconv.Itoa(i) + "\n"
		want.WriteString(line)
		if _, err := files[i%len(files)].WriteString(line); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := os.ReadFile(path); string(b) != want.String() || err != nil {
		t.Errorf("%q, %v", b, err)
	}
}

func TestOpenFollowsNoLink(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "target")
	if err := os.WriteFile(target, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "log")
	if err := os.Symlink(target, link); err != nil {
		t.Skipf("needs the right to make a link: %v", err)
	}
	if _, err := os.Lstat(link); err != nil {
		t.Skip("this system says that it makes links, and makes none (Wine)")
	}
	if f, err := Open(link, os.O_WRONLY); err == nil {
		f.Close()
		t.Error("a link was opened")
	}
}

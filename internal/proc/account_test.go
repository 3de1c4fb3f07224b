package proc

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
)

func TestFindAccount(t *testing.T) {
	long := "long:x:50:50:" + strings.Repeat("g", maxPasswdLine) + ":/long:/bin/sh\n"
	db := "# comment:x:1:1::/:/bin/sh\n" +
		"\n" +
		"+nis:x:2:2::/:/bin/sh\n" +
		"-nis:x:3:3::/:/bin/sh\n" +
		"root:x:0:0:root:/root:/bin/bash\n" +
		"a:x:1000:1000:A, with: six colons:/a:/bin/sh\n" +
		"b:x:1001:1001:B:/home/b:\n" +
		"c:x:1001:1001:second of its uid:/home/c:/bin/zsh\n" +
		"d:x:+1002:1002::/home/d:/bin/sh\n" +
		"e:x:1003\n" +
		"f:x:4294967295:1:::/bin/sh\n" +
		"g:x:4294968304:1::/g:/bin/sh\n" +
		":x:1004:1::/h:/bin/sh\n" +
		"n\x00:x:1005:1::/h:/bin/sh\n" +
		long +
		"z:x:1006:1006::/home/z:/usr/sbin/nologin" // no newline
	for _, tc := range []struct {
		uid               int
		home, name, shell string
	}{
		{0, "/root", "root", "/bin/bash"},
		{1001, "/home/b", "b", "/bin/sh"},
		{1006, "/home/z", "z", "/usr/sbin/nologin"},
		{1008, "", "", ""}, // 4294968304 cut to 32 bits
		{1, "", "", ""},
		{2, "", "", ""},
		{3, "", "", ""},
		{50, "", "", ""},
		{1000, "", "", ""},
		{1002, "", "", ""},
		{1003, "", "", ""},
		{1004, "", "", ""},
		{1005, "", "", ""},
		{-1, "", "", ""},
	} {
		home, name, shell, ok, err := findAccount(iotest.OneByteReader(strings.NewReader(db)), tc.uid, 1<<20)
		if home != tc.home || name != tc.name || shell != tc.shell || ok != (tc.name != "") || err != nil {
			t.Errorf("uid %d: %q, %q, %q, %v, %v", tc.uid, home, name, shell, ok, err)
		}
	}

	t.Run("largest line", func(t *testing.T) {
		const ends = "a:x:9:9::/a:/bin/sh"
		line := strings.Replace(ends, "::/", ":"+strings.Repeat("g", maxPasswdLine-1-len(ends))+":/", 1) + "\n"
		if len(line) != maxPasswdLine {
			t.Fatal(len(line))
		}
		if _, _, _, ok, err := findAccount(strings.NewReader(line), 9, 1<<20); !ok || err != nil {
			t.Errorf("not found: %v", err)
		}
	})
	t.Run("bound", func(t *testing.T) {
		if _, _, _, ok, err := findAccount(endless{}, 9, 1<<20); ok || err != nil {
			t.Errorf("%v, %v", ok, err)
		}
	})
	t.Run("read error", func(t *testing.T) {
		r := io.MultiReader(strings.NewReader("a:x:1:1:"), iotest.ErrReader(fs.ErrPermission))
		if _, _, _, ok, err := findAccount(r, 1, 1<<20); ok || !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%v, %v", ok, err)
		}
	})
}

// endless is a line without an end.
type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
	}
	return len(b), nil
}

func TestAccount(t *testing.T) {
	if _, err := os.Stat(PasswdPath); err != nil {
		t.Skip("no password file: ", err)
	}
	if home, name, shell, err := Account(0); err != nil || home == "" || name == "" || shell == "" {
		t.Errorf("uid 0: %q, %q, %q, %v", home, name, shell, err)
	}
	const missing = 2147483646
	_, _, _, err := Account(missing)
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), strconv.Itoa(missing)) {
		t.Errorf("missing uid: %v", err)
	}
}

func FuzzAccount(f *testing.F) {
	f.Add([]byte("root:x:0:0:root:/root:/bin/bash\n"), 0)
	f.Add([]byte("+:::::\nb:x:7:7:::"), 7)
	f.Fuzz(func(t *testing.T, db []byte, uid int) {
		home, name, shell, ok, err := findAccount(strings.NewReader(string(db)), uid, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return
		}
		if uid < 0 || name == "" || shell == "" || strings.ContainsAny(home+name+shell, ":\n\x00") {
			t.Fatalf("uid %d: %q, %q, %q", uid, home, name, shell)
		}
		line := name + ":x:" + strconv.Itoa(uid) + ":1::" + home + ":" + shell
		h, n, s, ok := parseAccount([]byte(line), uid)
		if h != home || n != name || s != shell || !ok {
			t.Fatalf("round trip of %q: %q, %q, %q, %v", line, h, n, s, ok)
		}
	})
}

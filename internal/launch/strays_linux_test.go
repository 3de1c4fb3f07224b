package launch

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// TestStrays (R4): what an ancestor left inheritable is found however large the table of
// descriptors is, and no other. It is asked for one by one up to maxAsked, listed beyond.
func TestStrays(t *testing.T) {
	dup := func(cmd, lowest int) int {
		t.Helper()
		fd, err := unix.FcntlInt(2, cmd, lowest)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(fd) })
		return fd
	}
	want, err := strays(3) // what runs the tests may have left some
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, dup(unix.F_DUPFD, 3))
	dup(unix.F_DUPFD_CLOEXEC, 3)
	check := func(size string) {
		t.Helper()
		got, err := strays(3)
		slices.Sort(got)
		slices.Sort(want)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: strays %v, %v; want %v", size, got, err, want)
		}
	}
	if n := tableSize(); n == 0 || n > maxAsked {
		t.Fatalf("the table of this process has %d places", n)
	}
	check("asked")
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur <= maxAsked {
		t.Skipf("no descriptor beyond %d may be open: RLIMIT_NOFILE is %d, %v", maxAsked, limit.Cur, err)
	}
	want = append(want, dup(unix.F_DUPFD, maxAsked))
	if n := tableSize(); n <= maxAsked {
		t.Fatalf("the table has %d places with descriptor %d open", n, maxAsked)
	}
	check("listed")
}

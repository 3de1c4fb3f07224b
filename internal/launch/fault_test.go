package launch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/record"
)

// TestFaultText: the sentence a waiter reads has the stage, the cause and how
// the process ended, or that nobody knows (R3), and what differs (R16).
func TestFaultText(t *testing.T) {
	retry := time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)
	for want, f := range map[string]Fault{
		`"gocache": failed in stage load: no index (exit status 3)`: {
			Service: "gocache", Instance: "default", Stage: StageLoad, Err: errors.New("no index"), Status: 3},
		`"gocache" of instance "ci": failed in stage load: no index (signal: killed)`: {
			Service: "gocache", Instance: "ci", Stage: StageLoad, Err: errors.New("no index"), Status: -1, Signal: "killed"},
		`"gocache": failed in stage serve: the process is gone (exit status unknown: launcher left)`: {
			Service: "gocache", Stage: StageServe, Err: errors.New("the process is gone"), Status: -1, Unknown: true},
		`"gocache": failed in stage load: no index`: {
			Service: "gocache", Stage: StageLoad, Err: errors.New("no index"), Status: 0},
		`"gocache": refused in stage budget: 3 launches failed, retry after 15:04:05`: {
			Class: Refusal, Service: "gocache", Stage: StageBudget, Err: errors.New("3 launches failed"), Status: -1, RetryAt: retry},
		`"gocache": refused in stage policy: another environment: env LANG: have another value, want this client's value; env TZ: have set, want none`: {
			Class: Refusal, Service: "gocache", Stage: StagePolicy, Err: errors.New("another environment"), Status: -1,
			Differences: []definition.Difference{{Field: "env LANG", Have: "another value", Want: "this client's value"}, {Field: "env TZ", Have: "set"}}},
		`"gocache": no answer within the deadline, stage wait: context deadline exceeded`: {
			Class: Deadline, Service: "gocache", Stage: StageWait, Err: context.DeadlineExceeded, Status: -1},
		`"gocache": it is not running`: {
			Class: NotRunning, Service: "gocache", Stage: StageStop, Err: errNotRunning, Status: -1},
		`"gocache": no such service: it was never launched here`: {
			Class: NoService, Service: "gocache", Stage: StageDirectory, Err: errNoService, Status: -1},
		`"gocache": hung: no answer for 30s (signal: killed)`: {
			Class: Hung, Service: "gocache", Stage: StageServe, Err: errors.New("hung: no answer for 30s"), Status: -1, Signal: "killed"},
		`"gocache": failed in stage spawn`: {
			Service: "gocache", Stage: StageSpawn, Status: -1},
	} {
		if got := f.Error(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		// Advice is the command's to print.
		f.Cure = "restart it"
		if got := f.Error(); got != want {
			t.Errorf("the cure is in the error: %s", got)
		}
		if f.Err != nil && !errors.Is(&f, f.Err) {
			t.Errorf("%s does not wrap its cause", want)
		}
	}
}

// TestBindKind: bind errors are told apart by errno, also where user code
// returned the system's error raw or wrapped.
func TestBindKind(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{syscall.EADDRINUSE, BindAlreadyBound},
		{syscall.EEXIST, BindAlreadyBound},
		{syscall.EINVAL, BindInvalidEndpoint},
		{syscall.ENAMETOOLONG, BindInvalidEndpoint},
		{syscall.ENOENT, BindInvalidEndpoint},
		{syscall.ENOTDIR, BindInvalidEndpoint},
		{syscall.ELOOP, BindInvalidEndpoint},
		{syscall.EAFNOSUPPORT, BindInvalidEndpoint},
		{syscall.EACCES, BindSystem},
		{syscall.EMFILE, BindSystem},
		{syscall.ENOSPC, BindSystem},
		{syscall.EROFS, BindSystem},
		{errors.New("no luck"), BindOther},
		{ErrAlreadyBound, BindAlreadyBound},
		{ErrInvalidEndpoint, BindInvalidEndpoint},
		// The author's class is above the system's number.
		{fmt.Errorf("%w: %w", ErrInvalidEndpoint, syscall.EACCES), BindInvalidEndpoint},
		{fmt.Errorf("%w: %w", ErrAlreadyBound, syscall.EACCES), BindAlreadyBound},
	} {
		for _, err := range []error{c.err, &os.SyscallError{Syscall: "bind", Err: c.err}, fmt.Errorf("listen: %w", c.err)} {
			if got := BindKind(err); got != c.want {
				t.Errorf("BindKind(%v) = %s, want %s", err, got, c.want)
			}
		}
	}
}

// TestRecordedFault: what was written about a failure reaches a waiter in
// another process with its class, errno, end of the log and path (R3).
func TestRecordedFault(t *testing.T) {
	if f := RecordedFault(record.Record{}); f != nil {
		t.Fatalf("a record without a failure has the fault %v", f)
	}
	log := filepath.Join(t.TempDir(), "gocache.log")
	before := "the generation before\n"
	var lines strings.Builder
	for i := range 25 {
		fmt.Fprintf(&lines, "line %d\n", i)
	}
	if err := os.WriteFile(log, []byte(before+lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	cause := &fs.PathError{Op: "bind", Path: "/run/sock", Err: syscall.EADDRINUSE}
	failure := newFailure(StageBind, cause, 5*time.Second, time.Unix(1700000000, 0).UTC())
	failure.Status = 3

	path := filepath.Join(t.TempDir(), "record")
	r := record.Record{
		Generation: 4, Definition: definition.Definition{Service: "gocache", Instance: "ci", Command: []string{"x"}}.Complete(),
		Log: log, LogOffset: int64(len(before)),
	}
	if err := record.Create(path, record.LaunchLines(r)); err != nil {
		t.Fatal(err)
	}
	if err := record.Append(path, record.FailureLines(failure)...); err != nil {
		t.Fatal(err)
	}
	read, err := record.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	f := RecordedFault(read)
	var tail []string
	for i := 15; i < 25; i++ {
		tail = append(tail, fmt.Sprintf("line %d", i))
	}
	want := &Fault{
		Class: LaunchFailed, Service: "gocache", Instance: "ci", Stage: StageBind, Generation: 4,
		Err:    &Cause{Text: "bind /run/sock: address already in use", Errno: syscall.EADDRINUSE, Kind: BindAlreadyBound},
		Status: 3, Log: log, LogTail: tail,
	}
	if diff := cmp.Diff(want, f); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, target := range []error{ErrAlreadyBound, syscall.EADDRINUSE} {
		if !errors.Is(f, target) {
			t.Errorf("the fault is not %v", target)
		}
	}
	for _, target := range []error{ErrInvalidEndpoint, syscall.EACCES, syscall.Errno(0)} {
		if errors.Is(f, target) {
			t.Errorf("the fault is %v", target)
		}
	}

	// The next generation's launcher notes where its own output begins; the log
	// may be moved aside, and once more.
	inode, err := endpoint.Inode(log)
	if err != nil {
		t.Fatal(err)
	}
	if err := record.Append(path, record.LogEndLines(int64(len(before)+lines.Len()), inode)...); err != nil {
		t.Fatal(err)
	}
	if read, err = record.Read(path); err != nil {
		t.Fatal(err)
	}
	add := func(text string) {
		t.Helper()
		old, _ := os.ReadFile(log)
		if err := os.WriteFile(log, append(old, text...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	add("the generation after\n")
	if diff := cmp.Diff(tail, RecordedFault(read).LogTail); diff != "" {
		t.Errorf("with another generation's output behind it (-want +got):\n%s", diff)
	}
	if err := os.Rename(log, log+".1"); err != nil {
		t.Fatal(err)
	}
	add("the generation after that\n")
	if diff := cmp.Diff(tail, RecordedFault(read).LogTail); diff != "" {
		t.Errorf("moved aside (-want +got):\n%s", diff)
	}
	if err := os.Rename(log, log+".1"); err != nil {
		t.Fatal(err)
	}
	if got := RecordedFault(read).LogTail; got != nil {
		t.Errorf("of a log that is gone: %q", got)
	}
	add("")

	// A log that was removed takes only its lines along.
	if err := os.Remove(log); err != nil {
		t.Fatal(err)
	}
	if f := RecordedFault(read); f.LogTail != nil || f.Log != log {
		t.Errorf("without a log: %+v", f)
	}
}

// TestNewFailure: the kind is of bind errors alone, the errno of any.
func TestNewFailure(t *testing.T) {
	now := time.Unix(1700000000, 0)
	for _, c := range []struct {
		stage string
		err   error
		want  record.Failure
	}{
		{StageSpawn, syscall.EAGAIN, record.Failure{Cause: "resource temporarily unavailable", Errno: syscall.EAGAIN}},
		{StageBind, syscall.EMFILE, record.Failure{Cause: "too many open files", Errno: syscall.EMFILE, Kind: BindSystem}},
		{StageBind, errors.New("no luck"), record.Failure{Cause: "no luck", Kind: BindOther}},
		{StageLoad, nil, record.Failure{}},
	} {
		c.want.Stage, c.want.Status, c.want.At, c.want.Time = c.stage, -1, time.Second, now
		if diff := cmp.Diff(c.want, newFailure(c.stage, c.err, time.Second, now)); diff != "" {
			t.Errorf("%s %v (-want +got):\n%s", c.stage, c.err, diff)
		}
	}
}

package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/fastbind/fastbind/internal/jsonlite"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 5000, time.FixedZone("", 3600))

func write(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "gocache.log")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestGolden: the journal's lines are read by other programs and releases.
func TestGolden(t *testing.T) {
	for _, c := range []struct {
		event Event
		want  string
	}{
		{
			Event{Kind: "launched", Service: "gocache", Instance: "ci", Generation: 7, PID: 1234, Reason: "first dial", Fields: []Field{
				{Key: "bound_after_us", Value: "850", Number: true}, {Key: "status", Value: "-1", Number: true}, {Key: "stage", Value: "load"}}},
			`{"schema":1,"time":"2026-01-02T11:00:00.000005Z","event":"launched","service":"gocache","instance":"ci","generation":7,"pid":1234,"reason":"first dial","bound_after_us":850,"status":-1,"stage":"load"}`,
		},
		{
			Event{Kind: "refused", Service: "gocache", Instance: "default"},
			`{"schema":1,"time":"2026-01-02T11:00:00.000005Z","event":"refused","service":"gocache","instance":"default"}`,
		},
		{
			Event{Kind: "failed", Service: "gocache", Instance: "default", Reason: "open \"/a\\b\":\n\tno <such> file\x00 é\xff\u2028"},
			`{"schema":1,"time":"2026-01-02T11:00:00.000005Z","event":"failed","service":"gocache","instance":"default","reason":"open \"/a\\b\":\n\tno <such> file\u0000 é` + "\ufffd\u2028" + `"}`,
		},
	} {
		path := filepath.Join(t.TempDir(), "journal")
		if err := Append(path, noon, c.event); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want+"\n", string(got)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

// limited is what becomes of a value: cut at its bound, valid UTF-8.
func limited(s string) string {
	if len(s) > 4096 {
		s = s[:4096]
	}
	// As encoding/json does: each invalid byte is a character of its own.
	return string([]rune(s))
}

// TestLinesAreJSON compares with encoding/json for events of any content.
func TestLinesAreJSON(t *testing.T) {
	text := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
		rapid.Map(rapid.IntRange(4090, 4100), func(n int) string { return strings.Repeat("x", n) + "é…\U0001f600" + strings.Repeat("\n", 90) }))
	rapid.Check(t, func(t *rapid.T) {
		e := Event{Kind: text.Draw(t, "kind"), Service: text.Draw(t, "service"), Instance: text.Draw(t, "instance"),
			Generation: rapid.Uint64().Draw(t, "generation"), PID: rapid.IntRange(0, 1<<22).Draw(t, "pid"), Reason: text.Draw(t, "reason"),
			Fields: []Field{{Key: "n", Value: strconv.FormatInt(rapid.Int64().Draw(t, "n"), 10), Number: true}, {Key: text.Draw(t, "key") + " ", Value: text.Draw(t, "value")}},
		}
		dir, err := os.MkdirTemp("", "journal")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		path := filepath.Join(dir, "journal")
		if err := Append(path, noon, e); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Count(b, []byte("\n")) != 1 || !bytes.HasSuffix(b, []byte("\n")) || !utf8.Valid(b) {
			t.Fatalf("not one line of UTF-8: %q", b)
		}
		d := json.NewDecoder(bytes.NewReader(b))
		d.UseNumber()
		var got map[string]any
		if err := d.Decode(&got); err != nil {
			t.Fatalf("%v: %s", err, b)
		}
		want := map[string]any{
			"schema": json.Number("1"), "time": "2026-01-02T11:00:00.000005Z", "event": limited(e.Kind),
			"service": limited(e.Service), "instance": limited(e.Instance),
			"n": json.Number(e.Fields[0].Value), string([]rune(e.Fields[1].Key)): limited(e.Fields[1].Value),
		}
		if e.Generation != 0 {
			want["generation"] = json.Number(strconv.FormatUint(e.Generation, 10))
		}
		if e.PID != 0 {
			want["pid"] = json.Number(strconv.Itoa(e.PID))
		}
		if e.Reason != "" {
			want["reason"] = limited(e.Reason)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

// TestAppendAfterTornLine: half a line of a killed writer spoils no other event.
func TestAppendAfterTornLine(t *testing.T) {
	path := write(t, `{"schema":1,"ti`)
	for range 2 {
		if err := Append(path, noon, Event{Kind: "launched"}); err != nil {
			t.Fatal(err)
		}
	}
	lines, err := Tail(path, 0, 10, 1<<20)
	if err != nil || len(lines) != 3 {
		t.Fatalf("%q, %v", lines, err)
	}
	for _, l := range lines[1:] {
		if !json.Valid([]byte(l)) {
			t.Errorf("spoilt: %s", l)
		}
	}
}

func TestAppendPrivate(t *testing.T) {
	if filepath.Separator == '\\' {
		t.Skip("file modes are Unix's")
	}
	path := filepath.Join(t.TempDir(), "journal")
	if err := Append(path, noon, Event{}); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", fi.Mode(), err)
	}
	if err := Append(filepath.Join(path, "below-a-file"), noon, Event{}); err == nil {
		t.Error("no error for a journal that cannot be")
	}
}

// TestRotate: at its bound the file is moved aside, one old one is kept, and
// nothing that can still be read is lost before.
func TestRotate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	if err := Rotate(path); err != nil {
		t.Fatalf("nothing to rotate: %v", err)
	}
	at := func(size int64) {
		t.Helper()
		if err := os.WriteFile(path, []byte("begin"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
		if err := Rotate(path); err != nil {
			t.Fatal(err)
		}
	}
	exists := func(path string) bool {
		_, err := os.Stat(path)
		return err == nil
	}
	at(MaxSize - 1)
	if !exists(path) || exists(path+".1") {
		t.Error("moved aside before its time")
	}
	at(MaxSize)
	if exists(path) || !exists(path+".1") {
		t.Error("not moved aside")
	}
	at(MaxSize + 7)
	if fi, err := os.Stat(path + ".1"); err != nil || fi.Size() != MaxSize+7 {
		t.Errorf("the old file is not the last: %v, %v", fi, err)
	}
	// Who writes on keeps its file: nothing is truncated under it.
	f, err := Open(path, os.O_WRONLY)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	at(MaxSize)
	if _, err := f.WriteString("on"); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(path + ".1"); err != nil || fi.Size() != MaxSize+2 {
		t.Errorf("%v, %v", fi, err)
	}
	if names, _ := os.ReadDir(filepath.Dir(path)); len(names) != 1 {
		t.Errorf("%d files, one old one is kept", len(names))
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Rotate(filepath.Join(path, "x", "y")); err != nil {
		t.Errorf("below what is missing: %v", err)
	}
}

// TestTail holds the bounds of what a fault shows of a log.
func TestTail(t *testing.T) {
	for _, c := range []struct {
		content  string
		offset   int64
		n, limit int
		want     []string
	}{
		{"", 0, 10, 100, nil},
		{"a\nb\nc\n", 0, 10, 100, []string{"a", "b", "c"}},
		{"a\nb\nc", 0, 10, 100, []string{"a", "b", "c"}},
		{"a\n\n\nc\n", 0, 10, 100, []string{"a", "", "", "c"}},
		{"\n", 0, 10, 100, []string{""}},
		{"a\r\nb\r\n", 0, 10, 100, []string{"a\r", "b\r"}},
		// At most n lines, the last ones.
		{"a\nb\nc\n", 0, 2, 100, []string{"b", "c"}},
		{"a\nb\nc\n", 0, 1, 100, []string{"c"}},
		{"a\nb\nc\n", 0, 0, 100, []string{}},
		{"a\nb\nc\n", 0, -1, 100, []string{}},
		// From offset: what another generation wrote is not shown.
		{"a\nb\nc\n", 2, 10, 100, []string{"b", "c"}},
		{"a\nb\nc\n", 4, 10, 100, []string{"c"}},
		{"a\nb\nc\n", 6, 10, 100, nil},
		{"a\nb\nc\n", 7, 10, 100, []string{"a", "b", "c"}}, // another file than the offset was of
		{"a\nb\nc\n", 1 << 62, 10, 100, []string{"a", "b", "c"}},
		{"a\nb\nc\n", -5, 10, 100, []string{"a", "b", "c"}},
		{"a\nb\nc\n", -5, 10, 2, []string{"c"}},
		// At most limit bytes: a line that would be cut is left out …
		{"aaaa\nbbbb\ncccc\n", 0, 10, 15, []string{"aaaa", "bbbb", "cccc"}},
		{"aaaa\nbbbb\ncccc\n", 0, 10, 14, []string{"bbbb", "cccc"}},
		{"aaaa\nbbbb\ncccc\n", 0, 10, 10, []string{"bbbb", "cccc"}},
		{"aaaa\nbbbb\ncccc\n", 0, 10, 9, []string{"cccc"}},
		{"aaaa\nbbbb\ncccc\n", 0, 10, 5, []string{"cccc"}},
		// … but for the last one, of which the end is better than nothing.
		{"aaaa\nbbbb\ncccc\n", 0, 10, 4, []string{"ccc"}},
		{"aaaa\nbbbb\ncccc\n", 0, 10, 1, []string{""}},
		{"aaaa\nbbbb\ncccc\n", 0, 10, 0, nil},
		{"aaaa\nbbbb\ncccc\n", 0, 10, -1, nil},
		{"aaaa\nbbbb\ncccc\n", 10, 10, 5, []string{"cccc"}},
		{"aaaa\nbbbb\ncccc\n", 12, 10, 5, []string{"cc"}},
		{"\x00\xff\xfe\n\x80", 0, 10, 100, []string{"\x00\xff\xfe", "\x80"}},
	} {
		got, err := Tail(write(t, c.content), c.offset, c.n, c.limit)
		if err != nil {
			t.Errorf("%q from %d: %v", c.content, c.offset, err)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("the last %d lines and %d bytes of %q from %d are %q, want %q", c.n, c.limit, c.content, c.offset, got, c.want)
		}
	}
}

func TestTailOfOthers(t *testing.T) {
	dir := t.TempDir()
	if lines, err := Tail(filepath.Join(dir, "missing"), 0, 10, 100); lines != nil || err != nil {
		t.Errorf("missing: %q, %v", lines, err)
	}
	if _, err := Tail(dir, 0, 10, 100); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("a directory: %v", err)
	}
}

// FuzzTail compares with the plain definition, over the whole content.
func FuzzTail(f *testing.F) {
	f.Add([]byte("a\nb\nc\n"), int64(2), 10, 3)
	f.Add([]byte("\n\n\x00no newline"), int64(-1), 1, 1<<20)
	f.Add(bytes.Repeat([]byte("long "), 100), int64(3), 3, 64)
	path := filepath.Join(f.TempDir(), "log")
	f.Fuzz(func(t *testing.T, content []byte, offset int64, n, limit int) {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := Tail(path, offset, n, limit)
		if err != nil {
			t.Fatal(err)
		}
		if want := tail(content, offset, n, limit); !slices.Equal(got, want) {
			t.Fatalf("%q, want %q", got, want)
		}
	})
}

func tail(content []byte, offset int64, n, limit int) (lines []string) {
	if offset < 0 || offset > int64(len(content)) {
		offset = 0
	}
	rest := content[offset:]
	for i := 0; i < len(rest); {
		end := len(rest)
		if j := bytes.IndexByte(rest[i:], '\n'); j >= 0 {
			end = i + j + 1
		}
		line := string(rest[i:end])
		if len(rest)-i <= limit {
			lines = append(lines, strings.TrimSuffix(line, "\n"))
		} else if end == len(rest) && limit > 0 {
			lines = append(lines, strings.TrimSuffix(line[len(line)-limit:], "\n"))
		}
		i = end
	}
	return lines[max(0, len(lines)-max(n, 0)):]
}

// FuzzAppend: whatever an event says, and whatever the last writer has left, it is
// one bounded line of its own that any JSON reader takes, with what it says in it.
func FuzzAppend(f *testing.F) {
	f.Add([]byte(""), "launched", "gocache", "ci", uint64(7), 42, "first dial", "bound_after_us", "850", true)
	f.Add([]byte("{\"schema\":1,\"ev"), "refused", "a", "b", uint64(0), 0, "\xff\n\x00\u2028", "differs env X", "have \"a\", want b", false)
	f.Add([]byte("\n\n"), "", "", "", uint64(1<<63), -1, strings.Repeat("long ", 2000), "schema", "-9", true)
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, before []byte, kind, service, instance string, generation uint64, pid int, reason, key, value string, number bool) {
		path := filepath.Join(dir, "journal")
		if err := os.WriteFile(path, before, 0o600); err != nil {
			t.Fatal(err)
		}
		members := []string{"schema", "time", "event", "service", "instance", "generation", "pid", "reason"}
		e := Event{Kind: kind, Service: service, Instance: instance, Generation: generation, PID: max(pid, 0), Reason: reason}
		if _, err := strconv.Atoi(value); !slices.Contains(members, key) && (err == nil || !number) {
			e.Fields = []Field{{Key: key, Value: value, Number: number && value[0] != '+' && value[0] != '0' && !strings.HasPrefix(value, "-0")}}
		}
		if err := Append(path, noon, e); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		text, ok := bytes.CutPrefix(content, before)
		if torn := len(before) > 0 && before[len(before)-1] != '\n'; torn && ok {
			text, ok = bytes.CutPrefix(text, []byte("\n"))
		}
		line, whole := bytes.CutSuffix(text, []byte("\n"))
		if !ok || !whole || bytes.IndexByte(line, '\n') >= 0 || !json.Valid(line) {
			t.Fatalf("appended %q to %q", text, before)
		}
		// An escaped byte is six.
		if len(line) > 300+6*(5*maxValue+len(key)) {
			t.Fatalf("%d bytes", len(line))
		}
		v, err := jsonlite.Parse(line)
		if err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		for name, want := range map[string]string{"event": kind, "service": service, "instance": instance, "reason": reason} {
			got, ok := v.Get(name).Text()
			if want = strings.ToValidUTF8(cutAt(want), "\uFFFD"); got != want && (ok || name != "reason") && strings.Count(got, "\uFFFD") == 0 {
				t.Fatalf("%s is %q, not %q", name, got, want)
			}
		}
		if n, _ := v.Get("schema").Int(); n != Major {
			t.Fatalf("schema %d in %s", n, line)
		}
		for _, fd := range e.Fields {
			if got := v.Get(fd.Key); utf8.ValidString(fd.Key) && got.Kind() == jsonlite.KindNull {
				t.Fatalf("%q is not in %s", fd.Key, line)
			}
		}
	})
}

func cutAt(s string) string { return s[:min(len(s), maxValue)] }

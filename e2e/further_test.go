//go:build unix

package e2e

import (
	"bufio"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/launch"
)

// furtherNames are the further endpoints of the foreign daemon in these tests.
var furtherNames = []string{"admin", "m-1"}

// furtherDials are the arguments of a dial that launches it.
func furtherDials(t *testing.T) []string {
	t.Helper()
	bin, err := plaind()
	if err != nil {
		t.Fatal(err)
	}
	return []string{"-foreign=" + bin + "/plaind", "-endpoints=" + strings.Join(furtherNames, ",")}
}

// furtherRows are the rows of a broker-owned bind, of a daemon with further endpoints.
func furtherRows() map[launch.Step]faultRow {
	rows := maps.Clone(brokerRows)
	// Of a daemon whose further endpoint alone has lost its name the first answers, and
	// it is put back under the lock.
	rows[launch.StepReconnect] = faultRow{reach: furtherNameless, verb: "start", alive: true}
	return rows
}

func furtherNameless(t *testing.T, w *world) {
	w.dial()
	remove(t, filepath.Join(w.service("t"), "sock-admin"))
}

// askPlainly is a client that knows nothing of fastbind.
func (w *world) askPlainly(path, line string) (string, error) {
	w.t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(deadline))
	if _, err := fmt.Fprintln(c, line); err != nil {
		return "", err
	}
	reply, err := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(reply), err
}

// further is furtherNamed after a start, by which a name that was deleted is put back.
func (w *world) further(name, pid string) {
	w.t.Helper()
	w.must(append([]string{"start"}, w.dials...)...)
	w.furtherNamed(name, pid, false)
}

// furtherNamed wants the process to answer at each of its endpoints, and their names
// to be as a launch makes them. keepless: their second ones may be missing.
func (w *world) furtherNamed(name, pid string, keepless bool) {
	w.t.Helper()
	sock := filepath.Join(w.service(name), "sock")
	if got, err := w.askPlainly(sock, "x"); err != nil || got != pid+" x" {
		w.t.Errorf("at the first endpoint: %q, %v", got, err)
	}
	for _, n := range furtherNames {
		path := sock + "-" + n
		if got, err := w.askPlainly(path, "x"); err != nil || got != pid+" "+n+" x" {
			w.t.Errorf("at endpoint %s: %q, %v", n, got, err)
		}
		at, err := endpoint.Inode(path)
		keep, kerr := endpoint.Inode(filepath.Join(w.service(name), "keep-"+n))
		if err != nil || !(keepless && os.IsNotExist(kerr)) && at != keep {
			w.t.Errorf("names of endpoint %s lead to %v and %v: %v, %v", n, at, keep, err, kerr)
		}
		if fi, err := os.Lstat(path); err == nil && fi.Mode().Perm() != 0o600 {
			w.t.Errorf("endpoint %s has mode %v", n, fi.Mode())
		}
	}
	files, _ := filepath.Glob(filepath.Join(w.service(name), "*-*"))
	for _, f := range files {
		if !isFurtherName(filepath.Base(f)) {
			w.t.Errorf("%s is of no endpoint of this daemon", f)
		}
	}
}

// isFurtherName reports whether a file is one of the names of these endpoints.
func isFurtherName(file string) bool {
	kind, name, _ := strings.Cut(file, "-")
	return (kind == "sock" || kind == "keep") && slices.Contains(furtherNames, name)
}

// TestFurtherEndpoints: a foreign daemon answers at all its endpoints; what outsiders
// delete, and kill -9, is mended by whoever comes next, and never costs what still
// can be reached.
func TestFurtherEndpoints(t *testing.T) {
	w := newWorld(t)
	w.dials = furtherDials(t)
	dir := w.service("t")
	pid := w.dial()
	w.further("t", pid)

	established, err := net.Dial("unix", dir+"/sock-admin")
	if err != nil {
		t.Fatal(err)
	}
	defer established.Close()
	for _, names := range [][]string{{"sock-admin"}, {"sock"}, {"sock", "sock-m-1", "sock-admin"}} {
		for _, n := range names {
			remove(t, filepath.Join(dir, n))
		}
		w.further("t", pid)
	}

	// With both names gone nobody can connect there, which costs the others nothing,
	// until the next launch.
	remove(t, dir+"/sock-admin")
	remove(t, dir+"/keep-admin")
	w.must(append([]string{"start"}, w.dials...)...)
	if now := w.dial(); now != pid {
		t.Errorf("the loss of a further endpoint cost the daemon: %s, then %s", pid, now)
	}
	if got, err := w.askPlainly(dir+"/sock-m-1", "x"); err != nil || got != pid+" m-1 x" {
		t.Errorf("%q, %v", got, err)
	}
	_ = established.SetDeadline(time.Now().Add(deadline))
	fmt.Fprintln(established, "still")
	if got, err := bufio.NewReader(established).ReadString('\n'); err != nil || got != pid+" admin still\n" {
		t.Errorf("on an established connection: %q, %v", got, err)
	}

	w.kill9("t")
	if _, err := w.askPlainly(dir+"/sock-m-1", "x"); err == nil {
		t.Error("a killed daemon answers")
	}
	next := w.dial()
	if next == pid {
		t.Errorf("the killed daemon answers: %s", pid)
	}
	w.further("t", next)
	w.oneOwner("t", false)

	// Another definition leaves none of the names of this one.
	w.must("stop")
	w.dials = w.dials[:1]
	w.dial()
	if names, _ := filepath.Glob(dir + "/*-*"); len(names) != 0 {
		t.Errorf("left: %q", names)
	}
}

// TestFurtherCrowd: R1. However many processes dial at once, one daemon is launched,
// and whoever is connected can connect to its further endpoints.
func TestFurtherCrowd(t *testing.T) {
	w := newWorld(t)
	w.dials = furtherDials(t)
	out := w.must(append([]string{"dial", "-n=40"}, w.dials...)...)
	pids := map[string]bool{}
	for l := range strings.Lines(out) {
		if f := strings.Fields(l); f[0] == "ok" {
			pids[f[1]] = true
		}
	}
	if len(pids) != 1 {
		t.Fatalf("answers of %d daemons:\n%s", len(pids), out)
	}
	for pid := range pids {
		w.further("t", pid)
	}
}

package limit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fastbind/fastbind/internal/dirwatch"
)

const gated = true

// script raises the soft limit of descriptors to the hard one, which Admit has set:
// what the shell has done before may have lowered it in between.
func script(p Plan) string {
	if p.Files == 0 {
		return ""
	}
	return fmt.Sprintf("ulimit -S -n %d 2>/dev/null || :\n", p.Files)
}

func readText(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxText))
	return string(b), err
}

// write1 writes a value to a cgroup's file, which must exist: a file of that
// name made anywhere else would tell a lie.
func write1(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

func where(pid int) (string, error) {
	text, err := readText("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		return "", err
	}
	own, err := parseOwn(text)
	if err != nil {
		return "", fmt.Errorf("process %d: %w", pid, err)
	}
	return own, nil
}

func hierarchy() (mount, error) {
	text, err := readText("/proc/self/mountinfo")
	if err != nil {
		return mount{}, err
	}
	return parseMounts(text)
}

func rlimits(a *Available) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		a.NoRlimit = "the limit of this process cannot be read: " + err.Error()
		return
	}
	a.Data = true // since Linux 4.7; what else we need is younger
	a.Files = int64(min(l.Max, 1<<62))
	if mayRaise() {
		// Not beyond what the kernel has: setrlimit(2) refuses more than nr_open.
		a.Files = 1 << 20
		if text, err := readText("/proc/sys/fs/nr_open"); err == nil {
			if n, ok := parseMax(text); ok {
				a.Files = n
			}
		}
	}
}

// mayRaise says whether hard limits of others can be raised by this process.
func mayRaise() bool {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	return unix.Capget(&hdr, &data[0]) == nil && data[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
}

// leaf is where a broker that is alone in the cgroup that was delegated to it goes,
// to make room (cgroup-v2.rst, "No Internal Process Constraint").
const leaf = prefix + "broker"

func claimCgroup(a *Available) {
	a.Dir, a.Cgroup = "", Facility{}
	m, err := hierarchy()
	if err != nil {
		a.Cgroup.Why = err.Error()
		return
	}
	own, err := where(os.Getpid())
	if err != nil {
		a.Cgroup.Why = err.Error()
		return
	}
	dir := m.dir(own)
	if dir == "" {
		a.Cgroup.Why = fmt.Sprintf("the cgroup v2 hierarchy at %q does not show this process's cgroup %q", m.point, own)
		return
	}
	// Beside us is better than below us: a parent without processes of its own can
	// have controllers for its children.
	candidates := []string{dir}
	if dir != m.point {
		candidates = []string{filepath.Dir(dir), dir}
	}
	var whys []string
	var best Facility
	for _, d := range candidates {
		lacks, err := claimDir(d, d == dir)
		if err != nil {
			whys = append(whys, err.Error())
			continue
		}
		if ok, why := Survives(path.Join(m.cgroup(d), "any"), own); !ok {
			lacks[Own] = why
		}
		if a.Dir == "" || len(lacks) < len(best.Lacks) {
			a.Dir, best = d, Facility{Lacks: lacks}
		}
	}
	if a.Dir == "" {
		best.Why = "no cgroup can be made: " + strings.Join(whys, "; ")
	}
	a.Cgroup = best
}

// claimDir says whether cgroups can be made in dir, and enables the controllers
// for them. own is true of the cgroup that this process is in.
func claimDir(dir string, own bool) (lacks map[Kind]string, err error) {
	// Under systemd every cgroup is the manager's, but for those that it has
	// delegated and marked so (systemd.resource-control(5), Delegate=): root could
	// write to the others, and the manager would undo it at any time.
	if systemdBooted() && !delegated(dir) {
		return nil, fmt.Errorf("%q is systemd's and not delegated", dir)
	}
	// A cgroup is made in dir, and a process moved there from ours: that takes the
	// right to write to both ends of the move and to their common ancestor
	// (cgroups(7)), and what we make is ours.
	for _, file := range []string{dir, filepath.Join(dir, "cgroup.procs")} {
		if err := unix.Access(file, unix.W_OK); err != nil {
			return nil, &fs.PathError{Op: "write", Path: file, Err: err}
		}
	}
	why, err := occupied(dir, own)
	if err != nil {
		return nil, err
	}
	lacks = map[Kind]string{}
	for _, f := range files {
		if err := enable(dir, controllerOf(f.name), why); err != nil {
			lacks[f.kind] = err.Error()
		}
	}
	return lacks, nil
}

// occupied says why no controllers can be enabled for the children of dir, "" if
// they can: no cgroup but the root of all may have both those and processes of its
// own. With cpu and pids the kernel would do it, turn dir into a threaded one, and
// its children into such as no process can enter (cgroup-v2.rst, "Threads"). If the
// only process is this one, it leaves.
func occupied(dir string, own bool) (string, error) {
	kind, err := readText(filepath.Join(dir, "cgroup.type"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil // the root of all has no type
	}
	if err != nil {
		return "", err
	}
	if kind = strings.TrimSpace(kind); kind != "domain" {
		return "", fmt.Errorf("the cgroup %q is of the type %q, beside or below which no process can be put", dir, kind)
	}
	processes, err := readText(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return "", err
	}
	if processes == "" {
		return "", nil
	}
	if own && strings.TrimSpace(processes) == strconv.Itoa(os.Getpid()) {
		err := makeRoom(dir)
		if err == nil {
			return "", nil
		}
		return err.Error(), nil
	}
	return fmt.Sprintf("%q has processes of its own", dir), nil
}

// enable makes the children of dir have a controller, unless dir is occupied.
func enable(dir, controller, occupied string) error {
	have, err := readText(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return err
	}
	if !slices.Contains(strings.Fields(have), controller) {
		return fmt.Errorf("the controller %q is not available in %q", controller, dir)
	}
	control := filepath.Join(dir, "cgroup.subtree_control")
	enabled, err := readText(control)
	if err != nil {
		return err
	}
	switch {
	case slices.Contains(strings.Fields(enabled), controller):
		return nil
	case occupied != "":
		return fmt.Errorf("the controller %q cannot be enabled: %s", controller, occupied)
	}
	return write1(control, "+"+controller)
}

// makeRoom moves this process from dir to a leaf of it.
func makeRoom(dir string) error {
	to := filepath.Join(dir, leaf)
	if err := os.Mkdir(to, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return write1(filepath.Join(to, "cgroup.procs"), "0")
}

// systemdBooted is sd_booted(3).
func systemdBooted() bool {
	fi, err := os.Lstat("/run/systemd/system")
	return err == nil && fi.IsDir()
}

func delegated(dir string) bool {
	b := make([]byte, 2)
	for _, name := range []string{"user.delegate", "trusted.delegate"} {
		if n, err := unix.Getxattr(dir, name, b); err == nil && string(b[:n]) == "1" {
			return true
		}
	}
	return false
}

// makeCgroup makes a cgroup in dir and limits it. The caller closes the directory. With
// an error nothing is left.
func makeCgroup(dir, name string, w Wanted, lacks map[Kind]string) (p Place, f *os.File, err error) {
	m, err := hierarchy()
	if err != nil {
		return Place{}, nil, err
	}
	d := filepath.Join(dir, name)
	if err := os.Mkdir(d, 0o755); err != nil {
		return Place{}, nil, err // also if it exists: it would be another generation's
	}
	defer func() {
		if err != nil {
			_ = os.Remove(d)
		}
	}()
	for _, f := range files {
		n := w.value(f.kind)
		if n == 0 || lacks[f.kind] != "" {
			continue
		}
		if err := write1(filepath.Join(d, f.name), strconv.FormatInt(n, 10)); err != nil {
			return Place{}, nil, err
		}
	}
	if w.Memory > 0 && lacks[Memory] == "" {
		// Swap would be memory beyond the limit, and half a service, with one of its
		// processes killed, is worse than none. Where the kernel has neither file,
		// there is no swap to be had, or the kernel kills one process by one.
		for file, value := range map[string]string{"memory.swap.max": "0", "memory.oom.group": "1"} {
			if err := write1(filepath.Join(d, file), value); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return Place{}, nil, err
			}
		}
	}
	f, err = os.Open(d)
	return Place{By: Cgroup, Name: name, Cgroup: m.cgroup(d)}, f, err
}

// enter moves a process to a cgroup, unless it was born there. The kernel waits for
// all processors before it moves one, for milliseconds on a busy machine.
func enter(p Place, pid int) error {
	if in, err := where(pid); err != nil || in == p.Cgroup {
		return err
	}
	d, err := dirOf(p)
	if err != nil {
		return err
	}
	return write1(filepath.Join(d, "cgroup.procs"), strconv.Itoa(pid))
}

// readBack reads what the kernel has of what was wanted: actual is what is in
// force by kind, lacks says of the other kinds why they are not.
func readBack(p Place, w Wanted) (actual map[Kind]int64, lacks map[Kind]string, err error) {
	d, err := dirOf(p)
	if err != nil {
		return nil, nil, err
	}
	if _, err := os.Stat(d); err != nil {
		return nil, nil, err
	}
	actual, lacks = map[Kind]int64{}, map[Kind]string{}
	for _, f := range files {
		if w.value(f.kind) == 0 {
			continue
		}
		text, err := readText(filepath.Join(d, f.name))
		n, limited := parseMax(text)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			lacks[f.kind] = fmt.Sprintf("the cgroup %q does not have the controller %q", p.Cgroup, controllerOf(f.name))
		case err != nil:
			lacks[f.kind] = err.Error()
		case !limited || f.kind == CPUWeight && n != w.CPUWeight:
			lacks[f.kind] = fmt.Sprintf("%s of the cgroup %q is %q", f.name, p.Cgroup, strings.TrimSpace(text))
		default:
			actual[f.kind] = n
		}
	}
	return actual, lacks, nil
}

// dirOf returns the directory of a place. What is read, emptied and removed goes
// through it, so it refuses what cannot be ours.
func dirOf(p Place) (string, error) {
	if !p.ours() {
		return "", fmt.Errorf("%q: %w", p.Cgroup, errPlace)
	}
	m, err := hierarchy()
	if err != nil {
		return "", err
	}
	d := m.dir(p.Cgroup)
	if d == "" {
		return "", fmt.Errorf("the cgroup v2 hierarchy at %q does not show the cgroup %q", m.point, p.Cgroup)
	}
	return d, nil
}

// setRlimit sets both limits of a process that waits at the gate.
func setRlimit(pid int, k Kind, n int64) error {
	resource := unix.RLIMIT_NOFILE
	if k == Memory {
		resource = unix.RLIMIT_DATA
	}
	l := unix.Rlimit{Cur: uint64(n), Max: uint64(n)}
	if err := unix.Prlimit(pid, resource, &l, nil); err != nil {
		return os.NewSyscallError("prlimit", err)
	}
	return nil
}

// rlimitOf returns the hard limit of a process: what it cannot leave. 0 if there
// is none.
func rlimitOf(pid int, k Kind) (int64, error) {
	resource := unix.RLIMIT_NOFILE
	if k == Memory {
		resource = unix.RLIMIT_DATA
	}
	var l unix.Rlimit
	if err := unix.Prlimit(pid, resource, nil, &l); err != nil {
		return 0, os.NewSyscallError("prlimit", err)
	}
	if l.Max > 1<<62 { // RLIM_INFINITY
		return 0, nil
	}
	return int64(l.Max), nil
}

func readEvents(p Place) (events, error) {
	var e events
	d, err := dirOf(p)
	if err != nil {
		return e, err
	}
	if _, err := os.Stat(d); err != nil {
		return e, err
	}
	for _, file := range []string{"memory.events", "pids.events"} {
		// Without the controller there is no such file, and nothing was counted.
		if text, err := readText(filepath.Join(d, file)); err == nil {
			e = parseEvents(e, file, text)
		}
	}
	return e, nil
}

// watchEvents wakes when the kernel has counted something: it reports the change
// of such a file as if it had been written to (cgroup_file_notify).
func watchEvents(p Place) (*dirwatch.Watcher, error) {
	d, err := dirOf(p)
	if err != nil {
		return nil, err
	}
	return dirwatch.OpenFile(filepath.Join(d, "memory.events"))
}

// empty waits until no process is left in a cgroup or below it, or the cgroup is
// gone.
func empty(ctx context.Context, p Place) error {
	d, err := dirOf(p)
	if err != nil {
		return err
	}
	w, err := dirwatch.OpenFile(filepath.Join(d, "cgroup.events"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer w.Close()
	for {
		text, err := readText(filepath.Join(d, "cgroup.events"))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
			return nil
		}
		if err != nil {
			return err
		}
		if strings.Contains("\n"+text, "\npopulated 0\n") {
			return nil
		}
		select {
		case <-ctx.Done():
			return populated(p, d)
		case <-w.C():
		}
	}
}

// populated names who is left.
func populated(p Place, dir string) error {
	e := &PopulatedError{Place: p}
	_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return nil
		}
		text, _ := readText(filepath.Join(path, "cgroup.procs"))
		for _, f := range strings.Fields(text) {
			if pid, err := strconv.Atoi(f); err == nil {
				if e.PIDs = append(e.PIDs, pid); len(e.PIDs) == maxPIDs {
					return fs.SkipAll
				}
			}
		}
		return nil
	})
	return e
}

// removeDir removes a cgroup of ours that is empty, and what a daemon has made
// below it.
func removeDir(p Place) error {
	d, err := dirOf(p)
	if err != nil {
		return err
	}
	var dirs []string
	err = filepath.WalkDir(d, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && entry.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	for _, d := range slices.Backward(dirs) {
		if e := os.Remove(d); e != nil && !errors.Is(e, fs.ErrNotExist) {
			return e
		}
	}
	return err
}

// killAll ends every process of a cgroup of ours with one write, which no fork
// escapes.
func killAll(p Place) error {
	d, err := dirOf(p)
	if err != nil {
		return err
	}
	if _, err := os.Stat(d); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	err = write1(filepath.Join(d, "cgroup.kill"), "1")
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: cgroup.kill, which Linux has since 5.14", errors.ErrUnsupported)
	}
	return err
}

// leftovers returns the empty cgroups in dir whose names begin as given, at most
// maxLeftovers.
func leftovers(dir, prefix string) ([]Place, error) {
	m, err := hierarchy()
	if err != nil {
		return nil, err
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var places []Place
	for len(places) < maxLeftovers {
		names, err := f.Readdirnames(100)
		if err != nil {
			if err == io.EOF {
				break
			}
			return places, err
		}
		for _, name := range names {
			if !strings.HasPrefix(name, prefix) || !validName(name) || len(places) == maxLeftovers {
				continue
			}
			text, err := readText(filepath.Join(dir, name, "cgroup.events"))
			if err == nil && strings.Contains("\n"+text, "\npopulated 0\n") {
				places = append(places, Place{By: Cgroup, Name: name, Cgroup: m.cgroup(filepath.Join(dir, name))})
			}
		}
	}
	return places, nil
}

//go:build unix

package launch

import (
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/handover"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/record"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// shell runs the trampoline. Every Unix has one there (POSIX asks only that it
// is in the PATH of confstr).
const shell = "/bin/sh"

// trampoline becomes a foreign daemon. It does what only the child itself can
// do before exec: LISTEN_PID must be its own pid (sd_listen_fds(3)), and so
// WATCHDOG_PID (sd_watchdog_enabled(3)); its
// pid and start time go into the record, because a foreign daemon gets no life
// lock: its children would carry it on. A record that cannot be written ends it,
// for nobody could find the daemon afterwards.
//
// SIGPIPE is ignored, alone of all signals, as systemd does for the daemons whose
// convention this is (IgnoreSIGPIPE= in systemd.exec(5)): gpg-agent dies of a
// client that connects and leaves, which is what a liveness check does. A shell
// adds variables of its own, which are in no contract.
//
// The soft limits are those that a backend gives itself (package handover), and
// 1024 descriptors, as far as the hard limits allow. The shell sets them, not the
// launcher from outside: Linux puts the stack limit of the moment an exec began
// back when it ends (finalize_exec in fs/exec.c), over what was set in between.
//
// Arguments: record, its copy or "", phase lines or "", program, its arguments. In
// /proc/self/stat the name is (sh), so that words can be counted: the 22nd is the start time. It
// counts only if the first is our own pid: in a new pid namespace under the old
// /proc, /proc/$$ is a stranger, whom a stop would end. A start time that is not
// known is not written, over the one that the launcher has perhaps noted.
const trampoline = `umask 022
trap '' PIPE
limit() {
	ulimit -S "$1" "$2" 2>/dev/null || ulimit -S "$1" "$(ulimit -H "$1")"
}
limit -t unlimited
limit -f unlimited
limit -d unlimited
limit -v unlimited
limit -s 8192
limit -c 0
limit -n 1024
self=
if [ -r /proc/self/stat ]; then
	read -r self _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ start _ </proc/self/stat
fi
if [ "$self" = $$ ]; then
	start="start $start
"
else
	start=
fi
printf 'pid %s\n%s%s' $$ "$start" "$3" >>"$1" || exit 126
if [ -n "$2" ]; then
	printf 'pid %s\n%s%s' $$ "$start" "$3" >>"$2"
fi
FASTBIND_HANDOVER="$FASTBIND_HANDOVER
pid=$$"
if [ -n "$LISTEN_FDS" ]; then
	export LISTEN_PID=$$
fi
if [ -n "$WATCHDOG_USEC" ]; then
	export WATCHDOG_PID=$$
fi
shift 3
unset PWD OLDPWD SHLVL
`

// become ends the trampoline, after the step that a hook may want to be the last.
const become = `exec "$@"
`

// spawning is everything a fork needs, made before the endpoint listens.
type spawning struct {
	path  string
	argv  []string
	attr  syscall.ProcAttr
	pidfd int
	phase []record.Line // of a foreign daemon, from its fork on
	aid   *Aid          // nil without a hook
	ahead *ahead        // nil if it is launched by the shell
	ready bool          // everything of it is made
}

// close: a child's descriptors are copied as it is forked.
func (*spawning) close() {}

// prepareSpawn makes the arguments, environment and descriptors of the child.
func (s *system) prepareSpawn() error {
	g, def := s.gen, s.b.Def
	h := s.handover()
	files := []uintptr{g.null.Fd(), g.log.Fd(), g.log.Fd()}
	add := func(fd int) int {
		files = append(files, uintptr(fd))
		return len(files) - 1
	}
	if g.sock != nil {
		h.Listen = add(g.sock.FD())
	}
	names := def.Service
	for _, f := range g.further { // right behind the first, in their order (sd_listen_fds(3))
		h.Further = append(h.Further, handover.Further{Name: f.name, FD: add(f.sock.FD())})
		names += ":" + f.name
	}
	expand := expander(h, s.place)
	if g.control != nil {
		h.Control = add(g.control.FD())
	}
	if g.life != nil {
		h.Life = add(int(g.life.Fd()))
	}
	sp := &spawning{path: s.program, pidfd: -1}
	g.spawning = sp // with what is to be undone
	if err := s.prepareAid(files); err != nil {
		return err
	}
	for i, a := range def.Command {
		if i > 0 {
			a = expand(a)
		}
		sp.argv = append(sp.argv, a)
	}
	env := append([]string(nil), g.contract...)
	for _, e := range def.FDEnv {
		env = append(env, expand(e))
	}
	env = append(env, handover.Variable+"="+h.Encode())
	script := ""
	if sp.aid != nil {
		env, script = append(env, sp.aid.Env...), sp.aid.Script
	}
	if def.Foreign {
		if h.Listen != handover.None {
			env = append(env, "LISTEN_FDS="+strconv.Itoa(1+len(g.further)), "LISTEN_FDNAMES="+names)
			sp.phase = record.PhaseLines(record.Bound, proc.BootTime())
		}
		if s.mode == Activates {
			s.b.standing.become(s, env, files)
		}
		sp.argv = append([]string{"sh", "-c", trampoline + script + become, "sh",
			filepath.Join(g.dir, record.FileName), g.copy, string(record.Encode(sp.phase)), sp.path}, sp.argv[1:]...)
		sp.path = shell
	} else if sp.aid != nil && sp.aid.Wrap != nil {
		sp.path, sp.argv = sp.aid.Wrap(sp.path, sp.argv)
	}
	var closed []int
	if s.mode != Activates { // whose process has none, see CloseStrays
		var err error
		if closed, err = strays(len(files)); err != nil {
			return err
		}
	}
	for _, fd := range closed {
		// A place that holds no file is closed in the child. The descriptor of
		// the host program stays as it is: it may be inheritable on purpose.
		for len(files) <= fd {
			files = append(files, ^uintptr(0))
		}
	}
	sp.attr = syscall.ProcAttr{Dir: def.Dir, Env: env, Files: files, Sys: sysProcAttr(&sp.pidfd)}
	sp.ready = true
	return nil
}

// CloseStrays has the descriptors that this process was left by its ancestors closed
// by whatever it executes. A standing broker, whose process is its own, calls it once:
// it holds a descriptor for each service, and its launches look through none of them.
func CloseStrays() error {
	left, err := strays(handover.FirstFD)
	for _, fd := range left {
		syscall.CloseOnExec(fd)
	}
	return err
}

// maxAsked is up to how many descriptors are asked one by one, open or not: 0.1 µs each,
// where the kernel takes 4 µs to list one that is open. A program that has launched a
// thousand daemons has a process handle of each.
const maxAsked = 4096

// strays returns the descriptors of this process from the given one on that a
// child would inherit: some ancestor left them so, and a daemon that carried
// them on would keep a pipe or a lock of its caller's alive (R4).
func strays(from int) ([]int, error) {
	var fds []int
	if size := tableSize(); 0 < size && size <= maxAsked {
		for fd := from; fd < size; fd++ {
			if inheritable(fd) {
				fds = append(fds, fd)
			}
		}
		return fds, nil
	}
	dir, err := os.Open(fdDir)
	if os.IsNotExist(err) {
		return nil, nil // /proc is not mounted: no strays to be seen
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		fd, err := strconv.Atoi(n)
		if err == nil && fd >= from && inheritable(fd) {
			fds = append(fds, fd)
		}
	}
	return fds, nil
}

// spawn forks and execs. The error is that of either.
func (s *system) spawn() Outcome {
	g := s.gen
	if g.spawning == nil || !g.spawning.ready {
		if err := s.prepareSpawn(); err != nil {
			return s.fault(StageSpawn, err)
		}
	}
	var pid int
	var err error
	if g.spawning.ahead == nil {
		pid, err = g.spawning.fork()
	} else {
		pid, err = s.b.standing.start(s)
	}
	if err != nil {
		return s.fault(StageSpawn, &os.PathError{Op: "exec", Path: g.spawning.path, Err: err})
	}
	g.child = newChild(pid, g.spawning.pidfd, filepath.Join(g.dir, record.FileName))
	g.child.aid = g.spawning.aid
	s.copyRecord()
	// The daemon, or the trampoline in front of it, writes the same some
	// milliseconds later, in case that we die here. Until somebody does, nobody
	// can stop it, or say that it died before it adopted.
	if id, err := proc.Of(pid); err == nil {
		g.append(append([]record.Line{record.Int("pid", id.PID), record.Int("start", id.Start)}, g.spawning.phase...)...)
	}
	s.outcome = s.launched(pid)
	return OK
}

// Fork executes a program apart from this process: in a session and with signals of its
// own, in the root directory, with the environment and the descriptors that are
// given, and no other that this process was not left by its ancestors (see CloseStrays).
// The process handle is the caller's; it is -1 where the system has none.
func Fork(path string, argv, env []string, files []uintptr) (pid, pidfd int, err error) {
	sp := spawning{path: path, argv: argv, pidfd: -1}
	sp.attr = syscall.ProcAttr{Dir: "/", Env: env, Files: files, Sys: sysProcAttr(&sp.pidfd)}
	pid, err = fork(&sp)
	return pid, sp.pidfd, err
}

// fork forks, into the aid's cgroup if it has one and the system can do that.
func (sp *spawning) fork() (int, error) {
	if sp.aid != nil && sp.aid.Cgroup != nil {
		if fd := sp.aid.Cgroup(); fd >= 0 && bornIn(sp.attr.Sys, fd) {
			if pid, err := fork(sp); err == nil {
				return pid, nil
			}
			// Before Linux 5.7, or a cgroup that takes nobody: it is moved there.
			sp.attr.Sys = sysProcAttr(&sp.pidfd)
		}
	}
	return fork(sp)
}

// fork starts the child with an empty signal mask and no signal ignored,
// whatever the host program's are. The mask is a thread's, so the fork gets a
// thread that nobody else runs on; dispositions are the process's, so a signal
// that is ignored is caught, and dropped, for the time of the fork: the child's
// exec turns "caught" into "default" but keeps "ignored" (execve(2)).
func fork(sp *spawning) (int, error) {
	forking.Lock()
	defer forking.Unlock()
	caught := make(chan os.Signal, 1)
	var again []os.Signal
	unseen := ignoredUnseen()
	for _, sig := range ignorable {
		// Stop puts a signal that was ignored from the start back, but not what
		// Ignored says of it: the next fork must not ask that alone.
		atStart := slices.Contains(ignoredAtStart, sig)
		if atStart || signal.Ignored(sig) || slices.Contains(unseen, sig) {
			signal.Notify(caught, sig)
			if !atStart {
				again = append(again, sig)
			}
		}
	}
	defer func() {
		// Stop gives a signal that was ignored from the start back to that, and
		// leaves alone what the host program may have asked for meanwhile.
		signal.Stop(caught)
		if len(again) > 0 {
			signal.Ignore(again...)
		}
	}()
	var pid int
	var err error
	withEmptyMask(func() {
		pid, err = syscall.ForkExec(sp.path, sp.argv, &sp.attr)
	})
	return pid, err
}

// forking makes the launches of one process fork one after the other: each
// would take the other's caught signals for its own.
var forking sync.Mutex

// ignorable are the signals that shells and nohup ignore for their children.
var ignorable = []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGPIPE,
	syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU}

// unseenSignals are those of them at whose start the runtime does not look: Ignored does
// not say that they have been ignored since (initsig in runtime/signal_unix.go). Once they
// were caught Stop would not put them back.
var unseenSignals = []os.Signal{syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU}

// ignoredUnseen are those of unseenSignals that the process was started with ignored, as
// far as the system tells; asked for by the first fork.
var ignoredUnseen = sync.OnceValue(func() (list []os.Signal) {
	mask := ignoredMask()
	for _, sig := range unseenSignals {
		if mask&(1<<(sig.(syscall.Signal)-1)) != 0 && !signal.Ignored(sig) { // by the host program
			list = append(list, sig)
		}
	}
	return list
})

var ignoredAtStart = func() (list []os.Signal) {
	for _, sig := range ignorable {
		if signal.Ignored(sig) {
			list = append(list, sig)
		}
	}
	return list
}()

func newChild(pid, pidfd int, record string) *child {
	return &child{pid: pid, record: record, handle: childHandle(pid, pidfd)}
}

// Launchable: whatever can be executed.
func Launchable(definition.Definition) error { return nil }

// killChild ends our child, which is not reaped, so that its pid is nobody else's.
func killChild(pid int) { _ = syscall.Kill(pid, syscall.SIGKILL) }

// isPath: a name with a slash is no name to be found in PATH (exec(3)).
func isPath(name string) bool { return strings.Contains(name, "/") }

// pathOf is PATH in an environment.
func pathOf(env []string) (path string) {
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			path = v
		}
	}
	return path
}

// findExecutable returns the path of the file that a command's path names.
func findExecutable(path string) (string, error) { return path, executable(path) }

// expander returns what puts the inherited descriptors and the endpoints' paths into
// a template. strings.NewReplacer would be 9 kB of code in every client.
func expander(h handover.Handover, place runtimedir.Place) func(string) string {
	values := map[string]string{"fd": strconv.Itoa(h.Listen), "socket": place.Sock()}
	for _, f := range h.Further {
		values["fd:"+f.Name], values["socket:"+f.Name] = strconv.Itoa(f.FD), place.Further(f.Name)
	}
	return func(template string) string {
		out := ""
		for {
			before, rest, found := strings.Cut(template, "{")
			out += before
			if !found {
				return out
			}
			name, after, closed := strings.Cut(rest, "}")
			if v, known := values[name]; known && closed {
				out, template = out+v, after
			} else {
				out, template = out+"{", rest
			}
		}
	}
}

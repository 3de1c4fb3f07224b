//go:build !windows

package runtimedir

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Guess returns the paths at which the endpoint of a service may be, the most
// probable first. It reads no file and makes no promise: whoever answers there
// must be checked on the opened connection.
func (e Env) Guess(instance, service string) []string {
	// This is on the warm path: one allocation for the list, one for each path.
	var roots [4]string
	n := 0
	add := func(root string) {
		if misnamed(root) == "" { // Resolve refuses others by name
			roots[n] = root
			n++
		}
	}
	if e.RuntimeDir != "" {
		add(filepath.Clean(e.RuntimeDir))
	} else {
		runUser := e.runUserRoot()
		if xdg := filepath.Join(e.XDGRuntime, "fastbind"); xdg != runUser {
			add(xdg)
		}
		add(runUser)
		if e.Home != "" {
			add(homeRoot(e.Home))
		}
		add(e.tmpRoot())
	}
	paths := make([]string, 0, len(roots)+1)
	for _, root := range roots[:n] {
		if fitsLen(len(root) + len("/") + len(instance) + len("/") + len(service)) {
			paths = append(paths, root+"/"+instance+"/"+service+"/"+SockName)
			continue
		}
		dir := filepath.Join(root, instance, service)
		for _, base := range []string{e.runUserRoot(), e.tmpRoot()} {
			paths = append(paths, alias(base, dir)+"/"+SockName)
		}
	}
	return paths
}

// Sock returns the endpoint's path, usable as a socket address.
func (p Place) Sock() string { return p.Addr + "/" + SockName }

// Further returns the path of a further endpoint, usable as a socket address.
func (p Place) Further(endpoint string) string { return p.Addr + "/" + FurtherSock(endpoint) }

// Ctl returns the control endpoint's address of a generation.
func (p Place) Ctl(generation string) string { return p.Addr + "/" + generation + "/" + CtlName }

// ReadHolder returns the directory that holder leads to, or [fs.ErrNotExist].
func ReadHolder(dir string) (string, error) { return os.Readlink(filepath.Join(dir, HolderName)) }

// ReadCurrent returns the name of the generation's directory that current leads to, or
// [fs.ErrNotExist]. It is a link (readlink(2)).
func ReadCurrent(dir string) (string, error) {
	return os.Readlink(filepath.Join(dir, CurrentName))
}

// CurrentEndsIn reports whether the name that ReadCurrent returns is known to end in that:
// false says nothing. It is on the path of a warm dial that compares builds, and
// os.Readlink would make room for the longest of names, and a string.
func CurrentEndsIn(dir, end string) bool {
	var buf [2 * maxGenerationName]byte
	n, _ := syscall.Readlink(dir+"/"+CurrentName, buf[:])
	return n < len(buf) && n > len(end) && string(buf[n-len(end):n]) == end
}

// roots are the candidates of this environment, the preferred first.
func (e Env) roots() []string {
	var roots []string
	if e.XDGRuntime != "" {
		roots = append(roots, filepath.Join(e.XDGRuntime, "fastbind"))
	}
	for _, root := range []string{e.runUserRoot(), homeRoot(e.home()), e.tmpRoot()} {
		if !contains(roots, root) && filepath.IsAbs(root) {
			roots = append(roots, root)
		}
	}
	return roots
}

// anchors are the candidates that only the uid determines.
func (e Env) anchors() []string {
	a := []string{e.runUserRoot()}
	// HOME itself is no anchor: env -i, cron and sudo have another or none.
	if home := e.accountHome(); home != "" {
		a = append(a, homeRoot(home))
	}
	return append(a, e.tmpRoot())
}

// placing is the turn to make a placement: one goroutine of a process tries for the
// lock at a time. A broker that binds many services at once would else keep itself
// waiting, and sleep between its attempts.
var placing = make(chan struct{}, 1)

// place finds or makes the placement of a service.
func (e Env) place(ctx context.Context, p *Place, instance, service string, alive func(string) bool) error {
	anchor, err := e.anchor(p)
	if err != nil {
		return err
	}
	link := filepath.Join(anchor, placedName, instance, service)
	if root, ok := e.placed(link); ok {
		p.Root = root
		return nil
	}
	select {
	case placing <- struct{}{}:
		defer func() { <-placing }()
	case <-ctx.Done():
		return &fs.PathError{Op: "lock", Path: anchor, Err: context.Cause(ctx)}
	}
	unlock, err := lockDir(ctx, anchor)
	if err != nil {
		return err
	}
	defer unlock()
	if root, ok := e.placed(link); ok {
		p.Root = root
		return nil
	}
	// A service that was launched before this anchor existed, or by a process
	// that could not use it, lives on where it is; its placement is then in
	// another anchor.
	for _, root := range append(e.roots(), e.placements(instance, service)...) {
		if e.verifyRoot(root) == nil && alive(e.sockBelow(root, instance, service)) {
			p.Root = root
			break
		}
	}
	for _, root := range e.roots() {
		if p.Root != "" {
			break
		}
		if err := e.ensure(root); err != nil {
			p.Passed = append(p.Passed, err)
			continue
		}
		p.Root = root
	}
	if p.Root == "" {
		return none(p.Passed)
	}
	if err := mkdirAll(filepath.Dir(link)); err != nil {
		return &Refused{Path: anchor, Reason: "cannot create a placement", Err: err}
	}
	return replaceLink(p.Root, link)
}

func (e Env) sockBelow(root, instance, service string) string {
	dir := filepath.Join(root, instance, service)
	if !fits(dir) {
		dir = e.findAlias(dir)
	}
	return filepath.Join(dir, SockName)
}

func (e Env) placed(link string) (string, bool) {
	root, err := os.Readlink(link)
	return root, err == nil && e.verifyRoot(root) == nil
}

// anchor returns the first directory that only the uid determines and that can
// be used: every process of the user finds the same.
func (e Env) anchor(p *Place) (string, error) {
	var passed []*Refused
	for _, a := range e.anchors() {
		err := e.ensure(a)
		if err == nil {
			p.Passed = passed
			return a, nil
		}
		passed = append(passed, err)
	}
	return "", none(passed)
}

// mkdir makes one private directory whatever the umask is; an existing one is
// left for verify to judge.
func mkdir(path string) error {
	err := os.Mkdir(path, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.Chmod(path, 0o700)
}

// verifySpelling: by whatever name a socket is reached, it is the same one.
func verifySpelling(string) *Refused { return nil }

// verifyParent refuses a parent in which another user could rename the
// directory away.
func (e Env) verifyParent(parent string) *Refused {
	if reason := misnamed(parent); reason != "" {
		return &Refused{Path: parent, Reason: reason}
	}
	fi, err := os.Stat(parent)
	if err != nil {
		return &Refused{Path: parent, Reason: "cannot be used", Err: err}
	}
	if !fi.IsDir() {
		return &Refused{Path: parent, Reason: "it is not a directory"}
	}
	if uid, ok := owner(fi); ok && uid != e.EUID && !(uid == 0 && parent == tmp) {
		return &Refused{Path: parent, Reason: "it belongs to uid " + strconv.Itoa(uid) + ", not to uid " + e.uid()}
	}
	if fi.Mode().Perm()&0o022 != 0 && fi.Mode()&fs.ModeSticky == 0 {
		return &Refused{Path: parent, Reason: "others can write to it (mode " + octal(fi.Mode()) + ")"}
	}
	return nil
}

func (e Env) verifyOwner(path string) *Refused {
	fi, err := os.Stat(path)
	if err != nil {
		return &Refused{Path: path, Reason: "cannot be used", Err: err}
	}
	if uid, ok := owner(fi); ok && uid != e.EUID {
		return &Refused{Path: path, Reason: "it belongs to uid " + strconv.Itoa(uid) + ", not to uid " + e.uid()}
	}
	return nil
}

// verify refuses a directory that is not ours alone, or not on this machine.
// The error is nil or a *Refused.
func (e Env) verify(path string) error {
	fi, err := os.Lstat(path)
	if err != nil {
		return &Refused{Path: path, Reason: "cannot be used", Err: err}
	}
	if fi.Mode()&fs.ModeSymlink != 0 {
		return &Refused{Path: path, Reason: "it is a symbolic link", Cure: "name the directory itself"}
	}
	if !fi.IsDir() {
		return &Refused{Path: path, Reason: "it is not a directory"}
	}
	if uid, ok := owner(fi); ok && uid != e.EUID {
		return &Refused{Path: path, Reason: "it belongs to uid " + strconv.Itoa(uid) + ", not to uid " + e.uid(), Err: fs.ErrPermission}
	}
	if perm := fi.Mode().Perm(); perm != 0o700 {
		return &Refused{Path: path, Reason: "its mode is " + octal(fi.Mode()) + ", not 0700",
			Cure: "chmod 700 " + path}
	}
	if kind, ok := networkFS(path); ok {
		return &Refused{Path: path, Reason: "it is on a network file system (" + kind + "), where locks can hang",
			Cure: "set FASTBIND_RUNTIME_DIR to a directory on a local file system"}
	}
	return nil
}

func octal(m fs.FileMode) string {
	s := strconv.FormatUint(uint64(m.Perm()), 8)
	return ("0000" + s)[len(s):]
}

// stateHomes are the directories that a user's environment and account name for state,
// the preferred first.
func (e Env) stateHomes() (bases []string) {
	if filepath.IsAbs(e.XDGState) {
		bases = append(bases, filepath.Join(e.XDGState, "fastbind"))
	}
	if home := e.home(); home != "" {
		bases = append(bases, filepath.Join(home, ".local", "state", "fastbind"))
	}
	return bases
}

// verifyState verifies the directory and the way to it. Of a directory that was
// named for us, or a runtime root that is verified already, the way there is the
// user's own choice, as that to FASTBIND_RUNTIME_DIR is.
func (e Env) verifyState(root, dir string) *Refused {
	from := ""
	if own := filepath.Join(root, ".state"); e.StateDir != "" {
		from = e.StateDir
	} else if root != "" && filepath.Dir(dir) == own {
		from = own
	}
	if err := e.verifyWay(from, dir); err != nil {
		return err
	}
	fi, err := os.Lstat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return &Refused{Path: dir, Reason: "cannot be used", Err: err}
	case fi.Mode()&fs.ModeSymlink != 0:
		return &Refused{Path: dir, Reason: "it is a symbolic link"}
	case fi.Mode().Perm()&0o022 != 0:
		return &Refused{Path: dir, Reason: "others can write to it (mode " + octal(fi.Mode()) + ")"}
	}
	return e.verifyOwner(dir)
}

// maxLinks is how many links a path may have, as in the kernel
// (path_resolution(7)).
const maxLinks = 40

// verifyWay refuses a path on whose way another user could put something else:
// each directory and link from one of its parents on, "" being the file system's
// root, is ours or the system's, and others can write to no directory that is not
// sticky. A directory of ours may be our group's too: that is what umask 002
// makes. What does not exist yet will be ours.
func (e Env) verifyWay(from, path string) *Refused {
	if reason := misnamed(path); reason != "" {
		return &Refused{Path: path, Reason: reason}
	}
	top := filepath.VolumeName(path) + string(filepath.Separator)
	at, rest := top, strings.TrimPrefix(path, top)
	system := 0
	if fi, err := os.Lstat(top); err == nil {
		// In a user namespace the system's files need not belong to uid 0.
		if uid, ok := owner(fi); ok {
			system = uid
		}
	}
	if from != "" {
		from = filepath.Clean(from)
		var err error
		if at, err = filepath.EvalSymlinks(filepath.Dir(from)); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return &Refused{Path: from, Reason: "cannot be used", Err: err}
		}
		rest = strings.TrimPrefix(path, strings.TrimSuffix(filepath.Dir(from), top)+string(filepath.Separator))
	}
	names := strings.Split(rest, string(filepath.Separator))
	for links := 0; len(names) > 0; {
		name := names[0]
		names = names[1:]
		if name == "" || name == "." {
			continue
		}
		if name == ".." { // only in links; at has none
			at = filepath.Dir(at)
			continue
		}
		next := filepath.Join(at, name)
		fi, err := os.Lstat(next)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return &Refused{Path: next, Reason: "cannot be used", Err: err}
		}
		uid, ok := owner(fi)
		if ok && uid != e.EUID && uid != 0 && uid != system {
			return &Refused{Path: next, Reason: "it belongs to uid " + strconv.Itoa(uid) + ", not to uid " + e.uid()}
		}
		switch {
		case fi.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(next)
			if links++; links > maxLinks {
				err = errLinks
			}
			if err != nil {
				return &Refused{Path: next, Reason: "cannot be used", Err: err}
			}
			if filepath.IsAbs(target) {
				at = top
			}
			names = append(strings.Split(target, string(filepath.Separator)), names...)
		case !fi.IsDir():
			return &Refused{Path: next, Reason: "it is not a directory"}
		case ok && fi.Mode()&fs.ModeSticky == 0 && (fi.Mode().Perm()&0o002 != 0 || fi.Mode().Perm()&0o020 != 0 && uid != e.EUID):
			return &Refused{Path: next, Reason: "others can write to it (mode " + octal(fi.Mode()) + ")"}
		default:
			at = next
		}
	}
	return nil
}

var errLinks = errors.New("too many symbolic links")

// Package runtimedir finds the directory in which a service's endpoint lives,
// the same one for every process of a user, and verifies it before anything is
// created there.
//
// Two questions are answered separately. Guess computes, without touching the
// file system, where the endpoint most probably is: a client connects there and
// checks who answers. Only when nobody does, Resolve verifies, creates and
// agrees: roots that a process derives from its own environment can differ
// (a shell has XDG_RUNTIME_DIR, cron has not), so the first launch of a service
// leaves a placement, a link in a directory that only the uid determines, and
// every later one follows it.
package runtimedir

import (
	"context"
	"errors"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/fastbind/fastbind/internal/lock"
)

// Names within a service's directory.
const (
	SockName    = "sock"    // the endpoint; on Windows it has no name here
	KeepName    = "keep"    // second link to the endpoint's inode; not on Windows
	furtherSep  = "-"       // between one of these two and the name of a further endpoint
	CurrentName = "current" // leads to the owning generation's directory
	HolderName  = "holder"  // link to the directory of the standing broker's generation that holds the endpoint
	CtlName     = "ctl"     // a generation's control endpoint; on Windows it has no name here
	LifeName    = "life"    // a generation's life lock
	LockName    = "lock"    // the launch lock, where a directory cannot be locked (Windows)
)

// Directories beside the instances; instance names cannot begin with a dot.
const (
	placedName = ".placed" // instance/service -> root
	aliasName  = ".alias"  // short names of directories too long for a socket address
)

// Env is what the directories are computed from.
type Env struct {
	RuntimeDir string // FASTBIND_RUNTIME_DIR: used or refused, never passed over
	XDGRuntime string // XDG_RUNTIME_DIR
	StateDir   string // FASTBIND_STATE_DIR
	XDGState   string // XDG_STATE_HOME
	Home       string // HOME
	EUID       int

	// AccountHome is the home directory in the password database. It is
	// preferred to HOME, because cron, sudo and env -i change that one.
	AccountHome func() string
}

// FromEnviron fills an Env from the environment that get reads.
func FromEnviron(get func(string) string, euid int, accountHome func() string) Env {
	return Env{
		RuntimeDir:  get("FASTBIND_RUNTIME_DIR"),
		XDGRuntime:  get("XDG_RUNTIME_DIR"),
		StateDir:    get("FASTBIND_STATE_DIR"),
		XDGState:    get("XDG_STATE_HOME"),
		Home:        get("HOME"),
		EUID:        euid,
		AccountHome: accountHome,
	}
}

// Equal reports whether both were filled from the same values.
func (e *Env) Equal(o *Env) bool {
	return e.RuntimeDir == o.RuntimeDir && e.XDGRuntime == o.XDGRuntime && e.StateDir == o.StateDir &&
		e.XDGState == o.XDGState && e.Home == o.Home && e.EUID == o.EUID
}

// Leads reports whether Guess is what it would be in the environment that get reads. It
// reads three variables at most, on the path of every dial.
func (e *Env) Leads(get func(string) string) bool {
	if own := get("FASTBIND_RUNTIME_DIR"); own != "" || e.RuntimeDir != "" {
		return own == e.RuntimeDir
	}
	return get("XDG_RUNTIME_DIR") == e.XDGRuntime && get("HOME") == e.Home
}

func (e Env) uid() string { return strconv.Itoa(e.EUID) }

// runUser and tmp are the bases that only the uid determines. They are
// variables for the tests, which cannot own the real ones.
var (
	runUser = "/run/user"
	tmp     = "/tmp"
)

func (e Env) runUserRoot() string { return filepath.Join(runUser, e.uid(), "fastbind") }
func (e Env) tmpRoot() string     { return filepath.Join(tmp, "fastbind-"+e.uid()) }

// homeRoot is below .local/state, not .cache: people empty caches.
func homeRoot(home string) string { return filepath.Join(home, ".local", "state", "fastbind", "run") }

// misnamed says why a directory cannot be used whatever it is, "" if its name
// is good. Names go into line-based formats: records and handovers.
func misnamed(path string) string {
	switch {
	case !filepath.IsAbs(path):
		return "it is not an absolute path"
	case strings.ContainsFunc(path, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return "its name has control characters"
	}
	return ""
}

// fits reports whether every socket of a service in dir has an address: the
// longest is a generation's control endpoint.
func fits(dir string) bool { return fitsLen(len(dir)) }

func fitsLen(n int) bool { return n+len("/")+maxGenerationName+len("/")+len(CtlName) <= maxAddr }

// maxGenerationName is the length of the longest name of a generation's
// directory that package launch makes, for the first hundred million launches
// and two years without a reboot.
const maxGenerationName = len("99999999.0123456789abcdef.zzzzzzz.012345")

func alias(base, dir string) string {
	h := fnv.New64a()
	h.Write([]byte(dir))
	return filepath.Join(base, aliasName, strconv.FormatUint(h.Sum64(), 36))
}

// A Place is where a service lives.
type Place struct {
	Root string // verified
	Dir  string // the service's directory; it may not exist (yet)
	Addr string // Dir, by a name short enough for socket addresses

	// Passed are the candidates that were not used, and why.
	Passed []*Refused
}

// FurtherSock and FurtherKeep are the two names of a further endpoint: those of the
// service's own, and its name behind them, so that a shell can write "$SOCK-$NAME".
// They are shorter than that of a generation's control endpoint, which fits. Windows
// has none: only foreign daemons take further endpoints.
func FurtherSock(endpoint string) string { return SockName + furtherSep + endpoint }

// FurtherKeep is the second one.
func FurtherKeep(endpoint string) string { return KeepName + furtherSep + endpoint }

// IsFurther reports whether a name in a service's directory is a further endpoint's.
func IsFurther(name string) bool {
	return strings.HasPrefix(name, SockName+furtherSep) || strings.HasPrefix(name, KeepName+furtherSep)
}

// A Refused error says why a directory is not used.
type Refused struct {
	Path   string
	Reason string
	Cure   string // what to do, "" if that depends
	Err    error  // the system's error, or nil
}

func (e *Refused) Error() string {
	s := "runtime directory " + strconv.Quote(e.Path) + ": " + e.Reason
	if e.Err != nil {
		s += ": " + cause(e.Err)
	}
	return s
}

// Unwrap returns the system's error.
func (e *Refused) Unwrap() error { return e.Err }

// cause is err without the path that is named already.
func cause(err error) string {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err.Error()
	}
	return err.Error()
}

// ErrNotPlaced is returned by Find for a service that never ran here.
var ErrNotPlaced = errors.New("service was never launched here")

// Find returns where a service lives, without creating, changing or deleting
// anything; ErrNotPlaced if it has no directory.
func (e Env) Find(instance, service string) (Place, error) {
	if e.RuntimeDir != "" {
		root, err := e.explicit(false)
		if err != nil {
			return Place{}, err
		}
		return e.placeAt(root, instance, service, nil)
	}
	last := ErrNotPlaced
	for _, root := range append(e.placements(instance, service), e.roots()...) {
		if e.verifyRoot(root) != nil {
			continue
		}
		p, err := e.placeAt(root, instance, service, nil)
		if err == nil {
			return p, nil
		}
		if err != ErrNotPlaced {
			last = err // it may be there
		}
	}
	return Place{}, last
}

func (e Env) placeAt(root, instance, service string, passed []*Refused) (Place, error) {
	dir := filepath.Join(root, instance, service)
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return Place{}, ErrNotPlaced
	} else if err != nil {
		return Place{}, err
	}
	p := Place{Root: root, Dir: dir, Addr: dir, Passed: passed}
	if !fits(dir) {
		p.Addr = e.findAlias(dir)
	}
	return p, nil
}

// findAlias returns the existing short name of dir, or dir if there is none.
func (e Env) findAlias(dir string) string {
	for _, base := range []string{e.runUserRoot(), e.tmpRoot()} {
		a := alias(base, dir)
		if target, err := os.Readlink(a); err == nil && target == dir && e.verify(base) == nil {
			return a
		}
	}
	return dir
}

// Roots returns the verified roots in which services of the user can be: those
// of this environment and those that placements name. Nothing is created.
func (e Env) Roots() []string {
	if e.RuntimeDir != "" {
		root, err := e.explicit(false)
		if err != nil {
			return nil
		}
		return []string{root}
	}
	var out []string
	for _, root := range append(e.roots(), e.allPlacements()...) {
		if e.verifyRoot(root) == nil && !contains(out, root) {
			out = append(out, root)
		}
	}
	return out
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

// placements returns the roots that the service's placements lead to.
func (e Env) placements(instance, service string) []string {
	return e.linked(func(anchor string) []string {
		return []string{filepath.Join(anchor, placedName, instance, service)}
	})
}

// allPlacements returns the roots that any service's placements lead to.
func (e Env) allPlacements() []string {
	return e.linked(func(anchor string) []string {
		links, _ := filepath.Glob(filepath.Join(escapeGlob(anchor), placedName, "*", "*"))
		return links
	})
}

// linked returns where the links in the verified anchors lead to.
func (e Env) linked(links func(anchor string) []string) []string {
	var roots []string
	for _, a := range e.anchors() {
		if e.verify(a) != nil {
			continue
		}
		for _, l := range links(a) {
			if root, err := os.Readlink(l); err == nil {
				roots = append(roots, root)
			}
		}
	}
	return roots
}

// Placements returns the links that lead a service to a place; there are none
// with FASTBIND_RUNTIME_DIR.
func (e Env) Placements(p Place, instance, service string) []string {
	if e.RuntimeDir != "" {
		return nil
	}
	var links []string
	for _, a := range e.anchors() {
		link := filepath.Join(a, placedName, instance, service)
		if root, err := os.Readlink(link); err == nil && root == p.Root && e.verify(a) == nil {
			links = append(links, link)
		}
	}
	return links
}

// Unplace removes a service's Placements, and their directories with the last
// one, under the lock under which they are made. A service that has been made
// again since keeps them. ctx bounds the wait for the locks.
func (e Env) Unplace(ctx context.Context, p Place, instance, service string) error {
	for _, link := range e.Placements(p, instance, service) {
		instances := filepath.Dir(link)
		placed := filepath.Dir(instances)
		unlock, err := lockDir(ctx, filepath.Dir(placed))
		if err != nil {
			return err
		}
		root, err := os.Readlink(link)
		if _, made := os.Lstat(p.Dir); errors.Is(made, fs.ErrNotExist) && err == nil && root == p.Root {
			if err = os.Remove(link); err == nil {
				_ = os.Remove(instances)
				_ = os.Remove(placed)
			}
		}
		unlock()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func escapeGlob(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(s)
}

func (e Env) accountHome() string {
	if e.AccountHome == nil {
		return ""
	}
	if home := e.AccountHome(); misnamed(home) == "" {
		return home
	}
	return ""
}

// home is "" for a user without a usable one: a relative one would lead to
// whatever the caller's working directory is.
func (e Env) home() string {
	if home := e.accountHome(); home != "" {
		return home
	}
	if misnamed(e.Home) == "" {
		return e.Home
	}
	return ""
}

// Resolve returns where a service lives, agreed with every other process of
// the user, with its root verified and, if need be, created; the service's own
// directory is not created here. alive tells whether somebody accepts at a
// path. ctx bounds the wait for the placement's lock, which others hold for
// some system calls.
//
// An unusable FASTBIND_RUNTIME_DIR is a *Refused error. Other candidates are
// passed over, and *Refused is returned when none is left.
func (e Env) Resolve(ctx context.Context, instance, service string, alive func(sock string) bool) (Place, error) {
	p := Place{}
	if e.RuntimeDir != "" {
		root, err := e.explicit(true)
		if err != nil {
			return p, err
		}
		p.Root = root
	} else if err := e.place(ctx, &p, instance, service, alive); err != nil {
		return p, err
	}
	p.Dir = filepath.Join(p.Root, instance, service)
	p.Addr = p.Dir
	if !fits(p.Dir) {
		var err error
		if p.Addr, err = e.makeAlias(p.Dir); err != nil {
			return p, err
		}
	}
	return p, nil
}

func (e Env) explicit(create bool) (string, error) {
	root := e.RuntimeDir
	if misnamed(root) != "" {
		return "", &Refused{Path: root, Reason: "FASTBIND_RUNTIME_DIR must be an absolute path without control characters"}
	}
	root = filepath.Clean(root)
	if create {
		if err := mkdirAll(filepath.Dir(root)); err != nil {
			return "", &Refused{Path: root, Reason: "cannot create its parent", Err: err}
		}
		if err := mkdir(root); err != nil {
			return "", &Refused{Path: root, Reason: "cannot create it", Err: err}
		}
	}
	if err := e.verify(root); err != nil {
		if !create && errors.Is(err, fs.ErrNotExist) {
			return "", ErrNotPlaced
		}
		return "", err
	}
	if err := verifySpelling(root); err != nil {
		return "", err
	}
	return root, nil
}

func none(passed []*Refused) error {
	var reasons []string
	var errs []error
	for _, r := range passed {
		reasons = append(reasons, strconv.Quote(r.Path)+": "+r.Reason)
		errs = append(errs, r)
	}
	return &Refused{Path: "(none)", Reason: "no candidate can be used: " + strings.Join(reasons, "; "), Err: errors.Join(errs...),
		Cure: "set FASTBIND_RUNTIME_DIR to a directory of your own, mode 0700, on a local file system"}
}

// ensure creates a candidate whose parent may hold it, and verifies it.
func (e Env) ensure(root string) *Refused {
	parent := filepath.Dir(root)
	if home := e.home(); home != "" && root == homeRoot(home) {
		if err := e.verifyOwner(home); err != nil {
			return err
		}
		if err := mkdirAll(parent); err != nil {
			return &Refused{Path: root, Reason: "cannot create its parent", Err: err}
		}
	}
	if err := e.verifyParent(parent); err != nil {
		return err
	}
	if err := mkdir(root); err != nil {
		return &Refused{Path: root, Reason: "cannot create it", Err: err}
	}
	if err := e.verify(root); err != nil {
		return err.(*Refused)
	}
	return nil
}

// mkdirAll makes a directory and its missing parents private, whatever the umask
// is: os.MkdirAll would leave ones that we could not enter ourselves.
func mkdirAll(path string) error {
	if fi, err := os.Stat(path); err == nil && fi.IsDir() {
		return nil
	}
	if parent := filepath.Dir(path); parent != path {
		if err := mkdirAll(parent); err != nil {
			return err
		}
	}
	return mkdir(path)
}

// verifyRoot verifies a root of which only the path is known: the directory,
// and that nobody else can replace it.
func (e Env) verifyRoot(root string) error {
	if reason := misnamed(root); reason != "" {
		return &Refused{Path: root, Reason: reason}
	}
	if err := e.verify(root); err != nil {
		return err
	}
	if err := e.verifyParent(filepath.Dir(root)); err != nil {
		return err
	}
	return nil
}

// Verify is verify for a service's own directory and for doctor.
func (e Env) Verify(path string) error { return e.verify(path) }

// MakeService creates the instance's and the service's directories below a
// resolved root and verifies both. The error is a *Refused.
func (e Env) MakeService(p Place) error {
	for _, dir := range []string{filepath.Dir(p.Dir), p.Dir} {
		if err := mkdir(dir); err != nil {
			return &Refused{Path: dir, Reason: "cannot create it", Err: err}
		}
		if err := e.verify(dir); err != nil {
			return err
		}
	}
	return nil
}

// makeAlias makes the short name of dir. /tmp cleaners may remove it: it is
// made again by the next client that misses.
func (e Env) makeAlias(dir string) (string, error) {
	var passed []*Refused
	for _, base := range []string{e.runUserRoot(), e.tmpRoot()} {
		if err := e.ensure(base); err != nil {
			passed = append(passed, err)
			continue
		}
		a := alias(base, dir)
		if target, err := os.Readlink(a); err == nil && target == dir {
			return a, nil
		}
		if err := mkdir(filepath.Dir(a)); err != nil {
			return "", &Refused{Path: filepath.Dir(a), Reason: "cannot create it", Err: err}
		}
		return a, replaceLink(dir, a)
	}
	return "", none(passed)
}

// links counts the links that this process has made.
var links atomic.Uint64

// replaceLink makes link lead to target, atomically, whatever was there.
func replaceLink(target, link string) error {
	// The time tells apart equal pids of several namespaces, the count equal times.
	next := link + "." + strconv.Itoa(os.Getpid()) + "." + strconv.FormatInt(time.Now().UnixNano(), 36) +
		"." + strconv.FormatUint(links.Add(1), 36)
	if err := os.Symlink(target, next); err != nil {
		return err
	}
	if err := os.Rename(next, link); err != nil {
		_ = os.Remove(next)
		return err
	}
	return nil
}

// lockDir takes the kernel lock on a directory, trying again until ctx ends:
// a holder that is stopped must not take its waiters along. The directory that
// is locked is the one at the path: the lock on a deleted one excludes nobody.
func lockDir(ctx context.Context, dir string) (unlock func(), err error) {
	for wait := time.Millisecond; ; wait = min(2*wait, 20*time.Millisecond) {
		f, err := os.Open(dir)
		if err != nil {
			return nil, err
		}
		ok, err := lock.Try(f)
		if ok && isAt(f, dir) {
			return func() { _ = lock.Release(f) }, nil
		}
		if ok {
			_ = lock.Release(f)
		} else {
			_ = f.Close()
		}
		if err != nil {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, &fs.PathError{Op: "lock", Path: dir, Err: context.Cause(ctx)}
		case <-time.After(wait):
		}
	}
}

func isAt(f *os.File, path string) bool {
	have, err := f.Stat()
	if err != nil {
		return false
	}
	at, err := os.Lstat(path)
	return err == nil && os.SameFile(have, at)
}

// StateDirs returns the candidates for the directory of an instance's logs and
// journals, the preferred first; root is the runtime root, used where the user
// has no home. Nothing is looked at or made.
func (e Env) StateDirs(root, instance string) []string {
	var bases []string
	switch {
	case e.StateDir != "":
		bases = append(bases, e.StateDir)
	case e.RuntimeDir != "":
		// A runtime directory of one's own is a world of its own.
		bases = append(bases, filepath.Join(root, ".state"))
	default:
		bases = e.stateHomes()
		if root != "" {
			bases = append(bases, filepath.Join(root, ".state"))
		}
	}
	for i, base := range bases {
		bases[i] = filepath.Join(base, instance)
	}
	return bases
}

// State returns the first of StateDirs that can be used, created and verified.
// The error is a *Refused.
func (e Env) State(root, instance string) (string, error) {
	if e.StateDir != "" && !filepath.IsAbs(e.StateDir) {
		return "", &Refused{Path: e.StateDir, Reason: "FASTBIND_STATE_DIR must be an absolute path"}
	}
	var last *Refused
	for _, dir := range e.StateDirs(root, instance) {
		// Before anything is made, which a link could lead anywhere.
		if last = e.verifyState(root, dir); last != nil {
			continue
		}
		if fi, err := os.Lstat(dir); err == nil && fi.IsDir() {
			return dir, nil // and is verified
		}
		if err := mkdirAll(dir); err != nil {
			last = &Refused{Path: dir, Reason: "cannot create it for logs", Err: err}
			continue
		}
		if last = e.verifyState(root, dir); last == nil {
			return dir, nil
		}
	}
	return "", last
}

// VerifyState refuses one of StateDirs in which another user could replace a log,
// as far as it exists. The error is nil or a *Refused.
func (e Env) VerifyState(root, dir string) error {
	if err := e.verifyState(root, dir); err != nil {
		return err
	}
	return nil
}

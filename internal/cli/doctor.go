package cli

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fastbind/fastbind/internal/broker/standing"
	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// The levels of what doctor says.
const (
	levelOK      = "ok"
	levelNote    = "note"    // worth knowing
	levelFinding = "finding" // worth mending
)

type doctorReply struct {
	Schema   int         `json:"schema"`
	Checks   []checkJSON `json:"checks"`
	Findings int         `json:"findings"`
	Error    *errorJSON  `json:"error"`
}

type checkJSON struct {
	Level   string  `json:"level"`
	Check   string  `json:"check"`
	Subject *string `json:"subject"`
	Message string  `json:"message"`
	Hint    *string `json:"hint"`
}

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Check directories, files and running services",
		Long: `Check what can be wrong outside of a service: which runtime directory is used and
why others are not, owners, modes, path lengths and file systems, the state
directory, definition files, records that cannot be read, left-over directories,
running services whose environment is not this shell's, what would take them along
when it ends, such as a logout, and on macOS whose privacy permissions they have.

It changes nothing. With findings the exit status is 1. Without a terminal each
check is one line of tab-separated fields: level, check, subject, message, hint.`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d := &doctor{a: a}
			d.runtimeDirs()
			d.stateDirs()
			d.definitions()
			d.shell()
			d.services(cmd.Context())
			findings := 0
			for _, c := range d.checks {
				if c.Level == levelFinding {
					findings++
				}
			}
			if a.json {
				a.print(doctorReply{Schema: schema, Checks: d.checks, Findings: findings})
			} else {
				d.print(findings)
			}
			if findings > 0 {
				return quiet(exitOther)
			}
			return nil
		},
	}
}

type doctor struct {
	a      *app
	checks []checkJSON
	logind *logind // nil until it was asked
}

func (d *doctor) say(level, check, subject, message, hint string) {
	d.checks = append(d.checks, checkJSON{level, check, some(subject), message, some(hint)})
}

func (d *doctor) print(findings int) {
	s := d.a.out
	if !s.terminal {
		var t table
		for _, c := range d.checks {
			t.rows = append(t.rows, []string{c.Level, c.Check, text(c.Subject), c.Message, text(c.Hint)})
		}
		t.print(s)
		return
	}
	last := ""
	for _, c := range d.checks {
		if c.Check != last {
			line(s.w, s.paint(bold, c.Check))
			last = c.Check
		}
		mark := map[string]string{levelOK: s.paint(good, "✓"), levelNote: s.paint(quietly, "·"), levelFinding: s.paint(bad, "✗")}[c.Level]
		message := harmless(c.Message)
		if c.Subject != nil {
			message = harmless(*c.Subject) + ": " + message
		}
		line(s.w, "  "+mark+" "+message)
		if c.Hint != nil {
			line(s.w, "      "+s.paint(busy, "hint: "+harmless(*c.Hint)))
		}
	}
	switch findings {
	case 0:
		line(s.w, s.paint(good, "nothing to mend"))
	case 1:
		line(s.w, s.paint(bad, "1 finding"))
	default:
		line(s.w, s.paint(bad, strconv.Itoa(findings)+" findings"))
	}
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// A candidate is a directory that may be the runtime root.
type candidate struct {
	path string
	why  string // the origin
	must bool   // it was configured: a problem with it is a finding
}

const checkRuntime = "runtime directory"

// runtimeDirs says which candidate is used, and why the others are not.
func (d *doctor) runtimeDirs() {
	used := false
	for _, c := range d.candidates() {
		subject := c.path + " (" + c.why + ")"
		problem := d.problem(c)
		if problem != nil {
			level := levelNote
			if c.must {
				level = levelFinding
			}
			d.say(level, checkRuntime, subject, "not used: "+problem.Reason+because(problem), problem.Cure)
			continue
		}
		_, err := os.Lstat(c.path)
		message := "can be used"
		switch {
		case used && err != nil:
			message = "not needed"
		case err != nil:
			message = "will be made and used for new services"
		case !used:
			message = "used for new services"
		}
		used = true
		if kind := fileSystem(existing(c.path)); kind != "" {
			message += "; file system " + kind
		}
		d.say(levelOK, checkRuntime, subject, message, "")
		d.pathLength(c.path)
	}
	if !used && d.a.dirs.RuntimeDir == "" {
		d.say(levelFinding, checkRuntime, "", "no candidate can be used",
			"set FASTBIND_RUNTIME_DIR to a directory of your own, mode 0700, on a local file system")
	}
}

func because(r *runtimedir.Refused) string {
	if r.Err == nil || !strings.HasSuffix(r.Reason, "cannot be used") {
		return ""
	}
	return ": " + cause(r.Err)
}

// problem returns why a candidate cannot be used, nil if it can, or could be
// made.
func (d *doctor) problem(c candidate) *runtimedir.Refused {
	if !filepath.IsAbs(c.path) {
		return &runtimedir.Refused{Path: c.path, Reason: "it is not an absolute path"}
	}
	var r *runtimedir.Refused
	err := d.a.dirs.Verify(c.path)
	if errors.As(err, &r) && !errors.Is(err, fs.ErrNotExist) {
		return r
	}
	parent := filepath.Dir(c.path)
	fi, perr := os.Stat(parent)
	switch {
	case errors.Is(perr, fs.ErrNotExist) && (c.why == "home" || c.why == "FASTBIND_RUNTIME_DIR"):
		return nil // made on the way
	case perr != nil:
		return &runtimedir.Refused{Path: parent, Reason: "its parent cannot be used", Err: perr}
	case !fi.IsDir():
		return &runtimedir.Refused{Path: parent, Reason: "its parent is not a directory"}
	case c.why == "FASTBIND_RUNTIME_DIR":
		return nil // its parent is the user's affair
	}
	uid, ok := owner(fi)
	if ok && uid != d.a.uid && !(uid == 0 && parent == "/tmp") {
		return &runtimedir.Refused{Path: parent, Reason: "its parent belongs to uid " + strconv.Itoa(uid)}
	}
	if ok && fi.Mode().Perm()&0o022 != 0 && fi.Mode()&fs.ModeSticky == 0 {
		return &runtimedir.Refused{Path: parent, Reason: "others can write to its parent", Cure: "run: chmod go-w " + parent}
	}
	return nil
}

// existing returns path or its nearest parent that exists.
func existing(path string) string {
	for {
		if _, err := os.Lstat(path); err == nil || path == filepath.Dir(path) {
			return path
		}
		path = filepath.Dir(path)
	}
}

// longest is what stands below a root in the address of a service with a short
// name: instance, service and a generation's control endpoint.
const longest = len("/default/") + 16 + len("/9999999999.0123456789abcdef/ctl")

// maxAddress is the longest socket address that every system takes.
const maxAddress = 103

func (d *doctor) pathLength(root string) {
	if len(root)+longest > maxAddress {
		d.say(levelNote, checkRuntime, root, strconv.Itoa(len(root))+
			" bytes are long for socket addresses; endpoints get a short second path", "")
	}
}

// stateDirs looks at the directory of logs and journals.
func (d *doctor) stateDirs() {
	const check = "state directory"
	roots := d.a.dirs.Roots()
	root := ""
	if len(roots) > 0 {
		root = roots[0]
	} else if d.a.dirs.RuntimeDir != "" {
		root = d.a.dirs.RuntimeDir
	}
	if s := d.a.dirs.StateDir; s != "" && !filepath.IsAbs(s) {
		d.say(levelFinding, check, s, "FASTBIND_STATE_DIR must be an absolute path", "")
		return
	}
	dirs := d.a.dirs.StateDirs(root, d.a.instance)
	if len(dirs) == 0 {
		d.say(levelNote, check, "", "there is no home: logs stand below the runtime directory", "")
		return
	}
	dir := dirs[0]
	fi, err := os.Stat(existing(dir))
	switch {
	case err != nil:
		d.say(levelFinding, check, dir, cause(err), "")
		return
	case !fi.IsDir():
		d.say(levelFinding, check, dir, existing(dir)+" is not a directory", "")
		return
	}
	_, ok := owner(fi)
	made := existing(dir) == dir
	var r *runtimedir.Refused
	switch {
	case errors.As(d.a.dirs.VerifyState(root, dir), &r):
		text := r.Reason
		if r.Path != dir {
			text = r.Path + ": " + text
		}
		d.say(levelFinding, check, dir, text, "")
	case made && ok && fi.Mode().Perm()&0o077 != 0:
		d.say(levelNote, check, dir, "others can look into it (mode 0"+strconv.FormatUint(uint64(fi.Mode().Perm()), 8)+")", "run: chmod 700 "+dir)
	case made:
		d.say(levelOK, check, dir, "used; file system "+orUnknown(fileSystem(dir)), "")
	default:
		d.say(levelOK, check, dir, "will be made", "")
	}
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

// definitions reads every definition file.
func (d *doctor) definitions() {
	const check = "definition files"
	dir := d.a.configDir()
	if dir == "" {
		return
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			d.say(levelFinding, check, dir, cause(err), "")
			return
		}
		d.say(levelNote, check, dir, "there is none", "")
		return
	}
	if err := d.a.trusted(dir); err != nil {
		fe := err.(*fileError)
		d.say(levelFinding, check, dir, fe.text, fe.hint)
	} else {
		d.say(levelOK, check, dir, "used", "")
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), fileSuffix)
		path := filepath.Join(dir, e.Name())
		if !ok {
			continue
		}
		if err := definition.CheckName("service", name); err != nil {
			d.say(levelFinding, check, path, err.Error(), "rename it")
			continue
		}
		if name == standing.Service {
			if _, err := d.a.readSettings(path); err != nil {
				d.say(levelFinding, check, path, mistake(err), hintOf(err))
			} else {
				d.say(levelOK, check, path, "valid", "")
			}
			continue
		}
		f, err := d.a.readFile(path, name)
		if err != nil {
			d.say(levelFinding, check, path, mistake(err), hintOf(err))
			continue
		}
		if c := f.def.Command[0]; !filepath.IsAbs(d.a.comparable(f.def).Command[0]) {
			d.say(levelFinding, check, path, "command: no program "+strconv.Quote(c)+" in PATH", "")
		} else if _, err := os.Stat(d.a.comparable(f.def).Command[0]); err != nil {
			d.say(levelFinding, check, path, "command: "+err.Error(), "")
		} else {
			d.say(levelOK, check, path, "valid", "")
		}
	}
}

// mistake is an error of a definition file without the file's name.
func mistake(err error) string {
	fe, ok := err.(*fileError)
	if !ok {
		return err.Error()
	}
	s := fe.text
	if fe.field != "" {
		s = fe.field + ": " + s
	}
	if fe.line > 0 {
		s = "line " + strconv.Itoa(fe.line) + ": " + s
	}
	return s
}

// services looks at every service's directory.
func (d *doctor) services(ctx context.Context) {
	const check = "services"
	for _, f := range launch.Services(d.a.dirs) {
		b := launch.Of(d.a.dirs, f, d.a.clientEnv)
		label := f.DirName
		if f.Instance != "default" {
			label = f.Instance + "/" + label
		}
		arg := arguments(&launch.Fault{Service: f.Service, Instance: f.Instance})
		v, err := d.a.look(ctx, b)
		if err != nil {
			d.say(levelFinding, check, label, err.Error(), hintOf(err))
			continue
		}
		place := v.status.Place
		before := len(d.checks)
		for _, dir := range []string{filepath.Dir(place.Dir), place.Dir} {
			var r *runtimedir.Refused
			if errors.As(d.a.dirs.Verify(dir), &r) {
				d.say(levelFinding, check, label, dir+": "+r.Reason, r.Cure)
			}
		}
		for _, e := range v.status.Generations {
			if e.Err != nil && !errors.Is(e.Err, fs.ErrNotExist) {
				d.say(levelFinding, check, label, e.Err.Error(), "")
			} else if e.Err != nil && !e.Alive {
				d.say(levelNote, check, label, e.Dir+" has no record; the next launch removes it", "")
			}
		}
		if place.Addr != place.Dir {
			d.say(levelNote, check, label, place.Dir+" is too long for socket addresses; the endpoint's path is "+place.Sock(), "")
		}
		if v.alive {
			for _, diff := range v.status.Environment {
				if b.Def.EnvPolicy == definition.EnvCoexist {
					break // another environment's daemon is meant to differ
				}
				d.say(levelFinding, check, label, "its environment is not this shell's: "+diff.String(), "run: fastbind restart "+arg)
			}
			if _, err := endpoint.Inode(place.Sock()); errors.Is(err, fs.ErrNotExist) && v.phase != "launching" {
				d.say(levelNote, check, label, "the endpoint's name was deleted; the next dial puts it back", "")
			}
			for _, name := range v.further {
				switch path := place.Further(name); {
				case exists(path):
				case exists(filepath.Join(place.Dir, runtimedir.FurtherKeep(name))):
					d.say(levelNote, check, label, "the name of endpoint "+name+" was deleted; the next start puts it back", "")
				case v.phase != "launching":
					d.say(levelFinding, check, label, "nobody can connect to endpoint "+name+": its names were deleted", "run: fastbind restart "+arg)
				}
			}
			if v.status.Shown.Record.Backend && v.status.Identity == nil {
				d.say(levelFinding, check, label, "pid "+number(v.pid)+" does not answer at its control endpoint", "see: fastbind why "+arg)
			}
			if !v.retry.IsZero() {
				d.say(levelFinding, check, label, "too many launches failed", "see: fastbind why "+arg)
			}
		}
		switch {
		case len(d.checks) > before:
		case v.alive:
			d.say(levelOK, check, label, v.phase, "")
		case len(v.status.Generations) == 0:
			d.say(levelNote, check, label, "nothing but its directory is left", "run: fastbind purge "+arg)
		default:
			d.say(levelOK, check, label, v.phase+", not running", "")
		}
		if v.alive {
			d.lifetime(ctx, v, label)
		}
	}
	for _, root := range d.a.dirs.Roots() {
		d.strangers(root)
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// strangers are files below a root that nobody will ever look at.
func (d *doctor) strangers(root string) {
	entries, _ := os.ReadDir(root)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if !e.IsDir() || definition.CheckName("instance", e.Name()) != nil {
			d.say(levelNote, "services", filepath.Join(root, e.Name()), "is not of fastbind", "")
		}
	}
}

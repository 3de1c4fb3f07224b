//go:build !windows

package cli

import (
	"os"
	"path/filepath"
	"strconv"
)

// candidates are the directories that may be the runtime root, in their order.
func (d *doctor) candidates() []candidate {
	e := d.a.dirs
	if e.RuntimeDir != "" {
		return []candidate{{e.RuntimeDir, "FASTBIND_RUNTIME_DIR", true}}
	}
	var list []candidate
	if e.XDGRuntime != "" {
		list = append(list, candidate{filepath.Join(e.XDGRuntime, "fastbind"), "XDG_RUNTIME_DIR", true})
	}
	uid := strconv.Itoa(e.EUID)
	list = append(list, candidate{"/run/user/" + uid + "/fastbind", "login session", false})
	home := e.Home
	if h := e.AccountHome(); h != "" {
		home = h
	}
	if home != "" {
		list = append(list, candidate{filepath.Join(home, ".local", "state", "fastbind", "run"), "home", false})
	}
	list = append(list, candidate{"/tmp/fastbind-" + uid, "last resort", false})
	if len(list) > 1 && list[0].path == list[1].path {
		list = append(list[:1], list[2:]...)
	}
	return list
}

// shell looks for what launches programs that are no SDK backends.
func (d *doctor) shell() {
	if fi, err := os.Stat("/bin/sh"); err != nil || fi.Mode().Perm()&0o111 == 0 {
		d.say(levelFinding, "system", "/bin/sh", "cannot be executed; foreign daemons need it", "")
	}
}

package notify

import (
	"strconv"

	"github.com/fastbind/fastbind/internal/proc"
)

// A judge says whether a message counts. It belongs to the goroutine that
// receives.
type judge struct {
	generation Generation
	main       proc.ID // as of the last MAINPID
	all        bool
}

// sender returns why the messages of a process do not count, "" if they do.
func (j *judge) sender(pid int) string {
	if pid == j.main.PID {
		return ""
	}
	if !j.all {
		return "process " + strconv.Itoa(pid) + " is not the main process, " + strconv.Itoa(j.main.PID) + ", and notify_access is main"
	}
	return j.belongs(pid)
}

// belongs returns why a process cannot be shown to be one of the generation's, ""
// if it can.
func (j *judge) belongs(pid int) string {
	if pid == j.main.PID || pid == j.generation.Main.PID {
		return ""
	}
	who := "process " + strconv.Itoa(pid)
	k, err := kinOf(pid)
	if err != nil {
		return who + " has ended, so that nobody can tell whose it was"
	}
	if k.session == j.generation.Main.PID {
		return ""
	}
	if g := j.generation.Cgroup; g != "" && g != "/" && within(cgroupOf(pid), g) {
		return ""
	}
	for range maxAncestors {
		if k.parent == j.main.PID || k.parent == j.generation.Main.PID {
			return ""
		}
		if k.parent <= 1 {
			break
		}
		if k, err = kinOf(k.parent); err != nil {
			break
		}
	}
	return who + " does not belong to the generation of process " + strconv.Itoa(j.generation.Main.PID)
}

// maxAncestors bounds the way up from a process.
const maxAncestors = 32

// within reports whether a cgroup is another one or below it.
func within(cgroup, of string) bool {
	return cgroup == of || len(cgroup) > len(of) && cgroup[:len(of)] == of && cgroup[len(of)] == '/'
}

// follow makes a process the main one, or returns why not.
func (j *judge) follow(pid, euid int) (proc.ID, string) {
	who := "process " + strconv.Itoa(pid)
	id, err := proc.Of(pid)
	if err != nil {
		return proc.ID{}, who + ": " + err.Error()
	}
	h, err := proc.Open(id)
	if err != nil {
		return proc.ID{}, who + ": " + err.Error()
	}
	defer h.Close()
	uid, err := uidOf(pid)
	if err != nil {
		return proc.ID{}, who + ": " + err.Error()
	}
	if uid != euid {
		return proc.ID{}, who + " runs as uid " + strconv.Itoa(uid) + ", not " + strconv.Itoa(euid)
	}
	if reason := j.belongs(pid); reason != "" {
		return proc.ID{}, reason
	}
	// Asked last: what lives now has had its number all along.
	if !h.Alive() {
		return proc.ID{}, who + ": " + proc.ErrGone.Error()
	}
	j.main = id
	return id, ""
}

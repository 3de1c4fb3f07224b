package proc

import (
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
)

// state reads the state letters of all threads: that of the process is its main
// thread's, which may have ended.
func (h *Handle) state() (State, error) {
	dir := "/proc/" + strconv.Itoa(h.pid) + "/"
	status, err := readSmall(dir+"status", 8<<10)
	if err != nil {
		return State{}, err
	}
	var st State
	st.Tracer, _ = strconv.Atoi(statusField(status, "TracerPid"))
	threads, err := names(dir+"task", evidenceFDs)
	if err != nil {
		return State{}, err
	}
	for _, t := range threads {
		switch threadState(dir + "task/" + t) {
		case 'T':
			st.Stopped = true
		case 'Z', 'X', 0: // it has ended
		default:
			return State{Tracer: st.Tracer}, nil
		}
	}
	return st, nil
}

// threadState is field 3 of a stat file, 0 if it cannot be read.
func threadState(dir string) byte {
	b, err := readSmall(dir+"/stat", 2048)
	if err != nil {
		return 0
	}
	state := statField(b, 3)
	if state == "" {
		return 0
	}
	return state[0]
}

// statusField returns the value of a line of proc_pid_status(5).
func statusField(status []byte, key string) string {
	for line := range strings.Lines(string(status)) {
		if v, ok := strings.CutPrefix(line, key+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// IgnoredSignals are those that this process ignores, the first in the lowest bit; none
// if /proc does not tell.
func IgnoredSignals() uint64 {
	status, _ := readSmall("/proc/self/status", 8<<10)
	mask, _ := strconv.ParseUint(statusField(status, "SigIgn"), 16, 64)
	return mask
}

// DescriptorTable is how many descriptors the table of this process has room for: those
// that are open are all below that (FDSize). It is 0 if /proc does not tell.
func DescriptorTable() int {
	status, _ := readSmall("/proc/self/status", 1<<10) // it is one of the first lines
	size, _ := strconv.Atoi(statusField(status, "FDSize"))
	return size
}

// names lists at most n names of a directory.
func names(dir string, n int) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	list, err := f.Readdirnames(n)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return list, err
}

func (h *Handle) evidence() []string {
	dir := "/proc/" + strconv.Itoa(h.pid) + "/"
	status, err := readSmall(dir+"status", 8<<10)
	if err != nil {
		return nil
	}
	head := "process " + strconv.Itoa(h.pid)
	for _, key := range []string{"Name", "State", "Threads", "TracerPid", "VmRSS", "VmSwap", "SigPnd", "ShdPnd", "SigBlk"} {
		if v := statusField(status, key); v != "" {
			head += ", " + key + " " + v
		}
	}
	if fds, err := names(dir+"fd", evidenceFDs); err == nil {
		head += ", descriptors " + strconv.Itoa(len(fds))
	}
	lines := []string{head}
	threads, _ := names(dir+"task", evidenceFDs)
	for i, t := range threads {
		if i == evidenceThreads {
			return append(lines, "and "+strconv.Itoa(len(threads)-i)+" more threads")
		}
		task := dir + "task/" + t
		line := "thread " + t
		if s := threadState(task); s != 0 {
			line += ", state " + string(rune(s))
		}
		// Not everybody may read these: what cannot be read is left out.
		for _, name := range []string{"wchan", "syscall"} {
			b, err := readSmall(task+"/"+name, 512)
			if v := oneLine(b); err == nil && v != "" {
				line += ", " + name + " " + v
			}
		}
		lines = append(lines, line)
		stack, err := readSmall(task+"/stack", evidenceStack)
		if err != nil {
			continue
		}
		for l := range strings.Lines(string(stack)) {
			lines = append(lines, "    "+oneLine([]byte(l)))
		}
	}
	return lines
}

func oneLine(b []byte) string {
	// strings.ReplaceAll would be in each client for this alone: TestClientSize.
	return strings.TrimSpace(strings.Join(strings.Split(string(b), "\n"), " "))
}

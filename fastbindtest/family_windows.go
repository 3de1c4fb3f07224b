package fastbindtest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// What is told calls things as the system does.
const (
	descriptorWord = "handle"
	executedWord   = "inheritable"
)

// A kin is a job, in which this process is and with it all that it starts and whatever
// that starts. It lets nobody out, and ends with its last handle, which is this process's:
// however this process ends, nothing is left.
type kin struct{ job windows.Handle }

// ownJob is that of the family, of which a process can have one only.
var ownJob windows.Handle

func newFamily() (*family, error) {
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return nil, os.NewSyscallError("CreateJobObject", err)
	}
	var limits windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION
	limits.BasicLimitInformation.LimitFlags = windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
	_, err = windows.SetInformationJobObject(job, windows.JobObjectExtendedLimitInformation,
		uintptr(unsafe.Pointer(&limits)), uint32(unsafe.Sizeof(limits)))
	if err == nil {
		err = windows.AssignProcessToJobObject(job, windows.CurrentProcess())
	}
	if err != nil {
		_ = windows.CloseHandle(job)
		return nil, fmt.Errorf("making a job of what is started: %w", err)
	}
	ownJob = job
	return &family{children: map[int]bool{}, kin: kin{job}}, nil
}

// close leaves the job open: its end would be this process's too.
func (f *family) close() { _ = f.endAll() }

var (
	kernel32         = windows.NewLazySystemDLL("kernel32.dll")
	ntdll            = windows.NewLazySystemDLL("ntdll.dll")
	iphlpapi         = windows.NewLazySystemDLL("iphlpapi.dll")
	isProcessInJob   = kernel32.NewProc("IsProcessInJob")
	ntSuspendProcess = ntdll.NewProc("NtSuspendProcess")
	ntResumeProcess  = ntdll.NewProc("NtResumeProcess")
	extendedTCPTable = iphlpapi.NewProc("GetExtendedTcpTable")
)

// kill: a number may be another's by now, which is then not in the job.
func (f *family) kill(pid int) error {
	h, err := windows.OpenProcess(windows.PROCESS_TERMINATE|windows.PROCESS_QUERY_INFORMATION|windows.SYNCHRONIZE, false, uint32(pid))
	if err != nil {
		if !living(pid) {
			return errGone
		}
		return os.NewSyscallError("OpenProcess", err)
	}
	defer windows.CloseHandle(h)
	var in int32
	if ok, _, err := isProcessInJob.Call(uintptr(h), uintptr(f.job), uintptr(unsafe.Pointer(&in))); ok == 0 {
		return os.NewSyscallError("IsProcessInJob", err)
	}
	if in == 0 {
		return errGone
	}
	if err := windows.TerminateProcess(h, 1); err != nil {
		if !living(pid) {
			return errGone
		}
		return os.NewSyscallError("TerminateProcess", err)
	}
	return nil
}

// maxMembers bounds a family.
const maxMembers = 8192

// members are the numbers of all in the job.
func members(job windows.Handle) map[int]bool {
	all := map[int]bool{}
	if job == 0 {
		return all
	}
	var list struct { // JOBOBJECT_BASIC_PROCESS_ID_LIST
		assigned, n uint32
		pids        [maxMembers]uintptr
	}
	if windows.QueryInformationJobObject(job, windows.JobObjectBasicProcessIdList, uintptr(unsafe.Pointer(&list)), uint32(unsafe.Sizeof(list)), nil) == nil {
		for _, pid := range list.pids[:min(int(list.n), maxMembers)] {
			all[int(pid)] = true
		}
	}
	return all
}

// systemInformation asks for a list of the system's, which may be of any length.
func systemInformation(class int32) []byte {
	for size := uint32(1 << 18); size <= 1<<28; size *= 2 {
		b := make([]byte, size)
		var n uint32
		err := windows.NtQuerySystemInformation(class, unsafe.Pointer(&b[0]), size, &n)
		switch {
		case err == nil:
			return b
		case !errors.Is(err, windows.STATUS_INFO_LENGTH_MISMATCH) && !errors.Is(err, windows.STATUS_BUFFER_TOO_SMALL):
			return nil
		}
	}
	return nil
}

// processes: nobody inherits the children of who ends here, so that this process is said
// to be the parent of each in its job whose own has ended. The number of that may be
// another's by now, who is then younger than its child. Of what this process has around it
// that is not in the job it is not. The hosts of consoles are the system's, although each
// is listed as a child of who was first in its console.
func processes() snapshot {
	family := members(ownJob)
	b := systemInformation(windows.SystemProcessInformation)
	all, began := snapshot{}, map[int]int64{}
	for at := uint32(0); b != nil; {
		p := (*windows.SYSTEM_PROCESS_INFORMATION)(unsafe.Pointer(&b[at]))
		pid := int(p.UniqueProcessID)
		if !strings.EqualFold(p.ImageName.String(), "conhost.exe") {
			// One that has ended is listed for as long as somebody has a handle of it.
			all[pid] = process{pid: pid, ppid: int(p.InheritedFromUniqueProcessID), session: int(p.SessionID), zombie: p.NumberOfThreads == 0}
			began[pid] = p.CreateTime
		}
		if p.NextEntryOffset == 0 {
			break
		}
		at += p.NextEntryOffset
	}
	self := os.Getpid()
	for pid, p := range all {
		parent, ok := all[p.ppid]
		orphan := !ok || parent.zombie || began[p.ppid] > began[pid]
		switch {
		case family[pid] && orphan:
			p.ppid = self
		case orphan || p.ppid == self && ownJob != 0 && !family[pid]:
			p.ppid = 0
		}
		all[pid] = p
	}
	return all
}

func living(pid int) bool {
	h, err := windows.OpenProcess(windows.SYNCHRONIZE, false, uint32(pid))
	if err != nil {
		return errors.Is(err, windows.ERROR_ACCESS_DENIED)
	}
	defer windows.CloseHandle(h)
	e, err := windows.WaitForSingleObject(h, 0)
	return err != nil || e != windows.WAIT_OBJECT_0
}

// A memory is that of a process, in which the system keeps what it was started with.
type memory struct {
	h          windows.Handle
	parameters windows.RTL_USER_PROCESS_PARAMETERS
}

// memoryOf opens a process of this process's kind: another has its parameters elsewhere.
func memoryOf(pid int) (m memory, ok bool) {
	h, err := windows.OpenProcess(windows.PROCESS_QUERY_INFORMATION|windows.PROCESS_VM_READ, false, uint32(pid))
	if err != nil {
		return m, false
	}
	m.h = h
	var basic windows.PROCESS_BASIC_INFORMATION
	var peb windows.PEB
	ok = windows.NtQueryInformationProcess(h, windows.ProcessBasicInformation, unsafe.Pointer(&basic), uint32(unsafe.Sizeof(basic)), nil) == nil &&
		m.read(unsafe.Pointer(basic.PebBaseAddress), unsafe.Pointer(&peb), unsafe.Sizeof(peb)) &&
		m.read(unsafe.Pointer(peb.ProcessParameters), unsafe.Pointer(&m.parameters), unsafe.Sizeof(m.parameters))
	if !ok {
		m.close()
	}
	return m, ok
}

func (m memory) close() { _ = windows.CloseHandle(m.h) }

func (m memory) read(from, to unsafe.Pointer, n uintptr) bool {
	return from != nil && windows.ReadProcessMemory(m.h, uintptr(from), (*byte)(to), n, nil) == nil
}

// text reads n bytes of UTF-16.
func (m memory) text(at unsafe.Pointer, n uintptr) []uint16 {
	const most = 1 << 20 // an environment has no bound of its own
	b := make([]uint16, min(n, most)/2)
	if len(b) == 0 || !m.read(at, unsafe.Pointer(&b[0]), uintptr(len(b))*2) {
		return nil
	}
	return b
}

func (m memory) string(s windows.NTUnicodeString) string {
	return windows.UTF16ToString(m.text(unsafe.Pointer(s.Buffer), uintptr(s.Length)))
}

func arguments(pid int) string {
	m, ok := memoryOf(pid)
	if !ok {
		return ""
	}
	defer m.close()
	return m.string(m.parameters.CommandLine)
}

func directory(pid int) string {
	m, ok := memoryOf(pid)
	if !ok {
		return ""
	}
	defer m.close()
	return filepath.Clean(m.string(m.parameters.CurrentDirectory.DosPath))
}

func image(pid int) string {
	m, ok := memoryOf(pid)
	if !ok {
		return ""
	}
	defer m.close()
	return m.string(m.parameters.ImagePathName) + "\x00" + m.string(m.parameters.CommandLine)
}

func environment(pid int) (list []string) {
	m, ok := memoryOf(pid)
	if !ok {
		return nil
	}
	defer m.close()
	b := m.text(m.parameters.Environment, m.parameters.EnvironmentSize)
	for len(b) > 0 && b[0] != 0 { // it ends with an empty one
		end := slices.Index(b, 0)
		if end < 0 {
			break
		}
		list = append(list, windows.UTF16ToString(b[:end]))
		b = b[end+1:]
	}
	return list
}

// announcing is our own variable: there is no other by which a listener is announced here,
// and it names no process that it is meant for.
var announcing = []string{"FASTBIND_HANDOVER"}

// freeze: the system has no signal for it, but a call that suspends all threads of a
// process, and returns when it has (NtSuspendProcess).
func (w *world) freeze(list []process) error {
	for _, p := range list {
		if err := each(p.pid, ntSuspendProcess); err != nil && living(p.pid) {
			return err
		}
	}
	return nil
}

func thaw(list []process) {
	for _, p := range list {
		_ = each(p.pid, ntResumeProcess)
	}
}

// each calls what suspends or resumes each thread of a process.
func each(pid int, call *windows.LazyProc) error {
	h, err := windows.OpenProcess(windows.PROCESS_SUSPEND_RESUME, false, uint32(pid))
	if err != nil {
		return os.NewSyscallError("OpenProcess", err)
	}
	defer windows.CloseHandle(h)
	if status, _, _ := call.Call(uintptr(h)); status != 0 {
		return os.NewSyscallError(call.Name, windows.NTStatus(status))
	}
	return nil
}

// listening on Windows are ports, of which the system has a table, and pipes, of which it
// has none: they are looked for among the handles of who could have them.
type listenerTable struct {
	ports   map[int][]socket
	handles []systemHandle
}

func listeners() listenerTable {
	return listenerTable{ports(), systemHandles()}
}

func held(all listenerTable, by []process) []socket {
	found := map[string]socket{}
	for _, p := range by {
		for _, s := range all.ports[p.pid] {
			found[s.id] = s
		}
		all.each(p.pid, func(h handle) {
			if s, state := h.instance(); state == windows.FILE_PIPE_LISTENING_STATE {
				found[s.id] = s
			}
		})
	}
	var list []socket
	for _, s := range found {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b socket) int { return strings.Compare(a.String(), b.String()) })
	return list
}

// ports are the TCP ports on which processes listen.
func ports() map[int][]socket {
	const ownerPIDListener = 3 // TCP_TABLE_OWNER_PID_LISTENER
	all := map[int][]socket{}
	for family, row := range map[uintptr]struct{ size, addr, len, port, pid uintptr }{
		windows.AF_INET:  {24, 4, 4, 8, 20},   // MIB_TCPROW_OWNER_PID
		windows.AF_INET6: {56, 0, 16, 20, 52}, // MIB_TCP6ROW_OWNER_PID
	} {
		b := make([]byte, 1<<20)
		size := uint32(len(b))
		if e, _, _ := extendedTCPTable.Call(uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&size)), 0, family, ownerPIDListener, 0); e != 0 {
			continue
		}
		n := uintptr(*(*uint32)(unsafe.Pointer(&b[0])))
		for i := range n {
			at := 4 + i*row.size
			if at+row.size > uintptr(len(b)) {
				break
			}
			r := b[at : at+row.size]
			addr := addrPort(r[row.addr:row.addr+row.len], uint16(r[row.port])<<8|uint16(r[row.port+1]))
			pid := int(*(*uint32)(unsafe.Pointer(&r[row.pid])))
			all[pid] = append(all[pid], socket{"tcp " + addr, "tcp", addr})
		}
	}
	return all
}

// A systemHandle is SYSTEM_HANDLE_TABLE_ENTRY_INFO_EX.
type systemHandle struct {
	object, pid, value uintptr
	access             uint32
	_, kind            uint16
	attributes, _      uint32
}

// systemHandles are all of the machine that are of files, which pipes are too.
func systemHandles() []systemHandle {
	// What kind is a file's is seen from one of our own.
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil
	}
	defer null.Close()
	own := null.Fd()
	b := systemInformation(windows.SystemExtendedHandleInformation)
	if b == nil {
		return nil
	}
	n := *(*uintptr)(unsafe.Pointer(&b[0]))
	all := unsafe.Slice((*systemHandle)(unsafe.Pointer(&b[2*unsafe.Sizeof(n)])), n)
	self := uintptr(os.Getpid())
	i := slices.IndexFunc(all, func(h systemHandle) bool { return h.pid == self && h.value == own })
	if i < 0 {
		return nil
	}
	kind := all[i].kind
	return slices.DeleteFunc(slices.Clone(all), func(h systemHandle) bool { return h.kind != kind })
}

// A handle is a copy of another process's.
type handle struct {
	systemHandle
	h windows.Handle
}

// each calls f with a copy of each handle of a file that a process has. The copy is closed
// after.
//
// To ask a handle that was not opened for overlapped I/O waits for what another process
// does with it, perhaps for ever: it is asked for a while, and never again.
func (t listenerTable) each(pid int, f func(handle)) {
	p, err := windows.OpenProcess(windows.PROCESS_DUP_HANDLE, false, uint32(pid))
	if err != nil {
		return
	}
	defer windows.CloseHandle(p)
	for _, sh := range t.handles {
		if int(sh.pid) != pid || stuck.has(sh) {
			continue
		}
		h := handle{systemHandle: sh}
		if windows.DuplicateHandle(p, windows.Handle(sh.value), windows.CurrentProcess(), &h.h, 0, false, windows.DUPLICATE_SAME_ACCESS) != nil {
			continue // it was closed
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			var state uint32
			_ = windows.GetNamedPipeInfo(h.h, &state, nil, nil, nil)
		}()
		select {
		case <-done:
			f(h)
			_ = windows.CloseHandle(h.h)
		case <-time.After(200 * time.Millisecond):
			stuck.add(sh)
			go func() {
				<-done
				_ = windows.CloseHandle(h.h)
			}()
		}
	}
}

// stuck are handles that did not answer.
var stuck handleSet

type handleSet struct {
	mu  sync.Mutex
	all map[systemHandle]bool
}

func (s *handleSet) has(h systemHandle) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all[h]
}

func (s *handleSet) add(h systemHandle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[systemHandle]bool{}
	}
	s.all[h] = true
}

// instance is the pipe of which a handle is the server's end, and its state
// (FILE_PIPE_LISTENING_STATE and so on); 0 for any other handle.
func (h handle) instance() (socket, uint32) {
	const serverEnd = 1 // PIPE_SERVER_END, winbase.h
	var flags uint32
	if err := windows.GetNamedPipeInfo(h.h, &flags, nil, nil, nil); err != nil || flags&serverEnd == 0 {
		return socket{}, 0
	}
	var local struct { // FILE_PIPE_LOCAL_INFORMATION
		_     [8]uint32
		state uint32
		_     uint32
	}
	const filePipeLocalInformation = 24
	var status windows.IO_STATUS_BLOCK
	if windows.NtQueryInformationFile(h.h, &status, (*byte)(unsafe.Pointer(&local)), uint32(unsafe.Sizeof(local)), filePipeLocalInformation) != nil {
		return socket{}, 0
	}
	var info struct {
		length uint32 // in bytes
		name   [300]uint16
	}
	if windows.GetFileInformationByHandleEx(h.h, windows.FileNameInfo, (*byte)(unsafe.Pointer(&info)), uint32(unsafe.Sizeof(info))) != nil {
		return socket{}, 0
	}
	name := `\\.\pipe` + windows.UTF16ToString(info.name[:min(int(info.length/2), len(info.name))])
	return socket{pipeID(name), "pipe", name}, local.state
}

// pipeID: names of pipes have no case.
func pipeID(name string) string { return strings.ToLower(name) }

// holdings: those that wait for a client and those that have one.
func holdings(pid int, id string) (list []holding) {
	t := listenerTable{handles: systemHandles()}
	t.each(pid, func(h handle) {
		if s, state := h.instance(); state != 0 && s.id == id {
			list = append(list, holding{fmt.Sprintf("0x%x", h.value), h.attributes&windows.OBJ_INHERIT != 0})
		}
	})
	return list
}

func opened(pid int) (list []openFile) {
	t := listenerTable{handles: systemHandles()}
	t.each(pid, func(h handle) {
		if kind, err := windows.GetFileType(h.h); err != nil || kind != windows.FILE_TYPE_DISK {
			return
		}
		b := make([]uint16, windows.MAX_LONG_PATH)
		if n, err := windows.GetFinalPathNameByHandle(h.h, &b[0], uint32(len(b)), 0); err == nil && int(n) <= len(b) {
			path := strings.TrimPrefix(windows.UTF16ToString(b[:n]), `\\?\`)
			list = append(list, openFile{fmt.Sprintf("handle 0x%x", h.value), path})
		}
	})
	return list
}

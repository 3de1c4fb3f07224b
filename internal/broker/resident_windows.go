package broker

import (
	"unsafe"

	"golang.org/x/sys/windows"
)

var getProcessMemoryInfo = windows.NewLazySystemDLL("kernel32.dll").NewProc("K32GetProcessMemoryInfo")

// resident is the process's working set.
func resident(pid int) int64 {
	p, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, uint32(pid))
	if err != nil {
		return -1
	}
	defer windows.CloseHandle(p)
	var m struct { // PROCESS_MEMORY_COUNTERS
		size, faults                                                                   uint32
		peakSet, set, peakPaged, paged, peakNonPaged, nonPaged, pageFile, peakPageFile uintptr
	}
	m.size = uint32(unsafe.Sizeof(m))
	if ok, _, _ := getProcessMemoryInfo.Call(uintptr(p), uintptr(unsafe.Pointer(&m)), uintptr(m.size)); ok == 0 {
		return -1
	}
	return int64(m.set)
}

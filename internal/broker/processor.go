package broker

import "runtime"

// UseOneProcessor has the calling process, a broker's, use one processor at a time, if
// its environment does not say how many in GOMAXPROCS. A broker mostly waits for the
// kernel. With more of them Go wakes another thread each time that one goroutine hands on
// to the next: an activation takes longer, and an idle broker more memory.
func UseOneProcessor(gomaxprocs string) {
	if gomaxprocs == "" {
		runtime.GOMAXPROCS(1)
	}
}

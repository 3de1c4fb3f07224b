package broker

import (
	"os"
	"runtime"
)

// UseOneProcessor has the calling process, a broker's, use one processor at a time, if
// its environment does not say how many. A broker mostly waits for the kernel. With
// more of them Go wakes another thread each time that one goroutine hands on to the
// next: an activation takes longer by a tenth, and an idle broker a fifth more memory.
func UseOneProcessor() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(1)
	}
}

package daemon

import (
	"github.com/fastbind/fastbind/internal/dirwatch"
	"github.com/fastbind/fastbind/internal/record"
)

// capLog keeps the log that a broker led stdout and stderr to within bounds
// while the daemon runs; a launcher does so before. It looks when something was
// written and not otherwise, so that an idle daemon stays idle.
//
// Nothing is lost: who writes meanwhile writes to the file that was moved aside. On
// Windows what is written at that very moment is (log_windows.go).
// A goroutine of the process's lifetime does it; it holds no thread.
func capLog(content []byte) {
	go func() {
		l := &boundedLog{path: record.LogOf(content)}
		if l.path == "" {
			return
		}
		for l.here(); l.ours(); {
			w, err := dirwatch.OpenFile(l.path)
			if err != nil {
				return // an outsider removed it: there is nothing to bound by name
			}
			for l.turn() {
				<-w.C()
			}
			w.Close()
		}
	}()
}

package launch

import (
	"context"
	"path/filepath"
	"syscall"
	"time"

	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/record"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// AskToEnd asks a living generation to end, and puts on record that it was asked. The
// error is proc.ErrGone if it has ended, proc.ErrUnproven or proc.ErrElsewhere if
// nobody here can tell its process. On Windows it is asked at its control endpoint, and it
// blocks for 2 s if nobody answers there.
func AskToEnd(ctx context.Context, place runtimedir.Place, e Entry, h *proc.Handle) error {
	_ = record.Append(filepath.Join(e.Dir, record.FileName), record.StoppedLine())
	return askToEnd(ctx, place, e, h, syscall.SIGTERM)
}

// KillGeneration kills a generation. If it was asked to end before, or is not a failure, the
// record says that it was killed for that; else why is its failure.
func (b *Broker) KillGeneration(e Entry, h *proc.Handle, why *Fault) error {
	path := filepath.Join(e.Dir, record.FileName)
	if why == nil {
		_ = record.Append(path, record.StoppedLine(), record.KilledLine())
	} else {
		f := newFailure(why.Stage, why.Err, proc.BootTime(), time.Now())
		if why.Class == Hung {
			f.Kind = KindHung
		}
		_ = record.Append(path, record.CauseLines(f)...)
	}
	return h.Signal(syscall.SIGKILL)
}

// Capture writes what is known of a process that is to be killed, or reported, into
// its service's log.
func (b *Broker) Capture(place runtimedir.Place, e Entry, h *proc.Handle, why error) {
	f := b.fault(Hung, stageOf(e.Record), why)
	b.evidence(place, e, h, f)
}

package broker

import (
	"testing"

	"github.com/fastbind/fastbind/internal/broker/supervise"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/record"
)

// TestEndOf: how a generation has ended is what its record says.
func TestEndOf(t *testing.T) {
	failed := func(f record.Failure) record.Record { return record.Record{Phase: record.Failed, Failure: &f} }
	for _, c := range []struct {
		record record.Record
		end    supervise.End
	}{
		{record.Record{Phase: record.Ready}, supervise.EndUnknown}, // nobody has said anything
		{record.Record{Phase: record.Gone}, supervise.EndClean},
		{failed(record.Failure{Status: -1, Unknown: true}), supervise.EndUnknown},
		{failed(record.Failure{Status: 0}), supervise.EndClean},
		{failed(record.Failure{Status: 3}), supervise.EndStatus},
		{failed(record.Failure{Status: -1}), supervise.EndStatus}, // it has said itself why
		{failed(record.Failure{Status: -1, Signal: "terminated"}), supervise.EndTerminated},
		{failed(record.Failure{Status: -1, Signal: "interrupt"}), supervise.EndTerminated},
		{failed(record.Failure{Status: -1, Signal: "hangup"}), supervise.EndTerminated},
		{failed(record.Failure{Status: -1, Signal: "killed"}), supervise.EndKilled},
		{failed(record.Failure{Status: -1, Signal: "killed", Kind: launch.KindMemory}), supervise.EndMemory},
		{failed(record.Failure{Status: -1, Signal: "segmentation fault"}), supervise.EndSignal},
	} {
		if end := endOf(c.record); end != c.end {
			t.Errorf("%+v: %v, want %v", c.record.Failure, end, c.end)
		}
	}
}

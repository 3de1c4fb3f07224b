package handover

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func full() Handover {
	return Handover{
		Service: "gocache", Instance: "ci", Generation: 4711, GenDir: "4711.0123456789abcdef",
		Dir: `C:\Users\é b\AppData\Local\fastbind\run\ci\gocache`, Addr: `C:\Users\é b\AppData\Local\fastbind\run\ci\gocache`,
		Listen: None, Control: None, Life: 512, Pipes: Pipes{"256,260,4294967292", "264"}, StopWithin: 90 * time.Second,
	}
}

const golden = `1
service=gocache
instance=ci
generation=4711
dir=C:\Users\é b\AppData\Local\fastbind\run\ci\gocache
addr=C:\Users\é b\AppData\Local\fastbind\run\ci\gocache
gendir=4711.0123456789abcdef
life=512
instances=256,260,4294967292
control_instances=264
stop_within=1m30s`

// TestGolden: a tool's release and a daemon's need not be the same.
func TestGolden(t *testing.T) {
	if got := full().Encode(); got != golden {
		t.Errorf("format 1 has changed:\n%s\nwant:\n%s", got, golden)
	}
	h, err := Decode(golden)
	if diff := cmp.Diff(full(), h); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if got, want := h.Instances.List(), []uintptr{256, 260, 4294967292}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := HandlesOf(h.Instances.List()); got != h.Instances {
		t.Errorf("%q, want %q", got, h.Instances)
	}
	if got := h.GenPath(); got != h.Dir+`\`+h.GenDir {
		t.Errorf("path %q", got)
	}
}

// TestDecodeRefuses: what no broker hands over is not touched.
func TestDecodeRefuses(t *testing.T) {
	for _, line := range []string{"life=0", "life=-4", "life=513", "instances=", "instances=4,,8", "instances=4,5",
		"control_instances=4294967296", "instances=4" + strings.Repeat(",4", 64)} {
		if _, err := Decode(golden + "\n" + line); err == nil {
			t.Errorf("%.30q is taken", line)
		}
	}
	if _, err := Decode(golden + "\ninstances=4" + strings.Repeat(",4", 63)); err != nil {
		t.Error(err)
	}
}

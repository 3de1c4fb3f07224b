//go:build linux

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// pythonWith is a Python that has a package of others.
func pythonWith(t *testing.T, name string) string {
	t.Helper()
	venv := filepath.Join(t.TempDir(), "venv")
	for _, args := range [][]string{{"python3", "-m", "venv", venv}, {venv + "/bin/pip", "install", "-q", name}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
	}
	return venv + "/bin/python"
}

// TestVarlinkClient: the control endpoint, driven by Python's varlink package,
// which learns the interface from the daemon itself.
func TestVarlinkClient(t *testing.T) {
	if os.Getenv("FASTBIND_E2E_VARLINK") != "1" {
		t.Skip("installs Python's varlink package; FASTBIND_E2E_VARLINK=1 asks for it")
	}
	python := pythonWith(t, "varlink")
	w := newWorld(t)
	w.dial()
	e := w.living("t")[0]
	dir := filepath.Join(w.dir, "worktree")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	out, err := w.output(exec.Command(python, "varlink/drive.py", filepath.Join(e.Dir, "ctl"), dir))
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want := `interfaces ['io.fastbind.Daemon', 'org.varlink.service']
identify n0nce t ready True
watch ['ready']
refused io.fastbind.Daemon.LeaseRefused lstat /nowhere: no such file or directory
leases 1
stacks True
refused io.fastbind.Daemon.NoHandover
drained`
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(out, "\n")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	t.Log("\n" + out)
	w.gone("t")
}

// standing starts a broker that holds one foreign service.
func (w *world) standing() (sock string) {
	w.t.Helper()
	config := filepath.Join(w.dir, "config")
	if err := os.MkdirAll(config, 0o700); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(config, "held.toml"), []byte("command = [\""+w.plaind()+"\"]\nforeign = true\n"), 0o600); err != nil {
		w.t.Fatal(err)
	}
	w.env = append(w.env, "FASTBIND_CONFIG_DIR="+config)
	cmd := w.command("fastbind", "broker")
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	})
	w.eventually("a broker holds", func() bool {
		out, err := w.output(w.command("fastbind", "top"))
		return err == nil && strings.Contains(out, "held\theld") && strings.Contains(out, "fastbind-broker\tready")
	})
	return filepath.Join(w.root, "default", "fastbind-broker", "sock")
}

// TestVarlinkBroker: the broker, driven by the same client.
func TestVarlinkBroker(t *testing.T) {
	if os.Getenv("FASTBIND_E2E_VARLINK") != "1" {
		t.Skip("installs Python's varlink package; FASTBIND_E2E_VARLINK=1 asks for it")
	}
	python := pythonWith(t, "varlink")
	w := newWorld(t)
	out, err := w.output(exec.Command(python, "varlink/broker.py", w.standing()))
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want := `interfaces ['io.fastbind.Broker', 'org.varlink.service']
list held held True
watching False
launched ready 1 True
event launched held 1
described True False
metrics [('held', 1, 1)]
restarted 2
stopped
refused io.fastbind.Broker.Refused ['reason']
refused io.fastbind.Broker.NoSuchService ['name']
refused io.fastbind.Broker.UnsupportedFormat ['supported', 'wanted']
disabled []
enabled ['held']`
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(out, "\n")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	t.Log("\n" + out)
}

// TestOpenMetrics: what metrics prints is understood by the parser of Prometheus's own
// Python client, and means what it says.
func TestOpenMetrics(t *testing.T) {
	if os.Getenv("FASTBIND_E2E_OPENMETRICS") != "1" {
		t.Skip("installs Python's prometheus-client package; FASTBIND_E2E_OPENMETRICS=1 asks for it")
	}
	python := pythonWith(t, "prometheus-client")
	const parse = `import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as families
for f in families(sys.stdin.read()):
    if f.name in ("fastbind_broker_up", "fastbind_service_launches", "fastbind_service_launch_seconds", "fastbind_service_phase", "fastbind_service_memory_bytes"):
        print(f.name, f.type, f.unit, [(s.name, float(s.value)) for s in f.samples if s.value == 1 and s.labels.get("service") in ("held", None) and s.labels.get("le") in ("+Inf", None)])`
	understood := func(text string) string {
		cmd := exec.Command(python, "-c", parse)
		cmd.Stdin = strings.NewReader(text)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s\nof\n%s", err, out, text)
		}
		return strings.TrimSpace(string(out))
	}
	w := newWorld(t)
	w.standing()
	if out, err := w.output(w.command("fastbind", "start", "held")); err != nil {
		t.Fatal(err, out)
	}
	text, err := w.output(w.command("fastbind", "metrics"))
	if err != nil {
		t.Fatal(err, text)
	}
	// The process is counted at once; how far it is depends on the moment.
	got := understood(text + "\n")
	for _, want := range []string{
		"fastbind_broker_up gauge  [('fastbind_broker_up', 1.0)]",
		"fastbind_service_phase stateset  [('fastbind_service_phase', 1.0)]",
		"fastbind_service_memory_bytes gauge bytes []",
		"fastbind_service_launches counter  [('fastbind_service_launches_total', 1.0)]",
		"fastbind_service_launch_seconds histogram seconds [('fastbind_service_launch_seconds_bucket', 1.0), ('fastbind_service_launch_seconds_count', 1.0)]",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	golden, err := os.ReadFile("../internal/cli/testdata/metrics.txt")
	if err != nil {
		t.Fatal(err)
	}
	understood(string(golden)) // every family, and all that has to be escaped
}

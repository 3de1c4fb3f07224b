package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/cobra"

	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/jsonlite"
)

// inert takes from every verb what it would do. Arguments are parsed and refused
// as ever; start and dial go on until the definition is settled on, which they
// report.
func inert(a *app, root *cobra.Command, settled func(definition.Definition)) {
	for _, c := range root.Commands() {
		inert(a, c, settled)
	}
	if !root.Runnable() || root.Name() == "help" {
		return
	}
	root.Run, root.RunE = nil, func(*cobra.Command, []string) error { return nil }
	if name := root.Name(); name != "start" && name != "dial" {
		return
	}
	root.ResetFlags()
	flags := addCallFlags(root, "it")
	root.RunE = func(cmd *cobra.Command, args []string) error {
		name, command, err := nameAndCommand(cmd, args)
		if err != nil {
			return err
		}
		if _, err := flags.wait.ready(); err != nil {
			return err
		}
		if err := checkWant(*flags.want); err != nil {
			return err
		}
		p, err := a.plan(name, command, flags.definition)
		if err == nil {
			settled(p.def)
		}
		return err
	}
}

// commandLine runs the inert command; def is nil unless one was settled on.
func commandLine(a *app, args []string) (status int, def *definition.Definition, out, errs string) {
	var stdout, stderr bytes.Buffer
	a.args = args
	a.streams = Streams{In: strings.NewReader(""), Out: &stdout, Err: &stderr}
	a.out, a.err = newScreen(&stdout, true), newScreen(&stderr, true)
	a.json, a.entered, a.instance = false, false, "default"
	root := a.command(nil)
	inert(a, root, func(d definition.Definition) { def = &d })
	status = a.execute(context.Background(), root)
	return status, def, stdout.String(), stderr.String()
}

// asFlags writes a definition as arguments of start.
func asFlags(d definition.Definition) []string {
	args := []string{"start", d.Service, "--instance=" + d.Instance, "--bind=" + string(d.Bind), "--dir=" + d.Dir, "--env-policy=" + string(d.EnvPolicy),
		"--foreign=" + strconv.FormatBool(d.Foreign), "--version=" + d.Version, "--bound-within=" + d.BoundWithin.String(),
		"--adopt-within=" + d.AdoptWithin.String(), "--stop-within=" + d.StopWithin.String(), "--idle-exit=" + d.IdleExit.String(),
		"--hang-after=" + d.HangAfter.String(), "--on-hang=" + string(d.OnHang), "--on-version=" + string(d.OnVersion), "--min-version=" + d.MinVersion}
	for _, e := range d.Env {
		args = append(args, "--env="+e)
	}
	for _, e := range d.FDEnv {
		args = append(args, "--fd-env="+e)
	}
	for _, e := range d.Endpoints {
		args = append(args, "--endpoint="+e)
	}
	for _, v := range d.AllowVersions {
		args = append(args, "--allow-version="+v)
	}
	return append(append(args, "--"), d.Command...)
}

// FuzzCommandLine: of any arguments, one a line, come a definition that can be
// used and that the same command takes again, nothing, help, or one line that says
// what is wrong and perhaps one with a hint; with --json an object.
func FuzzCommandLine(f *testing.F) {
	for _, s := range []string{
		"start\nweb\n--\n/bin/true\n-x", "start\nweb\n--endpoint=a\n--endpoint\nb-1\n--\n/x\n{fd:a}", "start\nweb\n--env\nA=1\n--env=B\n--fd-env=N={fd};\n--stop-within\n5s\n--\n/bin/sh\n-c\n",
		"dial\nindex\n--wait\nready\n--timeout\n1m\n--want=>=1.2, <2\n--on-version=replace\n--min-version=1.0.0\n--allow-version=1\n--\n/x",
		"start\nweb\n--json\n--bind=daemon\n--on-version=replace\n--\n/x", "start\n--\n", "start\na\nb", "strat\nweb", "--json\n--nope",
		"start\nweb\n--idle-exit=-1s\n--\n/x", "stop\n--all\n--now", "stop", "status\n--hash\nweb", "why\nweb\n-n\n3", "logs\n-n\n-1\nweb", "help\nnone",
		"completion\nfish", "__complete\nstart\n", "--instance=UP\nlist", "-i\nci\nstart\nweb\n--dir\n../x\n--\ntool\n\xff", "start\nweb\n--timeout\n-1s",
		"start\nweb\n--lease-pid\nx\n--\n/x", "validate\n--", "\x1b[31m\n\x00", "start\nweb\n--env-policy=refuse\n--hang-after=1ms\n--on-hang=report\n--foreign=false\n--\n/x",
	} {
		f.Add(s)
	}
	dir := f.TempDir()
	app := func() *app {
		a := newApp(process{
			env: []string{"FASTBIND_RUNTIME_DIR=" + dir + "/run", "FASTBIND_STATE_DIR=" + dir + "/state", "HOME=" + dir, "PATH=/usr/bin:/bin"},
			cwd: func() (string, error) { return dir, nil }, now: time.Now, uid: os.Geteuid(),
			streams: Streams{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard},
		})
		return a
	}
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Split(line, "\n")
		status, def, out, errs := commandLine(app(), args)
		switch lines := strings.Split(errs, "\n"); {
		case len(errs) > 8*len(line)+1<<10:
			t.Fatalf("%d bytes of errors for %d of arguments", len(errs), len(line))
		case strings.ContainsFunc(strings.ReplaceAll(errs, "\n", ""), acts):
			t.Fatalf("stderr has %q", errs)
		case status == exitDone && errs != "" && !strings.HasPrefix(errs, "Completion ended") && !strings.HasPrefix(errs, ":") && args[0] != "__complete" && args[0] != "__completeNoDesc":
			t.Fatalf("done, with %q", errs)
		case status != exitDone && errs == "":
			if !strings.HasPrefix(out, "{") || !json.Valid([]byte(out)) {
				t.Fatalf("status %d, %q on stdout, nothing on stderr", status, out)
			}
		case status != exitDone && (!strings.HasPrefix(errs, "fastbind: ") || len(lines) > 3 || len(lines) == 3 && !strings.HasPrefix(lines[1], "hint: ")):
			t.Fatalf("status %d with %q", status, errs)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
			t.Fatalf("parsing has made %v, %v", entries, err)
		}
		if def == nil {
			return
		}
		if err := def.Check(); err != nil || status != exitDone {
			t.Fatalf("%+v was settled on, with status %d: %v", def, status, err)
		}
		_, again, _, errs := commandLine(app(), asFlags(*def))
		if again == nil {
			t.Fatalf("%q are refused: %s", asFlags(*def), errs)
		}
		if diff := cmp.Diff(def, again, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("(-first +again):\n%s", diff)
		}
	})
}

// FuzzEvent: a journal's line of any release is shown with all that it has, every
// member that this one knows, and in one line.
func FuzzEvent(f *testing.F) {
	f.Add([]byte(`{"schema":1,"time":"2026-01-02T11:00:00.000005Z","event":"launched","service":"a","instance":"b","generation":7,"pid":42,"bound_after_us":850}`))
	f.Add([]byte(`{"event":"refused","reason":"x","differs env A":"have 1, want 2","later":{"deep":[1,{"x":null}]}}`))
	f.Add([]byte(`{"event":"failed","stage":"load","status":7,"signal":"killed","errno":98,"generation":18446744073709551615}`))
	f.Add([]byte(`{"event":"hung","silent_ms":1e3,"Event":"x","event":"y"}`))
	f.Add([]byte(`{"event":"\u2028\u001b[31m","after_us":-1,"bound_after_us":9223372036854775807}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		e, ok := parseEvent(line)
		if !ok {
			return
		}
		if !json.Valid(line) || !json.Valid(e.raw) || len(e.raw) > 6*len(line)+512 {
			t.Fatalf("%q is shown as %q", line, e.raw)
		}
		if s := harmless(e.sentence()); strings.Contains(s, "\n") || len(s) > 12*len(line)+512 {
			t.Fatalf("%q is told as %q", line, s)
		}
		v, err := jsonlite.Parse(line)
		if err != nil {
			if !bytes.Equal(e.raw, line) {
				t.Fatalf("%q is shown as %q", line, e.raw)
			}
			return
		}
		if kind, _ := v.Get("event").Text(); e.Kind != kind {
			t.Fatalf("%q is a %q", line, e.Kind)
		}
		shown, err := jsonlite.Parse(e.raw)
		if err != nil {
			t.Fatalf("%q is shown as %q: %v", line, e.raw, err)
		}
		for name, value := range v.All() {
			if got := shown.Get(name); !bytes.Equal(got.Append(nil), value.Append(nil)) {
				t.Fatalf("%q is %s in %s", name, got.Append(nil), e.raw)
			}
		}
		var names []string
		for name := range shown.All() {
			names = append(names, name)
		}
		if !slices.Equal(names[:len(eventMembers)], eventMembers) {
			t.Fatalf("members %q", names)
		}
		again, ok := parseEvent(e.raw)
		if !ok || !bytes.Equal(again.raw, e.raw) || again.sentence() != e.sentence() {
			t.Fatalf("%s becomes %s; %q becomes %q", e.raw, again.raw, e.sentence(), again.sentence())
		}
	})
}

//go:build linux

package main

import (
	"context"
	"io"
	"maps"
	"math"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestSortSamples: each sample counts once, for its process, by what the processor did and
// by the step that it did it for; a process knows who has made it.
func TestSortSamples(t *testing.T) {
	const text = " 7 PERF_RECORD_COMM exec: tool:7/7\n" +
		" 7 \n" +
		"\tffffffff81 clear_page\n\tffffffff82 asm_exc_page_fault\n\t  40 runtime.memmove\n\t  41 example.com/launch.(*system).prepare\n\t  42 example.com/launch.(*system).do\n\n" +
		" 7 PERF_RECORD_FORK(8:8):(7:9)\n" +
		" 7 PERF_RECORD_FORK(7:11):(7:7)\n" +
		" 7 PERF_RECORD_COMM: a thread:7/11\n" +
		" 8 PERF_RECORD_COMM: a name: of:8/8\n" +
		" 7 \n\tffffffff83 vfs_read\n\tffffffff84 do_syscall_64\n\t  43 main.main\n\n" +
		" 8 \n\tffffffff85 asm_exc_page_fault\n\tffffffff86 __x64_sys_execve\n\tffffffff84 do_syscall_64\n\n" +
		" 9 \n\t  44 example.com/daemon.(*stand).serve\n\t  45 example.com/daemon.(*stand).live\n\n" +
		"10 \n\t  46 [unknown]\n\n"
	cold := profiles[0]
	seen, err := sortSamples(strings.NewReader(text), cold.sorter())
	if err != nil || len(seen) != 4 || seen[8].parent != 7 || seen[8].comm != "a name: of" || seen[7].comm != "tool" || seen[7].parent != 0 {
		t.Fatalf("%+v, %v", seen, err)
	}
	whose := map[int]string{7: "client", 8: "child", 9: "daemon", 10: "daemon", 99: "nobody"}
	each := 1.0 / samplesPerSecond / 2
	for _, want := range []struct{ what, kind, step string }{
		{"client", "page faults", "prepare"}, {"client", "other system calls", ""},
		{"child", "exec", ""}, {"daemon", cold.rest, "serve"},
	} {
		res, err := average(seen, whose, want.what, 2)
		n := 1.0
		if want.what == "daemon" { // two processes
			n = 2
		}
		if got := res.Kinds[want.kind]; err != nil || math.Abs(got-n*each) > 1e-9 {
			t.Errorf("%s, %s: %v s, want %v, %v", want.what, want.kind, got, n*each, err)
		}
		if want.step != "" && math.Abs(res.Steps[want.step]-each) > 1e-9 {
			t.Errorf("%s, step %s: %v", want.what, want.step, res.Steps)
		}
	}
	res, err := average(seen, whose, "client", 2)
	if line := cold.line(res); err != nil || !strings.HasPrefix(line, "| client | 0.12 ms |") || !strings.Contains(line, "prepare 0.06 ms") {
		t.Errorf("the line is %q, %v", line, err)
	}
	if _, err := average(seen, whose, "nobody", 2); err == nil || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("without samples: %v", err)
	}
	for broken, want := range map[string]string{"perf: broken\n": "printed", " 7 PERF_RECORD_LOST lost 3\n": "lost samples"} {
		if _, err := sortSamples(strings.NewReader(broken), cold.sorter()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", broken, err)
		}
	}
}

// TestProfiles: a line has the columns of its table, with and without an answer.
func TestProfiles(t *testing.T) {
	for _, p := range profiles {
		head := strings.Split(p.head(), "\n")
		want := strings.Count(head[0], "|")
		for _, line := range []string{head[1], p.line(profileResult{What: "all", Missing: "no perf"}), p.line(profileResult{What: "a", Kinds: map[string]float64{p.rest: 1}})} {
			if strings.Count(line, "|") != want {
				t.Errorf("%q has not as many columns as %q", line, head[0])
			}
		}
	}
}

// TestMergeProfiles: a later table stands for an earlier one, as a whole, but one that
// could not be measured for none.
func TestMergeProfiles(t *testing.T) {
	cold, warm := profiles[0].name, profiles[1].name
	old := []profileResult{{What: "a"}, {What: "b"}, {Profile: warm, What: "c"}}
	fresh := []profileResult{{Profile: cold, What: "d"}, {Profile: warm, What: "all", Missing: "no perf"}}
	var names string
	for _, res := range mergeProfiles(old, fresh) {
		names += res.What
	}
	if names != "dc" {
		t.Errorf("of a, b, c and d there are %s", names)
	}
	if all := mergeProfiles(nil, fresh); len(all) != 2 || all[1].Missing == "" {
		t.Errorf("%+v", all)
	}
}

// TestSortPages: each resident page counts once, as what it is.
func TestSortPages(t *testing.T) {
	const text = "00400000-004eb000 r-xp 00000000 fe:00 11 /bin/plain\nRss: 940 kB\nAnonymous: 0 kB\nVmFlags: rd ex\n" +
		"004eb000-0061e000 r--p 000eb000 fe:00 11 /bin/plain\nRss: 1100 kB\nAnonymous: 0 kB\n" +
		"0061e000-0062a000 rw-p 0021e000 fe:00 11 /bin/plain\nRss: 48 kB\nAnonymous: 24 kB\n" +
		"0062a000-00660000 rw-p 00000000 00:00 0 \nRss: 68 kB\nAnonymous: 68 kB\n" +
		"2dc2e8000000-2dc2eb800000 ---p 00000000 00:00 0 \nRss: 0 kB\nAnonymous: 0 kB\n" +
		"2dc2eb800000-2dc2ebc00000 rw-p 00000000 00:00 0 [anon: Go: heap]\nRss: 436 kB\nAnonymous: 436 kB\n" +
		"7f665045d000-7f6650c5d000 rw-p 00000000 00:00 0 \nRss: 8 kB\nAnonymous: 8 kB\n" +
		"7f6699303000-7f6699305000 r-xp 00000000 00:00 0 [vdso]\nRss: 8 kB\nAnonymous: 0 kB\n" +
		"7ffe00b98000-7ffe00bb9000 rw-p 00000000 00:00 0 [stack]\nRss: 12 kB\nAnonymous: 12 kB\n"
	own, files := map[string]int{}, map[string]int{}
	err := sortPages(strings.NewReader(text), func(kind string, a, b int) { own[kind] += a; files[kind] += b })
	if err != nil {
		t.Fatal(err)
	}
	if want := map[string]int{codePages: 0, readOnlyPages: 0, dataPages: 92, heapPages: 436, runtimePages: 8, otherPages: 12}; !maps.Equal(own, want) {
		t.Errorf("its own are %v, not %v", own, want)
	}
	if want := map[string]int{codePages: 940, readOnlyPages: 1100, dataPages: 24, heapPages: 0, runtimePages: 0, otherPages: 8}; !maps.Equal(files, want) {
		t.Errorf("those of files are %v, not %v", files, want)
	}
	for _, broken := range []string{"00400000-x r-xp 00000000 fe:00 11 /bin/plain\n", "Anonymous: many kB\n"} {
		if err := sortPages(strings.NewReader(broken), func(string, int, int) {}); err == nil {
			t.Errorf("%q was passed over", broken)
		}
	}
}

// TestProfileMemory measures: the pages are all that is resident.
func TestProfileMemory(t *testing.T) {
	w := testWorld(t)
	if err := w.build(t.Context(), "tool", "plain", "minimal"); err != nil {
		t.Fatal(err)
	}
	all, err := profileMemory(t.Context(), w, quick, sorter{})
	if err != nil || len(all) != 4 {
		t.Fatalf("%+v, %v", all, err)
	}
	for _, res := range all {
		own := strings.HasSuffix(res.What, "its own")
		if got := res.Kinds[heapPages]; (got > 0) != own {
			t.Errorf("%s: %v kB of heap", res.What, got)
		}
		if got := res.Kinds[codePages]; (got > 0) == own {
			t.Errorf("%s: %v kB of code", res.What, got)
		}
	}
}

// TestRolesOf: who descends from a go command is of its cache, by what it executes; the
// daemon descends from one that is no more.
func TestRolesOf(t *testing.T) {
	seen := map[int]*sampled{1: {comm: "init"}, 10: {comm: "go", parent: 1}, 11: {comm: "gocache", parent: 10}, 12: {comm: "compile", parent: 10},
		13: {comm: "go", parent: 10}, 20: {comm: "go", parent: 1}, 21: {comm: "floor", parent: 20}, 30: {comm: "gocache", parent: 1}, 31: {comm: "gocache", parent: 1}, 40: {comm: "go", parent: 1}}
	whose := map[int]string{10: "gocache", 20: "floor"}
	rolesOf(seen, whose, []int{30})
	want := map[int]string{10: "gocache: go command", 11: "gocache: GOCACHEPROG", 12: "gocache: tools", 13: "gocache: go command",
		20: "floor: go command", 21: "floor: GOCACHEPROG", 30: "gocache: daemon"}
	if !maps.Equal(whose, want) {
		t.Errorf("%v, not %v", whose, want)
	}
}

// TestSampled samples a process, where that is possible: it is seen as this one's child,
// with what it does.
func TestSampled(t *testing.T) {
	w := testWorld(t)
	var child int
	seen, err := w.sampled(t.Context(), profiles[0].sorter(), func() error {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done")
		err := cmd.Run()
		child = cmd.Process.Pid
		return err
	})
	if err != nil {
		t.Skip("perf does not sample here: ", err)
	}
	s := seen[child]
	if s == nil || s.comm != "sh" || s.parent != os.Getpid() || s.kinds[profiles[0].rest] == 0 {
		t.Errorf("the child of %d is %+v", os.Getpid(), s)
	}
}

// TestNotMeasured: without perf a profile says so, and the run goes on.
func TestNotMeasured(t *testing.T) {
	w := testWorld(t)
	t.Setenv("PATH", t.TempDir())
	p := plan{size: quick, profiles: []profile{{name: "a", rest: "b", measure: func(ctx context.Context, w *world, _ size, by sorter) ([]profileResult, error) {
		_, err := w.sampled(ctx, by, func() error { return nil })
		return nil, err
	}}}}
	var out strings.Builder
	var r report
	if err := p.measureProfiles(t.Context(), w, &out, &r); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), `| all | not measured: exec: "perf": executable file not found`) || len(r.Profile) != 1 || r.Profile[0].Profile != "a" {
		t.Errorf("%q, %+v", out.String(), r.Profile)
	}
}

// TestDialsFor: who dials for perf is told which side it is.
func TestDialsFor(t *testing.T) {
	for _, args := range [][2]string{{"nobody", "1s"}, {dialers[0].name, "long"}} {
		if err := dialsFor(t.Context(), io.Discard, args[0], args[1]); err == nil {
			t.Errorf("%q was taken", args)
		}
	}
}

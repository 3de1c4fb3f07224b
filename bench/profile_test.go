//go:build linux

package main

import (
	"math"
	"strings"
	"testing"
)

// TestSortSamples: each sample counts once, for its process, by what the processor did and
// by the step that it did it for; a process knows who has made it.
func TestSortSamples(t *testing.T) {
	const text = "tool 7 PERF_RECORD_COMM exec: tool:7/7\n" +
		"tool 7 \n" +
		"\tffffffff81 clear_page\n\tffffffff82 asm_exc_page_fault\n\t  40 runtime.memmove\n\t  41 example.com/launch.(*system).prepare\n\t  42 example.com/launch.(*system).do\n\n" +
		"tool 7 PERF_RECORD_FORK(8:8):(7:9)\n" +
		"tool 7 PERF_RECORD_FORK(7:11):(7:7)\n" +
		"tool 7 \n\tffffffff83 vfs_read\n\tffffffff84 do_syscall_64\n\t  43 main.main\n\n" +
		"a name of 8 \n\tffffffff85 asm_exc_page_fault\n\tffffffff86 __x64_sys_execve\n\tffffffff84 do_syscall_64\n\n" +
		"tool 9 \n\t  44 example.com/daemon.(*stand).serve\n\t  45 example.com/daemon.(*stand).live\n\n" +
		"tool 10 \n\t  46 [unknown]\n\n"
	cold := profiles[0]
	seen, err := sortSamples(strings.NewReader(text), cold.sorter())
	if err != nil || len(seen) != 4 || seen[8].parent != 7 || seen[8].comm != "a name of" || seen[7].parent != 0 {
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
	if _, err := sortSamples(strings.NewReader("perf: broken\n"), cold.sorter()); err == nil {
		t.Error("what is no pid is taken for one")
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

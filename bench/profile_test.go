//go:build linux

package main

import (
	"math"
	"strings"
	"testing"
)

// TestSortSamples: each sample of a process that is known counts once, by what the
// processor did and by the step that it did it for; those of others do not count.
func TestSortSamples(t *testing.T) {
	const text = " 7 \n" +
		"\tffffffff81 clear_page\n\tffffffff82 asm_exc_page_fault\n\t  40 runtime.memmove\n\t  41 example.com/launch.(*system).prepare\n\t  42 example.com/launch.(*system).do\n\n" +
		" 7 \n\tffffffff83 vfs_read\n\tffffffff84 do_syscall_64\n\t  43 main.main\n\n" +
		" 8 \n\tffffffff85 asm_exc_page_fault\n\tffffffff86 __x64_sys_execve\n\tffffffff84 do_syscall_64\n\n" +
		" 9 \n\t  44 example.com/daemon.(*stand).serve\n\t  45 example.com/daemon.(*stand).live\n\n" +
		"10 \n\t  46 [unknown]\n\n" +
		"99 \n\t  47 main.main\n\n"
	whose := map[int]string{7: "client, tool", 8: "client, ref", 9: "daemon, tool", 10: "daemon, ref"}
	all, err := sortSamples(strings.NewReader(text), whose, 2)
	if err != nil || len(all) != 4 {
		t.Fatalf("%d results, %v", len(all), err)
	}
	each := 1.0 / samplesPerSecond / 2
	for _, want := range []struct {
		result     profileResult
		kind, step string
	}{
		{all[0], "page faults", "prepare"}, {all[0], "other system calls", ""},
		{all[1], "exec", ""}, {all[2], inProgram, "serve"}, {all[3], inProgram, ""},
	} {
		if got := want.result.Kinds[want.kind]; math.Abs(got-each) > 1e-9 {
			t.Errorf("%s, %s: %v s, want %v", want.result.What, want.kind, got, each)
		}
		if want.step != "" && math.Abs(want.result.Steps[want.step]-each) > 1e-9 {
			t.Errorf("%s, step %s: %v", want.result.What, want.step, want.result.Steps)
		}
	}
	if line := all[0].line(); !strings.HasPrefix(line, "| client, tool | 0.12 ms |") || !strings.Contains(line, "prepare 0.06 ms") {
		t.Errorf("the line is %q", line)
	}
	if _, err := sortSamples(strings.NewReader(""), whose, 2); err == nil || !strings.Contains(err.Error(), "client, tool") {
		t.Errorf("without samples: %v", err)
	}
	if _, err := sortSamples(strings.NewReader("perf: broken\n"), whose, 2); err == nil {
		t.Error("what is no pid is taken for one")
	}
	missing := profileResult{What: "cold tool", Missing: "no perf"}
	if line := missing.line(); strings.Count(line, "|") != strings.Count(strings.SplitN(profileHead(), "\n", 2)[0], "|") {
		t.Errorf("%q has not as many columns as %q", line, profileHead())
	}
}

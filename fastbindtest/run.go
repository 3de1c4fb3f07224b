package fastbindtest

import (
	"context"
	"strings"
	"testing"
)

// Run judges target and makes a subtest of each case: it fails where a rule is
// broken, and is skipped, with the reason, where it does not apply. It blocks for
// some seconds, longer if daemons have to be waited for, and ends with the test.
// Targets may be judged in parallel.
func Run(t *testing.T, target Target) {
	t.Helper()
	report, err := Check(t.Context(), target, nil)
	if err != nil {
		t.Fatal(err)
	}
	if report.Count(Holds)+report.Count(Broken)+report.Count(Undecided) == 0 {
		t.Error("no case applies to this target")
	}
	for _, r := range report.Results {
		t.Run(r.Case.Requirement+"/"+r.Case.Name, func(t *testing.T) {
			seen := strings.Join(r.Observed, "\n  ")
			switch r.Outcome {
			case Holds:
				t.Logf("%s\n  %s", r.Case.Rule, seen)
			case NotApplicable:
				t.Skip("not applicable: " + r.Reason)
			case Broken, Undecided:
				t.Errorf("%s: %s\n%s\n  %s", r.Outcome, r.Reason, r.Case.Rule, seen)
			}
		})
	}
}

// A Watcher is told of each case as it begins, with a nil Result, and as it ends.
type Watcher func(c Case, r *Result)

// Check judges target. It blocks until all cases are done, or ctx ends, which is
// its error then; watch, unless it is nil, is called meanwhile, one call after the
// other. Safe for concurrent use.
//
// A rule that is broken is no error. Errors are that the target makes no sense,
// that its program does not exist, and that the system does not serve.
func Check(ctx context.Context, target Target, watch Watcher) (Report, error) {
	if err := target.Validate(); err != nil {
		return Report{}, err
	}
	target.Limits.complete()
	if watch == nil {
		watch = func(Case, *Result) {}
	}
	return check(ctx, target, watch)
}

package analysis_test

import (
	"testing"

	goanalysis "golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/analysistest"

	"github.com/fastbind/fastbind/analysis"
)

// all runs the checks as one, so that packages are loaded once, and so that what
// a check says of another one's packages is seen.
var all = &goanalysis.Analyzer{
	Name: "fastbindvet", Doc: "all checks", Requires: analysis.Bind.Requires,
	Run: func(pass *goanalysis.Pass) (any, error) {
		for _, check := range analysis.Analyzers {
			as := *pass
			as.Analyzer = check
			if _, err := check.Run(&as); err != nil {
				return nil, err
			}
		}
		return nil, nil
	},
}

// TestChecks: each check finds what its bad packages are marked with, and
// nothing else anywhere.
func TestChecks(t *testing.T) {
	analysistest.Run(t, analysistest.TestData(), all, "example.com/...")
}

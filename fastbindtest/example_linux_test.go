package fastbindtest_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/fastbind/fastbind/fastbindtest"
)

func ExampleRun() {
	_ = func(t *testing.T) { // TestConformance
		fastbindtest.Run(t, fastbindtest.Target{
			Command: []string{"webd", "--fd", "{fd}"},
			Request: "GET / HTTP/1.0\r\n\r\n", Expect: "^HTTP/1.[01] 200",
		})
	}
}

func ExampleCheck() {
	report, err := fastbindtest.Check(context.Background(), fastbindtest.Target{
		Client: []string{"echo", "I need no daemon"},
		Only:   []string{"starts", "kill9"},
	}, nil)
	if err != nil {
		fmt.Println(err)
	}
	for _, r := range report.Results {
		fmt.Printf("%s: %s: %s\n", r.Case.Name, r.Outcome, r.Reason)
	}
	// Output:
	// starts: broken: it succeeded, and left nothing running that listens
	// kill9: not applicable: it does not start: it succeeded, and left nothing running that listens
}

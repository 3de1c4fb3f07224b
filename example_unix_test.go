//go:build !windows

package fastbind_test

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/fastbind/fastbind"
)

// Conditions are told apart with errors.Is; the rest is in the *Error.
func ExampleError() {
	_, err := fastbind.Dial(context.Background(), fastbind.Service{Name: "missing", Command: []string{"/no/such/program"}})
	var fault *fastbind.Error
	if errors.As(err, &fault) && errors.Is(err, fastbind.ErrLaunchFailed) {
		fmt.Println("stage", fault.Stage)
	}
	fmt.Println(errors.Is(err, os.ErrNotExist))
	// Output:
	// stage executable
	// true
}

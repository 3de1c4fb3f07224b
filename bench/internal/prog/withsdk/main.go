// Command withsdk is withnet with the client SDK.
package main

import (
	"context"
	"os"

	"github.com/fastbind/fastbind"
)

func main() {
	if len(os.Args) > 1 {
		_, _ = fastbind.Dial(context.Background(), fastbind.Service{Name: os.Args[1]})
	}
}

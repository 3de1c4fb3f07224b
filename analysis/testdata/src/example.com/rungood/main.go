// Command rungood becomes the daemon first thing.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"regexp"
	"strings"

	"example.com/shared"
	"github.com/fastbind/fastbind"
	"github.com/fastbind/fastbind/daemon"
)

var (
	errUsage = errors.New("usage: rungood [--daemon]")
	word     = regexp.MustCompile(`\w+`)
	home     = os.Getenv("HOME")
)

func main() {
	if len(os.Args) == 2 && strings.HasPrefix(os.Args[1], "--daemon") {
		if home == "" {
			_ = os.WriteFile("complaint", nil, 0o600) // it ends here
			log.Fatal(errUsage)
		}
		fmt.Fprintln(os.Stderr, "starting", word)
		daemon.Run[backend]()
	}
	conn, err := fastbind.Dial(context.Background(), fastbind.Service{Name: "x"})
	if err != nil {
		log.Fatal(err)
	}
	_ = conn.Close()
	_, _ = shared.Read("client")
}

type backend struct{}

func (backend) Bind(ep fastbind.Endpoint) (net.Listener, error) { return daemon.Listen(ep) }

func (backend) Load(context.Context, *daemon.Instance) ([]byte, error) { return shared.Read("index") }

func (backend) Serve(ctx context.Context, ln net.Listener, _ []byte) error {
	<-ctx.Done()
	return nil
}

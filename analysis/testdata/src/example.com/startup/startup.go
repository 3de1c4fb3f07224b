// Package startup does work when it is initialised.
package startup

import (
	"net"
	"os"
)

var host, _ = os.ReadFile("/etc/hostname")

func init() {
	go watch()
}

func watch() { _, _ = net.Dial("tcp", "localhost:1") }

func Host() string { return string(host) }

// Command withnet is a tool that links package net and does not use it.
package main

import (
	"net"
	"os"
)

func main() {
	if len(os.Args) > 1 {
		_, _ = net.Dial("unix", os.Args[1])
	}
}

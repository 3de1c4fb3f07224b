//go:build unix && !linux

package main

import "os"

// wedge is for Linux; elsewhere no test asks for it.
func wedge() { os.Exit(3) }

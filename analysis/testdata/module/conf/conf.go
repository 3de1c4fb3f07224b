// Package conf is another package of the module: what is known of it comes as
// facts.
package conf

import "os"

// Verbose is set by Read.
var Verbose bool

// Read reads the configuration.
func Read(path string) {
	b, _ := os.ReadFile(path)
	Verbose = len(b) > 0
}

//fastbindvet:ignore bind
func init() { Read("/etc/example.conf") }

// Package bounds has what could go on for ever.
package bounds

import (
	"net"
	"os"

	"github.com/fastbind/fastbind"
	"github.com/fastbind/fastbind/daemon"
)

type long struct{}

func (long) Bind(ep fastbind.Endpoint) (net.Listener, error) {
	a() // want `Bind touches the disk: bounds.a → bounds.b \(bounds.go:\d+\) → bounds.c \(bounds.go:\d+\) → bounds.d \(bounds.go:\d+\) → bounds.e \(bounds.go:\d+\) → bounds.f \(bounds.go:\d+\) → … → os.Stat \(bounds.go:\d+\); `
	return daemon.Listen(ep)
}

func a() { b() }
func b() { c() }
func c() { d() }
func d() { e() }
func e() { f() }
func f() { g() }
func g() { h() }
func h() { i() }
func i() { _, _ = os.Stat("x") }

// Recursion, by name, by what is given and with a path that grows.
type recursive struct{}

func (recursive) Bind(ep fastbind.Endpoint) (net.Listener, error) {
	_ = even(4, func() error { return nil })
	grow(ep.Path())
	_ = again(recursive{}) // want `Bind touches the disk: bounds.again → bounds.recursive.step → os.Stat`
	return daemon.Listen(ep)
}

func even(n int, f func() error) error {
	if n == 0 {
		return f()
	}
	return odd(n-1, func() error { return f() })
}

func odd(n int, f func() error) error { return even(n-1, func() error { return f() }) }

func grow(path string) {
	if len(path) < 100 {
		grow(path + path + "x")
	}
}

func again[S interface{ step() bool }](s S) bool { return s.step() || again(s) }

func (recursive) step() bool {
	_, err := os.Stat("x")
	return err == nil
}

// A variable that is bound to itself, and functions that call each other by
// variables.
var first, second func()

func init() {
	first = func() { second() }
	second = func() { first() }
}

func both() { first() }

// Each call removes and listens on another path.
func climb(path string) {
	_ = os.Remove(path)
	ln, err := net.Listen("unix", path+"/x")
	if err == nil {
		ln.Close()
	}
	climb(path + "/x") // want `a path that is listened on \(bounds.go:\d+\) is removed by hand`
}

package broker

import (
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/fastbind/fastbind/internal/environ"
)

// TestClient: the contract that a broker makes is the one that a client of the same
// environment would, and the password database is not read for each.
func TestClient(t *testing.T) {
	passwd := filepath.Join(t.TempDir(), "passwd")
	write := func(text string) {
		if err := os.WriteFile(passwd, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("1")
	for _, env := range [][]string{nil, {"HOME=", "SHELL=/bin/false"}, {"HOME=/h", "USER=u", "LOGNAME=l", "SHELL=/s"}} {
		env = slices.Grow(env, 8) // that nobody else is to fill
		for _, a := range []environ.Account{{Home: "/home/jo", Name: "jo", Shell: "/bin/zsh"}, {Name: "app", Shell: "/bin/sh"}, {}} {
			looked := 0
			c := newClient(func() []string { return env })
			c.passwd, c.account = passwd, func() environ.Account { looked++; return a }
			contract := func() []string {
				return environ.Contract(c.variables(), []string{"USER"}, func() environ.Account { return environ.Account{} })
			}
			want := environ.Contract(env, []string{"USER"}, func() environ.Account { return a })
			var many sync.WaitGroup
			for range 4 {
				many.Go(func() {
					if got := contract(); !slices.Equal(got, want) {
						t.Errorf("%q of %+v: %q, want %q", env, a, got, want)
					}
				})
			}
			many.Wait()
			if looked != 1 {
				t.Errorf("read %d times", looked)
			}
			a.Home = "/home/other"
			write("another length" + passwd[:looked])
			want = environ.Contract(env, []string{"USER"}, func() environ.Account { return a })
			if got := contract(); !slices.Equal(got, want) || looked != 2 {
				t.Errorf("%q after a change: %q, want %q; read %d times", env, got, want, looked)
			}
			write("1")
		}
	}
}

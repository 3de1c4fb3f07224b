package standing

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/fsnotify/fsnotify"
)

// TestPlaces: what is watched of a directory that is there, is a link, has links in
// it, or is missing.
func TestPlaces(t *testing.T) {
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	at := func(parts ...string) string { return filepath.Join(append([]string{top}, parts...)...) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	w := &watcher{dir: at("a", "b", "c")}
	want := func(places ...string) {
		t.Helper()
		if got := w.places(); !slices.Equal(got, places) {
			t.Errorf("got %q, want %q", got, places)
		}
	}
	concerns := func(name string, yes bool) {
		t.Helper()
		if w.concerns(fsnotify.Event{Name: name}) != yes {
			t.Errorf("%s: concerns is %v", name, !yes)
		}
	}
	want(top)
	concerns(at("a"), true)
	concerns(at("other"), false)
	concerns(at("ab"), false)
	must(os.Mkdir(at("a"), 0o700))
	want(at("a"))
	concerns(at("a", "b"), true)
	concerns(at("a", "x"), false)
	must(os.MkdirAll(at("a", "b", "c"), 0o700))
	want(at("a", "b", "c"))
	concerns(at("a", "b", "c", "web.toml"), true)
	must(os.Mkdir(at("dotfiles"), 0o700))
	must(os.WriteFile(at("dotfiles", "web.toml"), nil, 0o600))
	must(os.Symlink(at("dotfiles", "web.toml"), at("a", "b", "c", "web.toml")))
	must(os.Symlink(at("nowhere"), at("a", "b", "c", "broken.toml")))
	want(at("a", "b", "c"), at("dotfiles"))
	must(os.Symlink(at("a", "b", "c"), at("link")))
	w.dir = at("link")
	want(top, at("dotfiles"), at("link"))
	must(os.WriteFile(at("file"), nil, 0o600))
	w.dir = at("file", "x")
	want(top)
}

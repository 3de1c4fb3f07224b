//go:build !windows

package gocache

import (
	"os"
	"path/filepath"
	"testing"
)

func TestConfig(t *testing.T) {
	base := t.TempDir()
	if err := os.Symlink(filepath.Join(base, "fastbind-gocache"), filepath.Join(base, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(base, "fastbind-gocache"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		env     []string
		service string
		max     int64
		bad     bool
	}{
		"default":      {nil, "gocache", 10 << 30, false},
		"the same":     {[]string{"GOCACHE_DIR=" + base + "/fastbind-gocache"}, "gocache", 10 << 30, false},
		"by a link":    {[]string{"GOCACHE_DIR=" + base + "/link"}, "gocache", 10 << 30, false},
		"another":      {[]string{"GOCACHE_DIR=/nowhere/else"}, "gocache-b90805f8", 10 << 30, false},
		"unclean":      {[]string{"GOCACHE_DIR=/nowhere/./else/"}, "gocache-b90805f8", 10 << 30, false},
		"max":          {[]string{"GOCACHE_MAX=500M"}, "gocache", 500 << 20, false},
		"max in bytes": {[]string{"GOCACHE_MAX=12345"}, "gocache", 12345, false},
		"max in words": {[]string{"GOCACHE_MAX=much"}, "gocache", 10 << 30, true},
		"negative max": {[]string{"GOCACHE_MAX=-1"}, "gocache", 10 << 30, true},
		"too much":     {[]string{"GOCACHE_MAX=9000000000000T"}, "gocache", 10 << 30, true},
		"lower case":   {[]string{"GOCACHE_MAX=2gib"}, "gocache", 2 << 30, false},
	} {
		cfg, err := configOf(append(c.env, "XDG_CACHE_HOME="+base))
		if cfg.serviceName() != c.service || cfg.max != c.max || (err != nil) != c.bad {
			t.Errorf("%s: %s, %+v, %v", name, cfg.serviceName(), cfg, err)
		}
	}
}

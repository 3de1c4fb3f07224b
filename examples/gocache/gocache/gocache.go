// Package gocache is a build cache for the go command (GOCACHEPROG): a thin
// client that cmd/go starts as its child, and a daemon that holds the index of
// the store in memory and keeps it within a size.
//
// What it guarantees: a committed entry survives kill -9 of the daemon and of
// any client at any moment, and a torn one is never served; a body whose
// SHA-256 is not its name is never served; a DiskPath that a go command was
// handed is not removed while that go command lives, whichever daemon runs by
// then; trouble with the disk or the daemon makes a build slower, never fail.
//
// What it does not: the store is not synced to disk, so a power cut can cost
// entries (their torn rests are misses); the size is a target, which go
// commands that use more than that at once exceed while they live; without a
// daemon nobody enforces it.
//
// It is a package so that another executable can carry it. Such a program calls
//
//	if len(os.Args) > 1 && os.Args[1] == gocache.Hidden {
//		os.Exit(gocache.Main(os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
//	}
//
// first thing in main, and sets GOCACHEPROG to "its-own-path __gocache".
package gocache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Hidden is the first argument by which an executable that carries this package
// is told to be gocache. The daemon is launched with it.
const Hidden = "__gocache"

const usage = `usage: gocache [command]

Without a command it is the go command's cache: set GOCACHEPROG to its path.

  stats [--json]   what the daemon and the store hold; launches nothing
  ping [--json]    reach the daemon as a build does, launching it if need be
  prune [--max N]  remove unreferenced files and shrink to the size cap, or to N
  verify           check every body; drop what is corrupt; status 1 if any was
  stop             stop the daemon; the store stays

environment:
  GOCACHE_DIR      the store (default: fastbind-gocache in the user's cache directory)
  GOCACHE_MAX      its size, such as 500M or 10GiB (default 10GiB)
`

// Main is the main of gocache. args are the arguments without the program's
// name, after Hidden or with it. It returns the exit status; as the daemon it
// does not return.
func Main(args, environ []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == Hidden {
		args = args[1:]
	}
	if len(args) > 0 && args[0] == "daemon" {
		runDaemon()
	}
	cfg, err := configOf(environ)
	if err != nil {
		// As a cache go on anyhow: a build must not fail for this.
		fmt.Fprintf(stderr, "gocache: %v\n", err)
		if len(args) > 0 {
			return 2
		}
	}
	if len(args) == 0 {
		return runClient(cfg, stdin, stdout, stderr)
	}
	a := admin{cfg: cfg, out: stdout, err: stderr}
	fs := flag.NewFlagSet("gocache "+args[0], flag.ContinueOnError)
	fs.SetOutput(stderr)
	ctx := context.Background()
	var run func() error
	switch args[0] {
	case "stats":
		asJSON := fs.Bool("json", false, "one JSON object")
		run = func() error { return a.stats(ctx, *asJSON) }
	case "ping":
		asJSON := fs.Bool("json", false, "one JSON object")
		gate := fs.Bool("gate", false, "wait for the end of stdin first, so that many can be released together")
		run = func() error { return a.ping(stdin, *gate, *asJSON) }
	case "prune":
		limit := fs.String("max", "", "size to shrink to")
		run = func() error { return a.prune(ctx, *limit) }
	case "verify":
		run = func() error { return a.verify() }
	case "stop":
		run = func() error { return service(cfg).Stop(ctx) }
	case "help", "-h", "--help":
		fmt.Fprint(stdout, usage)
		return 0
	default:
		fmt.Fprintf(stderr, "gocache: unknown command %q\n%s", args[0], usage)
		return 2
	}
	if err := fs.Parse(args[1:]); err != nil || fs.NArg() > 0 {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if err := run(); err != nil {
		fmt.Fprintf(stderr, "gocache: %v\n", err)
		return 1
	}
	return 0
}

// A config says which store, and how large. Client and daemon share it: the
// client puts it into the daemon's environment contract.
type config struct {
	dir     string // absolute
	byName  bool   // dir is not the default
	max     int64
	loadFor time.Duration // a load takes at least this long, for demonstrations
}

const defaultMax = 10 << 30

// configOf reads the environment. The config is usable beside an error too: what
// could not be understood has its default.
func configOf(environ []string) (config, error) {
	env := map[string]string{}
	for _, e := range environ {
		k, v, _ := strings.Cut(e, "=")
		env[k] = v
	}
	cfg := config{max: defaultMax}
	base := env["XDG_CACHE_HOME"]
	if dir, err := os.UserCacheDir(); err == nil && (base == "" || !filepath.IsAbs(base)) {
		base = dir
	}
	if base == "" {
		base = os.TempDir()
	}
	standard := filepath.Join(base, "fastbind-gocache")
	cfg.dir = standard
	var errs []error
	if d := env["GOCACHE_DIR"]; d != "" {
		abs, err := filepath.Abs(d)
		if err != nil {
			errs = append(errs, err)
		} else {
			cfg.dir = abs
		}
	}
	// One store, one daemon, whatever way leads to it.
	if real, err := filepath.EvalSymlinks(cfg.dir); err == nil {
		cfg.dir = real
	}
	if real, err := filepath.EvalSymlinks(standard); err == nil {
		standard = real
	}
	cfg.byName = cfg.dir != standard
	if m := env["GOCACHE_MAX"]; m != "" {
		n, err := parseSize(m)
		if err != nil {
			errs = append(errs, fmt.Errorf("GOCACHE_MAX: %w", err))
		} else {
			cfg.max = n
		}
	}
	if d := env["GOCACHE_LOAD_FOR"]; d != "" {
		cfg.loadFor, _ = time.ParseDuration(d)
	}
	return cfg, errors.Join(errs...)
}

// serviceName is the service's name: one daemon for each store. The store is in
// the name and not told apart by EnvPolicy coexist, which would also start a
// daemon for each LANG and PATH.
func (c config) serviceName() string {
	if !c.byName {
		return "gocache"
	}
	sum := sha256.Sum256([]byte(c.dir))
	return "gocache-" + hex.EncodeToString(sum[:4])
}

// parseSize reads a size in bytes: a number with an optional unit of K, M, G, T
// (powers of 1024, with or without B or iB).
func parseSize(s string) (int64, error) {
	t := strings.TrimSuffix(strings.TrimSuffix(strings.ToUpper(strings.TrimSpace(s)), "B"), "I")
	shift := 0
	if t != "" {
		if i := strings.IndexByte("KMGT", t[len(t)-1]); i >= 0 {
			shift = 10 * (i + 1)
			t = t[:len(t)-1]
		}
	}
	n, err := strconv.ParseInt(strings.TrimSpace(t), 10, 64)
	if err != nil || n <= 0 || n > (1<<62)>>shift {
		return 0, fmt.Errorf("%q is not a size such as 500M or 10GiB", s)
	}
	return n << shift, nil
}

func formatSize(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	f, u := float64(n), 0
	for f >= 1024 && u < len(units)-1 {
		f /= 1024
		u++
	}
	if u == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[u])
}

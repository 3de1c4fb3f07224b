//go:build !windows

package environ

// allowed are the variables every daemon gets if the client has them.
var allowed = []string{"HOME", "USER", "LOGNAME", "PATH", "SHELL", "LANG", "TZ", "TMPDIR"}

// allowedPrefixes are families of such variables.
var allowedPrefixes = []string{"LC_", "XDG_"}

// defaultPath is what login gives when nobody says otherwise (ENV_SUPATH's
// directories, which are the same for every uid).
func defaultPath() string { return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" }

// canonical is a variable's name as it is compared.
func canonical(name string) string { return name }

package environ

import "golang.org/x/sys/windows"

// allowed are the variables every daemon gets if the client has them: those that say
// who the user is and where things are, and those without which programs of Windows do
// not start. Those that a shell of Unix sets mean the same here.
var allowed = []string{
	"HOME", "LANG", "PATH", "TZ",
	"ALLUSERSPROFILE", "APPDATA", "COMMONPROGRAMFILES", "COMMONPROGRAMFILES(X86)", "COMMONPROGRAMW6432", "COMSPEC",
	"HOMEDRIVE", "HOMEPATH", "LOCALAPPDATA", "NUMBER_OF_PROCESSORS", "OS", "PATHEXT", "PROCESSOR_ARCHITECTURE",
	"PROCESSOR_IDENTIFIER", "PROCESSOR_LEVEL", "PROCESSOR_REVISION", "PROGRAMDATA", "PROGRAMFILES", "PROGRAMFILES(X86)",
	"PROGRAMW6432", "PUBLIC", "SYSTEMDRIVE", "SYSTEMROOT", "TEMP", "TMP", "USERDOMAIN", "USERNAME", "USERPROFILE", "WINDIR",
}

// allowedPrefixes are families of such variables.
var allowedPrefixes = []string{"LC_"}

// defaultPath is the system's own directories.
func defaultPath() string {
	system, err := windows.GetSystemDirectory()
	if err != nil {
		return ""
	}
	root, err := windows.GetSystemWindowsDirectory()
	if err != nil {
		return system
	}
	return system + ";" + root
}

// canonical is a variable's name as it is compared. Beyond ASCII the system compares by a
// table of its own.
func canonical(name string) string {
	b := []byte(name)
	for i, c := range b {
		if 'a' <= c && c <= 'z' {
			b[i] = c - 'a' + 'A'
		}
	}
	return string(b)
}

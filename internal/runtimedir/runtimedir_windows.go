package runtimedir

import (
	"context"
	"errors"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/fastbind/fastbind/internal/owner"
	"github.com/fastbind/fastbind/internal/sharing"
)

// On Windows every process of a user finds the same directory by the account alone, so
// that there is one root and no placement: below the local application data, which does
// not roam and is closed to others. FASTBIND_RUNTIME_DIR is used or refused as
// elsewhere. XDG variables and HOME, which some shells set, are passed over.
//
// An endpoint is a pipe, whose name is no path: it is made from the root, the
// instance and the service. The directory holds the rest.

// localAppData asks the account's registry, not the environment, which differs between a
// shell, a service and a scheduled task. It is a variable for the tests.
var localAppData = sync.OnceValues(func() (string, error) {
	return windows.KnownFolderPath(windows.FOLDERID_LocalAppData, windows.KF_FLAG_DONT_VERIFY)
})

// base is fastbind's own directory in the account, or "".
func base() string {
	dir, err := localAppData()
	if err != nil || misnamed(dir) != "" {
		return ""
	}
	return filepath.Join(dir, "fastbind")
}

// Guess returns the pipe at which the endpoint of a service may be. It reads no file and
// makes no promise: whoever answers there must be checked on the opened connection.
func (e Env) Guess(instance, service string) []string {
	var root string
	if e.RuntimeDir != "" {
		root = filepath.Clean(e.RuntimeDir)
		if misnamed(root) != "" { // Resolve refuses others by name
			return nil
		}
	} else if roots := e.roots(); len(roots) > 0 {
		root = roots[0]
	} else {
		return nil
	}
	return []string{pipeName(root, instance, service)}
}

// Sock returns the endpoint's pipe.
func (p Place) Sock() string {
	instance, service := filepath.Split(p.Dir)
	root, instance := filepath.Split(filepath.Clean(instance))
	return pipeName(filepath.Clean(root), instance, service)
}

// Further returns the name that a further endpoint's pipe would have. Nobody serves one:
// only foreign daemons take further endpoints, and none is launched here.
func (p Place) Further(endpoint string) string { return p.Sock() + furtherSep + endpoint }

// Ctl returns the control endpoint's pipe of a generation. Its length has a bound, as
// those of names and of a generation's name have.
func (p Place) Ctl(generation string) string { return p.Sock() + "+" + generation }

// ReadCurrent returns the name of the generation's directory that current leads to, or
// [fs.ErrNotExist]. It is a file that holds the name: links need a privilege here. It
// is replaced as a whole, also while somebody reads it.
func ReadCurrent(dir string) (string, error) { return readName(dir, CurrentName, maxCurrent) }

// CurrentEndsIn reports whether the name that ReadCurrent returns is known to end in that:
// false says nothing.
func CurrentEndsIn(dir, end string) bool {
	name, err := ReadCurrent(dir)
	return err == nil && strings.HasSuffix(name, end)
}

// WriteCurrent makes current lead to a generation's directory. Only who holds the launch
// lock does.
func WriteCurrent(dir, generation string) error { return writeName(dir, CurrentName, generation) }

// ReadHolder returns the directory that holder leads to, or [fs.ErrNotExist].
func ReadHolder(dir string) (string, error) { return readName(dir, HolderName, maxHolder) }

// WriteHolder makes holder lead to the directory of a broker's generation. Only who holds
// the launch lock does.
func WriteHolder(dir, holder string) error { return writeName(dir, HolderName, holder) }

const (
	maxCurrent = 256     // bytes of the name of a generation's directory
	maxHolder  = 4 << 10 // bytes of a path
)

func readName(dir, name string, most int) (string, error) {
	f, err := sharing.Open(filepath.Join(dir, name), windows.FILE_GENERIC_READ, windows.OPEN_EXISTING, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b := make([]byte, most)
	n, err := f.Read(b)
	if err != nil && err != io.EOF {
		return "", err
	}
	return string(b[:n]), nil
}

func writeName(dir, name, to string) error {
	next := filepath.Join(dir, name+".new")
	if err := os.WriteFile(next, []byte(to), 0o600); err != nil {
		return err
	}
	return sharing.Rename(next, filepath.Join(dir, name))
}

// pipeName names a service's pipe: readable, within 256 units (CreateNamedPipe) whatever
// the root is, and without the backslash, which only a hash of the root can do. Paths
// have no case, nor have pipes. The plus sign is in no name of ours, so that two
// services never have one pipe. Pipes are of the whole machine: that another
// user could have the same root's name is what the check of the owner is for.
func pipeName(root, instance, service string) string {
	h := fnv.New64a()
	h.Write([]byte(strings.ToLower(root)))
	return `\\.\pipe\fastbind+` + strconv.FormatUint(h.Sum64(), 36) + "+" + instance + "+" + service
}

func (e Env) roots() []string {
	if root := AccountRoot(); root != "" {
		return []string{root}
	}
	return nil
}

// AccountRoot is the root of who has not set FASTBIND_RUNTIME_DIR, "" for an account
// without a folder for local application data.
func AccountRoot() string {
	if b := base(); b != "" {
		return filepath.Join(b, "run")
	}
	return ""
}

// anchors: there are no placements to be kept.
func (e Env) anchors() []string { return nil }

// place: the account is the placement.
func (e Env) place(_ context.Context, p *Place, _, _ string, _ func(string) bool) error {
	roots := e.roots()
	if len(roots) == 0 {
		_, err := localAppData()
		return &Refused{Path: "(none)", Reason: "the account has no folder for local application data", Err: err,
			Cure: "set FASTBIND_RUNTIME_DIR to a directory of your own on a local disk"}
	}
	root := roots[0]
	if err := mkdirAll(filepath.Dir(root)); err != nil {
		return &Refused{Path: root, Reason: "cannot create its parent", Err: err}
	}
	if err := e.ensure(root); err != nil {
		return err
	}
	p.Root = root
	return nil
}

func (e Env) stateHomes() []string {
	if b := base(); b != "" {
		return []string{filepath.Join(b, "state")}
	}
	return nil
}

// mkdir makes one directory that is ours alone, whatever its parent would pass on; an
// existing one is left for verify to judge.
func mkdir(path string) error {
	sd, err := owner.Only(true)
	if err != nil {
		return err
	}
	p, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return &fs.PathError{Op: "mkdir", Path: path, Err: err}
	}
	sa := &windows.SecurityAttributes{SecurityDescriptor: sd}
	sa.Length = uint32(unsafe.Sizeof(*sa))
	if err := windows.CreateDirectory(p, sa); err != nil && err != windows.ERROR_ALREADY_EXISTS {
		return &fs.PathError{Op: "mkdir", Path: path, Err: err}
	}
	return nil
}

// verify refuses a directory that is not ours alone, or not on this machine: the owner
// must be us, and the access list may name nobody else but the system and the
// administrators, whom no list keeps out. The error is nil or a *Refused.
func (e Env) verify(path string) error {
	if kind, ok := networkFS(path); ok {
		return &Refused{Path: path, Reason: "it is on a network file system (" + kind + "), where locks can hang",
			Cure: "set FASTBIND_RUNTIME_DIR to a directory on a local disk"}
	}
	sd, err := look(path, false)
	if err != nil {
		return err
	}
	if err := verifySelf(path, sd); err != nil {
		return err
	}
	other, err2 := Access(sd, everything)
	if err2 != nil {
		return &Refused{Path: path, Reason: "its access list cannot be read", Err: err2}
	}
	if other != "" {
		return &Refused{Path: path, Reason: "its access list lets " + other + " in",
			Cure: "delete it, to have it made anew, or take out all but your own account, SYSTEM and Administrators"}
	}
	return nil
}

// verifySpelling refuses a root by any name but the system's own for it: a pipe is named
// after the root as that is spelled (see pipeName), and who spells it otherwise, with a
// short name, through a junction or another drive, would launch a second daemon in the
// same directory. It is asked where a place is looked for, not where one is guessed: at
// the pipe of a name that is refused here nobody ever listens.
//
// The account's root is what [AccountRoot] says, wherever that leads to: that is the same
// for everybody, and nobody else may name it otherwise.
func verifySpelling(root string) *Refused {
	own := AccountRoot()
	if sameName(root, own) {
		return nil
	}
	final, err := finalName(root)
	if errors.Is(err, windows.ERROR_MORE_DATA) {
		return nil // Wine, whose own buffer holds no name of more than 260 units
	}
	if err != nil {
		return &Refused{Path: root, Reason: "the system has no name for it", Err: err,
			Cure: "set FASTBIND_RUNTIME_DIR to a directory on a local disk"}
	}
	if other, err := finalName(own); err == nil && sameName(other, final) {
		return &Refused{Path: root, Reason: "it is another name of " + own + ", where services are without FASTBIND_RUNTIME_DIR",
			Cure: "leave FASTBIND_RUNTIME_DIR out"}
	}
	if !sameName(final, root) {
		return &Refused{Path: root, Reason: "it is another name of " + final, Cure: "set FASTBIND_RUNTIME_DIR to " + final}
	}
	return nil
}

// sameName reports whether two roots have the same pipes.
//
//lint:ignore SA6005 as pipeName does it
func sameName(a, b string) bool { return strings.ToLower(a) == strings.ToLower(b) }

// finalName returns the system's own name of a directory: without links and short names,
// on the drive that it is on.
func finalName(dir string) (string, error) {
	f, err := sharing.Open(dir, windows.FILE_READ_ATTRIBUTES, windows.OPEN_EXISTING, windows.FILE_FLAG_BACKUP_SEMANTICS)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b := make([]uint16, windows.MAX_LONG_PATH)
	n, err := windows.GetFinalPathNameByHandle(windows.Handle(f.Fd()), &b[0], uint32(len(b)), 0)
	if err == nil && int(n) > len(b) { // what it would take
		err = windows.ERROR_FILENAME_EXCED_RANGE
	}
	if err != nil {
		return "", os.NewSyscallError("GetFinalPathNameByHandle", err)
	}
	return strings.TrimPrefix(windows.UTF16ToString(b[:n]), `\\?\`), nil
}

// everything is any right at all.
const everything = ^windows.ACCESS_MASK(0)

// replaces are the rights with which somebody could put another directory in the place of
// one, or give themselves the right to: of a directory on the way. Making something new in
// it is none of them, as in a sticky directory elsewhere.
const replaces = fileDeleteChild | windows.DELETE | windows.WRITE_DAC | windows.WRITE_OWNER | windows.GENERIC_ALL

// writes are those with which somebody could put something into a directory.
const writes = replaces | windows.FILE_WRITE_DATA | windows.FILE_APPEND_DATA | windows.GENERIC_WRITE

// fileDeleteChild is FILE_DELETE_CHILD (winnt.h).
const fileDeleteChild = 0x40

// verifyParent refuses a parent in which another user could rename the directory away.
func (e Env) verifyParent(parent string) *Refused {
	if reason := misnamed(parent); reason != "" {
		return &Refused{Path: parent, Reason: reason}
	}
	sd, err := look(parent, true)
	if err != nil {
		return err
	}
	return verifyStep(parent, sd)
}

// verifyOwner refuses what is not ours.
func (e Env) verifyOwner(path string) *Refused {
	sd, err := look(path, true)
	if err != nil {
		return err
	}
	return verifySelf(path, sd)
}

func verifySelf(path string, sd *windows.SECURITY_DESCRIPTOR) *Refused {
	sid, _, err := sd.Owner()
	if err == nil {
		err = owner.Check(sid)
	}
	var foreign *owner.Error
	if errors.As(err, &foreign) {
		return &Refused{Path: path, Reason: foreign.Error(), Err: fs.ErrPermission}
	}
	if err != nil {
		return &Refused{Path: path, Reason: "its owner cannot be read", Err: err}
	}
	return nil
}

// verifyStep refuses a directory on a way to ours that another user owns or could
// replace something in.
func verifyStep(path string, sd *windows.SECURITY_DESCRIPTOR) *Refused {
	sid, _, err := sd.Owner()
	if err != nil {
		return &Refused{Path: path, Reason: "its owner cannot be read", Err: err}
	}
	if !trusted(sid) {
		return verifySelf(path, sd)
	}
	other, err := Access(sd, replaces)
	if err != nil {
		return &Refused{Path: path, Reason: "its access list cannot be read", Err: err}
	}
	if other != "" {
		return &Refused{Path: path, Reason: "its access list lets " + other + " replace what is in it"}
	}
	return nil
}

// verifyState verifies a directory of logs, as far as it exists, and the way to it: each
// directory is ours or the system's, and nobody else can replace anything in it. Of a
// directory that was named for us the way there is the user's own choice, as that to
// FASTBIND_RUNTIME_DIR is. Links are followed by nobody: a way that has one is refused.
func (e Env) verifyState(root, dir string) *Refused {
	if reason := misnamed(dir); reason != "" {
		return &Refused{Path: dir, Reason: reason}
	}
	top := filepath.VolumeName(dir) + `\`
	if e.StateDir != "" {
		top = filepath.Clean(e.StateDir)
	} else if own := filepath.Join(root, ".state"); root != "" && filepath.Dir(dir) == own {
		top = own
	}
	for at := filepath.Clean(dir); ; at = filepath.Dir(at) {
		if sd, err := look(at, false); err == nil {
			if err := verifyStep(at, sd); err != nil {
				return err
			}
			if at == filepath.Clean(dir) {
				if err := verifySelf(at, sd); err != nil {
					return err
				}
				if other, err := Access(sd, writes); other != "" || err != nil {
					return &Refused{Path: at, Reason: "its access list lets " + other + " write to it", Err: err}
				}
			}
		} else if !errors.Is(err, fs.ErrNotExist) { // what does not exist yet will be ours
			return err
		}
		if at == top || at == filepath.Dir(at) {
			return nil
		}
	}
}

// VerifyUnwritable refuses a file or directory that another user owns or can write to; nil if
// it is neither.
func VerifyUnwritable(path string) *Refused {
	sd, err := security(path)
	if err != nil {
		return err
	}
	if err := verifyStep(path, sd); err != nil {
		return err
	}
	other, aerr := Access(sd, writes)
	if aerr != nil {
		return &Refused{Path: path, Reason: "its access list cannot be read", Err: aerr}
	}
	if other != "" {
		return &Refused{Path: path, Reason: "its access list lets " + other + " write to it", Cure: "take that right away in its properties, or with icacls"}
	}
	return nil
}

// look returns the security of a directory. Links, junctions included, lead elsewhere, and
// only where follow is set they may.
func look(path string, follow bool) (*windows.SECURITY_DESCRIPTOR, *Refused) {
	stat := os.Lstat
	if follow {
		stat = os.Stat
	}
	fi, err := stat(path)
	switch {
	case err != nil:
		return nil, &Refused{Path: path, Reason: "cannot be used", Err: err}
	case fi.Mode()&(fs.ModeSymlink|fs.ModeIrregular) != 0:
		return nil, &Refused{Path: path, Reason: "it is a link", Cure: "name the directory itself"}
	case !fi.IsDir():
		return nil, &Refused{Path: path, Reason: "it is not a directory"}
	}
	return security(path)
}

func security(path string) (*windows.SECURITY_DESCRIPTOR, *Refused) {
	sd, err := windows.GetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION|windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		return nil, &Refused{Path: path, Reason: "its security cannot be read", Err: os.NewSyscallError("GetNamedSecurityInfo", err)}
	}
	return sd, nil
}

// Access returns the first SID that an access list gives any of these rights and that is
// not trusted, "" for none. What it cannot read it takes for somebody.
func Access(sd *windows.SECURITY_DESCRIPTOR, rights windows.ACCESS_MASK) (string, error) {
	dacl, _, err := sd.DACL()
	if err != nil && err != windows.ERROR_OBJECT_NOT_FOUND {
		return "", err
	}
	if dacl == nil {
		return "everybody", nil
	}
	for i := range uint32(dacl.AceCount) {
		var ace *windows.ACCESS_ALLOWED_ACE
		if err := windows.GetAce(dacl, i, &ace); err != nil {
			return "", err
		}
		switch {
		case ace.Header.AceType == windows.ACCESS_DENIED_ACE_TYPE || ace.Mask&rights == 0:
			continue
		case ace.Header.AceType != windows.ACCESS_ALLOWED_ACE_TYPE:
			return "somebody under a condition", nil
		}
		sid := (*windows.SID)(unsafe.Pointer(&ace.SidStart))
		if trusted(sid) {
			continue
		}
		if ace.Header.AceFlags&windows.INHERIT_ONLY_ACE != 0 && (rights != everything || sid.IsWellKnown(windows.WinCreatorOwnerSid)) {
			// It is for what is made in the directory. On the way that is looked at for
			// itself, and who makes something in ours is us.
			continue
		}
		return sid.String(), nil
	}
	return "", nil
}

// trusted are we and those whom no access list keeps out: the system, the
// administrators, and the installer of Windows, who owns what came with it.
func trusted(sid *windows.SID) bool {
	return owner.Check(sid) == nil || sid.IsWellKnown(windows.WinLocalSystemSid) ||
		sid.IsWellKnown(windows.WinBuiltinAdministratorsSid) || sid.String() == trustedInstaller
}

// trustedInstaller is the SID of NT SERVICE\TrustedInstaller, made from its name, the
// same on every machine.
const trustedInstaller = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464"

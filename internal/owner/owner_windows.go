package owner

import (
	"io/fs"
	"os"
	"sync"

	"golang.org/x/sys/windows"
)

// SID returns the user that this process runs as, which a process keeps for life. It
// is not to be changed. Safe for concurrent use, like all of this package.
func SID() (*windows.SID, error) { return ownSID() }

var ownSID = sync.OnceValues(func() (*windows.SID, error) {
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return nil, os.NewSyscallError("GetTokenInformation", err)
	}
	return user.User.Sid.Copy()
})

// Only returns the security of an object that the user owns and nobody else may use,
// whatever its parent would pass on. With inherit it is one of a directory, and what
// is made in it has the same. It is not to be changed.
func Only(inherit bool) (*windows.SECURITY_DESCRIPTOR, error) {
	if inherit {
		return onlyInherited()
	}
	return only()
}

// FA is every right, that to further instances of a pipe included. P: nothing is inherited.
var (
	only          = sync.OnceValues(func() (*windows.SECURITY_DESCRIPTOR, error) { return describe("") })
	onlyInherited = sync.OnceValues(func() (*windows.SECURITY_DESCRIPTOR, error) { return describe("OICI") })
)

func describe(flags string) (*windows.SECURITY_DESCRIPTOR, error) {
	sid, err := ownSID()
	if err != nil {
		return nil, err
	}
	s := sid.String()
	sd, err := windows.SecurityDescriptorFromString("O:" + s + "D:P(A;" + flags + ";FA;;;" + s + ")")
	return sd, os.NewSyscallError("ConvertStringSecurityDescriptorToSecurityDescriptor", err)
}

// An Error is something that belongs to another user. It is [fs.ErrPermission] to
// [errors.Is].
type Error struct {
	SID string // the other's, "" if the system does not tell it
	Own string // that of the calling process
}

// Error names both users.
func (e *Error) Error() string {
	who := e.SID
	if who == "" {
		who = "an unknown user"
	}
	return "it belongs to " + who + ", this process runs as " + e.Own
}

// Is makes an Error [fs.ErrPermission].
func (e *Error) Is(target error) bool { return target == fs.ErrPermission }

// Check returns nil if sid is the user's own, and *[Error] if it is not, nil included.
func Check(sid *windows.SID) error {
	own, err := ownSID()
	if err != nil {
		return err
	}
	if sid != nil && sid.Equals(own) {
		return nil
	}
	e := &Error{Own: own.String()}
	if sid != nil {
		e.SID = sid.String()
	}
	return e
}

// Package owner says who owns and may use an object of Windows, and makes objects that are
// this user's alone. It exists on Windows only; elsewhere a uid and a mode say it.
//
// The user is the one whose SID this process's token names. It is the owner of what is
// made here also where the token is an administrator's, for whose objects Windows would
// name a group otherwise.
//
// Usual calls:
//
//	sd, err := owner.Only(false)   // for a CreateSomething
//	err = owner.Check(sid)         // *owner.Error: another's
package owner

// Package sharing opens files of Windows as every open does elsewhere: whoever has
// opened a file, others can read, write, rename, replace and delete it. Package os
// opens them so that nobody can rename or delete them. It exists on Windows only.
//
// It guarantees that [Rename] replaces a file while others have it open, and that they
// keep the one they have. On systems that cannot do that in one step (Windows before
// 10, or a file system that is not NTFS) there is a moment without the name.
//
// Usual calls:
//
//	f, err := sharing.Open(path, windows.FILE_GENERIC_READ, windows.OPEN_EXISTING, 0)
//	err = sharing.Rename(path+".new", path)
package sharing

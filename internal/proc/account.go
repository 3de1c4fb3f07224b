package proc

import (
	"bufio"
	"bytes"
	"io"
	"io/fs"
	"os"
	"strconv"
)

// PasswdPath is where the password database is.
const PasswdPath = "/etc/passwd"

const (
	// maxPasswd bounds what is read of the database, maxPasswdLine one entry.
	// Site-wide files of 100,000 users are 8 MB; longer lines are passed over.
	maxPasswd     = 32 << 20
	maxPasswdLine = 4096
)

// Account returns home directory, login name and shell of the user with this
// uid from the password database in /etc/passwd (passwd(5)): the first entry
// with the uid counts, an empty shell is /bin/sh. What the entry says is not
// checked. Users known only to a directory service (LDAP, macOS) are not
// found: package os/user would find them, at the price of cgo, but knows no shells.
//
// The error is [fs.ErrNotExist] if there is no such user or no such file, else
// an *[fs.PathError]. Account blocks for reading the file. Safe for concurrent use.
func Account(uid int) (home, name, shell string, err error) {
	if uid < 0 { // Windows has no uids
		return "", "", "", noAccount(uid)
	}
	f, err := os.Open(PasswdPath)
	if err != nil {
		return "", "", "", err
	}
	defer f.Close()
	home, name, shell, ok, err := findAccount(f, uid, maxPasswd)
	switch {
	case err != nil:
		return "", "", "", &fs.PathError{Op: "read", Path: PasswdPath, Err: err}
	case !ok:
		return "", "", "", noAccount(uid)
	}
	return home, name, shell, nil
}

// noAccount is a uid that nobody has.
type noAccount int

func (e noAccount) Error() string {
	return "no account with uid " + strconv.Itoa(int(e)) + " in " + PasswdPath
}

func (noAccount) Is(target error) bool { return target == fs.ErrNotExist }

// findAccount looks for uid in the first max bytes of a password database.
func findAccount(r io.Reader, uid int, max int64) (home, name, shell string, ok bool, err error) {
	br := bufio.NewReaderSize(io.LimitReader(r, max), maxPasswdLine)
	skip := false // in a line that was too long
	for {
		line, err := br.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull && err != io.EOF {
			return "", "", "", false, err
		}
		if !skip && err != bufio.ErrBufferFull {
			if home, name, shell, ok := parseAccount(bytes.TrimSuffix(line, []byte("\n")), uid); ok {
				return home, name, shell, true, nil
			}
		}
		if err == io.EOF {
			return "", "", "", false, nil
		}
		skip = err == bufio.ErrBufferFull
	}
}

// parseAccount reads one line, name:password:uid:gid:gecos:home:shell.
// Comments and the + and - entries of NIS are no accounts, nor is anything
// with another number of fields.
func parseAccount(line []byte, uid int) (home, name, shell string, ok bool) {
	if len(line) == 0 || bytes.IndexByte([]byte("#+-"), line[0]) >= 0 || bytes.IndexByte(line, 0) >= 0 {
		return "", "", "", false
	}
	var field [7][]byte
	for i := range field {
		end, last := bytes.IndexByte(line, ':'), i == len(field)-1
		if last != (end < 0) {
			return "", "", "", false
		}
		if last {
			end = len(line)
		}
		field[i], line = line[:end], line[min(end+1, len(line)):]
	}
	n, err := strconv.ParseUint(string(field[2]), 10, 32)
	if err != nil || uid < 0 || n != uint64(uid) || len(field[0]) == 0 {
		return "", "", "", false
	}
	shell = string(field[6])
	if shell == "" {
		shell = "/bin/sh"
	}
	return string(field[5]), string(field[0]), shell, true
}

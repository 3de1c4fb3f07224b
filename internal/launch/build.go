package launch

import (
	"hash/fnv"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/record"
	"github.com/fastbind/fastbind/internal/version"
)

// build is the build that this client would launch: the definition's version,
// and the program's file as it is now.
func (b *Broker) build() version.Identity {
	id := version.Identity{Version: b.Def.Version}
	if b.Def.Self {
		id.Executable = selfExecutable()
	} else if path, err := program(b.Def, b.Contract()); err == nil {
		id.Executable = executableAt(path, path)
	}
	return id
}

// selfExecutable is this process's own file, whatever is at its path by now.
var selfExecutable = sync.OnceValue(func() version.Executable {
	path := selfPath()
	if selfExe != "" {
		return executableAt(selfExe, path)
	}
	return executableAt(path, path)
})

func executableAt(path, name string) version.Executable {
	x := version.Executable{Path: name}
	fi, err := os.Stat(path)
	if err != nil {
		return x
	}
	inode := endpoint.FileID(path, fi)
	x.Device, x.Inode, x.Size, x.MtimeNS = inode.Dev, inode.Ino, fi.Size(), fi.ModTime().UnixNano()
	return x
}

// buildOf is the build of a generation, as the daemon says, or before it has
// spoken as it was launched.
func buildOf(r record.Record) version.Identity {
	id := version.Identity{Version: r.Version, BuildID: r.BuildID}
	if id.Version == "" {
		id.Version = r.Definition.Version
	}
	x := r.Executable
	id.Executable = version.Executable{Device: x.Inode.Dev, Inode: x.Inode.Ino, Size: x.Size, MtimeNS: x.MTimeNS, Path: x.Path}
	return id
}

// buildDigest tells builds apart in the name of a generation's directory.
func buildDigest(id version.Identity) string {
	h := fnv.New64a()
	h.Write([]byte(id.Version))
	x := id.Executable
	for _, n := range []uint64{x.Device, x.Inode, uint64(x.Size), uint64(x.MtimeNS)} {
		for shift := 0; shift < 64; shift += 8 {
			h.Write([]byte{byte(n >> shift)})
		}
	}
	s := strconv.FormatUint(h.Sum64(), 16)
	return ("0000000000000000" + s)[len(s):][:6]
}

// buildName names a build for people, and for the flap detector.
func buildName(id version.Identity) string {
	name := id.Executable.Path
	if id.Version != "" {
		name += " " + id.Version
	}
	// strings.ReplaceAll would be in each client for this alone: TestClientSize.
	return strings.Join(strings.Split(name, "\t"), " ") + " (build " + buildDigest(id) + ")"
}

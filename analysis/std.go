package analysis

import (
	"go/types"
	"strings"
)

// A Kind is what a function does that has its place, but not in Bind or before
// Run.
type Kind string

// The kinds.
const (
	Disk      Kind = "disk"
	Network   Kind = "network"
	Listening Kind = "listen"
	Sleep     Kind = "sleep"
	Goroutine Kind = "goroutine"
	Spawn     Kind = "spawn"
	State     Kind = "state"
	Lock      Kind = "lock"
)

// verb is what the messages say that a function does.
var verb = map[Kind]string{
	Disk:      "touches the disk",
	Network:   "uses the network",
	Listening: "listens",
	Sleep:     "waits",
	Goroutine: "starts a goroutine",
	Spawn:     "starts a process",
	State:     "uses a package variable that changes",
	Lock:      "takes a lock",
}

// known are functions of the standard library, of well-known modules and of
// the SDK by what they do, written "package function function…" or
// "(*package.Type) method method…". Their source is not looked into: a server's
// package would be found to do everything.
var known = parseKnown(map[Kind]string{
	Disk: `
		os Open OpenFile Create CreateTemp ReadFile WriteFile ReadDir Mkdir MkdirAll MkdirTemp Remove RemoveAll Rename Stat Lstat
			Symlink Link Readlink Chmod Chown Lchown Chtimes Truncate Chdir CopyFS OpenRoot OpenInRoot
		(*os.File) Read ReadAt ReadFrom Write WriteAt WriteTo WriteString Seek Sync Truncate Stat ReadDir Readdir Readdirnames Chmod Chown
		(*os.Root) Open OpenFile Create ReadFile WriteFile Mkdir MkdirAll Remove RemoveAll Rename Stat Lstat Symlink Link Readlink OpenRoot
		io/ioutil ReadFile WriteFile ReadDir TempFile TempDir
		path/filepath Walk WalkDir Glob EvalSymlinks
		io/fs ReadFile ReadDir Stat Glob WalkDir
		os/user Current Lookup LookupId LookupGroup LookupGroupId
		os/exec LookPath
		plugin Open
		archive/zip OpenReader
		debug/elf Open
		crypto/tls LoadX509KeyPair
		html/template ParseFiles ParseGlob
		text/template ParseFiles ParseGlob
		time LoadLocation
		net/http ServeFile
		syscall Open Openat Creat Read Write Pread Pwrite Unlink Unlinkat Rename Renameat Mkdir Mkdirat Rmdir Stat Lstat Link Symlink Readlink Chmod Chown Fsync Ftruncate Truncate Mount Statfs
		golang.org/x/sys/unix Open Openat Creat Read Write Pread Pwrite Unlink Unlinkat Rename Renameat Renameat2 Mkdir Mkdirat Rmdir Stat Lstat Link Linkat Symlink Readlink Chmod Chown Fsync Ftruncate Truncate Mount Statfs Mmap
		github.com/joho/godotenv Load Overload Read
		github.com/spf13/viper ReadInConfig MergeInConfig WriteConfig SafeWriteConfig
		(*github.com/spf13/viper.Viper) ReadInConfig MergeInConfig WriteConfig SafeWriteConfig
		github.com/BurntSushi/toml DecodeFile
		github.com/fsnotify/fsnotify NewWatcher
		go.etcd.io/bbolt Open
		(github.com/fastbind/fastbind.Service) Endpoint`,
	Network: `
		net Dial DialTimeout DialTCP DialUDP DialIP DialUnix LookupHost LookupIP LookupAddr LookupCNAME LookupMX LookupNS LookupPort LookupSRV LookupTXT
			ResolveTCPAddr ResolveUDPAddr ResolveIPAddr Interfaces InterfaceAddrs InterfaceByName
		(*net.Dialer) Dial DialContext DialTCP DialUDP DialIP DialUnix
		(*net.Resolver) LookupHost LookupIP LookupIPAddr LookupAddr LookupCNAME LookupMX LookupNS LookupNetIP LookupPort LookupSRV LookupTXT
		(net.Conn) Read Write
		(net.Listener) Accept
		(*net.UnixListener) Accept AcceptUnix
		(*net.TCPListener) Accept AcceptTCP
		net/http Get Head Post PostForm ListenAndServe ListenAndServeTLS Serve ServeTLS
		(*net/http.Client) Get Head Post PostForm Do
		(*net/http.Server) ListenAndServe ListenAndServeTLS Serve ServeTLS
		net/rpc Dial DialHTTP DialHTTPPath
		net/smtp Dial SendMail
		log/syslog New Dial NewLogger
		crypto/tls Dial DialWithDialer
		(*crypto/tls.Dialer) Dial DialContext
		(*database/sql.DB) Ping PingContext Query QueryContext QueryRow QueryRowContext Exec ExecContext Begin BeginTx Conn Prepare PrepareContext
		syscall Connect Accept Accept4
		golang.org/x/sys/unix Connect Accept Accept4
		github.com/fastbind/fastbind Dial TryDial
		(github.com/fastbind/fastbind.Service) Start Stop Restart Status DialContext ContextDialer`,
	Listening: `
		net Listen ListenUnix ListenUnixgram ListenPacket ListenTCP ListenUDP ListenIP ListenMulticastUDP
		(*net.ListenConfig) Listen ListenPacket
		crypto/tls Listen
		syscall Listen
		golang.org/x/sys/unix Listen
		github.com/fastbind/fastbind/daemon Listen`,
	Sleep: `
		time Sleep After Tick
		(*sync.WaitGroup) Wait
		(*sync.Cond) Wait
		(*golang.org/x/sync/errgroup.Group) Wait
		syscall Nanosleep Select
		golang.org/x/sys/unix Nanosleep Select Poll Ppoll`,
	Goroutine: `
		(*sync.WaitGroup) Go
		(*golang.org/x/sync/errgroup.Group) Go TryGo
		time AfterFunc`,
	Spawn: `
		os StartProcess
		(*os/exec.Cmd) Run Start Output CombinedOutput
		syscall ForkExec StartProcess Exec
		golang.org/x/sys/unix Exec`,
	Lock: `
		(*sync.Mutex) Lock
		(*sync.RWMutex) Lock RLock
		(sync.Locker) Lock
		syscall Flock FcntlFlock
		golang.org/x/sys/unix Flock FcntlFlock
		golang.org/x/sys/windows LockFileEx
		(*github.com/gofrs/flock.Flock) Lock TryLock RLock TryRLock TryLockContext TryRLockContext
		(*github.com/theckman/go-flock.Flock) Lock TryLock
		(*github.com/juju/fslock.Lock) Lock TryLock LockWithTimeout
		github.com/rogpeppe/go-internal/lockedfile OpenFile Create Edit
		(*github.com/rogpeppe/go-internal/lockedfile.Mutex) Lock`,
})

// fileLocks are those of Lock that other processes see.
var fileLocks = []string{"flock", "Flock", "fslock", "lockedfile", "LockFileEx"}

// runs are the functions that become the daemon.
var runs = map[string]string{
	daemonPath + ".Run":       "daemon.Run",
	daemonPath + ".Serve":     "daemon.Serve",
	daemonPath + ".Bootstrap": "daemon.Bootstrap",
}

// dispatchers call what was registered with them: if that becomes the daemon,
// so do they.
var dispatchers = map[string]bool{
	"(*github.com/spf13/cobra.Command).Execute":         true,
	"(*github.com/spf13/cobra.Command).ExecuteC":        true,
	"(*github.com/spf13/cobra.Command).ExecuteContext":  true,
	"(*github.com/spf13/cobra.Command).ExecuteContextC": true,
	"(*github.com/urfave/cli.App).Run":                  true,
	"(*github.com/urfave/cli/v2.App).Run":               true,
	"(*github.com/urfave/cli/v2.App).RunContext":        true,
	"(*github.com/urfave/cli/v3.Command).Run":           true,
}

// callsArg are the parameters, counted with the receiver, that a function of
// the standard library calls before it returns.
var callsArg = map[string][]int{
	"(*sync.Once).Do":       {1},
	"(*sync.Map).Range":     {1},
	"slices.SortFunc":       {1},
	"slices.SortStableFunc": {1},
	"slices.ContainsFunc":   {1},
	"slices.IndexFunc":      {1},
	"slices.DeleteFunc":     {1},
	"slices.EqualFunc":      {2},
	"sort.Slice":            {1},
	"sort.SliceStable":      {1},
	"sort.Search":           {1},
	"strings.Map":           {0},
	"strings.FieldsFunc":    {1},
	"strings.IndexFunc":     {1},
	"strings.ContainsFunc":  {1},
	"(*sync.WaitGroup).Go":  {1},
	"path/filepath.Walk":    {1},
	"path/filepath.WalkDir": {1},
}

// passThrough are functions whose result, when called, calls their argument.
var passThrough = map[string]bool{"sync.OnceFunc": true, "sync.OnceValue": true, "sync.OnceValues": true}

// A site is where a path is removed, dialled or listened on: the parameter, counted with
// the receiver, that has the path, and the one that has the network, or -1.
type site struct{ path, network int }

var removers = map[string]site{
	"os.Remove":                      {0, -1},
	"os.RemoveAll":                   {0, -1},
	"syscall.Unlink":                 {0, -1},
	"golang.org/x/sys/unix.Unlink":   {0, -1},
	"golang.org/x/sys/unix.Unlinkat": {1, -1},
	"syscall.Unlinkat":               {1, -1},
}

var listeners = map[string]site{
	"net.Listen":                       {1, 0},
	"net.ListenPacket":                 {1, 0},
	"net.ListenUnix":                   {1, 0},
	"net.ListenUnixgram":               {1, 0},
	"(*net.ListenConfig).Listen":       {3, 2},
	"(*net.ListenConfig).ListenPacket": {3, 2},
	"crypto/tls.Listen":                {1, 0},
	"syscall.Bind":                     {1, -1},
	"golang.org/x/sys/unix.Bind":       {1, -1},
	daemonPath + ".Listen":             {0, -1},
}

var dialers = map[string]site{
	"net.Dial":                  {1, 0},
	"net.DialTimeout":           {1, 0},
	"net.DialUnix":              {2, 0},
	"(*net.Dialer).Dial":        {2, 1},
	"(*net.Dialer).DialContext": {3, 2},
	"(*net.Dialer).DialUnix":    {4, 2},
}

func parseKnown(of map[Kind]string) map[string]Kind {
	list := map[string]Kind{}
	for kind, text := range of {
		prefix := ""
		for _, word := range strings.Fields(text) {
			switch {
			case strings.ContainsAny(word, "(/") || word == strings.ToLower(word):
				prefix = word + "."
			default:
				list[prefix+word] = kind
			}
		}
	}
	return list
}

// fullName is a function's name as the tables have it.
func fullName(f *types.Func) string { return f.Origin().FullName() }

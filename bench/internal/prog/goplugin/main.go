// Command goplugin is the job made with hashicorp/go-plugin, in one executable as
// a tool of its would ship it.
//
//	goplugin DIR   uses the plugin that DIR/reattach names, else starts one and
//	               names it there; sends a line, prints the reply
//
// go-plugin leaves to its user where the way back to a running plugin is kept,
// and who starts it if several come at once.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/rpc"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
)

var handshake = plugin.HandshakeConfig{ProtocolVersion: 1, MagicCookieKey: "BENCH_GOPLUGIN", MagicCookieValue: "echo"}

// echoer is both ends of the plugin.
type echoer struct{}

func (echoer) Server(*plugin.MuxBroker) (any, error) { return &server{}, nil }

func (echoer) Client(_ *plugin.MuxBroker, c *rpc.Client) (any, error) { return c, nil }

type server struct{}

// Echo answers a line with itself.
func (*server) Echo(line string, reply *string) error {
	*reply = line
	return nil
}

func main() {
	if os.Getenv(handshake.MagicCookieKey) != "" {
		plugin.Serve(&plugin.ServeConfig{HandshakeConfig: handshake, Plugins: plugin.PluginSet{"echo": echoer{}}, Logger: hclog.NewNullLogger()})
		return
	}
	reply, err := run(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Print(reply)
}

// known is plugin.ReattachConfig as a file has it.
type known struct {
	Path string
	PID  int
}

func run(dir string) (string, error) {
	name := filepath.Join(dir, "reattach")
	b, err := os.ReadFile(name)
	if err == nil {
		var k known
		if err := json.Unmarshal(b, &k); err != nil {
			return "", err
		}
		reply, err := ask(&plugin.ReattachConfig{Protocol: plugin.ProtocolNetRPC, Addr: &net.UnixAddr{Name: k.Path, Net: "unix"}, Pid: k.PID}, "")
		if !errors.Is(err, plugin.ErrProcessNotFound) && !errors.Is(err, syscall.ECONNREFUSED) {
			return reply, err
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	return ask(nil, name)
}

// ask sends a line to the plugin, which it starts if there is no way back to one,
// and names in a file.
func ask(back *plugin.ReattachConfig, name string) (string, error) {
	cfg := &plugin.ClientConfig{HandshakeConfig: handshake, Plugins: plugin.PluginSet{"echo": echoer{}}, Logger: hclog.NewNullLogger(),
		SyncStdout: io.Discard, SyncStderr: io.Discard, Reattach: back}
	if back == nil {
		cfg.Cmd = exec.Command("/proc/self/exe")
		cfg.Cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	}
	client := plugin.NewClient(cfg)
	conn, err := client.Client()
	if err != nil {
		return "", err
	}
	raw, err := conn.Dispense("echo")
	if err != nil {
		return "", err
	}
	var reply string
	if err := raw.(*rpc.Client).Call("Plugin.Echo", "hello\n", &reply); err != nil {
		return "", err
	}
	if back != nil {
		return reply, nil
	}
	b, err := json.Marshal(known{client.ReattachConfig().Addr.String(), client.ReattachConfig().Pid})
	if err != nil {
		return "", err
	}
	// Nobody may read half of it.
	mine := fmt.Sprintf("%s.%d", name, os.Getpid())
	return reply, errors.Join(os.WriteFile(mine, b, 0o600), os.Rename(mine, name))
}

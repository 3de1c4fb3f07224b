//go:build linux

// Command standin stands in for the fastbind command in the tests of its units: it
// installs them, is the broker that they start, and asks it. The broker does what
// it is told on its sockets, so that a test sees what the service manager makes of
// it.
//
//	standin install INSTANCE | uninstall INSTANCE
//	standin broker --instance INSTANCE
//	standin ask PATH VERB ARG…
//	standin loop PATH
//	standin daemon FILE
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/fastbind/fastbind/internal/broker/activation"
	"github.com/fastbind/fastbind/internal/broker/unit"
)

func main() {
	if len(os.Args) < 2 {
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "standin:", err)
		os.Exit(1)
	}
}

func run(verb string, args []string) error {
	switch {
	case verb == "broker":
		return broker()
	case verb == "ask" && len(args) > 1:
		answer, err := ask(args[0], args[1:])
		fmt.Print(answer)
		return err
	case verb == "loop" && len(args) == 1:
		return loop(args[0])
	case verb == "daemon" && len(args) == 1:
		return serve(args[0])
	case verb == "install" && len(args) == 1, verb == "uninstall" && len(args) == 1:
		return install(verb, args[0])
	}
	return fmt.Errorf("no such command: %q", os.Args[1:])
}

// install does what the command of that name will do.
func install(verb, instance string) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	m, err := unit.Here(os.Getenv, os.Getenv("HOME"), os.Geteuid())
	if err != nil {
		return err
	}
	var r unit.Result
	if verb == "install" {
		u := unit.Unit{Executable: exe, Instance: instance, Root: os.Getenv("FASTBIND_RUNTIME_DIR"), Environment: unit.Environment(os.Getenv)}
		r, err = m.Install(context.Background(), u, unit.Exec)
	} else {
		r, err = m.Uninstall(context.Background(), instance, unit.Exec)
	}
	for _, c := range r.Changes {
		fmt.Println(c.Action, c.Path)
	}
	for _, argv := range r.Next {
		fmt.Println("next:", strings.Join(argv, " "))
	}
	return err
}

// broker serves its sockets until it is told to stop, which it writes into the file
// "stopped" in its directory. It is ready when it has them; if the file "late" is
// there, when it is told so; if "refuse" or "crash" is there, it never is.
func broker() error {
	m, err := activation.Take(unit.SocketName)
	if err != nil {
		return err
	}
	if list := os.Getenv("STANDIN_SOCKETS"); list != "" {
		m.Sockets = passedOn(list)
	}
	if len(m.Sockets) == 0 {
		return errors.New("no socket was handed down")
	}
	if _, err := os.Stat("refuse"); err == nil {
		os.Exit(5)
	}
	if _, err := os.Stat("crash"); err == nil {
		os.Exit(1)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	hang := make(chan struct{})
	b := &state{Manager: m, hang: sync.OnceFunc(func() { close(hang) })}
	for _, s := range m.Sockets {
		ln, err := s.Listener()
		if err != nil {
			return err
		}
		go b.accept(ln)
	}
	if _, err := os.Stat("late"); err != nil {
		if err := m.Ready(fmt.Sprintf("%d sockets", len(m.Sockets))); err != nil {
			return err
		}
	}
	var alive <-chan time.Time
	if m.Watchdog != 0 {
		ticker := time.NewTicker(m.Watchdog / 2)
		defer ticker.Stop()
		alive = ticker.C
	}
	for {
		select {
		case <-stop:
			return errors.Join(m.Stopping(), os.WriteFile("stopped", []byte(strconv.Itoa(os.Getpid())), 0o600))
		case <-hang:
			select {}
		case <-alive:
			if err := m.Alive(); err != nil {
				return err
			}
		}
	}
}

// passOn makes copies of the sockets that live on in the program executed next, and
// returns their names and numbers.
func passOn(sockets []activation.Socket) (string, error) {
	var list []string
	for _, s := range sockets {
		raw, err := s.File.SyscallConn()
		if err != nil {
			return "", err
		}
		var copied int
		var dup error
		if err := raw.Control(func(fd uintptr) { copied, dup = syscall.Dup(int(fd)) }); err != nil || dup != nil {
			return "", errors.Join(err, dup)
		}
		list = append(list, s.Name+"="+strconv.Itoa(copied))
	}
	return strings.Join(list, " "), nil
}

func passedOn(list string) (sockets []activation.Socket) {
	for s := range strings.FieldsSeq(list) {
		name, number, _ := strings.Cut(s, "=")
		fd, _ := strconv.Atoi(number)
		syscall.CloseOnExec(fd)
		sockets = append(sockets, activation.Socket{Name: name, File: os.NewFile(uintptr(fd), name)})
	}
	return sockets
}

type state struct {
	*activation.Manager
	hang func()
}

func (b *state) accept(ln *net.UnixListener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			line, err := bufio.NewReader(conn).ReadString('\n')
			if err != nil {
				return
			}
			verb, arg, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
			answer, err := b.do(verb, arg)
			if err != nil {
				answer = "error: " + err.Error()
			}
			_, _ = io.WriteString(conn, answer+"\n")
		}()
	}
}

// do does what a client asks for, and returns the answer.
func (b *state) do(verb, arg string) (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	switch verb {
	case "pid":
		return strconv.Itoa(os.Getpid()), nil
	case "args":
		return fmt.Sprintf("%q", append([]string{exe}, os.Args[1:]...)), nil
	case "env":
		return fmt.Sprintf("%q", os.Getenv(arg)), nil
	case "ready":
		return "ok", b.Ready("told so")
	case "status":
		return "ok", b.Status(arg)
	case "keep": // a listener at that path, by the path's last element
		ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: arg, Net: "unix"})
		if err != nil {
			return "", err
		}
		f, err := ln.File()
		if err != nil {
			return "", err
		}
		defer f.Close()
		go b.accept(ln)
		return "ok", b.Keep(arg[strings.LastIndexByte(arg, '/')+1:], f)
	case "names":
		var names []string
		for _, s := range b.Sockets {
			names = append(names, s.Name)
		}
		return strings.Join(names, " "), nil
	case "spawn": // a daemon that leads a session, in the broker's cgroup
		return start(exec.Command(exe, "daemon", arg))
	case "scope": // the same in a scope of its own
		return start(exec.Command("systemd-run", "--user", "--scope", "--quiet", "--collect", "--", exe, "daemon", arg))
	case "exec": // becomes another run of the program, with the sockets
		sockets, err := passOn(b.Sockets)
		if err != nil {
			return "", err
		}
		env := slices.Concat(os.Environ(), b.Environ(), []string{"STANDIN_SOCKETS=" + sockets})
		return "", syscall.Exec(exe, os.Args, env)
	case "hang":
		b.hang()
		return "ok", nil
	case "exit":
		status, err := strconv.Atoi(arg)
		if err != nil {
			return "", err
		}
		os.Exit(status)
	}
	return "", fmt.Errorf("no such verb: %q", verb)
}

func start(cmd *exec.Cmd) (string, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	go func() { _ = cmd.Wait() }()
	return strconv.Itoa(cmd.Process.Pid), nil
}

// serve is a daemon that writes into a file when it has started, and when it is
// asked to end.
func serve(file string) error {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGHUP) // a session's processes get both
	if err := os.WriteFile(file, []byte("started"), 0o600); err != nil {
		return err
	}
	<-stop
	return os.WriteFile(file, []byte("asked"), 0o600)
}

func ask(path string, words []string) (string, error) {
	conn, err := net.DialTimeout("unix", path, time.Minute)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, strings.Join(words, " ")+"\n"); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(conn)
	if err == nil && len(answer) == 0 {
		err = io.ErrUnexpectedEOF
	}
	return string(answer), err
}

// loop asks again and again who answers, until its stdin ends, and prints how many
// answered, and whether nobody did. A connection that was accepted by a broker that
// is ending may break; a connect may not.
func loop(path string) error {
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	pids, broken := map[string]bool{}, 0
	fmt.Println("looping")
	for n := 1; ; n++ {
		answer, err := ask(path, []string{"pid"})
		var op *net.OpError
		switch {
		case err == nil:
			pids[answer] = true
		case errors.As(err, &op) && op.Op == "dial":
			return fmt.Errorf("connect %d: %w", n, err)
		default:
			broken++
		}
		select {
		case <-ended:
			return json.NewEncoder(os.Stdout).Encode(map[string]int{"connects": n, "brokers": len(pids), "broken": broken})
		default:
		}
	}
}

// Command notifyd is a foreign daemon that speaks sd_notify(3). It answers each
// line of a connection with its pid, and does what the words of its arguments say, in
// their order:
//
//	wait=PATH       until the file exists
//	say=TEXT        say it, with ; for the end of a line; $PID is its pid
//	pulse=N,EVERY   say WATCHDOG=1 N times
//	fork            become the parent of another that goes on with the next word,
//	                and leave when that has said that it is the main process
//	show=PATH       write its environment and limits there
//	hog             take memory until there is no more
//	leave           leave a process behind that nothing but SIGKILL ends
//	deaf            do nothing more
//	exit=N          end
//	serve           accept and answer, in the background
package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	words := os.Args[1:]
	for i, word := range words {
		what, arg, _ := strings.Cut(word, "=")
		switch what {
		case "wait":
			for {
				if _, err := os.Stat(arg); err == nil {
					break
				}
				time.Sleep(5 * time.Millisecond)
			}
		case "say":
			say(arg)
		case "pulse":
			n, every, _ := strings.Cut(arg, ",")
			times, _ := strconv.Atoi(n)
			pause, _ := time.ParseDuration(every)
			for range times {
				say("WATCHDOG=1")
				time.Sleep(pause)
			}
		case "fork":
			cmd := exec.Command(os.Args[0], words[i+1:]...)
			cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
			cmd.ExtraFiles = []*os.File{os.NewFile(3, "listener")}
			if err := cmd.Start(); err != nil {
				panic(err)
			}
			say("MAINPID=" + strconv.Itoa(cmd.Process.Pid))
			os.Exit(0)
		case "show":
			var l syscall.Rlimit
			_ = syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l)
			text := strings.Join(os.Environ(), "\n") + "\nFILES=" + strconv.FormatUint(l.Max, 10) + "\nSELF=" + strconv.Itoa(os.Getpid()) + "\n"
			if err := os.WriteFile(arg+".new", []byte(text), 0o600); err != nil {
				panic(err)
			}
			_ = os.Rename(arg+".new", arg)
		case "hog":
			var all [][]byte
			for {
				b := make([]byte, 1<<20)
				for j := range b {
					b[j] = 1
				}
				all = append(all, b)
				_ = all
			}
		case "leave":
			cmd := exec.Command("/bin/sh", "-c", "trap '' TERM HUP; while :; do sleep 1; done")
			if err := cmd.Start(); err != nil {
				panic(err)
			}
		case "deaf":
			select {}
		case "exit":
			n, _ := strconv.Atoi(arg)
			os.Exit(n)
		case "serve":
			go serve()
		}
	}
	select {}
}

func serve() {
	ln, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		panic(err)
	}
	for {
		c, err := ln.Accept()
		if err != nil {
			panic(err)
		}
		go func() {
			defer c.Close()
			for r := bufio.NewScanner(c); r.Scan(); {
				fmt.Fprintln(c, os.Getpid())
			}
		}()
	}
}

func say(text string) {
	conn, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
	if err != nil {
		fmt.Println("notifyd:", err)
		return
	}
	defer conn.Close()
	text = strings.NewReplacer(";", "\n", "$PID", strconv.Itoa(os.Getpid())).Replace(text)
	if _, err := conn.Write([]byte(text)); err != nil {
		fmt.Println("notifyd:", err)
	}
}

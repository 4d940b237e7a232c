// Counter is a user's own program, in an image of its own. It counts requests in Redis, and tells
// what its container is like.
package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	server := http.Server{Addr: net.JoinHostPort(os.Getenv("HOST"), os.Getenv("PORT"))}
	http.HandleFunc("/counter/next", func(w http.ResponseWriter, _ *http.Request) {
		n, err := next()
		for end := time.Now().Add(10 * time.Second); err != nil && time.Now().Before(end); n, err = next() {
			time.Sleep(50 * time.Millisecond) // a failover may be under way
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintf(w, "%s %d %s", os.Getenv("HOLDFAST_NODE"), n, os.Getenv("TEXT"))
	})
	http.HandleFunc("/counter/well", func(w http.ResponseWriter, _ *http.Request) {
		if _, err := ask("EXISTS counter"); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	http.HandleFunc("/counter/version", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, "/version") })
	http.HandleFunc("/counter/rights", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "uid %d, / %v, /tmp %v", os.Getuid(), writes("/note"), writes("/tmp/note"))
	})
	http.HandleFunc("/counter/connect/{address}", func(w http.ResponseWriter, r *http.Request) {
		conn, err := net.DialTimeout("tcp", r.PathValue("address"), time.Second)
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		conn.Close()
	})
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, strings.Join(os.Args[1:], " ")) })
	ended := make(chan error, 1)
	go func() { ended <- server.ListenAndServe() }()

	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	select {
	case err := <-ended:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	case <-signals:
		_ = server.Shutdown(context.Background())
	}
}

// writes reports whether it can write a file.
func writes(file string) bool { return os.WriteFile(file, nil, 0o600) == nil }

// next increments the count, and returns it.
func next() (int, error) { return ask("INCR counter") }

// ask returns the number with which Redis answers a command.
func ask(command string) (int, error) {
	at, err := url.Parse(os.Getenv("REDIS_URL"))
	if err != nil {
		return 0, err
	}
	conn, err := net.DialTimeout("tcp", at.Host, time.Second)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
	password, _ := at.User.Password()
	fmt.Fprintf(conn, "AUTH %s %s\r\nSELECT %s\r\n%s\r\n", at.User.Username(), password, strings.TrimPrefix(at.Path, "/"), command)
	answers := bufio.NewReader(conn)
	for range 2 {
		if line, err := answers.ReadString('\n'); err != nil || line != "+OK\r\n" {
			return 0, fmt.Errorf("Redis answers %q, %v", line, err)
		}
	}
	line, err := answers.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, ":") {
		return 0, fmt.Errorf("%s: Redis answers %q, %v", command, line, err)
	}
	return strconv.Atoi(strings.TrimSpace(line[1:]))
}

// Command pod is the only program in the images of the test cluster. "pod" without arguments holds
// the network of a pod and waits, as Kubernetes requires of a pause container. "pod serve NAME DIR"
// is a web server on port 8080 for tests: GET / returns its name, GET /note and PUT /note read and
// write a text that it keeps in the directory, and GET /address/HOST returns the addresses of a
// name as the pod resolves it. GET /connect/ADDRESS fails unless the pod can open a TCP connection,
// and GET /get/ADDRESS/PATH returns the response of another web server.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// patience is how long a pod waits for other servers. It is shorter than the tests wait for a pod.
const patience = 2 * time.Second

func main() {
	switch {
	case len(os.Args) == 1:
		pause()
	case len(os.Args) == 4 && os.Args[1] == "serve":
		serve(os.Args[2], os.Args[3])
	default:
		fmt.Fprintln(os.Stderr, "usage: pod [serve NAME DIR]")
		os.Exit(2)
	}
}

// pause waits for a signal to end, and reaps processes that other containers leave to it.
func pause() {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGCHLD, syscall.SIGINT, syscall.SIGTERM)
	for s := range signals {
		if s != syscall.SIGCHLD {
			return
		}
		for {
			if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); err != nil || pid <= 0 {
				break
			}
		}
	}
}

func serve(name, dir string) {
	note := filepath.Join(dir, "note")
	http.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, name) })
	http.HandleFunc("GET /note", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, note) })
	http.HandleFunc("PUT /note", func(w http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(r.Body)
		if err == nil {
			err = os.WriteFile(note, text, 0o644)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	http.HandleFunc("GET /address/{host}", func(w http.ResponseWriter, r *http.Request) {
		addresses, err := net.DefaultResolver.LookupHost(r.Context(), r.PathValue("host"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		fmt.Fprintln(w, strings.Join(addresses, " "))
	})
	http.HandleFunc("GET /connect/{address}", func(w http.ResponseWriter, r *http.Request) {
		conn, err := net.DialTimeout("tcp", r.PathValue("address"), patience)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		conn.Close()
		fmt.Fprintln(w, "connected")
	})
	http.HandleFunc("GET /get/{address}/{path...}", func(w http.ResponseWriter, r *http.Request) {
		client := &http.Client{Timeout: patience}
		answer, err := client.Get("http://" + r.PathValue("address") + "/" + r.PathValue("path"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer answer.Body.Close()
		w.WriteHeader(answer.StatusCode)
		_, _ = io.Copy(w, answer.Body) // the test sees what came
	})
	fmt.Fprintln(os.Stderr, http.ListenAndServe(":8080", nil))
	os.Exit(1)
}

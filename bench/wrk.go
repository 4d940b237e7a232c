package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"time"
)

// loaded is the result of a load.
type loaded struct {
	requests int64
	took     time.Duration
	p50, p99 time.Duration
	p999     time.Duration // the 99.9th percentile
	cpu      time.Duration // CPU time of the load generator
	late     time.Duration // open loop: how late requests were sent, 99th percentile
}

// wrkResult is what assets/wrk.lua prints.
type wrkResult struct {
	Micros, Requests                      int64
	Connect, Read, Write, Status, Timeout int64
	P50, P99, P999                        int64
}

// errNothing is the error of a load without a single answer.
var errNothing = errors.New("not one request was answered")

// parseWrk finds the result in wrk's output. It returns an error if any request failed: a server
// that drops requests is not fast.
func parseWrk(out []byte) (loaded, error) {
	_, text, found := bytes.Cut(out, []byte("@RESULT@"))
	if !found {
		return loaded{}, fmt.Errorf("wrk told no result: %.300s", out)
	}
	var r wrkResult
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(&r); err != nil {
		return loaded{}, fmt.Errorf("what wrk told: %w", err)
	}
	if r.Requests == 0 || r.Micros == 0 {
		return loaded{}, errNothing
	}
	if r.Connect+r.Read+r.Write+r.Status+r.Timeout > 0 {
		return loaded{}, fmt.Errorf("of %d requests %d failed to connect, %d to read, %d to write, %d got an error's status, %d no answer in time",
			r.Requests, r.Connect, r.Read, r.Write, r.Status, r.Timeout)
	}
	micros := func(n int64) time.Duration { return time.Duration(n) * time.Microsecond }
	return loaded{requests: r.Requests, took: micros(r.Micros), p50: micros(r.P50), p99: micros(r.P99), p999: micros(r.P999)}, nil
}

// writeRequests writes exchanges in the format that assets/wrk.lua reads.
func writeRequests(path string, all []exchange) error {
	var b bytes.Buffer
	for _, x := range all {
		fmt.Fprintf(&b, "%d\n", len(x.request))
		b.Write(x.request)
	}
	return os.WriteFile(path, b.Bytes(), 0o600)
}

// wrk runs the closed loop: each connection sends its next request when it has its answer.
func wrk(ctx context.Context, dir, address, requests string, connections int, d time.Duration) (loaded, error) {
	path, err := lookPath("wrk")
	if err != nil {
		return loaded{}, err
	}
	// wrk takes whole seconds, but ends early on SIGINT.
	seconds := int(d/time.Second) + 1
	cmd := exec.Command(path,
		"-t", strconv.Itoa(min(connections, runtime.NumCPU())), "-c", strconv.Itoa(connections),
		"-d", strconv.Itoa(seconds)+"s", "--timeout", "10s", "-s", filepath.Join(dir, "wrk.lua"),
		"http://"+address+"/", "--", requests, strconv.FormatUint(rand.Uint64(), 36))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return loaded{}, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err = <-ended:
	case <-ctx.Done():
		_ = cmd.Process.Kill()
		<-ended
		return loaded{}, ctx.Err()
	case <-time.After(d):
		_ = cmd.Process.Signal(os.Interrupt)
		err = <-ended
	}
	if err != nil {
		return loaded{}, fmt.Errorf("wrk: %w: %s", err, out.Bytes())
	}
	l, err := parseWrk(out.Bytes())
	l.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return l, err
}

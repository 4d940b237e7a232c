package plan

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A program that connects while there is no master waits, and the next master serves it.
func TestNewConnectionsToRedisWaitForAMaster(t *testing.T) {
	c := newCluster(t, base(), nil)
	c.start("balancer-1")
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(c.ports()[PortRedisMaster]))
	eventually(t, 5*time.Second, func() error {
		up, err := c.tell("balancer-1", "show stat")
		if err == nil && !strings.Contains(lineOf(up, "redis.master,BACKEND"), ",DOWN,") {
			err = errors.New("the balancer has not noticed yet that there is no master")
		}
		return err
	})
	connect := func() net.Conn {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if _, err := fmt.Fprintf(conn, "AUTH web %s\r\nPING\r\n", c.secrets.Web); err != nil {
			t.Fatal(err)
		}
		return conn
	}

	conn := connect()
	_ = conn.SetReadDeadline(time.Now().Add(time.Second))
	if n, err := conn.Read(make([]byte, 1)); !isTimeout(err) {
		t.Fatalf("a connection that waits for a master got %d bytes, %v", n, err)
	}
	given := connect()
	if _, err := fmt.Fprint(given, "SET given-up 1\r\n"); err != nil {
		t.Fatal(err)
	}
	given.Close() // its client has reported the failure
	c.startRedis()
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	lines := bufio.NewScanner(conn)
	for _, want := range []string{"+OK", "+PONG"} {
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("the master that came answers %q, %v, want %s", lines.Text(), lines.Err(), want)
		}
	}

	if got, err := c.web("redis-1", "EXISTS", "given-up"); err != nil || got != "0" {
		t.Errorf("what a client sent that had closed before there was a master: %q, %v", got, err)
	}
	// A replica is recognised at once, without waiting for a time-out.
	stat, err := c.tell("balancer-1", "show stat")
	if row := lineOf(stat, "redis.master,redis-2"); err != nil || !strings.Contains(row, "L7RSP") {
		t.Errorf("a replica's check: %q, %v", row, err)
	}

	// No client waits for ever.
	for _, node := range []string{"redis-1", "redis-2", "redis-3"} {
		c.kill(node)
	}
	eventually(t, 5*time.Second, func() error {
		up, err := c.tell("balancer-1", "show stat")
		if err == nil && !strings.Contains(lineOf(up, "redis.master-alone,BACKEND"), ",DOWN,") {
			err = errors.New("the balancer has not noticed yet that the master has died")
		}
		return err
	})
	began := time.Now()
	conn = connect()
	_ = conn.SetReadDeadline(began.Add(2 * awaitMasterLimit))
	if _, err := io.ReadAll(conn); isTimeout(err) || time.Since(began) < awaitMasterLimit/2 {
		t.Errorf("without a master it ends after %v: %v", time.Since(began).Round(time.Second), err)
	}
}

func isTimeout(err error) bool {
	late := net.Error(nil)
	return errors.As(err, &late) && late.Timeout()
}

// lineOf returns the first line of a text that begins with prefix, or "".
func lineOf(text, prefix string) string {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, prefix) {
			return line
		}
	}
	return ""
}

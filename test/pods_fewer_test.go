//go:build linux

package test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/pod"
	"holdfast/internal/process"
)

// To have fewer pods, Kubernetes ends the pods with the highest numbers at once, and replaces the
// others one by one, redis nodes and Sentinels at the same time. Here the pod that leaves has the
// master.
func TestFewerPodsWhereTheMasterIsOneOfThem(t *testing.T) {
	beside(t, oneStack)
	t.Run("it is told to end", func(t *testing.T) {
		p := newLargePodStack(t)
		master := p.pods["redis-4"]
		said := master.said
		p.shrink(func(l *podLife) {
			if err := syscall.Kill(l.firstProcess(), syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
		})
		requireWords(t, said.String(), "switchover done")
		p.checkSmall()
	})
	// Its machine may be gone. Then the remaining Sentinels have to name another master, which
	// takes all three of them: they were four.
	t.Run("it dies", func(t *testing.T) {
		p := newLargePodStack(t)
		p.shrink((*podLife).kill)
		p.checkSmall()
	})
}

// newLargePodStack returns a stack of four redis nodes and four Sentinels. redis-4 is the master,
// and there is a value.
func newLargePodStack(t *testing.T) *podStack {
	t.Helper()
	p := newPodStackOf(t, strings.Replace(podFile, "replicas: 1", "replicas: 3, sentinels: 4", 1),
		"redis-1", "redis-2", "redis-3", "redis-4", "sentinel-1", "sentinel-2", "sentinel-3", "sentinel-4")
	p.begin()
	for _, l := range p.pods {
		l.awaitReady()
	}
	last := p.pods["redis-4"]
	said := ""
	last.eventually("a switchover", func() bool {
		out, err := exec.Command(binary, "switchover", "--to", "redis-4", "--file", p.file, "--state", last.state).CombinedOutput()
		if err != nil && said != string(out) { // refused until all are in sync
			said = string(out)
			t.Logf("holdfast switchover: %v\n%s", err, out)
		}
		n, _ := last.status()
		return n.Role == "master"
	})
	if got := last.redis("SET imooc imooc.com", "WAIT 3 5000"); !slices.Equal(got, []string{"+OK", ":3"}) {
		t.Fatalf("a write: %q", got)
	}
	return p
}

// shrink reduces a stack of four redis nodes and four Sentinels to two and three, as Kubernetes
// does. end ends the pods that leave.
func (p *podStack) shrink(end func(*podLife)) {
	p.t.Helper()
	if err := os.WriteFile(p.file, []byte(podFile), 0o600); err != nil {
		p.t.Fatal(err)
	}
	leave := []string{"redis-4", "redis-3", "sentinel-4"}
	of := p.prove()
	for _, node := range leave {
		p.dns.Set(plan.PodService(of, node) + ".pods.test")
	}
	for _, node := range leave {
		end(p.pods[node])
	}
	rolled := make(chan error, 2)
	for _, nodes := range [][]string{{"redis-2", "redis-1"}, {"sentinel-3", "sentinel-2", "sentinel-1"}} {
		go func() {
			var failed error
			for _, node := range nodes {
				if failed == nil {
					failed = p.replace(node)
				}
			}
			rolled <- failed
		}()
	}
	if err := errors.Join(<-rolled, <-rolled); err != nil {
		p.t.Fatal(err)
	}
	for _, node := range leave {
		if p.pods[node].cmd != nil {
			p.pods[node].awaitEnd()
		}
		delete(p.pods, node)
	}
}

// replace ends a pod, starts it again, and waits until it is ready. It returns an error if it does
// not become ready.
func (p *podStack) replace(node string) error {
	l := p.pods[node]
	first := process.Children(l.cmd.Process.Pid)
	if len(first) != 1 {
		return fmt.Errorf("below the beginning of the pod of %s are %v", node, first)
	}
	if err := syscall.Kill(first[0], syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-l.ended:
	case <-time.After(60 * time.Second):
		return fmt.Errorf("the pod of %s does not end", node)
	}
	if err := l.start(); err != nil {
		return err
	}
	why := ""
	for end := time.Now().Add(90 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		var status int
		if status, why = l.probe(pod.ReadyPath); status == http.StatusOK {
			return nil
		}
	}
	return fmt.Errorf("%s is not ready again: %s", node, why)
}

// checkSmall checks that one of the two redis nodes is the master and takes writes, that nothing is
// lost, and that in the end the Sentinels know three Sentinels and one replica.
func (p *podStack) checkSmall() {
	p.t.Helper()
	master, replica := p.allReady()
	if got := master.redis("STRLEN imooc", "SET imooc another", "WAIT 1 5000"); !slices.Equal(got, []string{":9", "+OK", ":1"}) {
		p.t.Errorf("the master answers %q", got)
	}
	if n, _ := replica.status(); n.Role != "replica" {
		p.t.Errorf("%s is %q", replica.node, n.Role)
	}
	for _, node := range []string{"sentinel-1", "sentinel-2", "sentinel-3"} {
		l := p.pods[node]
		l.eventually("it knows one replica and three Sentinels", func() bool {
			about := l.sentinelView()
			return strings.Contains(about, "slaves=1,sentinels=3") && strings.Contains(about, master.address+":")
		})
	}
}

// sentinelView returns what a Sentinel reports about the master.
func (l *podLife) sentinelView() string {
	ctx, cancel := context.WithTimeout(l.of.t.Context(), 5*time.Second)
	defer cancel()
	plain, err := l.dial(ctx, plan.PodSentinelPort)
	if err != nil {
		return err.Error()
	}
	conn := tls.Client(plain, l.of.identity.Client(l.node))
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	fmt.Fprintf(conn, "AUTH operator %s\r\nINFO sentinel\r\n", l.of.passwords.Operator)
	for in := bufio.NewReader(conn); ; {
		line, err := in.ReadString('\n')
		if err != nil || strings.HasPrefix(line, "master0:") {
			return line
		}
	}
}

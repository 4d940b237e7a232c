//go:build linux

package kubernetes

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"holdfast/test/kube"
)

// answerTo sends some words in plain text to an address in the cluster, and returns the beginning
// of the answer.
func answerTo(t *testing.T, address, words string) (string, error) {
	conn, err := cluster.Dial(t.Context(), address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(3 * time.Second))
	if _, err := fmt.Fprint(conn, words); err != nil {
		return "", err
	}
	return bufio.NewReader(conn).ReadString('\n')
}

// refusal returns why a client with TLS, but without a certificate, gets no answer at an address;
// nil: it gets one.
func refusal(t *testing.T, address, words string) error {
	conn, err := cluster.Dial(t.Context(), address)
	if err != nil {
		return err
	}
	secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	defer secure.Close()
	_ = secure.SetDeadline(time.Now().Add(3 * time.Second))
	if _, err := fmt.Fprint(secure, words); err != nil {
		return err
	}
	_, err = bufio.NewReader(secure).ReadString('\n')
	return err
}

// theWireIsEncrypted checks that the pods of a stack without network policies give no information
// in plain text, or to a client without a certificate.
func theWireIsEncrypted(t *testing.T, space string) {
	t.Helper()
	const ping, about, get = "PING\r\n", "GET /about HTTP/1.0\r\n\r\n", "GET /healthz/live HTTP/1.0\r\n\r\n"

	// The same function gets an answer from a server that speaks plain text.
	for _, ip := range podsOf(t, space, "balancer") {
		if answer, err := answerTo(t, net.JoinHostPort(ip, "6301"), get); err != nil || !strings.Contains(answer, "200") {
			t.Fatalf("the entry answers %q, %v: this test would see nothing", answer, err)
		}
	}
	for _, c := range []struct{ component, port, words string }{
		{"redis", "6379", ping}, {"sentinel", "26379", ping}, {"web", "5001", get},
	} {
		ips := podsOf(t, space, c.component)
		if len(ips) < 2 {
			t.Fatalf("the pods of %s are %v", c.component, ips)
		}
		for _, ip := range ips {
			address := net.JoinHostPort(ip, c.port)
			if answer, err := answerTo(t, address, c.words); err == nil && !strings.Contains(answer, "400") {
				t.Errorf("%s answers in plain: %q", c.component, answer)
			}
			if err := refusal(t, address, c.words); err == nil {
				t.Errorf("%s answers a client without a certificate", c.component)
			}
		}
	}
	for _, ip := range podsOf(t, space, "redis") {
		address := net.JoinHostPort(ip, "6300")
		if answer, err := answerTo(t, address, about); err != nil || !strings.Contains(answer, "404") {
			t.Errorf("who was the master is told in plain: %q, %v", answer, err)
		}
		if err := refusal(t, address, about); err == nil {
			t.Error("who was the master is told without a certificate")
		}
	}
}

// restarts returns how often the containers of a stack were restarted, by pod.
func restarts(t *testing.T, space string) string {
	t.Helper()
	return kubectl(t, "-n", space, "get", "pods", "-o",
		`jsonpath={range .items[?(@.status.containerStatuses[0].restartCount>0)]}{.metadata.name} {.status.containerStatuses[0].restartCount} {end}`)
}

// uid returns the UID of a pod, which its successor does not have.
func uid(t *testing.T, space, pod string) string {
	out, _ := tryKubectl(t.Context(), "-n", space, "get", "pod", pod, "-o", "jsonpath={.metadata.uid}")
	return out
}

// away returns the URL of a stack at a node other than the given one.
func away(t *testing.T, node, port int) string {
	t.Helper()
	address, err := cluster.Forward(t.Context(), fmt.Sprintf("%s:%d", kube.NodeAddress(node%nodes+1), port))
	if err != nil {
		t.Fatal(err)
	}
	return "http://" + address
}

// switchOff ends a node at once, without any SIGTERM. It returns a function that starts it again.
func switchOff(t *testing.T, node int) (start func()) {
	t.Helper()
	if err := cluster.Kill(node); err != nil {
		t.Fatal(err)
	}
	off := true
	start = func() {
		if off {
			off = false
			if err := cluster.Start(node); err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(start)
	return start
}

// The Sentinels do not notice if a master is back at its old address before they regard it as down.
// With its data it may continue; without, its replicas would drop theirs.
func TestAMasterIsBornAgainBeforeItIsHeldForDown(t *testing.T) {
	const space, port, downAfter = "reborn", 30065, 90 * time.Second
	startStackOf(t, space, port, stackFile+fmt.Sprintf("redis: {down-after: %v}\n", downAfter))

	t.Run("with its data", func(t *testing.T) {
		pod := masterPod(t, space)
		node := nodeOf(t, space, pod)
		l := startLoad(t, away(t, node, port), 4)
		l.serves(t, "the start")
		l.since()
		start := switchOff(t, node)
		start()
		l.serves(t, "the master's machine was off")
		allReady(t, space)
		if who := restarts(t, space); !strings.Contains(who, pod+" ") {
			t.Errorf("%s was not started again, only %q: this test has seen nothing", pod, who)
		}
		l.check(t)
	})
	t.Run("without its data", func(t *testing.T) {
		pod := masterPod(t, space)
		node := nodeOf(t, space, pod)
		before := uid(t, space, pod)
		l := startLoad(t, away(t, node, port), 4)
		l.serves(t, "the start")
		l.since()
		name := fmt.Sprintf("node%d", node)
		kubectl(t, "cordon", name)
		defer kubectl(t, "uncordon", name)
		start := switchOff(t, node)
		killed := time.Now()
		kubectl(t, "-n", space, "delete", "pvc", "state-"+pod, "--wait=false")
		kubectl(t, "-n", space, "delete", "pod", pod, "--force", "--grace-period=0")
		eventually(t, pod+" runs anew", func() error {
			out, err := tryKubectl(t.Context(), "-n", space, "get", "pod", pod, "-o", "jsonpath={.metadata.uid} {.status.phase}")
			if words := strings.Fields(out); err == nil && (len(words) != 2 || words[0] == before || words[1] != "Running") {
				err = fmt.Errorf("it is %q", out)
			}
			return err
		})
		if took := time.Since(killed); took > downAfter {
			t.Errorf("the pod was back after %v only: this test has seen nothing", took)
		}
		l.serves(t, "the master's machine is gone, and its volume lost")
		start()
		kubectl(t, "uncordon", name)
		allReady(t, space)
		if master := masterPod(t, space); master == pod {
			t.Errorf("%s was the master and has lost its data, and is the master again", pod)
		}
		l.check(t)
	})
}

// ordinalOf returns the number of the node in a redis pod: shop-redis-0 is redis-1.
func ordinalOf(pod string) string {
	var i int
	fmt.Sscanf(pod, "shop-redis-%d", &i)
	return fmt.Sprint(i + 1)
}

// aFailoverRestartsNobody kills the master's process, and checks that Kubernetes restarts no pod
// because of that.
func aFailoverRestartsNobody(t *testing.T, space, url string) {
	l := startLoad(t, url, 4)
	l.serves(t, "the start")
	// Only the process is killed: the pod stays.
	pod := masterPod(t, space)
	kubectl(t, "-n", space, "exec", pod, "--", "holdfast", "kill", "redis-"+ordinalOf(pod),
		"--file", "/etc/holdfast/stack/holdfast.yaml", "--state", "/var/lib/holdfast/shop")
	l.serves(t, "a failover")
	allReady(t, space)
	if who := restarts(t, space); who != "" {
		t.Errorf("a failover has Kubernetes restart %s", who)
	}
	l.check(t)
}

// nodeOf returns the number of the node on which a pod runs.
func nodeOf(t *testing.T, space, pod string) (node int) {
	t.Helper()
	name := kubectl(t, "-n", space, "get", "pod", pod, "-o", "jsonpath={.spec.nodeName}")
	if _, err := fmt.Sscanf(name, "node%d", &node); err != nil {
		t.Fatalf("%s is on %q: %v", pod, name, err)
	}
	return node
}

// aSplit cuts the master's node off until there is another master, and then reconnects it. At that
// moment two pods act as the master.
func aSplit(t *testing.T, space string, port int) {
	old := masterPod(t, space)
	node := nodeOf(t, space, old)
	l := startLoad(t, away(t, node, port), 4) // not through the node that is cut off
	l.serves(t, "the start")

	l.since()
	if err := cluster.Cut(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	healed := false
	heal := func() {
		if !healed {
			healed = true
			if err := cluster.Heal(t.Context(), node); err != nil {
				t.Error(err)
			}
		}
	}
	defer heal()
	eventually(t, "another master", func() error {
		if now := masterPod(t, space); now == old {
			return fmt.Errorf("it is %s still", now)
		}
		return nil
	})
	l.serves(t, "the master's node was cut off")
	heal()
	allReady(t, space)
	l.serves(t, "the master's node is back")
	eventually(t, old+" is a replica", func() error {
		out, err := tryKubectl(t.Context(), statusOf(space, old)...)
		if err == nil && !strings.Contains(strings.ReplaceAll(out, " ", ""), `"role":"replica"`) {
			err = fmt.Errorf("it is no replica: %s", out)
		}
		return err
	})
	if who := restarts(t, space); who != "" {
		t.Errorf("a split has Kubernetes restart %s", who)
	}
	l.check(t)
}

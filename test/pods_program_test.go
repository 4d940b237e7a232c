//go:build linux

package test

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/plan"
)

const podProgramFile = `name: shop
network: trusted
entry: {listen: "0.0.0.0:6301", auth: none}
apps: {web: {kv: {}}, cart: {image: "cart:1"}}
routes: [{path-prefix: /cart, app: cart}, {app: web}]
redis: {replicas: 1}
`

// plainRedis sends a line to a redis node without TLS, and returns the line of the answer.
func (l *podLife) plainRedis(line string) string {
	l.of.t.Helper()
	conn, err := l.dial(l.of.t.Context(), plan.PodRedisPort)
	if err != nil {
		l.of.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(conn, "%s\r\n", line)
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		l.of.t.Fatal(err)
	}
	return answer
}

// A program in a pod of its own has a password that nothing else follows from, and that does not
// follow from the seed: only a pod of Redis reads it.
func TestAProgramsPasswordInPodsIsItsOwn(t *testing.T) {
	t.Parallel()
	p := newPodStackOf(t, podProgramFile, "redis-1", "redis-2", "sentinel-1", "sentinel-2", "sentinel-3")
	dir := filepath.Join(filepath.Dir(p.file), "programs")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	password := strings.Repeat("p4ss", 8)
	if err := os.WriteFile(filepath.Join(dir, "cart"), []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	p.begin()
	for _, l := range p.pods {
		l.awaitReady()
	}
	for _, node := range []string{"redis-1", "redis-2"} {
		for with, want := range map[string]string{
			password:                     "+OK\r\n",
			p.passwords.Programs["cart"]: "-WRONGPASS", // what would follow from the seed
			p.passwords.Web:              "-WRONGPASS",
			p.seed:                       "-WRONGPASS",
		} {
			if got := p.pods[node].plainRedis("AUTH app-cart " + with); !strings.HasPrefix(got, want) {
				t.Errorf("%s answers %q to the program's user with %s, want %s", node, got, with, want)
			}
		}
	}
}

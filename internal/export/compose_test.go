package export

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/goldentest"
	"holdfast/internal/stack"
)

// stacks has stack files, by the names of their golden compose files.
var stacks = map[string]string{
	"default.compose.yaml": "",
	"shop.compose.yaml": `
name: shop
hosts:
  left:  {address: 198.18.7.11}
  right: {address: 198.18.7.12}
  vote:  {address: 198.18.7.13, only: sentinel}
entry: {listen: "0.0.0.0:8080", auth: none}
redis: {replicas: 1}
`,
	"image.compose.yaml": `
name: shop
apps:
  shop: {image: "registry.example/shop:1", nodes: 3, port: 8000, args: [serve, "--port=$PORT", "$HOME"], grace: 20s}
`,
}

func TestComposeFiles(t *testing.T) {
	for name, text := range stacks {
		s := stack.Default()
		if text != "" {
			var err error
			if s, _, err = stack.Parse("holdfast.yaml", []byte(text)); err != nil {
				t.Fatal(err)
			}
		}
		s, entry := OnContainers(s, func(i int) string { return fmt.Sprintf("10.87.63.%d", 11+i) })
		s, err := PlaceImages(s, stack.Stack{}, netip.MustParsePrefix("198.18.7.0/24"))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := stack.Parse("holdfast.yaml", s.Show()); err != nil {
			t.Errorf("%s: its stack file: %v", name, err)
		}
		hosts, err := ComposeHosts(s, entry)
		if err != nil {
			t.Fatal(err)
		}
		c := Compose{Stack: s.Name, Image: "holdfast-stack", User: "10001:10001", Subnet: "198.18.7.0/24", Hosts: hosts, Images: ComposeImages(s), Stop: 75 * time.Second}
		goldentest.Check(t, filepath.Join("testdata", name), c.File())
	}
}

func TestTheBuiltInStackHasTheSourcesPorts(t *testing.T) {
	s, entry := OnContainers(stack.Default(), func(i int) string { return fmt.Sprintf("10.87.63.%d", 11+i) })
	hosts, err := ComposeHosts(s, entry)
	if err != nil {
		t.Fatal(err)
	}
	at := map[string]string{}
	kinds := map[string]int{}
	for _, h := range hosts {
		for _, p := range h.Published {
			if host, _, _ := net.SplitHostPort(p.At); host != "127.0.0.1" {
				t.Errorf("%s is published at %s", p.What, p.At)
			}
			at[p.At] = p.What
		}
		for _, n := range h.Nodes {
			kind, _, _ := strings.Cut(n, "-")
			kinds[h.Name+" "+kind]++
		}
	}
	for port, what := range map[string]string{"5001": "web-1", "5002": "web-2", "6301": "the entry", "6302": "the entry", "6303": "the entry"} {
		if at["127.0.0.1:"+port] != what {
			t.Errorf("port %s is %q, want %s", port, at["127.0.0.1:"+port], what)
		}
	}
	for _, h := range []string{"one", "two", "three"} {
		if kinds[h+" redis"] != 1 || kinds[h+" sentinel"] != 1 || kinds[h+" balancer"] != 1 {
			t.Errorf("host %s has %v", h, kinds)
		}
	}
}

package cli

import (
	"strings"
	"testing"

	"holdfast/internal/host"
)

func TestAHostGoesDownOnlyWhereAMajorityIsLeft(t *testing.T) {
	sight := func(name string, reachable bool) host.Sight {
		return host.Sight{Name: name, Votes: true, Reachable: reachable}
	}
	for _, c := range []struct {
		what  string
		hosts []host.Sight
		want  string
	}{
		{"all answer", []host.Sight{sight("one", true), sight("two", true), sight("three", true)}, ""},
		{"another one is away", []host.Sight{sight("one", true), sight("two", true), sight("three", false)}, "of the other hosts 1 answer, and 2 are needed"},
		{"it is away itself", []host.Sight{sight("one", true), sight("two", false), sight("three", true)}, "host two does not answer"},
		{"two hosts", []host.Sight{sight("one", true), sight("two", true)}, "no majority"},
		{"another name", []host.Sight{sight("one", true), sight("three", true)}, "there are one and three"},
	} {
		err := mayGoDown(host.View{Hosts: c.hosts}, "two")
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.what, err, c.want)
		}
	}
}

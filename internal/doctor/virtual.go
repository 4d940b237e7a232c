package doctor

import (
	"fmt"
	"strings"
)

// checkVirtual checks which hosts have the virtual addresses. Only a supervisor knows that, and
// only while no nodes start or stop.
func checkVirtual(f *findings) {
	if s := f.Supervisor; s.PID == 0 || s.Silent != "" || s.Phase != "running" {
		return
	}
	for _, v := range f.Supervisor.Virtual {
		switch len(v.Hosts) {
		case 0:
			f.add(Error, "", fmt.Sprintf("nobody holds the virtual address %s", v.Address), "clients reach nobody at it",
				"'holdfast status' shows whether the balancers and keepalived are up, and 'holdfast logs' with the name of a keepalived node why it does not take the address")
		case 1:
		default:
			f.add(Warning, "", fmt.Sprintf("%s hold the virtual address %s at once", strings.Join(v.Hosts, " and "), v.Address),
				"clients reach one or the other, which harms no data; the hosts do not hear each other's VRRP",
				"let IP protocol 112 pass between the hosts (docs/hosts.md), and see that no other VRRP in the network has the same number (entry.virtual.router)")
		}
	}
}

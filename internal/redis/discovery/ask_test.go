package discovery

import "testing"

func TestASentinelDoubtsAMasterByItsFlags(t *testing.T) {
	for flags, want := range map[string]bool{
		"master": false, "": false, "master,disconnected": false,
		"master,s_down": true, "s_down,master,o_down": true, "master,failover_in_progress": true,
	} {
		if doubts(flags) != want {
			t.Errorf("%q: %v", flags, !want)
		}
	}
}

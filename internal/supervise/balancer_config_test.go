package supervise

import (
	"slices"
	"testing"

	"holdfast/internal/plan"
)

func TestTheAddressesThatAConfigurationBindsAreFound(t *testing.T) {
	t.Parallel()
	const config = `global
    stats socket '/x/it''s/admin.sock' # bind 127.0.0.1:1
frontend entry
    bind '*:80,127.0.0.1:80' ssl crt-list '/it'\''s state/certificates/list' alpn h2
frontend tcp
    bind 127.0.0.1:81 transparent
    bind [::1]:82
    bind '[::]:83'
`
	for address, want := range map[string]bool{
		"0.0.0.0:80": true, "198.18.0.1:80": true, "127.0.0.1:81": true, "0.0.0.0:81": true, ":81": true, "198.18.0.1:81": false,
		"[::1]:82": true, "[::]:82": true, "127.0.0.1:82": false, "127.0.0.1:83": true, "127.0.0.1:1": false, "127.0.0.1:8": false,
	} {
		if got := bound(config, address); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
}

func TestTheListsThatAConfigurationNamesAreFound(t *testing.T) {
	t.Parallel()
	one, tcp := plan.CertificateList, plan.CertificateListOf("127.0.0.1:2")
	config := "frontend entry\n    bind 127.0.0.1:1 ssl crt-list '/it'\\''s state/" + one + "' alpn h2\n" +
		"frontend a\n    bind 127.0.0.1:2 ssl crt-list /state/" + tcp + "\n" +
		"frontend b\n    bind 127.0.0.1:3 ssl crt-list /state/" + tcp + "\n    bind 127.0.0.1:4 ssl crt /x.pem\n"
	if got := listsIn(config); !slices.Equal(got, []string{one, tcp}) {
		t.Errorf("found are %q", got)
	}
}

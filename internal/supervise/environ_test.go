package supervise

import (
	"slices"
	"testing"

	"holdfast/internal/plan"
)

func TestNoProcessGetsSecretsThatItDoesNotNeed(t *testing.T) {
	environ := []string{
		"PATH=/bin", "HOME=/root", "LC_ALL=C", "TZ=UTC", "GODEBUG=x=1", "OTEL_TRACES_SAMPLER=always_off", "DATABASE_URL=postgres://u:p@h/d",
		"AWS_SECRET_ACCESS_KEY=s", "HOLDFAST_TOKEN=s", "REDIS_URL=redis://:s@h", "PATHS=x", "LC=x", "ODD", "",
		"NOTIFY_SOCKET=/run/x", "WATCHDOG_USEC=1", "INVOCATION_ID=1",
	}
	for program, want := range map[plan.Program][]string{
		plan.HAProxy:     environ[:4],
		plan.RedisServer: environ[:4],
		plan.Self:        environ[:6],
		"/srv/own/shop":  slices.Concat(environ[:8], environ[9:14]),
	} {
		if got := environFor(environ, program); !slices.Equal(got, want) {
			t.Errorf("%s gets %q, want %q", program, got, want)
		}
	}
	if len(environ) != 17 || environ[8] != "HOLDFAST_TOKEN=s" {
		t.Error("the supervisor's own environment was changed")
	}
}

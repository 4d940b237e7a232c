package plan

import (
	"testing"
	"time"
)

// A drill reaches its application whatever the routes are, and nobody else can use its header.
func TestADrillsHeaderLeadsToItsApplicationAndNoFurther(t *testing.T) {
	web, other := &flaky{}, &flaky{}
	webPort, otherPort := web.serve(t), other.serve(t)
	c := newCluster(t, httpStack(t), map[string]int{
		"web-1": webPort, "web-2": webPort, "other-1": otherPort, "other-2": otherPort,
	})
	c.start("balancer-1")
	eventually(t, 5*time.Second, func() error { return c.get("/up").is(200) })

	value := DrillHeader(c.plan.Stack, c.secrets, "web")
	for _, tt := range []struct {
		path, value string
		reaches     *flaky
	}{
		{"/other/x", value, web},
		{"/x", value, web},
		{"/other/x", "", other},
		{"/other/x", "/web", other},
		{"/other/x", "web", other},
		{"/other/x", c.secrets.Drill, other},
		{"/other/x", c.secrets.Drill + "/other", other},
		{"/other/x", value + "x", other},
		{"/other/x", value[1:], other},
	} {
		web.take()
		other.take()
		header := map[string]string{}
		if tt.value != "" {
			header[DrillHeaderName] = tt.value
		}
		if err := c.request("GET", tt.path, "", header).is(200); err != nil {
			t.Errorf("%s with %q: %v", tt.path, tt.value, err)
		}
		seen := tt.reaches.take()
		if len(seen) != 1 {
			t.Errorf("%s with %q reached the other application", tt.path, tt.value)
			continue
		}
		if got := seen[0].Header.Values(DrillHeaderName); len(got) > 0 {
			t.Errorf("%s: the application was given %q", tt.path, got)
		}
	}
}

// Ordinary requests cost nothing more for drills in a stack with one application.
func TestNoHeaderIsLookedForWhereEveryRequestReachesTheApplication(t *testing.T) {
	s := base()
	secrets := mustSecrets(t, s)
	if got := DrillHeader(s, secrets, "web"); got != "" {
		t.Errorf("the default stack has %q", got)
	}
	s = httpStack(t)
	if got := DrillHeader(s, secrets, "other"); got != "" {
		t.Errorf("a user's own program has %q", got)
	}
	if got := DrillHeader(s, Secrets{}, "web"); got != "" {
		t.Errorf("without a secret it is %q", got)
	}
}

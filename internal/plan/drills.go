package plan

import (
	"holdfast/internal/stack"
)

// DrillHeaderName is the header in which a drill's request names the application that it is for.
const DrillHeaderName = "Holdfast-Drill"

// drillData is one value of the header and the application that it leads to.
type drillData struct{ App, Value string }

// DrillHeader returns the value of the header DrillHeaderName that leads a request to an
// application of kind kv, whatever the routes are. It contains the secret of drills, which also
// exempts the request from the limits on one client's requests.
//
// It returns an empty text where every request reaches the application anyway and there are no such
// limits: the balancers of such a stack look for no header.
func DrillHeader(s stack.Stack, x Secrets, app string) string {
	if x.Drill == "" || s.Apps[app].Kind() != stack.KV || takesAll(s, app) && !s.Entry.Limits.CountsRequests() {
		return ""
	}
	return DrillValue(x, app)
}

// DrillValue returns the value of the header for an application that needs one. See DrillHeader.
func DrillValue(x Secrets, app string) string { return x.Drill + "/" + app }

// takesAll reports whether every request reaches the application.
func takesAll(s stack.Stack, app string) bool {
	return len(s.Routes) == 1 && s.Routes[0].IsDefault() && s.Routes[0].App == app
}

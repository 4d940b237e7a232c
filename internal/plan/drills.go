package plan

import (
	"holdfast/internal/stack"
)

// DrillHeaderName is the header of a drill's requests that names the
// application which they are for.
const DrillHeaderName = "Holdfast-Drill"

// drillData is one value of the header, and the application that it leads to.
type drillData struct{ App, Value string }

// DrillHeader is the value of the header DrillHeaderName that leads a request
// to an application of kind kv, whatever the routes are. It has the secret of
// drills in it, which also says that the limits of one client's requests are not for it.
// It is empty where every request reaches the application anyway, and there are no such
// limits: the balancers of such a stack look for no header.
func DrillHeader(s stack.Stack, x Secrets, app string) string {
	if x.Drill == "" || s.Apps[app].Kind() != stack.KV || takesAll(s, app) && !s.Entry.Limits.CountsRequests() {
		return ""
	}
	return DrillValue(x, app)
}

// DrillValue is the value of the header that leads to an application which
// needs one.
func DrillValue(x Secrets, app string) string { return x.Drill + "/" + app }

// takesAll reports whether every request reaches the application.
func takesAll(s stack.Stack, app string) bool {
	return len(s.Routes) == 1 && s.Routes[0].IsDefault() && s.Routes[0].App == app
}

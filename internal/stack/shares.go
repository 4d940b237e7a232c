package stack

import "fmt"

// Routed reports whether any route leads to the application.
func (s Stack) Routed(app string) bool {
	for _, route := range s.Routes {
		if route.App == app {
			return true
		}
	}
	return false
}

// Shares returns how many counters in the balancers share the limits of one node of an application
// (App.Connections, App.Queue). HAProxy counts per process and per backend, and there is a backend
// for the HTTP entry and one for each layer 4 entry that leads to the application.
func (s Stack) Shares(app string) int {
	entries := 0
	if s.Routed(app) {
		entries++
	}
	for _, e := range s.TCP {
		if e.App == app {
			entries++
		}
	}
	return max(1, entries) * s.Balancers
}

// validateShares reports limits that cannot be divided among the counters: for HAProxy a share of 0
// would be no limit at all.
func validateShares(r *reader, s Stack) {
	if r.faulty("balancers") || r.faulty("routes") || r.faulty("tcp") {
		return
	}
	for _, name := range s.AppNames() {
		p := path("apps").key(name)
		app, least := s.Apps[name], s.Shares(name)
		for _, limit := range []struct {
			at    path
			value int
		}{{p.key("connections"), app.Connections}, {p.key("queue"), app.Queue}} {
			if limit.value == 0 || limit.value >= least || !r.has(limit.at) || r.faulty(limit.at) {
				continue
			}
			r.Report(r.positionOf(limit.at), "%s is %d, and %s share it, each with 1 at least: write %d or more, or 0 for no limit",
				limit.at, limit.value, sharers(s.Balancers, least/s.Balancers), least)
		}
	}
}

// sharers returns words for what shares a limit.
func sharers(balancers, entries int) string {
	switch {
	case entries == 1:
		return fmt.Sprintf("%d balancers", balancers)
	case balancers == 1:
		return fmt.Sprintf("%d entries", entries)
	default:
		return fmt.Sprintf("%d balancers with %d entries each", balancers, entries)
	}
}

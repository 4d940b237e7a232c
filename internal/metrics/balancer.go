package metrics

import (
	"context"
	"strconv"
	"time"

	"holdfast/internal/haproxy"
)

// The balancers' metrics have the names of HAProxy's own exporter, with the balancer as a
// further label, so that dashboards made for that exporter work. They come from the runtime
// socket ("show stat"), which every build of HAProxy has. HAProxy's exporter would need
// another port for each balancer: they share the entry's port, at which a scrape would reach
// any of them.

// column is one of HAProxy's statistics.
type column struct {
	name string // HAProxy's name of it
	metric
	scale float64
}

// responses has the columns that count answers by the class of their status.
var responses = map[string]string{"hrsp_1xx": "1xx", "hrsp_2xx": "2xx", "hrsp_3xx": "3xx", "hrsp_4xx": "4xx", "hrsp_5xx": "5xx", "hrsp_other": "other"}

// proxyKind is one of HAProxy's kinds of rows.
type proxyKind struct {
	columns   []column
	responses metric
}

var (
	frontend = proxyKind{[]column{
		{"scur", gauge("haproxy_frontend_current_sessions", "Connections that are open."), 1},
		{"slim", gauge("haproxy_frontend_limit_sessions", "Connections that may be open."), 1},
		{"stot", counter("haproxy_frontend_sessions_total", "Connections since the start."), 1},
		{"req_tot", counter("haproxy_frontend_http_requests_total", "Requests since the start."), 1},
		{"bin", counter("haproxy_frontend_bytes_in_total", "Bytes from clients."), 1},
		{"bout", counter("haproxy_frontend_bytes_out_total", "Bytes to clients."), 1},
		{"dreq", counter("haproxy_frontend_requests_denied_total", "Requests that were refused by a rule."), 1},
		{"ereq", counter("haproxy_frontend_request_errors_total", "Requests that were no good ones."), 1},
	}, counter("haproxy_frontend_http_responses_total", "Answers by the class of their status.")}
	backend = proxyKind{[]column{
		{"act", gauge("haproxy_backend_active_servers", "Servers that get requests."), 1},
		{"scur", gauge("haproxy_backend_current_sessions", "Requests at servers."), 1},
		{"qcur", gauge("haproxy_backend_current_queue", "Requests that wait for a server."), 1},
		{"stot", counter("haproxy_backend_sessions_total", "Requests since the start."), 1},
		{"econ", counter("haproxy_backend_connection_errors_total", "Connections to servers that failed."), 1},
		{"eresp", counter("haproxy_backend_response_errors_total", "Answers of servers that were broken off or no good ones."), 1},
		{"wretr", counter("haproxy_backend_retry_warnings_total", "Tries that were made again."), 1},
		{"wredis", counter("haproxy_backend_redispatch_warnings_total", "Requests that were sent again to another server."), 1},
		{"qtime", gauge("haproxy_backend_queue_time_average_seconds", "Time that the last 1024 requests waited for a server, on average."), 1e-3},
		{"rtime", gauge("haproxy_backend_response_time_average_seconds", "Time that servers took for the last 1024 requests, on average."), 1e-3},
	}, counter("haproxy_backend_http_responses_total", "Answers by the class of their status.")}
	server = proxyKind{[]column{
		{"scur", gauge("haproxy_server_current_sessions", "Requests at the server."), 1},
		{"qcur", gauge("haproxy_server_current_queue", "Requests that wait for this server."), 1},
		{"stot", counter("haproxy_server_sessions_total", "Requests since the start."), 1},
		{"econ", counter("haproxy_server_connection_errors_total", "Connections to the server that failed."), 1},
		{"eresp", counter("haproxy_server_response_errors_total", "Answers of the server that were broken off or no good ones."), 1},
		{"wretr", counter("haproxy_server_retry_warnings_total", "Tries that were made again."), 1},
		{"wredis", counter("haproxy_server_redispatch_warnings_total", "Requests that were sent again to another server."), 1},
		{"chkfail", counter("haproxy_server_check_failures_total", "Health checks that failed while the server was up."), 1},
		{"chkdown", counter("haproxy_server_check_up_down_total", "How often the server went down."), 1},
	}, counter("haproxy_server_http_responses_total", "Answers by the class of their status.")}

	serverStatus = gauge("haproxy_server_status", "1 for the state that the server is in.")

	processConnections    = gauge("haproxy_process_current_connections", "Connections that are open.")
	processMaxConnections = gauge("haproxy_process_max_connections", "Connections that may be open.")
	processAllConnections = counter("haproxy_process_connections_total", "Connections since the start.")
	processRequests       = counter("haproxy_process_requests_total", "Requests since the start.")
	processUptime         = gauge("haproxy_process_uptime_seconds", "How long ago the balancer's process was started.")
)

// serverStates are the states that HAProxy's exporter knows.
var serverStates = []string{"DOWN", "UP", "MAINT", "DRAIN", "NOLB"}

// addBalancer adds the metrics of one balancer. It adds none if the balancer does not answer.
func addBalancer(ctx context.Context, g *gathering, balancer string, client *haproxy.Client) {
	ctx, cancel := within(ctx)
	defer cancel()
	info, err := client.Info(ctx)
	if err != nil {
		return
	}

	about := []string{"balancer", balancer}
	g.add(processConnections, float64(info.Connections), about...)
	g.add(processMaxConnections, float64(info.MaxConnections), about...)
	g.add(processAllConnections, float64(info.TotalConnections), about...)
	g.add(processRequests, float64(info.TotalRequests), about...)
	g.add(processUptime, float64(info.Uptime/time.Second), about...)

	rows, err := client.Rows(ctx)
	if err != nil {
		return
	}

	for _, row := range rows {
		about := []string{"balancer", balancer, "proxy", row["pxname"]}
		switch row["svname"] {
		case "FRONTEND":
			frontend.addTo(g, row, about)
		case "BACKEND":
			backend.addTo(g, row, about)
		default:
			about = append(about, "server", row["svname"])
			server.addTo(g, row, about)
			for _, state := range serverStates {
				g.add(serverStatus, truth(row.Stat().State() == state), append(about, "state", state)...)
			}
		}
	}
}

// addTo adds the metrics of one row. It leaves out those for which the row has no value.
func (k proxyKind) addTo(g *gathering, row haproxy.Row, about []string) {
	for _, c := range k.columns {
		if value, err := strconv.ParseFloat(row[c.name], 64); err == nil {
			g.add(c.metric, value*c.scale, about...)
		}
	}
	for name, code := range responses {
		if value, err := strconv.ParseFloat(row[name], 64); err == nil {
			g.add(k.responses, value, append(append([]string{}, about...), "code", code)...)
		}
	}
}

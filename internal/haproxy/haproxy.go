// Package haproxy is a client of HAProxy's runtime socket (HAProxy manual: management guide,
// section 9.3, "Unix Socket commands"). It reads what a process counts and the state of its
// servers, takes servers out of rotation and back, and replaces certificates.
//
// Client sends one command per connection. Info and Stat read the state; SetState, SetHealth,
// EndSessions and Accept change it. ServerStates passes it on to the next worker (states.go), and
// Worker reaches a worker that ends after a reload (worker.go).
//
// The package writes no configuration; that is package plan's.
package haproxy

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/quote"
)

// Client is a client of one HAProxy process. Each call makes a connection of its own, so a Client
// is safe for concurrent use and survives a reload.
type Client struct {
	socket string
	dial   Dial
	// prefix names the process that a command on the socket of a master is for; empty: the socket
	// belongs to a worker.
	prefix string
}

// NewClient returns a client of the runtime socket at a path. It does not connect.
func NewClient(socket string) *Client {
	dial := func(ctx context.Context) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "unix", socket)
	}
	return &Client{socket: socket, dial: dial}
}

// Dial connects to a runtime socket. The connection should have CloseWrite, which closes one
// direction of it.
type Dial func(ctx context.Context) (net.Conn, error)

// Via returns the client with another way to connect, such as to a socket of another machine.
// Errors still name the path.
func (c *Client) Via(dial Dial) *Client {
	via := *c
	via.dial = dial
	return &via
}

// Info is the state of a process ("show info").
type Info struct {
	Version string
	PID     int
	Uptime  time.Duration // in whole seconds
	// Connections is how many are open now, and MaxConnections how many may be.
	Connections, MaxConnections int
	// TotalConnections and TotalRequests count since the start of the process.
	TotalConnections, TotalRequests int64
	// Stopping is true after a soft stop was requested.
	Stopping bool
}

// Info returns the state of the process.
func (c *Client) Info(ctx context.Context) (Info, error) {
	out, err := c.do(ctx, "show info")
	if err != nil {
		return Info{}, err
	}

	values := map[string]string{}
	lines := bufio.NewScanner(strings.NewReader(out))
	for lines.Scan() {
		if k, v, ok := strings.Cut(lines.Text(), ":"); ok {
			values[k] = strings.TrimSpace(v)
		}
	}

	var bad error
	number := func(key string) int64 {
		n, err := strconv.ParseInt(values[key], 10, 64)
		if err != nil && bad == nil {
			bad = fmt.Errorf("HAProxy at %s: show info: %s is %q, not a number", c.socket, key, values[key])
		}
		return n
	}

	info := Info{
		Version:          values["Version"],
		PID:              int(number("Pid")),
		Uptime:           time.Duration(number("Uptime_sec")) * time.Second,
		Connections:      int(number("CurrConns")),
		MaxConnections:   int(number("Maxconn")),
		TotalConnections: number("CumConns"),
		TotalRequests:    number("CumReq"),
		Stopping:         values["Stopping"] == "1",
	}
	return info, bad
}

// Stat is one row of the statistics ("show stat"; management guide, section 9.1). It is about a
// server of a backend, or about a whole proxy, whose Server is "FRONTEND" or "BACKEND". Fields that
// a row does not have are zero.
type Stat struct {
	Backend, Server string // Backend is the name of the proxy, even of a frontend
	// Address is where a server listens, as the running configuration has it. A socket below the
	// level "operator" does not show it.
	Address string
	// Status of a server is UP, DOWN, DRAIN, MAINT, NOLB or "no check", perhaps with more after it
	// ("UP 1/3" on its way down, "MAINT (resolution)"). A frontend's is OPEN or STOP. See State.
	Status string
	// CheckStatus is the result of the last health check: L4OK, L7STS and so on. It is INI before
	// the first check has ended, and empty without checks. A "* " in front means that another check
	// is running.
	CheckStatus string
	// CheckMeaning is CheckStatus in words ("Layer7 wrong status"). CheckCode is the status of the
	// answer to an HTTP check; 0: there was none. CheckDetail is what the check found, for a
	// person. It may contain text of the server's.
	CheckMeaning string
	CheckCode    int
	CheckDetail  string
	// Tracks is the server, as BACKEND/SERVER, whose status this one shares instead of being
	// checked itself; empty: it shares none.
	Tracks string
	// Sessions are open now, Queued are waiting, and TotalSessions count since the start. For a
	// server of a backend in HTTP mode, each request is a session. A frontend's sessions are
	// connections, and Requests are its requests.
	Sessions, Queued, TotalSessions, Requests int64
	// Retries and Redispatches count requests that were sent to this server and then again: to the
	// same server, and to another one.
	Retries, Redispatches int64
	// Since is how long the status has been the same, in whole seconds.
	Since time.Duration
}

// IsServer reports whether the row is about a server and not about a whole proxy.
func (s Stat) IsServer() bool {
	return s.Server != "FRONTEND" && s.Server != "BACKEND"
}

// State returns the first word of Status: UP, DOWN, DRAIN, MAINT, …
func (s Stat) State() string {
	state, _, _ := strings.Cut(s.Status, " ")
	return state
}

// Checked reports whether the row's status comes from a health check. HAProxy considers a server UP
// until its first check has ended.
func (s Stat) Checked() bool {
	status := strings.TrimPrefix(s.CheckStatus, "* ")
	return status != "" && status != "INI"
}

// Serves reports whether HAProxy has a good reason to send requests to the row's server: its check
// succeeded, or it has no checks.
func (s Stat) Serves() bool {
	switch s.State() {
	case "UP":
		return strings.TrimPrefix(s.CheckStatus, "* ") != "INI"
	case "no":
		return s.Status == "no check"
	}
	return false
}

// Hangs reports whether the row's server is down because its check timed out. It is false for a
// check that got an error or no connection.
func (s Stat) Hangs() bool {
	return s.State() == "DOWN" && strings.HasSuffix(strings.TrimPrefix(s.CheckStatus, "* "), "TOUT")
}

// Answers reports whether the row's server answered its last check, even with a wrong answer.
func (s Stat) Answers() bool {
	status := strings.TrimPrefix(s.CheckStatus, "* ")
	return strings.HasPrefix(status, "L7") && !strings.HasSuffix(status, "TOUT")
}

// Unreached reports whether the last check of the row's server got no connection in time.
func (s Stat) Unreached() bool { return strings.TrimPrefix(s.CheckStatus, "* ") == "L4TOUT" }

// Finding returns the row's status for a person, with what the last check found if that is the
// reason: "DOWN (Layer7 wrong status 400)".
func (s Stat) Finding() string {
	switch {
	case s.Serves() || s.State() == "DRAIN" || s.State() == "MAINT":
		return s.Status
	case !s.Checked():
		return s.Status + " (not checked yet)"
	}
	found := s.CheckMeaning
	if s.CheckCode != 0 {
		found += " " + strconv.Itoa(s.CheckCode)
	}
	if s.CheckDetail != "" {
		found += ", " + `"` + quote.Cut(s.CheckDetail, 80) + `"`
	}
	return s.Status + " (" + found + ")"
}

// Stat returns the statistics of all proxies and servers, in the order of the configuration.
func (c *Client) Stat(ctx context.Context) ([]Stat, error) {
	rows, err := c.Rows(ctx)
	if err != nil {
		return nil, err
	}
	var stats []Stat
	for _, row := range rows {
		stats = append(stats, row.Stat())
	}
	return stats, nil
}

// Row is one row of the statistics, by HAProxy's names of the columns. Columns that do not apply to
// the row are empty.
type Row map[string]string

// Rows returns the statistics as Stat does, but with every column.
func (c *Client) Rows(ctx context.Context) ([]Row, error) {
	out, err := c.do(ctx, "show stat")
	if err != nil {
		return nil, err
	}

	in := csv.NewReader(strings.NewReader(strings.TrimPrefix(out, "# ")))
	in.FieldsPerRecord = -1
	head, err := in.Read()
	if err != nil {
		return nil, fmt.Errorf("HAProxy at %s: show stat: no header line: %w", c.socket, err)
	}

	for _, name := range []string{"pxname", "svname", "status"} {
		if !slices.Contains(head, name) {
			return nil, fmt.Errorf("HAProxy at %s: show stat has no column %q", c.socket, name)
		}
	}

	var rows []Row
	for {
		fields, err := in.Read()
		if errors.Is(err, io.EOF) {
			return rows, nil
		}
		if err != nil {
			return nil, fmt.Errorf("HAProxy at %s: show stat: %w", c.socket, err)
		}
		row := Row{}
		for i, name := range head {
			if i < len(fields) {
				row[name] = fields[i]
			}
		}
		rows = append(rows, row)
	}
}

// number returns the number in a column, or 0 if it is empty.
func (r Row) number(name string) int64 {
	n, _ := strconv.ParseInt(r[name], 10, 64)
	return n
}

// Stat returns the row with its figures parsed.
func (r Row) Stat() Stat {
	return Stat{
		Backend: r["pxname"], Server: r["svname"], Address: r["addr"],
		Status: r["status"], CheckStatus: r["check_status"],
		CheckMeaning: r["check_desc"], CheckCode: int(r.number("check_code")), CheckDetail: r["last_chk"],
		Tracks:   r["tracked"],
		Sessions: r.number("scur"), Queued: r.number("qcur"), TotalSessions: r.number("stot"),
		Requests: r.number("req_tot"), Retries: r.number("wretr"), Redispatches: r.number("wredis"),
		Since: time.Duration(r.number("lastchg")) * time.Second,
	}
}

// State is the state that an operator wants a server to have.
type State string

// The states. HAProxy manual, management guide, "set server … state".
const (
	Ready State = "ready" // in rotation, as its checks decide
	Drain State = "drain" // no new sessions except those that a cookie brings; open ones go on
	Maint State = "maint" // out of rotation, and not checked
)

// ErrNoServer is wrapped by errors about a server or backend that the process does not have.
var ErrNoServer = errors.New("no such server")

// checkNames returns an error for a text that is not a name, and could contain another command.
func checkNames(names ...string) error {
	for _, name := range names {
		if name == "" || strings.ContainsAny(name, " \t\r\n;/\\") {
			return fmt.Errorf("%q is not the name of a backend or server", name)
		}
	}
	return nil
}

// EndSessions ends the sessions at one server of a backend ("shutdown sessions server"). Their
// clients' connections are closed.
func (c *Client) EndSessions(ctx context.Context, backend, server string) error {
	if err := checkNames(backend, server); err != nil {
		return err
	}
	out, err := c.do(ctx, fmt.Sprintf("shutdown sessions server %s/%s", backend, server))
	if err != nil {
		return err
	}
	if out = strings.TrimSpace(out); out != "" {
		return fmt.Errorf("HAProxy at %s: ending the sessions of %s/%s: %s", c.socket, backend, server, out)
	}
	return nil
}

// Accept makes a frontend take connections, or refuse them until further notice ("enable frontend",
// "disable frontend"). Open connections stay.
func (c *Client) Accept(ctx context.Context, frontend string, on bool) error {
	if err := checkNames(frontend); err != nil {
		return err
	}
	verb := "disable"
	if on {
		verb = "enable"
	}
	out, err := c.do(ctx, verb+" frontend "+frontend)
	if err != nil {
		return err
	}
	// To HAProxy it is an error to enable what is enabled, or to disable what is disabled.
	if out = strings.TrimSpace(out); out != "" && !strings.Contains(out, "already "+verb+"d") {
		return fmt.Errorf("HAProxy at %s: %s frontend %s: %s", c.socket, verb, frontend, out)
	}
	return nil
}

// SetState sets the state of one server of a backend.
func (c *Client) SetState(ctx context.Context, backend, server string, state State) error {
	if err := checkNames(backend, server); err != nil {
		return err
	}
	switch state {
	case Ready, Drain, Maint:
	default:
		return fmt.Errorf("%q is not the state of a server (%s, %s or %s)", state, Ready, Drain, Maint)
	}
	return c.setServer(ctx, backend, server, "state "+string(state))
}

// SetHealth makes HAProxy consider one server of a backend up or down until its checks find
// otherwise. A server that tracks another one has no health of its own.
func (c *Client) SetHealth(ctx context.Context, backend, server string, up bool) error {
	if err := checkNames(backend, server); err != nil {
		return err
	}
	health := "down"
	if up {
		health = "up"
	}
	return c.setServer(ctx, backend, server, "health "+health)
}

// setServer sends "set server". The names have been checked.
func (c *Client) setServer(ctx context.Context, backend, server, what string) error {
	out, err := c.do(ctx, fmt.Sprintf("set server %s/%s %s", backend, server, what))
	if err != nil {
		return err
	}
	// Success is an empty answer; there is no error code (management guide, 9.3).
	switch out = strings.TrimSpace(out); {
	case out == "":
		return nil
	case strings.HasPrefix(out, "No such"), strings.Contains(out, "not found"):
		return fmt.Errorf("HAProxy at %s: %s/%s: %w", c.socket, backend, server, ErrNoServer)
	default:
		return fmt.Errorf("HAProxy at %s: set server %s/%s %s: %s", c.socket, backend, server, what, out)
	}
}

// SetStateEverywhere sets the state of a server in every backend that has a server of that name,
// and returns how many those were. A node may be behind the HTTP entry and behind layer 4 entries.
func (c *Client) SetStateEverywhere(ctx context.Context, server string, state State) (int, error) {
	stats, err := c.Stat(ctx)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, s := range stats {
		if s.Server != server || !s.IsServer() {
			continue
		}
		if err := c.SetState(ctx, s.Backend, server, state); err != nil {
			return n, err
		}
		n++
	}
	if n == 0 {
		return 0, fmt.Errorf("HAProxy at %s: %s in no backend: %w", c.socket, server, ErrNoServer)
	}
	return n, nil
}

// do sends one command and returns the answer, up to where HAProxy closes the connection. It ends
// when ctx ends.
func (c *Client) do(ctx context.Context, command string) (string, error) {
	return c.doAs(ctx, command, command)
}

// doAs is do for a command that errors should show as another text.
func (c *Client) doAs(ctx context.Context, command, shown string) (string, error) {
	fail := func(doing string, err error) error {
		// The end of the context shows as a time-out or a closed connection.
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("HAProxy at %s: %s: %w", c.socket, doing, err)
	}
	conn, err := c.dial(ctx)
	if err != nil {
		return "", fail("connecting", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if _, err := io.WriteString(conn, c.prefix+command+"\n"); err != nil {
		return "", fail("sending "+strconv.Quote(shown), err)
	}
	if end, ok := conn.(interface{ CloseWrite() error }); ok && c.prefix != "" { // a master would wait for another command
		if err := end.CloseWrite(); err != nil {
			return "", fail("sending "+strconv.Quote(shown), err)
		}
	}
	var out bytes.Buffer
	if _, err := out.ReadFrom(conn); err != nil {
		return "", fail("waiting for the answer to "+strconv.Quote(shown), err)
	}
	return out.String(), nil
}

// Package haproxy is a client of HAProxy's runtime socket (HAProxy manual:
// management guide, section 9.3, "Unix Socket commands"): what a process
// counts, how its servers are, and taking one out of rotation. It writes no
// configuration; that is package plan's.
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

// Client talks to one HAProxy process. It holds no connection: each call
// makes its own, so it is safe for concurrent use and survives a reload.
type Client struct {
	socket string
	dial   Dial
	// prefix names the process that a command on the socket of a master is for; empty:
	// the socket is a worker's own.
	prefix string
}

// NewClient is a client of the runtime socket at a path. It does not connect.
func NewClient(socket string) *Client {
	dial := func(ctx context.Context) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "unix", socket)
	}
	return &Client{socket: socket, dial: dial}
}

// Dial makes a connection to a runtime socket. One end of it can be closed alone
// (CloseWrite).
type Dial func(ctx context.Context) (net.Conn, error)

// Via is the client with connections that are made in another way, such as to a socket of
// another machine. Its path stands in errors.
func (c *Client) Via(dial Dial) *Client {
	via := *c
	via.dial = dial
	return &via
}

// Info is the state of a process ("show info").
type Info struct {
	Version string
	PID     int
	Uptime  time.Duration // to the second
	// Connections are those open now, and the most that may be.
	Connections, MaxConnections int
	// TotalConnections and TotalRequests count since the start.
	TotalConnections, TotalRequests int64
	// Stopping is true after a soft stop was asked for.
	Stopping bool
}

// Info asks for the state of the process.
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

// Stat is one row of the statistics ("show stat"; management guide, section
// 9.1): a server in a backend, or a whole proxy, whose Server is "FRONTEND" or
// "BACKEND". Fields that a row does not have are zero.
type Stat struct {
	Backend, Server string // Backend is the proxy's name, a frontend's too
	// Address is where a server listens, as the running configuration has it. A socket
	// below the level of an operator does not show it.
	Address string
	// Status is a server's UP, DOWN, DRAIN, MAINT, NOLB or "no check",
	// perhaps with more behind it ("UP 1/3" on its way down, "MAINT
	// (resolution)"); OPEN or STOP for a frontend. See State.
	Status string
	// CheckStatus is the last health check's result: L4OK, L7STS and so on;
	// INI before the first has ended, empty without checks. A "* " in front
	// says that another is running.
	CheckStatus string
	// CheckMeaning is CheckStatus in words ("Layer7 wrong status"); CheckCode
	// the status that an HTTP check was answered with, 0: none; CheckDetail
	// what the check found, for a person. Part of that may be the server's own
	// text.
	CheckMeaning string
	CheckCode    int
	CheckDetail  string
	// Tracks is the server, as BACKEND/SERVER, whose status this one takes over
	// instead of being checked itself; empty: none.
	Tracks string
	// Sessions are open now, Queued are waiting, TotalSessions count since
	// the start. To a server of a backend in HTTP mode, each request is a
	// session; a frontend's sessions are connections, and Requests its requests.
	Sessions, Queued, TotalSessions, Requests int64
	// Retries and Redispatches count what was sent to this server and then again:
	// to itself, and to another one.
	Retries, Redispatches int64
	// Since is how long the status has been this one, to the second.
	Since time.Duration
}

// IsServer reports whether the row is a server's, not a whole proxy's.
func (s Stat) IsServer() bool {
	return s.Server != "FRONTEND" && s.Server != "BACKEND"
}

// State is Status' first word: UP, DOWN, DRAIN, MAINT, …
func (s Stat) State() string {
	state, _, _ := strings.Cut(s.Status, " ")
	return state
}

// Checked reports whether the row's status rests on a health check. HAProxy
// takes a server for UP until its first check has ended.
func (s Stat) Checked() bool {
	status := strings.TrimPrefix(s.CheckStatus, "* ")
	return status != "" && status != "INI"
}

// Serves reports whether HAProxy sends requests to the row's server on good
// grounds: its check has found it fit, or it is not to be checked.
func (s Stat) Serves() bool {
	switch s.State() {
	case "UP":
		return strings.TrimPrefix(s.CheckStatus, "* ") != "INI"
	case "no":
		return s.Status == "no check"
	}
	return false
}

// Hangs reports whether the row's server is down because it did not answer its
// check in time, rather than with an error or not at all.
func (s Stat) Hangs() bool {
	return s.State() == "DOWN" && strings.HasSuffix(strings.TrimPrefix(s.CheckStatus, "* "), "TOUT")
}

// Answers reports whether the row's server gave an answer to its last check, be it a wrong
// one.
func (s Stat) Answers() bool {
	status := strings.TrimPrefix(s.CheckStatus, "* ")
	return strings.HasPrefix(status, "L7") && !strings.HasSuffix(status, "TOUT")
}

// Unreached reports whether the last check of the row's server got no connection in time.
func (s Stat) Unreached() bool { return strings.TrimPrefix(s.CheckStatus, "* ") == "L4TOUT" }

// Finding is the row's status for a person, and what the last check found where
// that is why: "DOWN (Layer7 wrong status 400)".
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

// Stat asks for the statistics of all proxies and servers, in the order of
// the configuration.
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

// Row is one row of the statistics by HAProxy's own names of the columns; those
// that do not apply to the row are empty.
type Row map[string]string

// Rows asks for the statistics as Stat does, with every column.
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

// number is a column's; 0 where it does not apply.
func (r Row) number(name string) int64 {
	n, _ := strconv.ParseInt(r[name], 10, 64)
	return n
}

// Stat is the row with its figures read.
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

// State is what an operator wants of a server.
type State string

// The states. HAProxy manual, management guide, "set server … state".
const (
	Ready State = "ready" // in rotation, as its checks say
	Drain State = "drain" // no new sessions but those a cookie brings; open ones go on
	Maint State = "maint" // out of rotation, and not checked
)

// ErrNoServer is wrapped by an error about a server or backend that the
// process does not have.
var ErrNoServer = errors.New("no such server")

// checkNames refuses what would be a further command in the place of a name, or
// none.
func checkNames(names ...string) error {
	for _, name := range names {
		if name == "" || strings.ContainsAny(name, " \t\r\n;/\\") {
			return fmt.Errorf("%q is not the name of a backend or server", name)
		}
	}
	return nil
}

// EndSessions ends the sessions that one server of a backend has: their clients'
// connections are closed ("shutdown sessions server").
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

// Accept has a frontend take connections, or refuse them until it is told otherwise
// ("enable frontend", "disable frontend"). Connections that are open stay.
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
	// What is enabled, or disabled, already is an error to HAProxy.
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

// SetHealth has one server of a backend taken for up, or for down, until its checks
// find otherwise. A server that tracks another one has no health of its own.
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
	// Silence is success; there is no code to go by (management guide, 9.3).
	switch out = strings.TrimSpace(out); {
	case out == "":
		return nil
	case strings.HasPrefix(out, "No such"), strings.Contains(out, "not found"):
		return fmt.Errorf("HAProxy at %s: %s/%s: %w", c.socket, backend, server, ErrNoServer)
	default:
		return fmt.Errorf("HAProxy at %s: set server %s/%s %s: %s", c.socket, backend, server, what, out)
	}
}

// SetStateEverywhere sets the state of a server in every backend that has one
// of its name, and answers how many those were: a node may stand behind the
// HTTP entry and layer 4 entries as well.
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

// do sends one command and answers what comes back until HAProxy closes. It
// ends when ctx does.
func (c *Client) do(ctx context.Context, command string) (string, error) {
	return c.doAs(ctx, command, command)
}

// doAs is do for a command that an error shows as something else.
func (c *Client) doAs(ctx context.Context, command, shown string) (string, error) {
	fail := func(doing string, err error) error {
		// The context's end shows as a time-out or a closed connection.
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
	if end, ok := conn.(interface{ CloseWrite() error }); ok && c.prefix != "" { // a master waits for more
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

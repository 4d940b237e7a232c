// Package admin asks one Redis or Sentinel process about itself, and changes its part in the
// replication: what the control plane needs of it. The data of clients does not go this way.
package admin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"holdfast/internal/redis/conn"
	"holdfast/internal/redis/discovery"
)

// Client asks one Redis or Sentinel process about itself, and changes its part in the
// replication. It connects when it is first used, and again whenever it has to. It is safe for
// concurrent use.
type Client struct{ conn *conn.Client }

// Way is how connections to servers are made. Its zero value is plain TCP from here.
type Way struct {
	Dial conn.Dial   // nil: by TCP from here
	TLS  *tls.Config // nil: in plain; see conn.Options
}

// New makes an Admin of the server at an address. It does not connect.
func New(way Way, address, user, password string) *Client {
	o := conn.Options{Username: user, Password: password, Name: "holdfast", Dial: way.Dial, TLS: way.TLS}
	return &Client{conn.New(o, address, conn.Probing)}
}

// Close closes the connection, if there is one.
func (a *Client) Close() { a.conn.Stop() }

func (a *Client) do(ctx context.Context, args ...string) (rueidis.RedisResult, error) {
	r := a.conn.Do(ctx, a.conn.B().Arbitrary(args...).Build())
	if err := r.Error(); err != nil && !rueidis.IsRedisNil(err) {
		return r, fmt.Errorf("%s at %s: %w", strings.Join(args[:min(len(args), 2)], " "), a.conn.Address, err)
	}
	return r, nil
}

// Standing asks a Redis node for its role.
func (a *Client) Standing(ctx context.Context) (discovery.Standing, error) {
	r, err := a.do(ctx, "ROLE")
	if err != nil {
		return discovery.Standing{}, err
	}
	answer, _ := r.ToArray()
	standing, _, ok := discovery.ParseRole(answer)
	if !ok {
		return discovery.Standing{}, fmt.Errorf("ROLE at %s: unexpected answer", a.conn.Address)
	}
	return standing, nil
}

// Spoke reports whether an error of a Client is what the server itself replied, such
// as a refusal of the password, and not that a script keeps it from answering.
func Spoke(err error) bool {
	var reply *rueidis.RedisError
	return errors.As(err, &reply) && !Busy(err)
}

// Busy reports whether an error of a Client is the server's reply that a script
// keeps it from answering.
func Busy(err error) bool {
	var reply *rueidis.RedisError
	return errors.As(err, &reply) && strings.HasPrefix(reply.Error(), "BUSY")
}

// View is what one Sentinel thinks of a master.
type View struct {
	// Address of the master, the new one as soon as it is promoted.
	Address string
	// Epoch is the configuration epoch of that opinion: each failover is
	// given a higher one by a majority of the Sentinels.
	Epoch int64
	// Failing is true while a failover is under way.
	Failing bool
	// Down is true while this Sentinel by itself considers the master down (s_down).
	Down bool
	// Replicas and Others are how many replicas and other Sentinels it knows.
	Replicas, Others int
}

// View asks a Sentinel what it thinks of the master of that name.
func (a *Client) View(ctx context.Context, master string) (View, error) {
	r, err := a.do(ctx, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", master)
	if err != nil {
		return View{}, err
	}
	addr, err := r.AsStrSlice()
	if err != nil || len(addr) != 2 {
		return View{}, fmt.Errorf("the Sentinel at %s watches no master %q", a.conn.Address, master)
	}
	if r, err = a.do(ctx, "SENTINEL", "MASTER", master); err != nil {
		return View{}, err
	}
	about, err := r.AsStrMap()
	if err != nil {
		return View{}, fmt.Errorf("SENTINEL MASTER at %s: %w", a.conn.Address, err)
	}
	v := View{Address: addr[0] + ":" + addr[1]}
	v.Epoch, _ = strconv.ParseInt(about["config-epoch"], 10, 64)
	v.Replicas, _ = strconv.Atoi(about["num-slaves"])
	v.Others, _ = strconv.Atoi(about["num-other-sentinels"])
	for _, flag := range strings.Split(about["flags"], ",") {
		switch flag {
		case "failover_in_progress":
			v.Failing = true
		case "s_down":
			v.Down = true
		}
	}
	return v, nil
}

// Periods are how often a Sentinel asks the nodes for INFO, tells the others of itself, and
// pings. By default it ranks replicas by an INFO of up to 10 s ago, and takes as long to see a
// new replica.
type Periods struct{ Info, Publish, Ping time.Duration }

// DefaultInfo is how often a Sentinel asks for INFO until it is told otherwise (Redis 7.0).
const DefaultInfo = 10 * time.Second

// Hasten sets a Sentinel's periods. They are lost when it ends (SENTINEL DEBUG, Redis 7.0).
func (a *Client) Hasten(ctx context.Context, p Periods) error {
	_, err := a.do(ctx, "SENTINEL", "DEBUG",
		"info-period", strconv.FormatInt(p.Info.Milliseconds(), 10),
		"publish-period", strconv.FormatInt(p.Publish.Milliseconds(), 10),
		"ping-period", strconv.FormatInt(p.Ping.Milliseconds(), 10))
	return err
}

// Periods returns those that a Sentinel has.
func (a *Client) Periods(ctx context.Context) (Periods, error) {
	r, err := a.do(ctx, "SENTINEL", "DEBUG")
	if err != nil {
		return Periods{}, err
	}
	said, err := r.AsStrMap()
	if err != nil {
		return Periods{}, fmt.Errorf("ask the Sentinel at %s for its periods: %w", a.conn.Address, err)
	}
	read := func(name string) time.Duration {
		ms, e := strconv.ParseInt(said[name], 10, 64)
		if e != nil && err == nil {
			err = fmt.Errorf("ask the Sentinel at %s for its periods: %s is %q", a.conn.Address, name, said[name])
		}
		return time.Duration(ms) * time.Millisecond
	}
	p := Periods{Info: read("INFO-PERIOD"), Publish: read("PUBLISH-PERIOD"), Ping: read("PING-PERIOD")}
	return p, err
}

// SetQuorum sets how many Sentinels have to agree that the master is down. A
// Sentinel keeps it in its own file with the master's address, so a base file
// cannot change it.
func (a *Client) SetQuorum(ctx context.Context, master string, quorum int) error {
	_, err := a.do(ctx, "SENTINEL", "SET", master, "quorum", strconv.Itoa(quorum))
	return err
}

// Promote makes a Redis node a master (REPLICAOF NO ONE).
func (a *Client) Promote(ctx context.Context) error {
	_, err := a.do(ctx, "REPLICAOF", "NO", "ONE")
	return err
}

// Follow makes a Redis node a replica of the master at an address (REPLICAOF).
func (a *Client) Follow(ctx context.Context, master string) error {
	host, port, err := net.SplitHostPort(master)
	if err != nil {
		return err
	}
	_, err = a.do(ctx, "REPLICAOF", host, port)
	return err
}

// Connect has a replica that is idle connect to the master that it follows at once. By
// itself it tries once a second, and the first time up to a second after its start
// (replicationCron in Redis 7.0). A master that it follows already would be passed over,
// so it is given another one before, in the same transaction.
func (a *Client) Connect(ctx context.Context, master string) error {
	host, port, err := net.SplitHostPort(master)
	if err != nil {
		return err
	}
	b := a.conn.B()
	for _, r := range a.conn.DoMulti(ctx,
		b.Arbitrary("MULTI").Build(), b.Arbitrary("REPLICAOF", host, "0").Build(),
		b.Arbitrary("REPLICAOF", host, port).Build(), b.Arbitrary("EXEC").Build()) {
		if err := r.Error(); err != nil {
			return fmt.Errorf("have %s connect to its master: %w", a.conn.Address, err)
		}
	}
	return nil
}

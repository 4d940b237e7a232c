// Package config has the settings of a Client: where Redis is, which a URL may say, as which
// users it is used, and what has to be true before a write is acknowledged. It also makes the
// options of connections from them.
package config

import (
	"crypto/tls"
	"log/slog"
	"time"

	"holdfast/internal/kvdefault"
	"holdfast/internal/redis/conn"
	"holdfast/internal/redis/discovery"
	"holdfast/internal/redis/meter"
)

// Config is where Redis is, and what has to be true before a write is acknowledged. A
// zero value stands for the default that its field's comment names.
type Config struct {
	// Sentinels are host:port of every Sentinel. Without any, Address is a
	// single Redis.
	Sentinels  []string
	MasterName string // the Sentinels' name for the master
	Address    string // host:port of a single Redis
	// Cluster are host:port of some nodes of a Redis Cluster, instead.
	Cluster []string

	// Dial makes the connections to nodes and Sentinels; nil: by TCP from here.
	Dial conn.Dial

	// TLS is the TLS of connections to nodes and Sentinels; nil: none. If it has no
	// ServerName, the host of the address is verified.
	TLS *tls.Config

	// Username and Password are for the nodes, and for the Sentinels unless Sentinel is
	// set.
	Username, Password string
	// Sentinel is the login at the Sentinels; nil: that of the nodes. With an empty one,
	// the client does not log in there at all.
	Sentinel *Login
	// ScriptUser is the Redis user that runs the scripts of clients, and ReadScriptUser
	// that of requests with ReadScripts; nil: Username.
	ScriptUser, ReadScriptUser *Login

	DB   int
	Name string // of the connections, in CLIENT LIST
	// App is the application, where several use one Redis: each has idempotency keys of
	// its own.
	App string

	// MinAcks is how many replicas must have a write before it is
	// acknowledged, however few are in sync.
	MinAcks int
	// AckTimeout is how long an in-sync replica may take to confirm a write
	// before it no longer counts as in sync. Default 150 ms.
	AckTimeout time.Duration
	// Hold is how long an operation waits for a master that takes it.
	// Default 5 s.
	Hold time.Duration
	// MaxHeld bounds the operations that wait at once, and MaxHeldBytes their
	// data. Default 10,000 and 256 MiB.
	MaxHeld, MaxHeldBytes int
	// MaxLag is how old a replica's answer may be if the request has no MaxLag.
	// Default 1 s.
	MaxLag time.Duration
	// CacheBytes is how much memory the cache of values may take. Default
	// 64 MiB.
	CacheBytes int
	// MaxAnswer is how long the answer to one request may be: the bytes of its
	// strings, and 64 for each element of an array. Default 64 MiB.
	// MaxAnswers is how long all answers may be together that were read and are not
	// released yet (see Request.Release). The answers to writes may take as much again.
	// Default AnswersHeld times MaxAnswer.
	MaxAnswer, MaxAnswers int
	// IdempotencyTTL is how long a write with an idempotency key is
	// remembered. It has to be longer than all attempts of one write take,
	// those of a balancer included. Default 30 s, or six times Hold if that is
	// more.
	IdempotencyTTL time.Duration
	// RecordDB is the database with the records of such writes, so that DBSIZE, SCAN and
	// FLUSHDB of the data leave them alone. Default 15, the last one of a Redis with its
	// default settings; negative: the database of the data.
	RecordDB int
	// Answers is what is known of the answers on all connections; nil: WithDefaults makes it.
	Answers *meter.Answers
	// Logger logs every change of the master. Default: no log.
	Logger *slog.Logger
}

// Login is a Redis user with its password; an empty name is the default user.
type Login struct{ Username, Password string }

// atSentinels returns the configuration of connections to Sentinels.
func (c Config) atSentinels() Config {
	if c.Sentinel != nil {
		c.Username, c.Password = c.Sentinel.Username, c.Sentinel.Password
	}
	return c
}

// Alone reports whether Redis is a single server: no Sentinel and no cluster decides who
// the master is.
func (c Config) Alone() bool { return len(c.Sentinels) == 0 && len(c.Cluster) == 0 }

// WithDefaults returns the configuration with the defaults of what is not set.
func (c Config) WithDefaults() Config {
	if c.AckTimeout == 0 {
		c.AckTimeout = 150 * time.Millisecond
	}
	if c.Hold == 0 {
		c.Hold = kvdefault.Hold
	}
	if c.MaxHeld == 0 {
		c.MaxHeld = 10000
	}
	if c.IdempotencyTTL == 0 {
		c.IdempotencyTTL = max(kvdefault.Remember, 6*c.Hold)
	}
	if c.MaxHeldBytes == 0 {
		c.MaxHeldBytes = 256 << 20
	}
	if c.MaxLag == 0 {
		c.MaxLag = kvdefault.MaxLag
	}
	if c.CacheBytes == 0 {
		c.CacheBytes = 64 << 20
	}
	if c.MaxAnswer == 0 {
		c.MaxAnswer = kvdefault.MaxAnswer
	}
	if c.MaxAnswers == 0 {
		c.MaxAnswers = meter.AnswersHeld * c.MaxAnswer
	}
	if c.Answers == nil {
		c.Answers = meter.NewAnswers(c.MaxAnswers, c.MaxAnswer)
	}
	if c.RecordDB == 0 {
		c.RecordDB = 15
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// User returns the name of the Redis user that this client logs in as.
func (c Config) User() string {
	if c.Username == "" {
		return "default"
	}
	return c.Username
}

// ScriptLogin returns the user that runs the scripts of a request, which may only read if
// readOnly is true; nil: our own.
func (c Config) ScriptLogin(readOnly bool) *Login {
	if readOnly && c.ReadScriptUser != nil {
		return c.ReadScriptUser
	}
	return c.ScriptUser
}

// Options returns how connections to the nodes are made.
func (c Config) Options() conn.Options {
	o := conn.Options{Dial: c.Dial, TLS: c.TLS, Username: c.Username, Password: c.Password, DB: c.DB, Name: c.Name, MaxAnswer: c.MaxAnswer}
	if c.Answers != nil {
		o.Ledger = c.Answers.Ledger
	}
	return o
}

// ConnTo returns a client of the node at an address. It connects when it is first used.
func (c Config) ConnTo(addr string, kind conn.Kind) *conn.Client {
	return conn.New(c.Options(), addr, kind)
}

// MonitorConfig returns which nodes and Sentinels are asked who the master is.
func (c Config) MonitorConfig() discovery.Config {
	m := discovery.Config{
		Sentinels: c.Sentinels, MasterName: c.MasterName,
		AtNodes: c.Options(), AtSentinels: c.atSentinels().Options(), Log: c.Logger,
	}
	if len(c.Sentinels) == 0 && len(c.Cluster) == 0 {
		m.Address = c.Address
	}
	return m
}

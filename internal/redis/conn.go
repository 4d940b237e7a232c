package redis

import (
	"holdfast/internal/redis/conn"
	"holdfast/internal/redis/discovery"
)

// options are how connections to the nodes are made.
func (c Config) options() conn.Options {
	o := conn.Options{Dial: c.Dial, TLS: c.TLS, Username: c.Username, Password: c.Password, DB: c.DB, Name: c.Name, MaxAnswer: c.MaxAnswer}
	if c.answers != nil {
		o.Ledger = c.answers.Ledger
	}
	return o
}

// connTo returns a client of the node at an address. It connects when it is first used.
func (c Config) connTo(addr string, kind conn.Kind) *conn.Client {
	return conn.New(c.options(), addr, kind)
}

// Config says which nodes and Sentinels are asked who the master is.
func (c Config) monitorConfig() discovery.Config {
	m := discovery.Config{
		Sentinels: c.Sentinels, MasterName: c.MasterName,
		AtNodes: c.options(), AtSentinels: c.atSentinels().options(), Log: c.Logger,
	}
	if len(c.Sentinels) == 0 && len(c.Cluster) == 0 {
		m.Address = c.Address
	}
	return m
}

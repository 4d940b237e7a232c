package control

import (
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"time"

	"holdfast/internal/host"
)

// This file has the requests about the hosts of a stack of several, which package host serves.

// Hosts returns the stack's hosts as this host sees them, also while no host leads. The error
// is an *UnknownNodeError if the stack has a single host.
func (c *Client) Hosts(ctx context.Context) (v host.View, err error) {
	body, err := c.do(ctx, http.MethodGet, host.ListPath)
	if err != nil {
		return v, err
	}
	defer body.Close()
	return v, json.NewDecoder(body).Decode(&v)
}

// Invite returns a token with which a host can join. It expires after life.
func (c *Client) Invite(ctx context.Context, name string, address netip.Addr, life time.Duration) (invited host.Invited, err error) {
	in := host.Invitation{Host: name, Address: address, Life: life}
	body, err := c.send(ctx, host.CommandPath+"invite", in)
	if err != nil {
		return invited, err
	}
	defer body.Close()
	return invited, json.NewDecoder(body).Decode(&invited)
}

// RenewCertificate renews the certificate of this host.
func (c *Client) RenewCertificate(ctx context.Context) (renewed host.Renewed, err error) {
	body, err := c.do(ctx, http.MethodPost, host.RenewPath)
	if err != nil {
		return renewed, err
	}
	defer body.Close()
	return renewed, json.NewDecoder(body).Decode(&renewed)
}

// RemoveHost takes a host out of the stack.
func (c *Client) RemoveHost(ctx context.Context, name string) error {
	body, err := c.send(ctx, host.CommandPath+"remove", name)
	if err != nil {
		return err
	}
	return body.Close()
}

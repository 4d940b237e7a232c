package redis

import (
	"context"

	"holdfast/internal/redis/resp"
)

// Set and Get are the two requests that most tests make.

func (c *Client) Set(ctx context.Context, key string, value []byte, idempotencyKey string) error {
	r := &Request{Commands: []Command{{"SET", key, string(value)}}, IdempotencyKey: idempotencyKey}
	if err := c.Do(ctx, r); err != nil {
		return err
	}
	return r.Results[0].Err
}

func (c *Client) Get(ctx context.Context, key string) ([]byte, bool, error) {
	r := &Request{Commands: []Command{{"GET", key}}}
	if err := c.Do(ctx, r); err != nil {
		return nil, false, err
	}
	reply := r.Results[0].Reply
	return []byte(reply.Text()), reply.Type() == resp.Text, r.Results[0].Err
}

package outcome

import (
	"errors"
	"strings"

	"github.com/redis/rueidis"
)

// redirection is the reply of a node of a cluster that does not have a slot, or not all of it
// yet (manual, "Redis cluster specification", redirections).
type redirection struct {
	Code string // MOVED, ASK, TRYAGAIN or CLUSTERDOWN; empty: it is no such reply
	addr string // of the node that has the slot, if the reply names one
}

// Ask returns the address of the node to ask this once instead; empty: there is none.
func (d redirection) Ask() string {
	if d.Code == "ASK" {
		return d.addr
	}
	return ""
}

// RedirectionOf returns the redirection that an error stands for.
func RedirectionOf(err error) redirection {
	text := Words(err)
	var reply *rueidis.RedisError
	if text == "" && errors.As(err, &reply) {
		text = reply.Error()
	}
	f := strings.Fields(text)
	if len(f) == 0 {
		return redirection{}
	}
	switch f[0] {
	case "MOVED", "ASK":
		if len(f) == 3 {
			return redirection{f[0], f[2]}
		}
	case "TRYAGAIN", "CLUSTERDOWN":
		return redirection{Code: f[0]}
	}
	return redirection{}
}

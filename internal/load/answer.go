package load

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"holdfast/internal/history"
)

// recordAnswer records the answer to an operation. It returns what is wrong with an impossible
// answer: the operation was carried out, but with an effect that it cannot have. Empty: nothing is
// wrong.
func (c *client) recordAnswer(op *history.Operation) string {
	status, body := c.conn.answer.StatusCode(), c.conn.answer.Body()
	switch op.Verb {
	case history.Write:
		if len(c.conn.answer.Header.Peek("ETag")) > 0 { // otherwise it is the answer to a SET
			c.storeVersion(op, op.Value)
		}
	case history.CAS:
		if op.Matched = status != http.StatusPreconditionFailed; op.Matched {
			c.storeVersion(op, op.Value)
		}
	case history.Increment:
		n, err := number(result(body))
		if err != nil {
			return impossible(body)
		}
		op.Number = n
	case history.Add:
		switch n, err := number(result(body)); {
		case err != nil:
			return impossible(body)
		case n != 1:
			return fmt.Sprintf("%d members were added: it was there already", n)
		}
	case history.Read:
		if op.Found = status != http.StatusNotFound; !op.Found {
			c.storeVersion(op, "")
			return ""
		}
		return c.recordRead(op, body)
	}
	return ""
}

func (c *client) recordRead(op *history.Operation, body []byte) string {
	switch op.Kind {
	case history.Register:
		op.Got = string(body)
		c.storeVersion(op, op.Got)
	case history.Counter:
		n, err := number(body)
		if err != nil {
			op.Got = short(string(body))
			return impossible(body)
		}
		op.Number = n
	case history.Set:
		members := result(body)
		if err := json.Unmarshal(members, &op.Members); err != nil || len(members) == 0 {
			return impossible(body)
		}
		op.Found = len(op.Members) > 0 // Redis has no empty set
	}
	return ""
}

// storeVersion stores a register's value with its ETag, for the next compare-and-set. An empty
// value means that the key is absent.
func (c *client) storeVersion(op *history.Operation, value string) {
	if op.Kind != history.Register || op.Final {
		return
	}
	v := registerVersion{string(c.conn.answer.Header.Peek("ETag")), value}
	if value == "" || v.etag == "" {
		delete(c.seen, op.Key)
		v = registerVersion{}
	} else {
		c.seen[op.Key] = v
	}
	if op.From == "" || op.From == fromMaster {
		c.load.setLatest(op.Key, v)
	}
}

// result returns the JSON value of {"result":…}; nil if the body is something else.
func result(body []byte) []byte {
	rest, ok := bytes.CutPrefix(bytes.TrimSpace(body), []byte(`{"result":`))
	if !ok {
		return nil
	}
	rest, ok = bytes.CutSuffix(rest, []byte("}"))
	if !ok {
		return nil
	}
	return rest
}

func number(text []byte) (int64, error) { return strconv.ParseInt(string(text), 10, 64) }

func impossible(body []byte) string { return short("answered " + strconv.Quote(string(body))) }

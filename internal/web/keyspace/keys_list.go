package keyspace

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/valyala/fasthttp"

	"holdfast/internal/redis"
	"holdfast/internal/token"
	"holdfast/internal/web/httpfast"
	"holdfast/internal/web/response"
	"holdfast/internal/web/routes"
	"holdfast/internal/web/urlquery"
)

// Bounds of one page of keys. Without them, a single request for a prefix that hardly any key has
// would scan all keys.
const (
	defaultLimit = 100
	maxLimit     = 1000
	scanStep     = 1000                   // keys that Redis looks at in one go, at most
	scanTime     = 250 * time.Millisecond // after which a page ends, though it is not full
	pageBytes    = 256 << 10              // of keys, after which a page ends
)

// keyPage is the response to GET /v1/keys.
type keyPage struct {
	Keys []string `json:"keys"`
	// Cursor continues the list; empty at its end.
	Cursor string `json:"cursor,omitempty"`
	// Binary counts the keys that are left out because they are not UTF-8.
	Binary int `json:"binary,omitempty"`
}

// keys lists keys, or watches a prefix.
func (k *Handler) keys(ctx *fasthttp.RequestCtx, who *token.Rights) error {
	query := ctx.URI().QueryString()
	raw, _, err := urlquery.Parameter(query, "prefix")
	if err != nil {
		return err
	}
	prefix := string(raw)
	if len(prefix) > k.MaxKey {
		return response.BadRequest(fmt.Sprintf("The prefix is longer than a key may be, %d bytes.", k.MaxKey))
	}

	encode, err := keyEncoding(query)
	if err != nil {
		return err
	}
	// A token that may scan for this pattern may see every key with the prefix.
	pattern := escapePattern(prefix) + "*"
	if err := k.Auth.Permit(ctx, who, []redis.Command{{"SCAN", "0", "MATCH", pattern}}); err != nil {
		return err
	}

	if _, ok, err := urlquery.Parameter(query, routes.Watch); err != nil {
		return err
	} else if ok {
		return k.watchPrefix(ctx, who, prefix, encode)
	}

	limit, err := readLimit(query)
	if err != nil {
		return err
	}
	cursor, err := readCursor(query)
	if err != nil {
		return err
	}

	r := &redis.Request{Sender: k.Senders.Sender(ctx, who), Client: k.Senders.Reader(ctx, who)}
	if err := k.Rules.ApplyHeaders(ctx, who, r); err != nil {
		return err
	}
	r.IdempotencyKey = ""     // a read may be repeated without one
	r.Read = redis.ReadMaster // see scan
	defer r.Release()

	p, err := k.list(r, scan{cursor: cursor, pattern: pattern, limit: limit}, encode)
	if err != nil {
		return err
	}
	k.Rules.SetResultHeaders(ctx, r)
	if r.Held() > 0 {
		rest := p
		rest.Keys = []string{}
		text, err := json.Marshal(rest)
		if err != nil {
			return err
		}
		before, behind, _ := strings.Cut(string(text), "[]")
		response.SendLong(ctx, r, httpfast.JSON, &response.LongBody{Texts: p.Keys, Before: before + "[", Behind: "]" + behind + "\n"})
		return nil
	}
	return response.SendJSON(ctx, p)
}

// list gathers one page, with keys as encode writes them.
func (k *Handler) list(r *redis.Request, at scan, encode func(string) (string, bool)) (keyPage, error) {
	p := keyPage{Keys: []string{}}
	seen := map[string]bool{} // SCAN may name a key twice
	bytes := 0
	until := time.Now().Add(scanTime)

	for step := at.limit; ; step = min(2*step, scanStep) {
		found, next, err := k.step(r, &at, step)
		if err != nil {
			return p, err
		}
		if missing := at.limit - len(p.Keys); len(found) > missing && step > missing {
			// These are too many for this page. Ask for the same place again in a smaller step:
			// then only keys that share one slot of Redis' table come together.
			if found, next, err = k.step(r, &at, missing); err != nil {
				return p, err
			}
		}
		for _, key := range found {
			if seen[key] || strings.HasPrefix(key, ReservedKeys) {
				continue
			}
			seen[key] = true
			bytes += len(key)
			if text, ok := encode(key); ok {
				p.Keys = append(p.Keys, text)
			} else {
				p.Binary++
			}
		}
		at.cursor = next
		switch {
		case next == "0":
			return p, nil
		case len(p.Keys) >= at.limit, bytes > pageBytes, time.Now().After(until):
			p.Cursor = base64.RawURLEncoding.EncodeToString([]byte(cursorPrefix + next))
			return p, nil
		}
	}
}

// scan is a place in the list of all keys. Redis keeps nothing about it, so any node continues it.
// But its cursor is good only at the Redis process that gave it (see redis.ErrCursorGone): after a
// failover, a client has to begin again.
type scan struct {
	cursor  string
	pattern string
	limit   int
}

var errCursorGone = response.NewError(fasthttp.StatusGone, "The cursor is of a Redis server that is no longer the master; begin again without it.")

// step asks Redis for the next keys.
func (k *Handler) step(r *redis.Request, at *scan, count int) (keys []string, next string, err error) {
	r.Commands = []redis.Command{{"SCAN", at.cursor, "MATCH", at.pattern, "COUNT", strconv.Itoa(count)}}
	if err := k.Store.Do(context.Background(), r); err != nil {
		return nil, "", err
	}
	switch err := r.Results[0].Err; {
	case redis.KindOf(err) == redis.TooLong && count > 1: // the keys are long
		return k.step(r, at, max(1, count/10))
	case errors.Is(err, redis.ErrCursorGone):
		return nil, "", errCursorGone
	case err != nil:
		return nil, "", err
	}
	first, found := r.Results[0].Reply.At(0), r.Results[0].Reply.At(1)
	for i := range found.Len() {
		key := found.At(i)
		keys = append(keys, strings.Clone(key.Text()))
	}
	return keys, strings.Clone(first.Text()), nil
}

func readLimit(query []byte) (int, error) {
	text, ok, err := urlquery.Parameter(query, "limit")
	if err != nil || !ok {
		return defaultLimit, err
	}
	n, err := strconv.Atoi(string(text))
	if err != nil || n < 1 || n > maxLimit {
		return 0, response.BadRequest(fmt.Sprintf("The limit is a number from 1 to %d.", maxLimit))
	}
	return n, nil
}

// cursorPrefix stands before SCAN's cursor in the cursors of /v1/keys.
const cursorPrefix = "scan."

// readCursor returns SCAN's cursor from that of the page before, or 0.
func readCursor(query []byte) (string, error) {
	text, ok, err := urlquery.Parameter(query, "cursor")
	if err != nil || !ok || len(text) == 0 {
		return "0", err
	}
	bad := response.BadRequest("The cursor is none; take it from the answer before, as it stands.")
	raw, err := base64.RawURLEncoding.DecodeString(string(text))
	if err != nil {
		return "", bad
	}
	form, cursor, ok := strings.Cut(string(raw), ".")
	if _, err := strconv.ParseUint(cursor, 10, 64); err != nil || !ok || form == "" {
		return "", bad
	}
	if form+"." != cursorPrefix || strings.Trim(cursor, "0") == "" {
		return "", errCursorGone // from another version, or made up
	}
	return cursor, nil
}

// keyEncoding returns how keys are written in JSON, which has only Unicode: as they are, or in
// base64. The function that it returns reports false for a key that it cannot write.
func keyEncoding(query []byte) (func(string) (string, bool), error) {
	text, ok, err := urlquery.Parameter(query, "encoding")
	switch {
	case err != nil:
		return nil, err
	case !ok || string(text) == "utf-8":
		return func(key string) (string, bool) { return key, utf8.ValidString(key) }, nil
	case string(text) == "base64":
		return func(key string) (string, bool) { return base64.StdEncoding.EncodeToString([]byte(key)), true }, nil
	}
	return nil, response.BadRequest("The encoding of the keys is utf-8 or base64.")
}

// escapePattern returns a pattern (Redis manual, KEYS) that matches only the text.
func escapePattern(text string) string {
	var out strings.Builder
	for i := range len(text) {
		if strings.IndexByte(`*?[]\^-`, text[i]) >= 0 {
			out.WriteByte('\\')
		}
		out.WriteByte(text[i])
	}
	return out.String()
}

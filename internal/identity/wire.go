package identity

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"holdfast/internal/quote"
)

const (
	// JoinPath is the path for new hosts: GET returns the member's time, POST joins.
	JoinPath = "/v1/join"
	// RenewPath is the path at which a member renews its certificate, by POST.
	RenewPath = "/v1/renew"

	maxRequest = 16 << 10
	// maxAnswer is the largest size of an answer. It leaves room for MaxPayload in base64.
	maxAnswer = 8 << 20
	// bodyTime is how long the other end may take for a handshake, and for sending a request.
	bodyTime = 5 * time.Second
)

// The bodies of requests and answers, in JSON.
type (
	hello struct {
		Stack string    `json:"stack"`
		Time  time.Time `json:"time"`
	}
	joinRequest struct {
		ID      string `json:"id"`
		Secret  []byte `json:"secret"`
		Host    string `json:"host"`
		Request []byte `json:"request"` // the request for a certificate, in DER
	}
	joinAnswer struct {
		Certificate []byte   `json:"certificate"` // in DER
		Members     []Member `json:"members"`
		Payload     []byte   `json:"payload,omitempty"`
	}
	renewRequest struct {
		Request []byte `json:"request"`
	}
	renewAnswer struct {
		Certificate []byte `json:"certificate"`
	}
	errorAnswer struct {
		Reason Reason `json:"reason"`
		Error  string `json:"error"`
	}
)

// statusOf returns the HTTP status for an error.
func statusOf(reason Reason) int {
	switch reason {
	case BadRequest:
		return http.StatusBadRequest
	case TooMany:
		return http.StatusTooManyRequests
	case Failed, "":
		return http.StatusInternalServerError
	}
	return http.StatusForbidden
}

// answerError writes an error as the answer. The text of an error that is not an *Error is not
// meant for the other end, and is replaced.
func answerError(w http.ResponseWriter, status int, err error) {
	if ReasonOf(err) == TooMany {
		w.Header().Set("Retry-After", "2")
	}
	answer := errorAnswer{ReasonOf(err), err.Error()}
	if answer.Reason == "" {
		answer = errorAnswer{Failed, "the member could not carry it out; its log says why"}
	}
	answerJSON(w, status, answer)
}

func answerJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v) // an error means that the client has gone
}

// bounded limits how long each request may take to arrive. It is needed even for requests that
// are answered without reading their body: after the answer, the server waits for the rest of
// the body.
func bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime)); err != nil {
			answerError(w, http.StatusInternalServerError, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// readRequest reads the body of a request that has come through bounded, at most maxRequest
// bytes.
func readRequest(w http.ResponseWriter, r *http.Request, into any) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	switch {
	case errors.As(err, new(*http.MaxBytesError)):
		return refuse(BadRequest, "the request is longer than %d bytes", maxRequest)
	case err != nil:
		return refuse(BadRequest, "the request did not arrive whole: %w", err)
	}
	// Otherwise the deadline would cancel the request while it is carried out.
	if err := http.NewResponseController(w).SetReadDeadline(time.Time{}); err != nil {
		return fmt.Errorf("take back a deadline: %w", err)
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return refuse(BadRequest, "the request cannot be read: %w", err)
	}
	return nil
}

// exchange sends a request (GET if in is nil) and reads the answer into out. If the other end
// answers with an error, exchange returns it as an *Error.
func exchange(ctx context.Context, client *http.Client, url string, in, out any) error {
	method, body := http.MethodGet, io.Reader(nil)
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		method, body = http.MethodPost, bytes.NewReader(text)
	}

	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return err
	}

	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if len(text) > maxAnswer {
		return refuse(Failed, "the answer has more than %d bytes", maxAnswer)
	}

	if resp.StatusCode != http.StatusOK {
		var told errorAnswer
		if err := json.Unmarshal(text, &told); err != nil || told.Reason == "" {
			return refuse(Failed, "the answer has status %d and no reason", resp.StatusCode)
		}
		return refuse(told.Reason, "%s", quote.Cut(told.Error, 600))
	}
	if err := json.Unmarshal(text, out); err != nil {
		return refuse(Failed, "the answer cannot be read: %w", err)
	}
	return nil
}

package otlp

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"holdfast/internal/clock"
)

const (
	firstWait = 5 * time.Second  // the pause before the first repetition; each further one is 1.5 times as long
	longWait  = 30 * time.Second // the longest pause
	giveUp    = time.Minute      // how long a batch may take with all its repetitions
	maxReply  = 64 << 10         // how many bytes of a reply are read
)

const protobuf = "application/x-protobuf"

// client sends batches of spans to one URL. It implements otlptrace.Client.
type client struct {
	url      string
	settings Settings
	http     *http.Client
	wait     time.Duration // firstWait, except in tests

	// The requests end with the context ended, which end cancels.
	ended context.Context
	end   context.CancelFunc
}

// New returns an exporter that sends spans to a URL, such as
// https://collector:4318/v1/traces. It does nothing before it is started or given
// spans.
func New(url string, s Settings) *otlptrace.Exporter {
	return otlptrace.NewUnstarted(newClient(url, s))
}

func newClient(url string, s Settings) *client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = s.TLS
	ended, end := context.WithCancel(context.Background())
	return &client{
		url:      url,
		settings: s,
		http:     &http.Client{Transport: transport, Timeout: cmp.Or(s.Timeout, DefaultTimeout)},
		wait:     firstWait,
		ended:    ended,
		end:      end,
	}
}

// Start implements otlptrace.Client.
func (c *client) Start(context.Context) error { return nil }

// Stop implements otlptrace.Client. It cancels what is being sent.
func (c *client) Stop(context.Context) error {
	c.end()
	c.http.CloseIdleConnections()
	return nil
}

// UploadTraces sends one batch. It repeats the request for up to a minute if the
// collector asks for that (429, 502, 503, 504), or if an attempt times out.
func (c *client) UploadTraces(ctx context.Context, batch []*spans.ResourceSpans) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.ended, cancel)()

	// The specification has ExportTraceServiceRequest here, which is the same on the wire,
	// but whose package depends on gRPC.
	body, err := proto.Marshal(&spans.TracesData{ResourceSpans: batch})
	if err != nil {
		return fmt.Errorf("encode spans: %w", err)
	}
	if c.settings.Compress {
		body = compress(body)
	}

	start, wait := time.Now(), c.wait
	for {
		err := c.send(ctx, body)
		var again *againError
		if !errors.As(err, &again) || ctx.Err() != nil {
			return err
		}

		// The pause is random, from half to one and a half times wait, so that clients
		// refused by the same collector do not come back at the same time.
		pause := max(again.after, wait/2+rand.N(wait))
		if time.Since(start)+pause > giveUp {
			return err
		}
		if !clock.Sleep(ctx, pause) {
			return err
		}
		wait = min(wait+wait/2, longWait)
	}
}

// againError is a failure after which the request may be repeated. After is the pause that
// the collector has asked for, or 0.
type againError struct {
	err   error
	after time.Duration
}

func (e *againError) Error() string { return e.err.Error() }
func (e *againError) Unwrap() error { return e.err }

// send makes one attempt.
func (c *client) send(ctx context.Context, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("User-Agent", "holdfast")
	for name, value := range c.settings.Headers {
		request.Header.Set(name, value)
	}
	request.Header.Set("Content-Type", protobuf)
	if c.settings.Compress {
		request.Header.Set("Content-Encoding", "gzip")
	}

	response, err := c.http.Do(request)
	if err != nil {
		var failed net.Error
		if errors.As(err, &failed) && failed.Timeout() {
			return &againError{err: err}
		}
		return err
	}
	defer response.Body.Close()
	reply, err := io.ReadAll(io.LimitReader(response.Body, maxReply))

	switch status := response.StatusCode; {
	case status >= 200 && status < 300:
		if err == nil && response.Header.Get("Content-Type") == protobuf {
			err = rejected(reply)
		}
		return err
	case status == http.StatusTooManyRequests, status == http.StatusBadGateway,
		status == http.StatusServiceUnavailable, status == http.StatusGatewayTimeout:
		after := retryAfter(response.Header.Get("Retry-After"), time.Now())
		return &againError{err: refused(response, reply), after: after}
	default:
		return refused(response, reply)
	}
}

// refused returns the error for a status that is not 2xx.
func refused(response *http.Response, reply []byte) error {
	if len(reply) == 0 {
		return fmt.Errorf("the collector replied %d", response.StatusCode)
	}
	return fmt.Errorf("the collector replied %d: %.200q", response.StatusCode, reply)
}

// rejected returns an error if a reply says that some of the spans were not accepted. In
// ExportTraceServiceResponse, field 1 is ExportTracePartialSuccess, of which field 1 is
// the number of these spans and field 2 the reason. An unreadable reply is ignored.
func rejected(reply []byte) error {
	partial, _ := protowire.ConsumeBytes(lastField(reply, 1, protowire.BytesType))
	n, _ := protowire.ConsumeVarint(lastField(partial, 1, protowire.VarintType))
	why, _ := protowire.ConsumeBytes(lastField(partial, 2, protowire.BytesType))
	if n == 0 && len(why) == 0 {
		return nil
	}
	return fmt.Errorf("the collector did not take %d of the spans: %.200q", n, why)
}

// lastField returns the encoded value of a message's field, or nil if it is not there. As
// protobuf requires, the last one counts if there are several.
func lastField(message []byte, number protowire.Number, kind protowire.Type) []byte {
	var value []byte
	for len(message) > 0 {
		n, k, size := protowire.ConsumeTag(message)
		if size < 0 {
			return value
		}
		message = message[size:]
		if size = protowire.ConsumeFieldValue(n, k, message); size < 0 {
			return value
		}
		if n == number && k == kind {
			value = message[:size]
		}
		message = message[size:]
	}
	return value
}

// retryAfter parses the header Retry-After: seconds or a date (RFC 9110, section 10.2.3).
// It returns 0 for anything else.
func retryAfter(text string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if date, err := http.ParseTime(text); err == nil {
		return max(0, date.Sub(now))
	}
	return 0
}

func compress(body []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(body) // writing to a bytes.Buffer does not fail
	w.Close()
	return out.Bytes()
}

package readpipe

import (
	"strconv"

	"holdfast/internal/redis/meter"
	"holdfast/internal/redis/resp"
)

// appendBounded appends the commands that stand for a GET (see operation.boundedRead).
func appendBounded(b []byte, key string, ask expressAsk) []byte {
	b = append(b, "*4\r\n$8\r\nGETRANGE\r\n$"...)
	b = append(strconv.AppendInt(b, int64(len(key)), 10), resp.CRLF...)
	b = append(append(b, key...), "\r\n$1\r\n0\r\n"...)
	if ask.end == meter.LargeAnswer {
		b = append(b, usualEnd...)
	} else {
		end := strconv.Itoa(ask.end)
		b = append(strconv.AppendInt(append(b, '$'), int64(len(end)), 10), resp.CRLF...)
		b = append(append(b, end...), resp.CRLF...)
	}
	if ask.exists {
		b = resp.AppendCommand(b, []string{"EXISTS", key})
	}
	return b
}

var usualEnd = func() string {
	end := strconv.Itoa(meter.LargeAnswer)
	return "$" + strconv.Itoa(len(end)) + resp.CRLF + end + resp.CRLF
}()

// readBounded makes r the reply that GET would have, and returns what follows. r is a Failure if GET
// has to be asked for again.
func readBounded(r *resp.Value, s string, ask expressAsk) string {
	s = r.Read(s)
	var exists resp.Value
	if ask.exists {
		s = exists.Read(s)
	}
	switch {
	case r.Kind != resp.Text:
	case r.Text == "" && exists.Kind == resp.Integer && exists.Int == 0:
		r.Kind = resp.Null
	case r.Text == "" || len(r.Text) > ask.end:
		r.Kind = resp.Failure
	}
	return s
}

// missesAsked is for how many unknown keys a GET also asks whether they exist, after one that does
// not: if one is missing, others may be. Without that question an empty answer has to be asked for
// again.
const missesAsked = 64

// teach remembers how long the answer to a request of a batch was, of so many bytes.
func (x *Express) teach(ask expressAsk, m *resp.Value, bytes int) {
	known := &x.answers.Lengths
	switch {
	case ask.end == 0:
		known.Learn(ask.key, int64(bytes))
	case m.Text == "" && (m.Kind == resp.Null || !ask.exists):
		known.LearnMissing(ask.key)
		x.misses = missesAsked
	default:
		known.Learn(ask.key, int64(len(m.Text)))
		x.misses = max(0, x.misses-1)
	}
}

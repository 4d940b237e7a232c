package web

import (
	"bytes"
	"encoding/base64"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime"
	gauges "runtime/metrics"
	"strconv"
	"strings"
	"sync"
	"testing"

	"holdfast/internal/redis"
	"holdfast/internal/redis/redistest"
	"holdfast/internal/web/response"
)

// A long response has the same bytes as a short one would have, and as many as its header
// announces, wherever its pieces begin.
func TestALongAnswerIsWrittenAsAShortOne(t *testing.T) {
	const pieceSize = 32 << 10 // about the package's
	r := rand.New(rand.NewPCG(1, 2))
	parts := []string{"a", "plain text of some length", "\"", "\\", "\n", "\x00", "\x7f", "ü", "€", "😀", "\xff", "\xe2\x82", "\xf0\x9f\x98", " "}
	texts := []string{"", "OK", strings.Repeat("x", pieceSize), strings.Repeat("€", pieceSize), strings.Repeat("\x00", pieceSize+1)}
	for range 60 {
		var b strings.Builder
		for n := r.IntN(3 * pieceSize); b.Len() < n; {
			b.WriteString(parts[r.IntN(len(parts))])
		}
		texts = append(texts, b.String())
	}
	client, _ := single(t)
	for i, text := range texts {
		got := redis.Request{Commands: []redis.Command{
			{"ECHO", text}, {"NOBODY"}, {"EVAL", "return {ARGV[1], false, 7, {}, {ARGV[1], 'second'}, redis.status_reply('FINE')}", "0", text}, {"PING"},
		}}
		if err := client.Do(t.Context(), &got); err != nil {
			t.Fatal(err)
		}
		all := got.Results
		for _, f := range []response.Form{{}, {Base64: true}, {RESP2: true}} {
			for _, results := range [][]redis.Result{all[:1], all[1:2], all[2:3], all[3:], all} {
				var want []byte
				many := len(results) > 1 && !f.RESP2
				if many {
					want = append(want, '[')
				}
				for i := range results {
					if i > 0 && many {
						want = append(want, ',')
					}
					if f.RESP2 {
						want = response.AppendRESP(want, &results[i])
					} else {
						want = response.AppendResult(want, &results[i], f.Base64)
					}
				}
				if many {
					want = append(want, ']')
				}
				body := &response.LongBody{Results: results, Form: f, List: many}
				var got bytes.Buffer
				n, err := body.WriteTo(&got)
				if err != nil || int(n) != got.Len() || !bytes.Equal(got.Bytes(), want) {
					t.Fatalf("text %d, %+v: %d bytes (%v) differ from %d, the first of them at %d", i, f, got.Len(), err, len(want), differ(got.Bytes(), want))
				}
				if body.Length() != len(want) {
					t.Fatalf("text %d, %+v: %d bytes are announced, and %d come", i, f, body.Length(), len(want))
				}
			}
		}
		got.Release()
	}
}

func differ(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// Long responses come whole in every form, too long ones are refused in every form, and what the
// node holds at once stays within its bounds.
func TestLongAnswersComeWholeAndTakeLittleMemory(t *testing.T) {
	const size, limit = 3 << 20, 4 << 20
	server := redistest.Start(t, 0, 0).Nodes[0]
	client := connectBy(t, redis.Config{Address: server.Addr, MaxAnswer: limit})
	addr, _, _ := serve(t, client)
	server.Do("SETRANGE", "big", strconv.Itoa(size-1), "\x01") // a zero takes six bytes in JSON
	server.Do("SETRANGE", "bigger", strconv.Itoa(limit), "x")
	server.Do("SETRANGE", "mega", strconv.Itoa(1<<20-1), "x")
	server.Do("RPUSH", "list", strings.Repeat("y", 1<<20), "b", "c")
	server.Do("COPY", "big", "taken")
	json := int64(6*size + len(`{"result":""}`))
	megas := "[" + strings.TrimSuffix(strings.Repeat(`["GET","mega"],`, 300), ",") + "]"
	for _, c := range []struct {
		path, body, header string
		status             int
		length             int64 // 0: any
	}{
		{"/", `["GET","big"]`, "", 200, json},
		{"/get/big", "", "", 200, json},
		{"/get/big", "", "Holdfast-Read: cached", 200, json},
		{"/get?key=big", "", "", 200, size},
		{"/v1/keys/big", "", "", 200, size},
		{"/", `["GET","big"]`, "Upstash-Encoding: base64", 200, int64(base64.StdEncoding.EncodedLen(size) + len(`{"result":""}`))},
		{"/", `["GET","big"]`, "Upstash-Response-Format: resp2", 200, int64(size + len("$3145728\r\n\r\n"))},
		{"/pipeline", `[["GET","big"],["PING"]]`, "", 200, json + int64(len(`[,{"result":"PONG"}]`))},
		{"/multi-exec", `[["GET","big"],["PING"]]`, "", 200, json + int64(len(`[,{"result":"PONG"}]`))},
		{"/", `["GETDEL","taken"]`, "Idempotency-Key: a", 200, json},
		{"/", `["LRANGE","list","0","-1"]`, "", 200, 1<<20 + int64(len(`{"result":["","b","c"]}`))},
		{"/pipeline", megas, "", 200, 0},
		{"/multi-exec", megas, "", 200, 0},
		{"/", `["GET","bigger"]`, "", 413, 0},
		{"/get?key=bigger", "", "", 413, 0},
		{"/v1/keys/bigger", "", "", 413, 0},
		{"/", `["EVAL","return {ok=string.rep('x',5000000)}","0"]`, "", 413, 0},
		{"/", `["EVAL","return {{{string.rep('x',5000000)}}}","0"]`, "", 413, 0},
		{"/", `["EVAL","local t={} for i=1,70000 do t[i]=i end return t","0"]`, "", 413, 0},
		{"/get/big", "", "Holdfast-Read: cached", 200, json}, // what was refused holds nobody up
	} {
		status, length, begin := fetch(t, addr, c.path, c.body, c.header)
		if status != c.status || c.length > 0 && length != c.length {
			t.Errorf("%s %.40s %s: %d with %d bytes, want %d with %d: %.200q", c.path, c.body, c.header, status, length, c.status, c.length, begin)
		}
		if status == 413 && !strings.Contains(begin, "at most 4194304 bytes") {
			t.Errorf("%s %.40s: %q", c.path, c.body, begin)
		}
	}
	// With several at once, the node holds what Redis sent and little more at any time.
	base, peak := liveHeap(t, func() {
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() { fetch(t, addr, "/get/big", "", "") })
		}
		all.Wait()
	})
	if peak-base > redis.AnswersHeld*limit+8<<20 {
		t.Errorf("%d MB were in use before, and %d MB meanwhile", base>>20, peak>>20)
	}
}

// fetch sends a request. It returns the status, the length of the body and its first bytes.
func fetch(t *testing.T, addr, path, body, header string) (status int, length int64, begin string) {
	t.Helper()
	method := "GET"
	if body != "" {
		method = "POST"
	}
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+addr+path, strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return
	}
	if name, value, ok := strings.Cut(header, ": "); ok {
		r.Header.Set(name, value)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Error(err)
		return
	}
	defer answer.Body.Close()
	first := make([]byte, 400)
	n, _ := io.ReadFull(answer.Body, first)
	rest, err := io.Copy(io.Discard, answer.Body)
	if err != nil {
		t.Errorf("%s: after %d bytes: %v", path, int64(n)+rest, err)
	}
	return answer.StatusCode, int64(n) + rest, string(first[:n])
}

// liveHeap returns how many bytes of the heap are in use before do, and at most during it.
func liveHeap(t *testing.T, do func()) (before, most uint64) {
	t.Helper()
	look := func() uint64 {
		runtime.GC()
		live := []gauges.Sample{{Name: "/gc/heap/live:bytes"}}
		gauges.Read(live)
		return live[0].Value.Uint64()
	}
	before = look()
	ended := make(chan struct{})
	go func() { defer close(ended); do() }()
	for {
		most = max(most, look())
		select {
		case <-ended:
			return before, most
		default:
		}
	}
}

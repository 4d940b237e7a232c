package load

import (
	"net"
	"strings"
	"testing"
	"time"

	"holdfast/internal/clock"
	"holdfast/internal/history"
)

func TestWhatBecomesOfAnOperation(t *testing.T) {
	const ok, failed, unknown = history.OK, history.Failed, history.Unknown
	for _, c := range []struct {
		fault                                   fault
		read, write, increment, once, swap, add history.Outcome
		status                                  int
		says                                    string
	}{
		{"", ok, ok, ok, ok, ok, ok, 0, ""},
		{"503", failed, failed, failed, failed, failed, failed, 503, "503: "},
		{"400", failed, failed, failed, failed, failed, failed, 400, "400: "},
		{"401", failed, failed, failed, failed, failed, failed, 401, "401: "},
		{"408", failed, failed, failed, failed, failed, failed, 408, "408: "},
		{"404", ok, failed, failed, failed, failed, failed, 404, ""},
		{"412", failed, failed, failed, failed, ok, failed, 412, ""},
		{"500", failed, unknown, unknown, unknown, unknown, unknown, 500, "500: "},
		{"502", failed, unknown, unknown, unknown, unknown, unknown, 502, "502: "},
		{"504", failed, unknown, unknown, unknown, unknown, unknown, 504, "504: "},
		{"302", failed, unknown, unknown, unknown, unknown, unknown, 302, "302: "},
		{resetBefore, failed, unknown, unknown, unknown, unknown, unknown, 0, "broken"},
		{resetAfter, failed, unknown, unknown, unknown, unknown, unknown, 0, "broken"},
		{half, failed, unknown, unknown, unknown, unknown, unknown, 0, "broken"},
		{hang, failed, unknown, unknown, unknown, unknown, unknown, 0, "no answer in time"},
	} {
		for _, op := range []struct {
			task task
			want history.Outcome
		}{
			{readRegister, c.read}, {write, c.write}, {increment, c.increment}, {incrementOnce, c.once}, {swap, c.swap}, {add, c.add},
		} {
			t.Run(string(op.task.verb)+" "+string(c.fault), func(t *testing.T) {
				t.Parallel()
				s := newService(t)
				cfg := config(s.url)
				// Long enough for a slow machine to answer. Cases without an answer, or with
				// repetitions until the end, have to wait for the timeout.
				cfg.Timeout = 20 * time.Second
				repeats := op.task.once && op.want == unknown
				if repeats || c.fault == hang {
					cfg.Timeout = time.Second
				}
				l := newLoad(t, cfg)
				one(t, l, write)
				l.setLatest(swap.key, registerVersion{`"0b0bcb0b1a1f16a6a1d0a5e5b5b5b5b5b5b5b5b5"`, "old"})
				s.mu.Lock()
				s.requests, s.fault = nil, func(*asked) fault { return c.fault }
				s.mu.Unlock()
				did := one(t, l, op.task)
				if did.Outcome != op.want {
					t.Errorf("%s: %+v", op.want, did)
				}
				if c.status != 0 && did.Status != c.status || did.Outcome != ok && !strings.Contains(did.Error, c.says) || did.Outcome == ok && did.Error != "" {
					t.Errorf("status %d, error %q", did.Status, did.Error)
				}
				s.mu.Lock()
				sent := len(s.requests)
				s.mu.Unlock()
				if sent != did.Tries || (sent > 1) != repeats {
					t.Errorf("sent %d times, %d tries recorded", sent, did.Tries)
				}
				if did.Matched {
					t.Error("it cannot have matched")
				}
			})
		}
	}
}

func TestAnIncrementWithAKeyIsRepeatedWithIt(t *testing.T) {
	for _, f := range []fault{"504", "502", resetBefore, resetAfter, half} {
		s := newService(t)
		n := 0
		s.fault = func(*asked) fault {
			if n++; n <= 2 {
				return f
			}
			return ""
		}
		op := one(t, newLoad(t, config(s.url)), incrementOnce)
		if op.Outcome != history.OK || op.Number != 1 || op.Tries != 3 || op.Error != "" || op.Status != 200 {
			t.Errorf("%s: %+v", f, op)
		}
		if ids := s.increments(true); len(ids) != 1 || ids["drill:1:8"] != 3 {
			t.Errorf("%s: the keys were %v", f, ids)
		}
	}
}

func TestAnIncrementThatMayHaveHappenedIsNotCalledFailedByALaterTry(t *testing.T) {
	for _, after := range []fault{"503", "400"} {
		s := newService(t)
		n := 0
		s.fault = func(*asked) fault {
			if n++; n == 1 {
				return resetAfter
			}
			return after
		}
		cfg := config(s.url)
		cfg.Timeout = time.Second
		if op := one(t, newLoad(t, cfg), incrementOnce); op.Outcome != history.Unknown || op.Tries < 2 {
			t.Errorf("%s: %+v", after, op)
		}
	}
}

func TestAnIncrementWithoutAKeyIsSentOnce(t *testing.T) {
	s := newService(t)
	n := 0
	s.fault = func(*asked) fault {
		n++
		return []fault{"", "504", resetAfter, half, "502", resetBefore, "503"}[n%7]
	}
	cfg := config(s.url)
	cfg.Registers, cfg.Sets, cfg.Timeout = 0, 0, time.Second
	ops := run(t, newLoad(t, cfg), 500*time.Millisecond)
	plain, unknown := 0, 0
	for _, op := range ops {
		if op.Verb == history.Increment && !op.Once {
			plain += op.Tries
			if op.Tries > 1 {
				t.Errorf("%+v", op)
			}
			if op.Outcome == history.Unknown {
				unknown++
			}
		}
	}
	// A request that its client gave up may not have been read by the service yet.
	sent := s.increments(false)[""]
	for deadline := time.Now().Add(5 * time.Second); sent < plain && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		sent = s.increments(false)[""]
	}
	if sent != plain || unknown < 20 {
		t.Errorf("%d were sent and %d recorded; %d are unknown", sent, plain, unknown)
	}
	for id, n := range s.increments(true) {
		if n > 30 {
			t.Errorf("%s was sent %d times", id, n)
		}
	}
}

func TestACompareAndSetExpectsWhatTheETagStandsFor(t *testing.T) {
	s := newService(t)
	l := newLoad(t, config(s.url))
	c := l.newClient(3)
	c.connect(t.Context())
	defer c.conn.close()
	first := swap
	first.number = 1
	if op := c.perform(first, 0); op.Expect != "" || op.Value != "c3-1" || !op.Matched || op.Outcome != history.OK {
		t.Errorf("nobody saw a value yet: %+v", op)
	}
	l.setLatest(swap.key, registerVersion{}) // as if no client had seen it
	if op := one(t, l, first); op.Expect != "" || op.Matched || op.Outcome != history.OK {
		t.Errorf("it is there already: %+v", op)
	}
	if op := c.perform(write, 0); op.Value != "c3-10" || op.Outcome != history.OK {
		t.Errorf("%+v", op)
	}
	if op := c.perform(swap, 0); op.Expect != "c3-10" || op.Value != "c3-12" || !op.Matched || op.Outcome != history.OK {
		t.Errorf("%+v", op)
	}
	other := write
	other.number = 20
	one(t, l, other) // client 0
	own, fresh := swap, swap
	own.number, own.fresh, fresh.number = 21, false, 22
	if op := c.perform(own, 0); op.Expect != "c3-12" || op.Matched || op.Outcome != history.OK || op.Status != 412 {
		t.Errorf("%+v", op)
	}
	if op := c.perform(fresh, 0); op.Expect != "c0-20" || !op.Matched {
		t.Errorf("%+v", op)
	}
	if op := c.perform(readRegister, 0); op.Got != "c3-22" || !op.Found {
		t.Errorf("%+v", op)
	}
}

func TestAnAnswerThatCannotBeIsSaidToBeOne(t *testing.T) {
	s := newService(t)
	l := newLoad(t, config(s.url))
	s.strings[readCounter.key] = "seven"
	if op := one(t, l, readCounter); op.Outcome != history.OK || !strings.Contains(op.Error, "seven") || op.Got != "seven" {
		t.Errorf("%+v", op)
	}
	s.answers["drill:1:13"] = []byte(`{"result":0}`)
	again := add
	again.once = true
	if op := one(t, l, again); op.Outcome != history.OK || !strings.Contains(op.Error, "already") {
		t.Errorf("%+v", op)
	}
	s.answers["drill:1:8"] = []byte(`<html>`)
	if op := one(t, l, incrementOnce); op.Outcome != history.OK || !strings.Contains(op.Error, "html") {
		t.Errorf("%+v", op)
	}
}

func TestWhereNobodyListensTheNextEntryIsTaken(t *testing.T) {
	s := newService(t)
	l := newLoad(t, config(refusing(t), s.url))
	if op := one(t, l, increment); op.Outcome != history.OK || op.Tries != 1 {
		t.Errorf("%+v", op)
	}
}

func TestWhatWasNeverSentHasFailed(t *testing.T) {
	cfg := config(refusing(t))
	cfg.Timeout = 300 * time.Millisecond
	began := time.Now()
	op := one(t, newLoad(t, cfg), incrementOnce)
	if op.Outcome != history.Failed || op.Tries != 0 || op.Status != 0 || !strings.Contains(op.Error, "refused") {
		t.Errorf("%+v", op)
	}
	if took := time.Since(began); took < 50*time.Millisecond || took > 20*time.Second {
		t.Errorf("it tried for %v", took)
	}
}

func TestAnEntryThatComesBackIsFoundInTime(t *testing.T) {
	address := refusing(t)
	l := newLoad(t, config(address))
	time.AfterFunc(200*time.Millisecond, func() {
		n, err := net.Listen("tcp", strings.TrimPrefix(address, "http://"))
		if err != nil {
			return
		}
		defer n.Close()
		conn, err := n.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = conn.Read(make([]byte, 4096))
		_, _ = conn.Write([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{\"re\r\nb\r\nsult\":1234}\r\n0\r\n\r\n"))
	})
	if op := one(t, l, increment); op.Outcome != history.OK || op.Number != 1234 || op.Tries != 1 || op.End-op.Start > 150*time.Millisecond {
		t.Errorf("%+v", op)
	}
}

func TestAConnectionThatWasClosedMeanwhileIsNoFailure(t *testing.T) {
	n, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	requests := make(chan int, 10)
	go func() { // each connection answers one request, adds something unasked, and closes
		for i := 0; ; i++ {
			conn, err := n.Accept()
			if err != nil {
				return
			}
			got, _ := conn.Read(make([]byte, 4096))
			requests <- got
			answer := "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{\"result\":1}"
			if i%2 == 1 {
				answer += "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"
			}
			_, _ = conn.Write([]byte(answer))
			conn.Close()
		}
	}()
	l := newLoad(t, config("http://"+n.Addr().String()))
	c := l.newClient(0)
	c.connect(t.Context())
	defer c.conn.close()
	for i := range 6 {
		if op := c.perform(increment, 0); op.Outcome != history.OK || op.Tries != 1 {
			t.Errorf("%d: %+v", i, op)
		}
		// Wait until the end of the connection has arrived here. A client does not wait for it.
		if !clock.Within(5*time.Second, time.Millisecond, func() bool { return !c.conn.idle() }) {
			t.Fatal("the connection stays open")
		}
	}
	if len(requests) != 6 {
		t.Errorf("%d requests were sent", len(requests))
	}
}

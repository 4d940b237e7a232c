package web

import (
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/redis/redistest"
	"holdfast/internal/web/consistency"
	"holdfast/internal/web/httpfast"
	"holdfast/internal/web/keyspace"
)

// keysClient asks a node for keys.
type keysClient struct {
	t    testing.TB
	addr string
}

type keysAnswer struct {
	status int
	header http.Header
	body   string
}

func (c keysClient) do(method, path, body string, header ...string) keysAnswer {
	c.t.Helper()
	var r io.Reader
	if method == "PUT" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(c.t.Context(), method, "http://"+c.addr+"/", r)
	if err != nil {
		c.t.Fatal(err)
	}
	req.URL.Opaque, req.URL.RawQuery, _ = strings.Cut(path, "?") // the path unchanged
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return keysAnswer{resp.StatusCode, resp.Header, string(text)}
}

// must is do for a request whose response has to have that status.
func (c keysClient) must(status int, method, path, body string, header ...string) keysAnswer {
	c.t.Helper()
	a := c.do(method, path, body, header...)
	if a.status != status {
		c.t.Fatalf("%s %s: %d %s; want %d", method, path, a.status, a.body, status)
	}
	if status >= 400 && method != "HEAD" {
		var e struct{ Error string }
		if err := json.Unmarshal([]byte(a.body), &e); err != nil || e.Error == "" || a.header.Get("Content-Type") != httpfast.JSON {
			c.t.Errorf("%s %s: the error is %q, %s", method, path, a.body, a.header.Get("Content-Type"))
		}
	}
	return a
}

func keysNode(t *testing.T) (keysClient, *redistest.Server) {
	client, server := single(t)
	addr, _, _ := serve(t, client)
	return keysClient{t, addr}, server
}

func TestAKeyIsAResource(t *testing.T) {
	c, master := keysNode(t)
	c.must(404, "GET", "/v1/keys/a", "")
	c.must(404, "HEAD", "/v1/keys/a", "")
	c.must(404, "DELETE", "/v1/keys/a", "")

	made := c.must(201, "PUT", "/v1/keys/a", "<p>hello", "Content-Type", "text/html; charset=utf-8")
	got := c.must(200, "GET", "/v1/keys/a", "")
	if got.body != "<p>hello" || got.header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Errorf("got %q of the type %s", got.body, got.header.Get("Content-Type"))
	}
	if tag := made.header.Get("ETag"); len(tag) != 42 || got.header.Get("ETag") != tag {
		t.Errorf("ETag %s when written, %s when read", tag, got.header.Get("ETag"))
	}
	if !strings.Contains(got.header.Get("Content-Security-Policy"), "sandbox") || got.header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("a browser may run what a client stored: %v", got.header)
	}
	if got.header.Get(keyspace.TTLHeader) != "" {
		t.Errorf("a time to live without one: %s", got.header.Get(keyspace.TTLHeader))
	}
	if plain := master.Do("GET", "a"); plain != "<p>hello" {
		t.Errorf("for Redis the value is %q", plain)
	}
	head := c.must(200, "HEAD", "/v1/keys/a", "")
	if head.body != "" || head.header.Get("Content-Length") != "8" || head.header.Get("ETag") != got.header.Get("ETag") {
		t.Errorf("HEAD: %v", head)
	}

	again := c.must(204, "PUT", "/v1/keys/a", "<p>hello", "Content-Type", "text/plain")
	if again.header.Get("ETag") == made.header.Get("ETag") {
		t.Error("another type has the same ETag")
	}
	back := c.must(204, "PUT", "/v1/keys/a", "<p>hello", "Content-Type", "text/html; charset=utf-8")
	if back.header.Get("ETag") != made.header.Get("ETag") {
		t.Error("the same content has another ETag")
	}
	c.must(204, "DELETE", "/v1/keys/a", "")
	c.must(404, "GET", "/v1/keys/a", "")
	if left := master.Do("DBSIZE"); left != "0" {
		t.Errorf("%s keys are left", left)
	}
}

func TestTheTypeOfAValueIsNeverThatOfAnother(t *testing.T) {
	c, master := keysNode(t)
	c.must(201, "PUT", "/v1/keys/a", "{}", "Content-Type", "application/json")
	master.Do("SET", "a", "another client's")
	got := c.must(200, "GET", "/v1/keys/a", "")
	if got.header.Get("Content-Type") != keyspace.DefaultType {
		t.Errorf("another client's value is called %s", got.header.Get("Content-Type"))
	}
	// The preconditions have to see the type that GET sees.
	c.must(204, "PUT", "/v1/keys/a", "mine", "If-Match", got.header.Get("ETag"))

	// A client's script can write anything into the key with the type.
	for _, strange := range []string{"text/html\r\nSet-Cookie: a=b", "text/\x00", "", strings.Repeat("x", 256)} {
		master.Do("SET", keyspace.TypeKey("a"), fmt.Sprintf("%x", sha1.Sum([]byte("mine")))+" "+strange)
		got := c.must(200, "GET", "/v1/keys/a", "")
		if kind := got.header.Get("Content-Type"); kind != keyspace.DefaultType || got.header.Get("Set-Cookie") != "" {
			t.Errorf("a value of the type %.40q is sent as %.40q", strange, kind)
		}
		c.must(204, "PUT", "/v1/keys/a", "mine", "If-Match", got.header.Get("ETag"))
	}
	c.must(204, "PUT", "/v1/keys/a", "mine")
	if n := master.Do("DBSIZE"); n != "1" {
		t.Errorf("%s keys, where the default type needs no second one", n)
	}
}

func TestAnyBytesAreAKeyAndAValue(t *testing.T) {
	c, master := keysNode(t)
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for _, test := range []struct{ path, key string }{
		{"plain", "plain"},
		{"a/b//c", "a/b//c"},
		{"/leading", "/leading"},
		{"a%2Fb", "a/b"},
		{"a+b", "a+b"},
		{"a%2Bb%20c", "a+b c"},
		{"100%2525", "100%25"},
		{"%E4%BD%A0", "你"},
		{"x..%2F../y", "x../../y"},
		{"semi;colon=1&b", "semi;colon=1&b"},
		{"%7Btag%7Drest", "{tag}rest"},
		{"a%7Db", "a}b"},
		{"%FF%00%0D%0A", "\xff\x00\r\n"},
	} {
		c.must(201, "PUT", "/v1/keys/"+test.path, test.key+string(all), "Content-Type", "a/b")
		if got := c.must(200, "GET", "/v1/keys/"+test.path, ""); got.body != test.key+string(all) || got.header.Get("Content-Type") != "a/b" {
			t.Errorf("%s: %q of the type %s", test.path, got.body, got.header.Get("Content-Type"))
		}
		if got := master.Do("GET", test.key); got != test.key+string(all) {
			t.Errorf("%s: for Redis %q holds %q", test.path, test.key, got)
		}
		c.must(204, "DELETE", "/v1/keys/"+test.path, "")
	}
	c.must(201, "PUT", "/v1/keys/empty", "")
	if got := c.must(200, "GET", "/v1/keys/empty", ""); got.body != "" || got.header.Get("Content-Length") != "0" {
		t.Errorf("the empty value: %v", got)
	}
	big := strings.Repeat("0123456789", 1<<20)
	c.must(201, "PUT", "/v1/keys/big", big, "Content-Type", "text/plain")
	got := c.must(200, "GET", "/v1/keys/big", "")
	if got.body != big {
		t.Errorf("10 MB came back as %d bytes", len(got.body))
	}
	c.must(204, "PUT", "/v1/keys/big", "small", "If-Match", got.header.Get("ETag"))
}

func TestWhatIsNoKeyOrValueIsSaidSo(t *testing.T) {
	c, _ := keysNode(t)
	for _, test := range []struct {
		status       int
		method, path string
		header       []string
	}{
		{400, "GET", "/v1/keys/", nil},
		{400, "GET", "/v1/keys/%zz", nil},
		{400, "GET", "/v1/keys/50%25%", nil},
		{400, "GET", "/v1/keys/%00holdfast%00idem%00x", nil},
		{400, "PUT", "/v1/keys/%00holdfast%00type%00x", nil},
		{413, "GET", "/v1/keys/" + strings.Repeat("k", 64<<10+1), nil},
		{405, "POST", "/v1/keys/a", nil},
		{405, "PATCH", "/v1/keys/a", nil},
		{405, "PUT", "/v1/keys", nil},
		{405, "POST", "/v1/openapi.json", nil},
		{404, "GET", "/v1/", nil},
		{404, "GET", "/v1/key/a", nil},
		{400, "PUT", "/v1/keys/a", []string{"If-Match", `nonsense`}},
		{400, "PUT", "/v1/keys/a", []string{"If-None-Match", `"open`}},
		{400, "PUT", "/v1/keys/a", []string{"If-None-Match", `"a" "b"`}},
		{400, "PUT", "/v1/keys/a", []string{"If-None-Match", ``}},
		{400, "PUT", "/v1/keys/a", []string{keyspace.TTLHeader, "soon"}},
		{400, "PUT", "/v1/keys/a", []string{keyspace.TTLHeader, "0"}},
		{400, "PUT", "/v1/keys/a", []string{keyspace.TTLHeader, "-1s"}},
		{400, "PUT", "/v1/keys/a", []string{keyspace.TTLHeader, "1us"}},
		{400, "PUT", "/v1/keys/a", []string{keyspace.TTLHeader, "NaN"}},
		{400, "PUT", "/v1/keys/a", []string{keyspace.TTLHeader, "1e30"}},
		{400, "PUT", "/v1/keys/a?ttl=", nil},
		{400, "PUT", "/v1/keys/a?ttl=5", []string{keyspace.TTLHeader, "5"}},
		{400, "PUT", "/v1/keys/a", []string{"Content-Range", "bytes 0-1/2"}},
		{415, "PUT", "/v1/keys/a", []string{"Content-Encoding", "gzip"}},
		{400, "PUT", "/v1/keys/a", []string{"Content-Type", strings.Repeat("t", 256)}},
		{400, "PUT", "/v1/keys/a", []string{"Content-Type", "text/ä"}},
		{400, "GET", "/v1/keys/a?wait=long", nil},
		{400, "GET", "/v1/keys/%FF?watch", nil},
		{400, "GET", "/v1/keys?limit=0", nil},
		{400, "GET", "/v1/keys?limit=1001", nil},
		{400, "GET", "/v1/keys?cursor=0", nil},
		{400, "GET", "/v1/keys?cursor=" + base64.RawURLEncoding.EncodeToString([]byte("abc.x")), nil},
		{400, "GET", "/v1/keys?encoding=latin1", nil},
		{400, "GET", "/v1/keys?prefix=%zz", nil},
	} {
		a := c.must(test.status, test.method, test.path, "v", test.header...)
		if a.status == 405 && a.header.Get("Allow") == "" {
			t.Errorf("%s %s: no Allow", test.method, test.path)
		}
	}
	c.must(404, "GET", "/v1/keys/a", "")
}

func TestATimeToLive(t *testing.T) {
	c, master := keysNode(t)
	ttl := func(key string) int { n, _ := strconv.Atoi(master.Do("PTTL", key)); return n }
	for _, test := range []struct {
		given string
		want  time.Duration
	}{
		{"30s", 30 * time.Second}, {"1500ms", 1500 * time.Millisecond}, {"60", time.Minute},
		{"2.5", 2500 * time.Millisecond}, {"1h30m", 90 * time.Minute},
	} {
		for _, query := range []bool{false, true} {
			if query {
				c.do("PUT", "/v1/keys/k?ttl="+test.given, "v", "Content-Type", "text/plain")
			} else {
				c.do("PUT", "/v1/keys/k", "v", "Content-Type", "text/plain", keyspace.TTLHeader, test.given)
			}
			if got := time.Duration(ttl("k")) * time.Millisecond; got > test.want || got < test.want-time.Second {
				t.Errorf("%s became %v", test.given, got)
			}
			if a, b := ttl("k"), ttl(keyspace.TypeKey("k")); b > a+100 || a-b > 100 {
				t.Errorf("the key lives %d ms, its type %d ms", a, b)
			}
			header := c.must(200, "GET", "/v1/keys/k", "").header.Get(keyspace.TTLHeader)
			if s, err := strconv.ParseFloat(header, 64); err != nil || s > test.want.Seconds() || s < test.want.Seconds()-1 {
				t.Errorf("%s is answered as %s", test.given, header)
			}
		}
	}
	c.must(204, "PUT", "/v1/keys/k", "v")
	if ttl("k") != -1 {
		t.Error("a PUT without a time to live left the old one")
	}
	c.must(204, "PUT", "/v1/keys/k", "v", keyspace.TTLHeader, "20ms", "Content-Type", "text/plain")
	redistest.Eventually(t, 5*time.Second, "the key is gone", func() bool { return c.do("GET", "/v1/keys/k", "").status == 404 })
	redistest.Eventually(t, 5*time.Second, "its type is gone", func() bool { return master.Do("EXISTS", keyspace.TypeKey("k")) == "0" })
}

func TestPreconditions(t *testing.T) {
	c, _ := keysNode(t)
	tag := c.must(201, "PUT", "/v1/keys/k", "one", "Content-Type", "text/plain").header.Get("ETag")
	other := `"` + strings.Repeat("0", 40) + `"`
	for _, test := range []struct {
		method, path string
		status       int
		header       []string
	}{
		{"GET", "k", 304, []string{"If-None-Match", tag}},
		{"HEAD", "k", 304, []string{"If-None-Match", tag}},
		{"GET", "k", 304, []string{"If-None-Match", "W/" + tag}},
		{"GET", "k", 304, []string{"If-None-Match", `"a,b", ,` + other + "," + tag}},
		{"GET", "k", 304, []string{"If-None-Match", other, "If-None-Match", tag}},
		{"GET", "k", 304, []string{"If-None-Match", "*"}},
		{"GET", "k", 200, []string{"If-None-Match", other}},
		{"GET", "k", 200, []string{"If-Match", tag}},
		{"GET", "k", 412, []string{"If-Match", other}},
		{"GET", "k", 412, []string{"If-Match", "W/" + tag}},
		{"GET", "k", 412, []string{"If-Match", other, "If-None-Match", tag}},
		{"GET", "none", 404, []string{"If-Match", "*"}},
		{"GET", "none", 404, []string{"If-None-Match", "*"}},
		{"PUT", "k", 412, []string{"If-None-Match", "*"}},
		{"PUT", "k", 412, []string{"If-None-Match", tag}},
		{"PUT", "k", 412, []string{"If-None-Match", "W/" + tag}},
		{"PUT", "k", 412, []string{"If-Match", other}},
		{"PUT", "k", 412, []string{"If-Match", "W/" + tag}},
		{"PUT", "k", 412, []string{"If-Match", `"not,ours"`}},
		{"PUT", "none", 412, []string{"If-Match", "*"}},
		{"PUT", "none", 412, []string{"If-Match", tag}},
		{"DELETE", "k", 412, []string{"If-Match", other}},
		{"DELETE", "k", 412, []string{"If-None-Match", "*"}},
		{"DELETE", "none", 404, []string{"If-Match", "*"}},
		{"PUT", "k", 204, []string{"If-Match", tag, "Content-Type", "text/plain"}},
		{"PUT", "k", 204, []string{"If-Match", "*", "Content-Type", "text/plain"}},
		{"PUT", "k", 204, []string{"If-None-Match", other, "Content-Type", "text/plain"}},
		{"PUT", "k", 204, []string{"If-Match", other + ", " + tag, "Content-Type", "text/plain"}},
		{"PUT", "made", 201, []string{"If-None-Match", "*"}},
		{"DELETE", "made", 204, []string{"If-Match", "*"}},
		{"DELETE", "k", 204, []string{"If-Match", tag}},
	} {
		a := c.must(test.status, test.method, "/v1/keys/"+test.path, "one", test.header...)
		if a.status == 304 && (a.body != "" || a.header.Get("ETag") != tag) {
			t.Errorf("%v: %v", test, a)
		}
	}
}

func TestCompareAndSetCountsEveryIncrement(t *testing.T) {
	client, server := single(t)
	one, _, _ := serve(t, client)
	two, _, _ := serve(t, connect(t, server))
	c := keysClient{t, one}
	c.must(201, "PUT", "/v1/keys/n", "0")
	const each = 20
	var all sync.WaitGroup
	for _, addr := range []string{one, two, one, two} {
		all.Go(func() {
			c := keysClient{t, addr}
			for done := 0; done < each; {
				now := c.do("GET", "/v1/keys/n", "")
				n, _ := strconv.Atoi(now.body)
				switch a := c.do("PUT", "/v1/keys/n", strconv.Itoa(n+1), "If-Match", now.header.Get("ETag")); a.status {
				case 204:
					done++
				case 412:
				default:
					t.Errorf("%d %s", a.status, a.body)
					return
				}
			}
		})
	}
	all.Wait()
	if got := c.must(200, "GET", "/v1/keys/n", "").body; got != strconv.Itoa(4*each) {
		t.Errorf("%s, want %d", got, 4*each)
	}
}

func TestAKeyOfAnotherTypeIsNoResource(t *testing.T) {
	c, master := keysNode(t)
	master.Do("RPUSH", "l", "x")
	for _, method := range []string{"GET", "PUT", "DELETE"} {
		a := c.must(409, method, "/v1/keys/l", "v")
		if !strings.Contains(a.body, "list") {
			t.Errorf("%s does not say what it holds: %s", method, a.body)
		}
	}
	c.must(409, "HEAD", "/v1/keys/l", "")
	c.must(409, "GET", "/v1/keys/l?watch", "")
	c.must(409, "GET", "/v1/keys/l?wait=9", "")
	if got := master.Do("LLEN", "l"); got != "1" {
		t.Errorf("the list has %s elements now", got)
	}
}

// list reads all pages. It returns the keys, how many binary ones were left out, and the number of
// pages.
func (c keysClient) list(query string) (keys []string, binary int, pages int) {
	c.t.Helper()
	cursor := ""
	for {
		var p listedKeys
		if err := json.Unmarshal([]byte(c.must(200, "GET", "/v1/keys?"+query+"&cursor="+cursor, "").body), &p); err != nil {
			c.t.Fatal(err)
		}
		keys, binary, cursor = append(keys, p.Keys...), binary+p.Binary, p.Cursor
		if pages++; cursor == "" {
			slices.Sort(keys)
			return slices.Compact(keys), binary, pages
		}
	}
}

func TestKeysAreListedByTheirPrefix(t *testing.T) {
	c, master := keysNode(t)
	var want []string
	for i := range 500 {
		want = append(want, fmt.Sprintf("a:%03d", i))
		master.Do("SET", want[i], "x")
		master.Do("SET", fmt.Sprintf("b:%03d", i), "x")
	}
	c.must(201, "PUT", "/v1/keys/c:typed", "x", "Content-Type", "text/plain")
	for _, limit := range []int{1, 7, 100, 1000} {
		keys, _, pages := c.list(fmt.Sprintf("prefix=a:&limit=%d", limit))
		if !slices.Equal(keys, want) {
			t.Errorf("limit %d: %d keys, want %d", limit, len(keys), len(want))
		}
		if limit < 500 && pages < 500/limit/3 || limit == 1000 && pages != 1 {
			t.Errorf("limit %d: %d pages", limit, pages)
		}
	}
	if keys, _, _ := c.list(""); len(keys) != 1001 {
		t.Errorf("%d keys altogether, want 1001: those of Holdfast are not listed", len(keys))
	}
	for _, key := range []string{"*", "[x]", "x?", `\`, "x-^", "a*b"} {
		master.Do("SET", key, "x")
		if keys, _, _ := c.list("prefix=" + url.QueryEscape(key)); !slices.Equal(keys, []string{key}) {
			t.Errorf("the prefix %s: %q", key, keys)
		}
	}
	master.Do("SET", "bin\xff", "x")
	if keys, binary, _ := c.list("prefix=bin"); len(keys) != 0 || binary != 1 {
		t.Errorf("a key that is not UTF-8: %q, %d left out", keys, binary)
	}
	if keys, _, _ := c.list("prefix=bin&encoding=base64"); !slices.Equal(keys, []string{base64.StdEncoding.EncodeToString([]byte("bin\xff"))}) {
		t.Errorf("in base64: %q", keys)
	}
	if body := c.must(200, "GET", "/v1/keys?prefix=nobody", "").body; body != `{"keys":[]}`+"\n" {
		t.Errorf("no keys: %s", body)
	}
}

func TestACursorIsGoodAtEveryNodeButNotForAnotherRedis(t *testing.T) {
	client, server := single(t)
	one, _, _ := serve(t, client)
	two, _, _ := serve(t, connect(t, server))
	other, _ := single(t)
	three, _, _ := serve(t, other)
	for i := range 100 {
		server.Do("SET", strconv.Itoa(i), "x")
	}
	var p, q listedKeys
	if err := json.Unmarshal([]byte(keysClient{t, one}.must(200, "GET", "/v1/keys?limit=10", "").body), &p); err != nil || p.Cursor == "" {
		t.Fatal(p, err)
	}
	if err := json.Unmarshal([]byte(keysClient{t, two}.must(200, "GET", "/v1/keys?limit=1000&cursor="+p.Cursor, "").body), &q); err != nil {
		t.Fatal(err)
	}
	all := append(p.Keys, q.Keys...)
	slices.Sort(all)
	if n := len(slices.Compact(all)); n != 100 {
		t.Errorf("two nodes listed %d of 100 keys", n)
	}
	keysClient{t, three}.must(410, "GET", "/v1/keys?cursor="+p.Cursor, "")
}

func TestTheCursorOfACommandIsGoodAtEveryNodeButNotForAnotherRedis(t *testing.T) {
	client, server := single(t)
	one, _, _ := serve(t, client)
	two, _, _ := serve(t, connect(t, server))
	other, alike := single(t)
	three, _, _ := serve(t, other)
	for _, s := range []*redistest.Server{server, alike} {
		s.Do("EVAL", "for i = 1, 1000 do redis.call('SADD', 's', 'member ' .. i) end", "0")
	}
	var answer struct{ Result [2]json.RawMessage }
	var cursor string
	if err := json.Unmarshal([]byte(keysClient{t, one}.must(200, "GET", "/sscan/s/0", "").body), &answer); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(answer.Result[0], &cursor); err != nil || cursor == "0" {
		t.Fatal(cursor, err)
	}
	// Clients send the cursor as text and as a number.
	keysClient{t, two}.must(200, "GET", "/sscan/s/"+cursor, "")
	keysClient{t, two}.must(200, "PUT", "/", `["SSCAN","s",`+cursor+`]`)
	const words = `{"error":"ERR invalid cursor: the Redis process that is the master now did not give it, as after a failover or a restart of Redis; begin again with the cursor 0"}`
	for _, c := range []struct{ method, path, body string }{{"GET", "/sscan/s/" + cursor, ""}, {"PUT", "/", `["SSCAN","s","` + cursor + `","COUNT","10"]`}} {
		if got := (keysClient{t, three}).must(410, c.method, c.path, c.body).body; got != words {
			t.Errorf("%s %s: %s", c.method, c.path, got)
		}
	}
	for path, want := range map[string]string{"/pipeline": `[` + words + `,{"result":"x"}]`, "/multi-exec": `[` + words + `,{"result":"x"}]`} {
		if got := (keysClient{t, three}).must(200, "PUT", path, `[["SSCAN","s",`+cursor+`],["ECHO","x"]]`).body; got != want {
			t.Errorf("%s: %s", path, got)
		}
	}
	if got := (keysClient{t, three}).do("GET", "/sscan/s/"+cursor, "", consistency.FormatHeader, "resp2"); got.status != 410 || !strings.HasPrefix(got.body, "-ERR invalid cursor: ") {
		t.Errorf("as Redis sends it: %v", got)
	}
	keysClient{t, three}.must(400, "GET", "/sscan/s/x", "")
}

// listedKeys is the response to GET /v1/keys.
type listedKeys struct {
	Keys   []string
	Cursor string
	Binary int
}

package test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"holdfast/internal/drill/report/browsertest"
)

// attacks is a page that tries to write to a node in every way that a page has.
const attacks = `<!doctype html><meta name=referrer content=%[2]q><body><script>
const target = %[1]q, waits = [];
const add = (tag, set) => waits.push(new Promise(done => {
	const e = document.createElement(tag);
	set(e);
	e.onload = e.onerror = done;
	document.body.append(e);
	if (e.tagName == "FORM") { e.submit(); done(); }
}));
const frame = (name, sandbox) => { const f = document.createElement("iframe"); f.name = name; if (sandbox) f.sandbox = sandbox; document.body.append(f); return name; };
for (const method of ["GET", "POST"]) for (const mode of ["no-cors", "cors"])
	waits.push(fetch(target + "/set/fetch-" + method + mode + "/x", {method, mode}).catch(() => {}));
for (const method of ["PUT", "DELETE"]) waits.push(fetch(target + "/set/fetch-" + method + "/x", {method}).catch(() => {}));
waits.push(fetch(target, {method: "POST", body: '["SET","json","x"]', headers: {"Content-Type": "application/json"}}).catch(() => {}));
waits.push(fetch(target, {method: "POST", mode: "no-cors", body: '["SET","text","x"]'}).catch(() => {}));
waits.push(fetch(target + "/pipeline", {method: "POST", mode: "no-cors", keepalive: true, body: '[["SET","pipe","x"]]'}).catch(() => {}));
navigator.sendBeacon(target, '["SET","beacon","x"]');
add("img", e => e.src = target + "/set/img/x");
add("img", e => e.src = target + "/set?key=img2&value=x");
add("script", e => e.src = target + "/set/script/x");
add("iframe", e => e.src = target + "/set/iframe/x");
add("iframe", e => { e.sandbox = "allow-scripts"; e.srcdoc = "<img src=" + target + "/set/sandboxed/x><script>fetch('" + target + "/set/sandboxed2/x', {method: 'POST', mode: 'no-cors'})</" + "script>"; });
add("link", e => { e.rel = "stylesheet"; e.href = target + "/set/style/x"; });
add("object", e => e.data = target + "/set/object/x");
add("video", e => { e.src = target + "/set/video/x"; });
add("form", e => { e.action = target + "/set/form/x"; e.method = "POST"; e.target = frame("a"); });
add("form", e => { e.action = target; e.method = "POST"; e.enctype = "text/plain"; e.target = frame("b"); e.innerHTML = "<input name='[\"SET\",\"plain\",\"' value='x\"]'>"; });
add("form", e => { e.action = target + "/set"; e.target = frame("c"); e.innerHTML = "<input name=key value=query><input name=value value=x>"; });
waits.push(new Promise(done => { const s = new EventSource(target + "/set/events/x"); s.onerror = s.onopen = () => { s.close(); done(); }; }));
waits.push(new Promise(done => { const s = new WebSocket(target.replace("http", "ws") + "/set/socket/x"); s.onerror = s.onopen = done; }));
const limit = new Promise(done => setTimeout(done, 1500));
Promise.race([Promise.all(waits), limit]).then(() => setTimeout(() => location = target + "/set/location/x", 300));
</script>`

// attackedKeys are the keys that the page would write.
var attackedKeys = strings.Fields("fetch-GETno-cors fetch-GETcors fetch-POSTno-cors fetch-POSTcors fetch-PUT fetch-DELETE json text pipe beacon img img2 " +
	"script iframe sandboxed sandboxed2 style object video form plain query events socket location")

func TestAPageOfAnotherSiteInABrowser(t *testing.T) {
	beside(t, oneStack)
	entry := freePort(t)
	s := newInstance(t, fmt.Sprintf("entry: {listen: \"127.0.0.1:%d\", hosts: [node.example]}\nbalancers: 1\napps: {web: {kv: {}, nodes: 1}}\nredis: {replicas: 0, sentinels: 0}\n", entry))
	s.must("up", "-d")
	node, port := s.status().Entry, strconv.Itoa(entry)
	var target, policy string
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, attacks, target, policy)
	}))
	defer evil.Close()
	page := strings.Replace(evil.URL, "127.0.0.1", "evil.example", 1)
	ctx := browsertest.Open(t, "about:blank", chromedp.Flag("host-resolver-rules", "MAP *.example 127.0.0.1"))
	// For a plain http target a browser does not reveal which page asks.
	for _, round := range [][2]string{{"127.0.0.1", "no-referrer"}, {"node.example", "no-referrer"}, {"node.example", "unsafe-url"}} {
		target, policy = "http://"+round[0]+":"+port, round[1]
		if err := chromedp.Do(ctx, chromedp.Navigate(page)); err != nil {
			t.Fatal(err)
		}
		for begun := time.Now(); ; time.Sleep(50 * time.Millisecond) {
			at, err := chromedp.Run(ctx, chromedp.Location())
			if err == nil && strings.HasPrefix(at, target) {
				break
			}
			if time.Since(begun) > 20*time.Second {
				t.Fatalf("the page is not done: %s, %v", at, err)
			}
		}
		for _, key := range attackedKeys {
			if code, body := get(t, node+"/getdel/"+key); body != `{"result":null}` {
				t.Errorf("%s, %s: %s was written: %d %s", target, policy, key, code, body)
			}
		}
	}
	for _, try := range []struct{ address, want string }{
		{"http://127.0.0.1:" + port + "/set/rebound/typed", "OK"}, // as typed into the address bar
		{"http://node.example:" + port + "/get/rebound", "typed"},
		{"http://evil.example:" + port + "/set/rebound/x", "Host of the request"},
	} {
		if err := chromedp.Do(ctx, chromedp.Navigate(try.address)); err != nil {
			t.Fatal(err)
		}
		if text, err := chromedp.Run(ctx, chromedp.Text("body")); err != nil || !strings.Contains(text, try.want) {
			t.Errorf("%s: %q, %v", try.address, text, err)
		}
	}
	expect(t, node+"/get/rebound", 200, `{"result":"typed"}`)
}

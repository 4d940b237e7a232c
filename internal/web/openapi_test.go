package web

import (
	"bytes"
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"holdfast/internal/redis"
	"holdfast/internal/web/consistency"
	"holdfast/internal/web/httpfast"
	"holdfast/internal/web/keyspace"
	"holdfast/internal/web/routes"
)

// openAPI is the part of the description that the tests read.
type openAPI struct {
	OpenAPI    string                                `json:"openapi"`
	Paths      map[string]map[string]json.RawMessage `json:"paths"`
	Components struct {
		Responses map[string]openAPIResponse `json:"responses"`
		Headers   map[string]openAPIHeader   `json:"headers"`
		Schemas   map[string]json.RawMessage `json:"schemas"`
	} `json:"components"`
}

type openAPIOperation struct {
	OperationID string                     `json:"operationId"`
	Responses   map[string]openAPIResponse `json:"responses"`
}

type openAPIResponse struct {
	Ref     string                               `json:"$ref"`
	Headers map[string]openAPIHeader             `json:"headers"`
	Content map[string]map[string]map[string]any `json:"content"`
}

type openAPIHeader struct {
	Ref string `json:"$ref"`
}

var httpMethods = []string{"get", "head", "post", "put", "delete", "patch", "options", "trace"}

func readOpenAPI(t *testing.T, body string) (doc openAPI) {
	t.Helper()
	if err := json.Unmarshal([]byte(body), &doc); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1.") || len(doc.Paths) < 10 {
		t.Fatalf("OpenAPI %q with %d paths", doc.OpenAPI, len(doc.Paths))
	}
	return doc
}

// operation returns what the description says about a method of a path; false: nothing.
func (d *openAPI) operation(t *testing.T, path, method string) (o openAPIOperation, ok bool) {
	t.Helper()
	raw, ok := d.Paths[path][strings.ToLower(method)]
	if ok {
		if err := json.Unmarshal(raw, &o); err != nil {
			t.Fatal(err)
		}
	}
	return o, ok
}

func TestTheDescriptionIsConsistent(t *testing.T) {
	doc := readOpenAPI(t, string(description))
	var all any
	if err := json.Unmarshal(description, &all); err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`"\$ref": "#/([^"]*)"`).FindAllSubmatch(description, -1) {
		at, ok := all, true
		for step := range strings.SplitSeq(string(m[1]), "/") {
			var object map[string]any
			if object, ok = at.(map[string]any); ok {
				at, ok = object[step]
			}
			if !ok {
				t.Errorf("a reference leads nowhere: %s", m[1])
				break
			}
		}
	}
	ids := map[string]bool{}
	for path, item := range doc.Paths {
		for method := range item {
			if method == "parameters" {
				continue
			}
			if !slices.Contains(httpMethods, method) {
				t.Errorf("%s: %s is no method", path, method)
			}
			o, _ := doc.operation(t, path, method)
			if o.OperationID == "" || ids[o.OperationID] || len(o.Responses) == 0 {
				t.Errorf("%s %s: operationId %q, %d responses", method, path, o.OperationID, len(o.Responses))
			}
			ids[o.OperationID] = true
			for _, m := range regexp.MustCompile(`{(\w+)}`).FindAllStringSubmatch(path, -1) {
				given := string(item[method]) + string(item["parameters"])
				if !regexp.MustCompile(`"name": "` + m[1] + `",\s*"in": "path",\s*"required": true`).MatchString(given) {
					t.Errorf("%s %s: its parameter %s is not described", method, path, m[1])
				}
			}
		}
	}
	schemas := openAPISchemas(t)
	for name := range doc.Components.Schemas {
		if _, err := schemas.Compile("openapi.json#/components/schemas/" + name); err != nil {
			t.Error(err)
		}
	}
}

func openAPISchemas(t *testing.T) *jsonschema.Compiler {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(description))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("openapi.json", doc); err != nil {
		t.Fatal(err)
	}
	return c
}

// Each route is described, with its methods and no others, and nothing else is.
func TestTheDescriptionHasEveryRoute(t *testing.T) {
	doc := readOpenAPI(t, string(description))
	described := func(path string) string {
		var set routes.MethodSet
		for i, name := range routes.Methods {
			if _, there := doc.Paths[path][strings.ToLower(name)]; there {
				set |= 1 << i
			}
		}
		return set.String()
	}
	routed := map[string]bool{}
	for i := range routes.Table {
		r := &routes.Table[i]
		if r.Missing != "" {
			continue
		}
		routed[r.Path] = true
		if got, want := described(r.Path), r.Methods.String(); got != want {
			t.Errorf("%s is described with the methods %q, and has %q", r.Path, got, want)
		}
	}
	routed["/{command}/{arguments}"] = true // the table's line /{command} has both
	for path := range doc.Paths {
		if !routed[path] {
			t.Errorf("%s is described, and is no route", path)
		}
	}
}

func TestEveryRouteHasAHandler(t *testing.T) {
	server := New(Config{}, &scripted{})
	handlers := server.routeHandlers()
	for i := range routes.Table {
		r := &routes.Table[i]
		if r.Number != i || (handlers[r.Path] == nil) != (r.Missing != "") || (server.handlers[i] == nil) != (r.Missing != "") {
			t.Errorf("%s, number %d: handler %t, text of an error %q", r.Path, r.Number, handlers[r.Path] != nil, r.Missing)
		}
		delete(handlers, r.Path)
	}
	for path := range handlers {
		t.Errorf("the handler of %s has no line in the table", path)
	}
}

// samplePath returns a path of the description with values for its parameters.
func samplePath(path string) string {
	return strings.NewReplacer("{key}", "there", "{command}/{arguments}", "get/there", "{command}", "ping",
		"{channels}", "c", "{patterns}", "p*").Replace(path)
}

func TestWhatIsDescribedIsServedAndNothingElse(t *testing.T) {
	client, server := single(t)
	addr, _, _ := serve(t, client)
	c := keysClient{t, addr}
	doc := readOpenAPI(t, c.must(200, "GET", "/v1/openapi.json", "").body)
	for path := range doc.Paths {
		for _, method := range httpMethods {
			server.Do("SET", "there", "x")
			_, described := doc.operation(t, path, method)
			req, err := http.NewRequestWithContext(t.Context(), strings.ToUpper(method), "http://"+addr+samplePath(path), nil)
			if err != nil {
				t.Fatal(err)
			}
			switch path {
			case "/get":
				req.URL.RawQuery = "key=there"
			case "/set":
				req.URL.RawQuery = "key=there&value=x"
			}
			resp, err := http.DefaultClient.Do(req) // of a stream only the beginning
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			switch missing := resp.StatusCode == 404 || resp.StatusCode == 405; {
			case described && missing:
				t.Errorf("%s %s is described, and answered with %d", method, path, resp.StatusCode)
			case !described && resp.StatusCode < 400:
				t.Errorf("%s %s is not described, and answered with %d", method, path, resp.StatusCode)
			}
			o, _ := doc.operation(t, path, method)
			if _, ok := o.Responses[strconv.Itoa(resp.StatusCode)]; described && !ok {
				t.Errorf("%s %s is answered with %d, which is not described", method, path, resp.StatusCode)
			}
		}
	}
	for _, path := range []string{"/v1", "/v1/", "/v1/key", "/v1/keysx", "/v1/openapi.yaml", "/healthz", "/healthz/", "/healthz/x", "/metrics", "/debug/pprof/", "/pipeline/x", "/monitor/x"} {
		if a := c.do("GET", path, ""); a.status != 404 && a.status != 405 {
			t.Errorf("%s is not described, and answered with %d %s", path, a.status, a.body)
		}
	}
}

// A request for another host's name is refused on each path except two, which balancers ask for by
// any name. The description says so.
func TestTheRefusalOfAnotherHostIsDescribed(t *testing.T) {
	client, _ := single(t)
	url, _, _ := serveWith(t, Config{Hosts: ownNames(t)}, client)
	doc := readOpenAPI(t, string(description))
	for path := range doc.Paths {
		for _, method := range httpMethods {
			o, described := doc.operation(t, path, method)
			if !described {
				continue
			}
			req, err := http.NewRequestWithContext(t.Context(), strings.ToUpper(method), url+samplePath(path), nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = "elsewhere.example"
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			refused := resp.StatusCode == http.StatusMisdirectedRequest
			if _, ok := o.Responses["421"]; ok != refused || refused == (path == "/healthz/live" || path == "/healthz/ready") {
				t.Errorf("%s %s is answered with %d, and 421 is described: %t", method, path, resp.StatusCode, ok)
			}
		}
	}
}

// The responses to the main cases are as described: the status, the headers of ours, the type and
// the body.
func TestAnswersAreAsDescribed(t *testing.T) {
	client, server := single(t)
	store := script(client)
	addr, _, _ := serve(t, store)
	c := keysClient{t, addr}
	doc := readOpenAPI(t, string(description))
	schemas := openAPISchemas(t)
	server.Do("RPUSH", "list", "x")
	server.Do("SET", "bin", "\xff")

	ours := regexp.MustCompile(`^(Holdfast-.*|Upstash-.*|Etag|Retry-After|Www-Authenticate)$`)
	check := func(method, path, url string, status int, body string, header ...string) keysAnswer {
		t.Helper()
		o, ok := doc.operation(t, path, method)
		if !ok {
			t.Fatalf("%s %s is not described", method, path)
		}
		a := c.do(method, url, body, header...)
		if a.status != status {
			t.Errorf("%s %s: %d %s, want %d", method, url, a.status, a.body, status)
			return a
		}
		at := "openapi.json#/paths/" + strings.ReplaceAll(strings.ReplaceAll(path, "~", "~0"), "/", "~1") + "/" + strings.ToLower(method) + "/responses/" + strconv.Itoa(status)
		r, ok := o.Responses[strconv.Itoa(status)]
		if !ok {
			t.Errorf("%s %s: %d is not described", method, path, status)
			return a
		}
		if r.Ref != "" {
			at = "openapi.json" + r.Ref
			r = doc.Components.Responses[r.Ref[strings.LastIndex(r.Ref, "/")+1:]]
		}
		described := map[string]openAPIHeader{}
		for name, h := range r.Headers {
			described[http.CanonicalHeaderKey(name)] = h
		}
		for name, values := range a.header {
			if !ours.MatchString(name) {
				continue
			}
			h, ok := described[name]
			if !ok {
				t.Errorf("%s %s, %d: the header %s is not described", method, url, status, name)
				continue
			}
			s, err := schemas.Compile("openapi.json" + h.Ref + "/schema")
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Validate(values[0]); err != nil {
				t.Errorf("%s %s, %d: the header %s: %v", method, url, status, name, err)
			}
		}
		if a.body == "" {
			if len(r.Content) > 0 && a.header.Get("Content-Length") != "0" {
				t.Errorf("%s %s, %d: content is described, and there is none", method, url, status)
			}
			return a
		}
		contentType := a.header.Get("Content-Type")
		content, ok := r.Content[contentType]
		if _, any := r.Content["*/*"]; !ok && !any {
			t.Errorf("%s %s, %d: the type %s is not described", method, url, status, contentType)
		}
		if content != nil && contentType == httpfast.JSON {
			s, err := schemas.Compile(at + "/content/application~1json/schema")
			if err != nil {
				t.Fatal(err)
			}
			v, err := jsonschema.UnmarshalJSON(strings.NewReader(a.body))
			if err != nil {
				t.Fatalf("%s %s: %v", method, url, err)
			}
			if err := s.Validate(v); err != nil {
				t.Errorf("%s %s, %d: %v", method, url, status, err)
			}
		}
		return a
	}
	const key, keys = "/v1/keys/{key}", "/v1/keys"
	made := check("PUT", key, "/v1/keys/a", 201, "one", keyspace.TTLHeader, "100", "Content-Type", "text/plain", consistency.TokenHeader, "")
	tag := made.header.Get("ETag")
	check("PUT", key, "/v1/keys/a", 204, "one", keyspace.TTLHeader, "100", "Content-Type", "text/plain")
	check("PUT", key, "/v1/keys/a", 412, "one", "If-None-Match", "*", consistency.TokenHeader, "")
	check("PUT", key, "/v1/keys/a", 400, "one", keyspace.TTLHeader, "x")
	check("PUT", key, "/v1/keys/a", 415, "one", "Content-Encoding", "gzip")
	check("PUT", key, "/v1/keys/list", 409, "one")
	check("PUT", key, "/v1/keys/"+strings.Repeat("k", 64<<10+1), 413, "one")
	check("GET", key, "/v1/keys/a", 200, "", consistency.TokenHeader, "")
	check("GET", key, "/v1/keys/a", 304, "", "If-None-Match", tag)
	check("GET", key, "/v1/keys/a", 412, "", "If-Match", `"x"`)
	check("GET", key, "/v1/keys/none", 404, "")
	check("GET", key, "/v1/keys/list", 409, "")
	check("GET", key, "/v1/keys/a?wait=x", 400, "")
	check("HEAD", key, "/v1/keys/a", 200, "")
	check("HEAD", key, "/v1/keys/none", 404, "")
	check("DELETE", key, "/v1/keys/a", 412, "", "If-Match", `"x"`)
	check("DELETE", key, "/v1/keys/list", 409, "")
	check("DELETE", key, "/v1/keys/a", 204, "")
	check("DELETE", key, "/v1/keys/a", 404, "")
	check("GET", keys, "/v1/keys", 200, "")
	check("GET", keys, "/v1/keys?limit=1", 200, "")
	check("GET", keys, "/v1/keys?limit=x", 400, "")
	check("GET", keys, "/v1/keys?cursor=YS4w", 410, "")
	check("GET", "/{command}/{arguments}", "/scan/17", 410, "")
	check("GET", "/{command}/{arguments}", "/scan/18", 410, "", consistency.TokenHeader, "")
	check("PUT", "/", "/", 410, `["SCAN",17]`)
	check("GET", "/v1/openapi.json", "/v1/openapi.json", 200, "")
	check("HEAD", "/v1/openapi.json", "/v1/openapi.json", 200, "")

	check("GET", "/set", "/set?key=k&value=v", 200, "")
	check("GET", "/set", "/set?key=k", 400, "")
	check("GET", "/get", "/get?key=k", 200, "")
	check("GET", "/get", "/get?key=bin", 200, "")
	check("GET", "/get", "/get?key=none", 404, "")
	check("GET", "/get", "/get?key=list", 409, "")
	check("HEAD", "/get", "/get?key=k", 200, "")
	check("PUT", "/", "/", 200, `["SET","k","v"]`, consistency.TokenHeader, "")
	check("PUT", "/", "/", 200, `["LRANGE","list","0","-1"]`)
	check("PUT", "/", "/", 400, `["LLEN","k"]`)
	check("PUT", "/", "/", 400, `nonsense`)
	check("PUT", "/pipeline", "/pipeline", 200, `[["SET","k","v"],["LLEN","k"],["MGET","k","none"]]`)
	check("PUT", "/pipeline", "/pipeline", 400, `{}`)
	check("PUT", "/multi-exec", "/multi-exec", 200, `[["SET","k","v"],["LLEN","k"]]`)
	check("PUT", "/multi-exec", "/multi-exec", 400, `[["SET","k"]]`)
	check("GET", "/{command}", "/ping", 200, "")
	check("GET", "/{command}", "/nonsense", 400, "")
	check("GET", "/{command}/{arguments}", "/get/k", 200, "")
	check("GET", "/{command}/{arguments}", "/get/none", 200, "")
	check("GET", "/{command}/{arguments}", "/get/list", 400, "")
	for _, path := range []string{"/healthz/live", "/healthz/ready", "/healthz/master"} {
		check("GET", path, path, 200, "")
		check("HEAD", path, path, 200, "")
	}
	store.setStatus(&redis.Status{Why: "nobody was asked yet"})
	check("GET", "/healthz/ready", "/healthz/ready", 503, "")
	check("GET", "/healthz/master", "/healthz/master", 503, "")
	for _, test := range []struct {
		kind   redis.Kind
		status int
	}{{redis.NotExecuted, 503}, {redis.Overloaded, 503}, {redis.Unknown, 504}} {
		store.fail(&redis.Error{Kind: test.kind})
		check("PUT", key, "/v1/keys/a", test.status, "x")
		check("DELETE", key, "/v1/keys/a", test.status, "")
		check("PUT", "/", "/", test.status, `["SET","k","v"]`)
		check("GET", "/set", "/set?key=k&value=v", test.status, "")
		if test.kind != redis.Unknown { // a read is never unknown
			check("GET", keys, "/v1/keys", test.status, "")
		}
		check("GET", key, "/v1/keys/a", test.status, "")
	}
}

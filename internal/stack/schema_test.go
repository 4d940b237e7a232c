package stack

import (
	"bytes"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/rogpeppe/go-internal/txtar"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

func compiled(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("holdfast.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("holdfast.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	if s.DraftVersion != 2020 {
		t.Errorf("draft %d, want 2020-12", s.DraftVersion)
	}
	return s
}

// editorsView returns a file as an editor checks it against the schema.
func editorsView(t *testing.T, data []byte) any {
	t.Helper()
	var v any
	if err := yaml.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestTheSchemaTakesWhatParseTakes(t *testing.T) {
	s := compiled(t)
	files := examples(t)
	files["empty"] = nil
	files["full"] = []byte(full)
	files["the default, shown"] = Default().Show()
	fullStack := parsed(t, full)
	files["full, shown"] = fullStack.Show()
	files["sections left empty"] = []byte("apps:\nredis:\nentry:\ntimeouts:\nroutes:\ntcp:\n")
	files["forgiven"] = []byte("apps:\n  web:\n    kv:\nredis: {ports: 7001, save: 900 1, memory: 0}\nentry: {statistics: \"\"}\n")
	for name, data := range files {
		if err := s.Validate(editorsView(t, data)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTheSchemaRefusesWhatParseRefuses(t *testing.T) {
	s := compiled(t)
	// Only Parse checks rules about several values. The others are not visible in the YAML that an
	// editor checks, or cannot be expressed by a pattern.
	beyond := []string{
		"twice.yaml", "app-twice.yaml",
		"sizes-small.yaml", "sizes-large.yaml",
		"more-ports-than-nodes.yaml", "server-is-the-entry.yaml", "server-twice.yaml",
		"statistics-hides-all.yaml",
		"on-without-hosts.yaml", "on-nobody.yaml", "on-twice.yaml", "on-a-witness.yaml", "only-for-nobody.yaml", "one-address.yaml", "network-alone.yaml", "open-nodes.yaml", "open-program.yaml",
		"virtual-short-advertise.yaml", "virtual-long-advertise.yaml", "virtual-fraction.yaml", "virtual-strange.yaml", "virtual-none.yaml", "virtual-without-hosts.yaml", "virtual-three.yaml", "virtual-router-of-two.yaml", "virtual-of-a-host.yaml", "virtual-twice.yaml", "virtual-versions.yaml", "virtual-entry.yaml",
		"tls-none.yaml", "tls-two.yaml", "tls-twice.yaml", "tls-no-file.yaml", "tls-home.yaml", "tls-same-port.yaml", "tls-hsts-long.yaml", "proxy-protocol.yaml", "tcp-entry.yaml", "tcp-none.yaml", "tcp-two.yaml",
		"no-tokens.yaml", "tokens-twice.yaml", "remember-too-short.yaml", "key-larger-than-body.yaml", "open-without-tokens.yaml",
	}
	for _, archive := range []string{"keys", "values", "apps", "kv", "hosts", "virtual", "tls"} {
		a, err := txtar.ParseFile("testdata/broken/" + archive + ".txtar")
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range a.Files {
			if !bytes.HasSuffix([]byte(f.Name), []byte(".yaml")) || slices.Contains(beyond, f.Name) {
				continue
			}
			if s.Validate(editorsView(t, f.Data)) == nil {
				t.Errorf("the schema takes %s:\n%s", f.Name, f.Data)
			}
		}
	}
}

func TestEveryFieldIsAKeyAndEveryKeyAField(t *testing.T) {
	var root schema = objectSchema(stackKeys)
	sameKeys(t, "", reflect.TypeFor[Stack](), root)
}

// sameKeys compares a struct's yaml tags with a schema's properties, and does the same below them.
func sameKeys(t *testing.T, where string, typ reflect.Type, s schema) {
	t.Helper()
	properties, _ := s["properties"].(schema)
	var tags []string
	for _, field := range reflect.VisibleFields(typ) { // those of embedded structs, too
		if field.Anonymous {
			continue
		}
		tag := field.Tag.Get("yaml")
		if tag == "-" {
			continue
		}
		tags = append(tags, tag)
		below, ok := properties[tag].(schema)
		if where == ".tcp.tls" && slices.Contains([]string{"redirect", "hsts"}, tag) {
			continue // only entry.tls has these
		}
		if !ok {
			t.Errorf("%s.%s (%q) is no key", where, field.Name, tag)
			continue
		}
		if below["description"] == "" {
			t.Errorf("%s.%s has no description", where, tag)
		}
		switch elem := field.Type; {
		case elem.Kind() == reflect.Struct:
			sameKeys(t, where+"."+tag, elem, below)
		case elem.Kind() == reflect.Pointer:
			sameKeys(t, where+"."+tag, elem.Elem(), below)
		case elem.Kind() == reflect.Slice && elem.Elem().Kind() == reflect.Struct:
			items, isList := below["items"].(schema)
			if !isList { // a list in the struct, but names in the file
				items = below["additionalProperties"].(schema)
			}
			sameKeys(t, where+"."+tag, elem.Elem(), items)
		case elem.Kind() == reflect.Map && elem.Elem().Kind() == reflect.Struct:
			sameKeys(t, where+"."+tag, elem.Elem(), below["additionalProperties"].(schema))
		}
	}
	for key := range properties {
		if !slices.Contains(tags, key) {
			t.Errorf("%s: the key %q has no field", where, key)
		}
	}
}

func TestEachKeyReadsIntoItsOwnField(t *testing.T) {
	// Every field of the full stack differs from its zero value. So a key that reads into the wrong
	// field leaves its own field zero.
	s := parsed(t, full)
	notZero(t, "redis", reflect.ValueOf(s.Redis), "Save")
	notZero(t, "backup", reflect.ValueOf(s.Backup), "PassphraseFile")
	notZero(t, "backup.s3", reflect.ValueOf(s.Backup.S3))
	notZero(t, "hosts", reflect.ValueOf(s.Hosts[0]))
	notZero(t, "timeouts", reflect.ValueOf(s.Timeouts))
	notZero(t, "entry", reflect.ValueOf(s.Entry), "Statistics")
	notZero(t, "entry.tls", reflect.ValueOf(s.Entry.TLS))
	notZero(t, "entry.tls", reflect.ValueOf(s.Entry.TLS.CertificateSet), "SelfSigned", "Directory")
	notZero(t, "entry.tls.certificates", reflect.ValueOf(s.Entry.TLS.Certificates[0]))
	notZero(t, "entry.virtual", reflect.ValueOf(s.Entry.Virtual))
	notZero(t, "tcp", reflect.ValueOf(s.TCP[1]))
	notZero(t, "tcp.tls", reflect.ValueOf(s.TCP[1].TLS.CertificateSet), "SelfSigned", "Directory")
	notZero(t, "routes", reflect.ValueOf(s.Routes[0]), "Method", "Header", "StripPrefix")
	notZero(t, "routes", reflect.ValueOf(s.Routes[2]), "PathPrefix", "PathBegins", "PathSuffix", "StripPrefix")
	notZero(t, "routes", reflect.ValueOf(s.Routes[3]), "PathBegins", "PathSuffix", "Host", "Method", "Header")
	notZero(t, "apps.web.kv", reflect.ValueOf(*s.Apps["web"].KV), "TokensFile")
	notZero(t, "apps.web.kv.limits", reflect.ValueOf(s.Apps["web"].KV.Limits))
	notZero(t, "apps.web.kv.tokens", reflect.ValueOf(s.Apps["web"].KV.Tokens[0]))
	notZero(t, "apps.api", reflect.ValueOf(s.Apps["api"]), "KV", "Files", "Servers", "Image", "Args", "Port", "At")
	notZero(t, "apps.api.timeouts", reflect.ValueOf(s.Apps["api"].Timeouts))
	notZero(t, "apps.shop", reflect.ValueOf(s.Apps["shop"]), "KV", "Files", "Command", "Servers", "Ports", "On", "Dir", "Release", "KeepReleases")
	want := Timeouts{
		time.Second, 2 * time.Second, 3 * time.Second, 4 * time.Second, 5 * time.Second, 6 * time.Second, 7 * time.Second, 8 * time.Second, 9 * time.Second,
	}
	if s.Timeouts != want {
		t.Errorf("timeouts %+v, want %+v", s.Timeouts, want)
	}
}

func notZero(t *testing.T, where string, v reflect.Value, but ...string) {
	t.Helper()
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if v.Type().Field(i).Tag.Get("yaml") == "-" {
			continue // it cannot be set in a stack file
		}
		if v.Field(i).IsZero() != slices.Contains(but, name) {
			t.Errorf("%s: %s is %v", where, name, v.Field(i))
		}
	}
}

package config_test

import (
	"fmt"
	"strings"
	"testing"

	"holdfast/internal/redis/config"
)

func TestAURLSaysWhereRedisIs(t *testing.T) {
	for text, want := range map[string]string{
		"redis://localhost":                          "localhost:6379 [] [] user= password= db=0 tls=false",
		"redis://localhost:7000/":                    "localhost:7000 [] [] user= password= db=0 tls=false",
		"REDIS://10.0.0.1/3":                         "10.0.0.1:6379 [] [] user= password= db=3 tls=false",
		"redis://:secret@h":                          "h:6379 [] [] user= password=secret db=0 tls=false",
		"redis://u:p%40%2F%25:x@h:1":                 "h:1 [] [] user=u password=p@/%:x db=0 tls=false",
		"redis://u:p@ss@h:1":                         "h:1 [] [] user=u password=p@ss db=0 tls=false",
		"rediss://u:p@[::1]:6380/0":                  "[::1]:6380 [] [] user=u password=p db=0 tls=true",
		"redis://[::1]":                              "[::1]:6379 [] [] user= password= db=0 tls=false",
		"redis+sentinel://a,b:1,[::2]/shop":          " shop[a:26379 b:1 [::2]:26379] [] user= password= db=0 tls=false",
		"rediss+sentinel://u:p@a:1,b:2,c:3/my%20m/5": " my m[a:1 b:2 c:3] [] user=u password=p db=5 tls=true",
		"redis+cluster://a:1,b":                      " [] [a:1 b:6379] user= password= db=0 tls=false",
		"rediss+cluster://u:p@a/0":                   " [] [a:6379] user=u password=p db=0 tls=true",
	} {
		var c config.Config
		if err := config.ParseURL(text, &c); err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		got := fmt.Sprintf("%s %s%v %v user=%s password=%s db=%d tls=%v", c.Address, c.MasterName, c.Sentinels, c.Cluster, c.Username, c.Password, c.DB, c.TLS != nil)
		if got != want {
			t.Errorf("%s:\n got %s\nwant %s", text, got, want)
		}
	}
	for text, want := range map[string]*config.Login{
		"redis+sentinel://u:p@a/m":                      nil,
		"redis+sentinel://u:p@a/m?sentinel=none":        {},
		"redis+sentinel://u:p@a/m/2?sentinel=v:q%26%40": {"v", "q&@"},
		"redis+sentinel://u:p@a/m?sentinel=:q":          {"", "q"},
	} {
		var c config.Config
		if err := config.ParseURL(text, &c); err != nil || c.Username != "u" || (c.Sentinel == nil) != (want == nil) || want != nil && *c.Sentinel != *want {
			t.Errorf("%s: %v, %+v", text, err, c.Sentinel)
		}
	}
	c := config.Config{MasterName: "flag"}
	if err := config.ParseURL("redis+sentinel://a", &c); err != nil || c.MasterName != "flag" {
		t.Errorf("a name given otherwise: %v, %q", err, c.MasterName)
	}
}

func TestAWrongURLIsExplainedAndNeverQuoted(t *testing.T) {
	for text, why := range map[string]string{
		"secret":                                   "no scheme",
		"secret@h:1":                               "no scheme",
		"http://u:secret@h":                        "scheme",
		"redis+unix://u:secret@h":                  "scheme",
		"secret://h":                               "scheme",
		"redis://":                                 "host 1 is missing",
		"redis://u:secret@":                        "host 1 is missing",
		"redis://u:secret@:6379":                   "host 1 is missing",
		"redis://u:secret@h:secret":                "port of host 1",
		"redis://u:secret@h:0":                     "port of host 1",
		"redis://u:secret@h:65536":                 "port of host 1",
		"redis://u:sec/secret@h":                   "%2F",
		"redis://u:sec#secret@h":                   "%23",
		"redis://u:sec?secret@h":                   "%3F",
		"redis://u:secret%@h":                      "%25",
		"redis://secret@h":                         "no password",
		"redis://u:@h":                             "no password",
		"redis://u:secret@h/secret":                "database",
		"redis://u:secret@h/-1":                    "database",
		"redis://u:secret@h?x=secret":              "options",
		"redis://u:secret@a,b":                     "one host",
		"redis://u:secret@2001:db8::1":             "[]",
		"redis://u:secret@h secret":                "characters",
		"redis+sentinel://u:secret@a,,b/m":         "host 2 is missing",
		"redis+sentinel://u:secret@a":              "name",
		"redis+sentinel://u:secret@a/m/x":          "database",
		"redis+sentinel://a/m?sentinel=secret":     "no password",
		"redis+sentinel://a/m?sentinel=u:secret%":  "%25",
		"redis+sentinel://a/m?sentinel=u:x@secret": "%40",
		"redis+sentinel://a/m?secret=1":            "option",
		"redis+sentinel://a/m?sentinel=":           "option",
		"redis+sentinel://a/m#secret":              "option",
		"redis+sentinel://u:secret@a/%zz":          "escape",
		"redis+cluster://u:secret@a/2":             "database",
	} {
		before := config.Config{Address: "before:1", Username: "before"}
		c := before
		err := config.ParseURL(text, &c)
		switch {
		case err == nil:
			t.Errorf("%s: no error", text)
		case strings.Contains(err.Error(), "secret"):
			t.Errorf("%s: the error quotes it: %v", text, err)
		case !strings.Contains(strings.TrimSuffix(err.Error(), config.URLForms), why) || !strings.Contains(err.Error(), config.URLForms):
			t.Errorf("%s: %v; want a word of %q", text, err, why)
		case c.Address != before.Address || c.Username != before.Username || c.TLS != nil:
			t.Errorf("%s: it changed the configuration", text)
		}
	}
}

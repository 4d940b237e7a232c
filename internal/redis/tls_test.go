package redis

import (
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"holdfast/internal/redis/config"
	"holdfast/internal/redis/redistest"
)

func tlsOf(t *testing.T, c *redistest.Cluster) *tls.Config {
	t.Helper()
	settings, err := config.TLS(c.TLS.Authority, c.TLS.Certificate, c.TLS.Key)
	if err != nil {
		t.Fatal(err)
	}
	return settings
}

func TestEverythingGoesOverTLSAndSurvivesTheMaster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartTLS(t, 2, 3)
	settings := tlsOf(t, cluster)
	client := open(t, cluster, func(c *Config) { c.TLS = settings })
	published := subscribeTo(t, client, false, "news")
	changed := listenTo(t, client.Changes)
	published.hears(t, Message{Kind: "subscribe", Channel: "news", Count: 1})
	changed.hears(t, Change{Missed: true})
	for round := range 2 {
		key := strings.Repeat("k", round+1)
		if err := client.Set(t.Context(), key, []byte("v"), "once"); err != nil {
			t.Fatal(err)
		}
		if v, ok, err := client.Get(t.Context(), key); string(v) != "v" || !ok || err != nil {
			t.Fatalf("%q, %v, %v", v, ok, err)
		}
		master := cluster.Node(client.Master())
		redistest.Eventually(t, 10*time.Second, "both listen to this master", func() bool {
			master.Do("SET", "change", "v")
			heard := changed.all()
			return subscribers(master, "news") == "1" && heard[len(heard)-1] == Change{Key: "change"}
		})
		master.Do("PUBLISH", "news", key)
		published.hears(t, Message{Kind: "message", Channel: "news", Payload: key})
		if round == 0 {
			master.Kill()
			redistest.Eventually(t, 20*time.Second, "another master is found", func() bool {
				m := client.Master()
				return m != "" && m != master.TLSAddr
			})
		}
	}
}

func TestWhoIsNotTrustedIsNotSpokenTo(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartTLS(t, 0, 0)
	stranger := tlsOf(t, redistest.StartTLS(t, 0, 0))
	nameless := tlsOf(t, cluster)
	nameless.Certificates = nil
	elsewhere := tlsOf(t, cluster)
	elsewhere.ServerName = "elsewhere.example"
	for what, try := range map[string]struct {
		settings *tls.Config
		why      string
	}{
		"an unknown authority":            {stranger, "unknown authority"},
		"another name":                    {elsewhere, "elsewhere.example"},
		"a client without a certificate":  {nameless, "certificate required"},
		"a client that does not speak it": {nil, ""},
	} {
		client := open(t, cluster, func(c *Config) {
			c.Address, c.TLS, c.Hold = cluster.Nodes[0].TLSAddr, try.settings, 300*time.Millisecond
		})
		redistest.Eventually(t, 5*time.Second, what+" is named", func() bool {
			status := client.Status()
			return status.Master == "" && strings.Contains(status.Why, cluster.Nodes[0].TLSAddr) && strings.Contains(status.Why, try.why)
		})
		if err := subscribeTo(t, client, false, "x").end(t); KindOf(err) != NotExecuted {
			t.Errorf("%s: %v", what, err)
		}
	}
	// All of the way by a URL.
	c := Config{}
	if err := config.ParseURL("rediss://"+redistest.Username+":"+redistest.Password+"@"+cluster.Nodes[0].TLSAddr, &c); err != nil || c.TLS == nil {
		t.Fatal(err)
	}
	client := open(t, cluster, func(o *Config) {
		o.Address, o.Username, o.Password, o.TLS, o.MinAcks = c.Address, c.Username, c.Password, tlsOf(t, cluster), 0
	})
	if err := client.Set(t.Context(), "k", []byte("v"), ""); err != nil {
		t.Error(err)
	}
}

func TestCertificatesThatCannotBeReadAreRefused(t *testing.T) {
	for what, try := range map[string][3][]byte{
		"authorities": {[]byte("nonsense"), nil, nil},
		"missing":     {nil, []byte("x"), nil},
		"key":         {nil, []byte("x"), []byte("x")},
	} {
		if _, err := config.TLS(try[0], try[1], try[2]); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

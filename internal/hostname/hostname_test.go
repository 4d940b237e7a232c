package hostname

import (
	"regexp"
	"testing"
)

func set(t testing.TB, names ...string) *Set {
	t.Helper()
	s, err := New(names...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var hosts = []struct {
	host string
	own  bool
}{
	{"", true},
	{"127.0.0.1:6301", true}, {"10.1.2.3", true}, {"192.168.0.1:80", true}, {"[::1]:6301", true}, {"[fe80::1]", true}, {"[::ffff:1.2.3.4]:", true},
	{"localhost", true}, {"LocalHost:6301", true}, {"localhost.", true}, {"a.localhost:1", true},
	{"web", true}, {"my_service-1:80", true}, {"web.internal", true}, {"kv.prod.svc", true}, {"kv.prod.svc.cluster.local:80", true},
	{"shop.example", true}, {"SHOP.example.:8080", true}, {"a.b.wild.example", true},
	{"evil.example", false}, {"localhost.evil.example", false}, {"127.0.0.1.evil.example", false}, {"evillocalhost.example", false},
	{"notshop.example", false}, {"www.shop.example", false}, {"wild.example", false}, {"xwild.example", false}, {".wild.example", false},
	{"evil.example:80:80", false}, {"shop.example:x", false}, {"shop.example, evil.example", false}, {"evil.example@localhost", false},
	{"[::1", false}, {"[]", false}, {"[::1]x", false}, {"[evil.example]", false}, {":80", false}, {"..", false}, {"local", true}, {"evil.local", false},
	{"ev\u0131l.example", false}, {"shop.example\x00", false}, {"a/b", false}, {"http://localhost", false}, {"127.0.0.1 evil", false},
}

func TestWhichHostsAreAServicesOwn(t *testing.T) {
	s := set(t, "Shop.Example", "*.wild.example")
	for _, c := range hosts {
		if s.Has([]byte(c.host)) != c.own {
			t.Errorf("%q: own is %v", c.host, !c.own)
		}
	}
	if all := set(t, "shop.example", All); !all.Has([]byte("evil.example")) {
		t.Error("with * not every name is one")
	}
	for _, name := range []string{"", "a b", "http://a", "*.*.a", "a*", "a:80", "-a", "[::1]"} {
		if _, err := New(name); err == nil {
			t.Errorf("%q is taken for a name", name)
		}
	}
}

// The balancers use the pattern, and the nodes use the set.
func FuzzHosts(f *testing.F) {
	for _, c := range hosts {
		f.Add(c.host)
	}
	s := set(f, "shop.example", "*.wild.example", "my_host.lan")
	pattern := regexp.MustCompile("(?i)" + s.Pattern())
	f.Fuzz(func(t *testing.T, host string) {
		for i := range len(host) {
			if host[i] >= 0x80 { // Go folds the case of more than ASCII, and HAProxy that of bytes
				return
			}
		}
		if len(host) <= 250 && s.Has([]byte(host)) != pattern.MatchString(host) {
			t.Errorf("%q: the set says %v, the pattern %v", host, s.Has([]byte(host)), pattern.MatchString(host))
		}
	})
}

func BenchmarkHas(b *testing.B) {
	s := set(b, "shop.example")
	for _, host := range []string{"127.0.0.1:6301", "localhost:6301", "shop.example"} {
		b.Run(host, func(b *testing.B) {
			h := []byte(host)
			b.ReportAllocs()
			for b.Loop() {
				if !s.Has(h) {
					b.Fatal()
				}
			}
		})
	}
}

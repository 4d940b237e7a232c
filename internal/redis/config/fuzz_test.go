package config_test

import (
	"strings"
	"testing"

	"holdfast/internal/redis/config"
)

// FuzzURL: a URL that is refused changes nothing, and no error tells the password.
func FuzzURL(f *testing.F) {
	for _, url := range []string{"redis://u:hunter2@h:1/0", "rediss://:hunter2@h", "redis+sentinel://u:hunter2@a:1,b:2/shop/3?sentinel=x:hunter2", "redis+cluster://hunter2@[::1]:7", "redis://u:%zzhunter2@h", "x://hunter2"} {
		f.Add(url)
	}
	f.Fuzz(func(t *testing.T, url string) {
		var c config.Config
		err := config.ParseURL(url, &c)
		if err != nil && (c.Address != "" || c.Sentinels != nil || c.Cluster != nil) {
			t.Errorf("%q is refused, and the configuration is %+v", url, c)
		}
		if err != nil && strings.Contains(url, "hunter2") && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error quotes the URL: %v", err)
		}
	})
}

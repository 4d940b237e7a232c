package plan

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"text/template"
	"time"
)

//go:embed templates/*.tmpl
var templateFiles embed.FS

var templates = template.Must(template.New("").Option("missingkey=error").Funcs(template.FuncMap{
	"duration":     haproxyDuration,
	"hash":         passwordHash,
	"keepalived":   keepalivedQuote,
	"list":         haproxyList,
	"milliseconds": time.Duration.Milliseconds,
	"quote":        haproxyQuote,
	"redis":        redisQuote,
	"shell":        shellQuote,
	"yaml":         yamlQuote,
}).ParseFS(templateFiles, "templates/*.tmpl"))

// render fills in the template of a file.
func render(name string, data any) (string, error) {
	var out strings.Builder
	if err := templates.ExecuteTemplate(&out, name+".tmpl", data); err != nil {
		return "", err
	}
	return out.String(), nil
}

// haproxyDuration writes a time as HAProxy reads it (manual, section 2.5), in
// the largest unit that keeps it exact.
func haproxyDuration(d time.Duration) string {
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}} {
		if d >= u.unit && d%u.unit == 0 {
			return strconv.FormatInt(int64(d/u.unit), 10) + u.name
		}
	}
	return strconv.FormatInt(d.Milliseconds(), 10) + "ms"
}

// bare matches words that mean themselves in haproxy.cfg.
var bare = regexp.MustCompile(`^[A-Za-z0-9_./:;%+,~=@*\[\]-]+$`)

// haproxyQuote writes a word of haproxy.cfg (manual, section 2.2).
func haproxyQuote(word string) (string, error) {
	if strings.ContainsFunc(word, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", fmt.Errorf("%q has a control character, which HAProxy's configuration cannot take", word)
	}
	if bare.MatchString(word) {
		return word, nil
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'", nil
}

// haproxyList writes the values of an acl.
func haproxyList(words []string) (string, error) {
	var all []string
	for _, word := range words {
		if strings.HasPrefix(word, "-") && len(all) == 0 {
			all = append(all, "--") // not a flag
		}
		quoted, err := haproxyQuote(word)
		if err != nil {
			return "", err
		}
		all = append(all, quoted)
	}
	return strings.Join(all, " "), nil
}

// redisQuote writes a word of redis.conf.
func redisQuote(word string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(word) + `"`
}

// yamlQuote writes a text of YAML: of it JSON's strings are a part.
func yamlQuote(text string) (string, error) {
	quoted, err := json.Marshal(text)
	return string(quoted), err
}

// passwordHash is a password as an ACL file holds it ("#" before it): so the
// file gives none away.
func passwordHash(password string) string {
	if strings.HasPrefix(password, placeholder) {
		return "<sha256 of " + password + ">"
	}
	sum := sha256.Sum256([]byte(password))
	return hex.EncodeToString(sum[:])
}

package plan

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/quicktemplate"
)

// The templates of the files are the .qtpl files in this directory, which qtc compiles to Go. We do
// not use text/template, because it looks up methods by name: the linker would have to keep every
// method of every type in the program.
//
// In a template {%s= x %} writes a text as it is, {%d n %} a number, and {%= quote(x) %} what
// streamquote writes.
//
//go:generate go tool qtc -skipLineComments

// output collects the text of a file that a template fills in. It ignores what is written after an
// error.
type output struct {
	text strings.Builder
	err  error
}

func (o *output) Write(p []byte) (int, error) {
	if o.err != nil {
		return 0, o.err
	}
	return o.text.Write(p)
}

// render returns what a template writes. Its error is that of the first text that the file cannot
// contain.
func render(fill func(w *quicktemplate.Writer)) (string, error) {
	var out output
	w := quicktemplate.AcquireWriter(&out)
	defer quicktemplate.ReleaseWriter(w)
	fill(w)
	if out.err != nil {
		return "", out.err
	}
	return out.text.String(), nil
}

// quoted writes a quoted text, or hands its error to render.
func quoted(w *quicktemplate.Writer, text string, err error) {
	if err != nil {
		out := w.W().(*output) // the output that render has made
		out.err = cmp.Or(out.err, err)
		return
	}
	w.N().S(text)
}

// The functions behind {%= quote(x) %} and so on in templates. qtc requires these names.

func streamquote(w *quicktemplate.Writer, word string) {
	text, err := haproxyQuote(word)
	quoted(w, text, err)
}

func streamlines(w *quicktemplate.Writer, text string) {
	text, err := haproxyLines(text)
	quoted(w, text, err)
}

func streamlist(w *quicktemplate.Writer, words []string) {
	text, err := haproxyList(words)
	quoted(w, text, err)
}

func streamkeepalived(w *quicktemplate.Writer, s string) {
	text, err := keepalivedQuote(s)
	quoted(w, text, err)
}

func streamyaml(w *quicktemplate.Writer, s string) {
	text, err := yamlQuote(s)
	quoted(w, text, err)
}

// haproxyDuration returns a time as HAProxy reads it (manual, section 2.5), in the largest unit
// that keeps it exact.
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

// bare matches words that need no quotes in haproxy.cfg.
var bare = regexp.MustCompile(`^[A-Za-z0-9_./:;%+,~=@*\[\]-]+$`)

// haproxyQuote returns a word of haproxy.cfg (manual, section 2.2).
func haproxyQuote(word string) (string, error) { return HAProxyWord(word) }

// HAProxyWord returns a word of haproxy.cfg, quoted if necessary. It returns an error for a control
// character.
func HAProxyWord(word string) (string, error) {
	if strings.ContainsFunc(word, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", fmt.Errorf("%q has a control character, which HAProxy's configuration cannot take", word)
	}
	if bare.MatchString(word) {
		return word, nil
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'", nil
}

// haproxyLines returns a word of haproxy.cfg that contains line ends.
func haproxyLines(text string) (string, error) {
	var all []string
	for _, line := range strings.Split(text, "\n") {
		quoted, err := haproxyQuote(line)
		if err != nil {
			return "", err
		}
		all = append(all, quoted)
	}
	return strings.Join(all, `"\n"`), nil
}

// haproxyList returns the values of an acl.
func haproxyList(words []string) (string, error) {
	var all []string
	for _, word := range words {
		if strings.HasPrefix(word, "-") && len(all) == 0 {
			all = append(all, "--") // what follows is not a flag
		}
		quoted, err := haproxyQuote(word)
		if err != nil {
			return "", err
		}
		all = append(all, quoted)
	}
	return strings.Join(all, " "), nil
}

// redisQuote returns a quoted word of redis.conf.
func redisQuote(word string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(word) + `"`
}

// yamlQuote returns a text as a string of YAML, which includes JSON's strings.
func yamlQuote(text string) (string, error) {
	quoted, err := json.Marshal(text)
	return string(quoted), err
}

// passwordHash returns a password as an ACL file has it behind "#": hashed, so that the file does
// not reveal it.
func passwordHash(password string) string {
	if strings.HasPrefix(password, placeholder) {
		return "<sha256 of " + password + ">"
	}
	sum := sha256.Sum256([]byte(password))
	return hex.EncodeToString(sum[:])
}

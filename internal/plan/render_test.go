package plan

import (
	"testing"

	"github.com/valyala/quicktemplate"
)

func TestWhatAFileCannotHaveIsTheErrorOfRender(t *testing.T) {
	for want, fill := range map[string]func(w *quicktemplate.Writer){
		`"a\nb" has a control character, which HAProxy's configuration cannot take`: func(w *quicktemplate.Writer) {
			streamquote(w, "a\nb")
			streamquote(w, "\x00") // the first error is the one returned
		},
		`"\x7f" has a control character, which HAProxy's configuration cannot take`: func(w *quicktemplate.Writer) {
			streamlist(w, []string{"-a", "\x7f"})
		},
		`"/a\\b" has a character that keepalived's configuration cannot take ('\\')`: func(w *quicktemplate.Writer) {
			streamkeepalivedSettings(w, keepalivedData{Stack: "shop", Health: `/a\b`, Cut: `"`})
		},
	} {
		text, err := render(fill)
		if err == nil || err.Error() != want || text != "" {
			t.Errorf("%q, %v, want the error %s", text, err, want)
		}
	}
	if text, err := render(func(w *quicktemplate.Writer) { streamlist(w, []string{"-a", "b c"}) }); text != "-- -a 'b c'" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
}

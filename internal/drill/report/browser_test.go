package report

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"holdfast/internal/drill/report/browsertest"
)

func TestThePageInABrowser(t *testing.T) {
	if testing.Short() {
		t.Skip("needs Chromium")
	}
	ctx := browsertest.Open(t, "about:blank")
	for _, name := range []string{"broken", "hostile"} {
		h, v := drills[name]()
		file := filepath.Join(t.TempDir(), name+".html")
		if err := os.WriteFile(file, []byte(page(t, h, v)), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := chromedp.Do(ctx, chromedp.Navigate("file://"+file)); err != nil {
			t.Fatalf("open %s: %v", name, err)
		}
		// The policy allows the page's own style and script, and nothing that came with a history.
		for what, c := range map[string]struct{ ask, want string }{
			"the style":   {`getComputedStyle(document.querySelector("main")).maxWidth`, "1208px"},
			"scripts":     {`String(document.scripts.length)`, "1"},
			"pictures":    {`String(document.images.length)`, "0"},
			"the network": {`String(performance.getEntriesByType("resource").length)`, "0"},
			"a foreign script": {`(function () {
				var s = document.createElement("script"); s.textContent = "window.owned = true";
				document.body.appendChild(s); s.remove(); return String(window.owned); })()`, "undefined"},
			"what is pointed at": {`(function () {
				var svg = document.querySelector("svg.timeline"), box = svg.getBoundingClientRect();
				svg.dispatchEvent(new PointerEvent("pointermove", {clientX: box.left + box.width / 2, clientY: box.top + 100}));
				var said = document.getElementById("readout").textContent;
				return said.indexOf(" ok/s, ") > 0 ? "said" : said; })()`, "said"},
			"too wide": {`String(document.documentElement.scrollWidth > window.innerWidth)`, "false"},
		} {
			got, err := chromedp.Run(ctx, chromedp.Evaluate[string](c.ask))
			if err != nil {
				t.Fatalf("%s: %s: %v", name, what, err)
			}
			if !strings.EqualFold(got, c.want) {
				t.Errorf("%s: %s: %s, want %s", name, what, got, c.want)
			}
		}
	}
}

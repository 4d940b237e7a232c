package stack

import "testing"

func TestOnlyExactNamesAreReplaced(t *testing.T) {
	values := map[string]string{"HOST": "127.0.0.1", "PORT": "8001"}
	look := func(name string) (string, bool) {
		v, known := values[name]
		return v, known
	}
	for text, want := range map[string]string{
		"":                        "",
		"--bind=$HOST:$PORT":      "--bind=127.0.0.1:8001",
		"${HOST}:${PORT}":         "127.0.0.1:8001",
		"$PORT$PORT":              "80018001",
		"${PORT}0":                "80010",
		"$PORT/x":                 "8001/x",
		"$PORT-a.$PORT":           "8001-a.8001",
		"$HOSTNAME":               "$HOSTNAME",
		"$PORTS $PORT_2 ${PORT2}": "$PORTS $PORT_2 ${PORT2}",
		"$$PORT":                  "$PORT",
		"$$$PORT":                 "$8001",
		"$$$$":                    "$$",
		"$${PORT}":                "${PORT}",
		"100$":                    "100$",
		"$":                       "$",
		"a$$b":                    "a$b",
		"$1 $? $(date) $!":        "$1 $? $(date) $!",
		"${PORT:-80} ${PORT":      "${PORT:-80} ${PORT",
		"${} ${$PORT}":            "${} ${8001}",
		"$port ${Host}":           "$port ${Host}",
		"PORT {PORT}":             "PORT {PORT}",
		"é$PORTé":                 "é8001é",
	} {
		if got := Expand(text, look); got != want {
			t.Errorf("Expand(%q) = %q, want %q", text, got, want)
		}
	}
}

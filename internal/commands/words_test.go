package commands

import (
	"strings"
	"testing"
)

func TestArgumentsThatNobodyMayUse(t *testing.T) {
	for _, c := range []struct {
		words   string
		refused bool
	}{
		{"copy a b", false}, {"copy a b replace", false}, {"copy db DB", false}, {"copy db DB replace", false}, {"copy", false}, {"copy db", false},
		{"copy a b db 15", true}, {"copy a b DB 0", true}, {"COPY a b Db 15 REPLACE", true}, {"copy a b REPLACE dB 15", true},
		{"copy a b db 0 db 15", true}, {"copy a b db", true}, {"copy a b x db 1", true},
		{"publish news x", false}, {"publish news " + SentinelChannel, false}, {"publish", false},
		{"publish " + SentinelChannel + " x", true}, {"spublish " + SentinelChannel + " x", true},
		{"subscribe a b", false}, {"subscribe a " + SentinelChannel, true}, {"psubscribe " + SentinelChannel, false},
		{"set copy db", false},
	} {
		words := strings.Fields(c.words)
		name := strings.ToLower(words[0])
		why := RefusedWords(name, words)
		if (why != "") != c.refused {
			t.Errorf("%s: %q", c.words, why)
		}
		if why != "" && !HasRefusedWords(name) {
			t.Errorf("%s: nobody would look", name)
		}
	}
}

func TestTheSentinelsChannelAloneIsLeftOut(t *testing.T) {
	patterns := strings.Fields(channelsOfClients)
	if len(patterns) != 2*len(SentinelChannel) || patterns[0] != "&[^_]*" || patterns[len(patterns)-1] != "&"+SentinelChannel+"?*" {
		t.Errorf("%d patterns: %v", len(patterns), patterns)
	}
}

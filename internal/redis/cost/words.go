package cost

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"holdfast/internal/redis/command"
)

// Some words of a command are work themselves, however few elements its keys
// have: patterns, keys that are named again and again, programs.

// What such words take, in nanoseconds, measured as those of cost.go.
const (
	perTried   = 2.5   // for each byte of an element at which a pattern is tried, and each step there
	perBuilt   = 1.4   // SORT … BY and GET, for each element and each byte of the pattern
	perHashed  = 1.8   // SUNION, ZUNION and their kin, for each byte of the sets
	perDrawn   = 3     // SRANDMEMBER and its kin with a negative count, for each byte
	perAnswer  = 1.7   // MGET, HMGET, for each byte
	perDrawing = 150e6 // LOLWUT, as large as it may be
	perTold    = 100e3 // COMMAND DOCS and its kin, for each name, of which some have many subcommands
	perCode    = 80    // a script or a library of functions, for each byte
)

// maxKeySteps and MaxElementSteps limit the steps of a pattern (see Hardness): for keys,
// which are short, and for elements of a key, which may be as long as a request's body.
const (
	maxKeySteps     = 64
	MaxElementSteps = 8
)

// tooMuch is the estimate of what takes too long whatever its keys have.
func tooMuch(instead string) Estimate {
	return Estimate{Base: float64(2 * LongestCommand), Instead: instead}
}

// most is how often a word comes among others, the most frequent one.
func most(words []string) (n int) {
	times := make(map[string]int, len(words))
	for _, word := range words {
		times[word]++
		n = max(n, times[word])
	}
	return n
}

// channelsCost is the estimate of PUBSUB CHANNELS and PUBSUB SHARDCHANNELS.
func channelsCost(cmd command.Command) Estimate {
	steps, counter := 0.0, "pubsub_channels"
	if len(cmd) > 2 {
		steps = Hardness(cmd[2])
	}
	if steps > MaxElementSteps {
		return tooMuch("a pattern that repeats itself less between its asterisks")
	}
	if strings.EqualFold(cmd[1], "shardchannels") {
		counter = "pubsubshard_channels"
	}
	return Estimate{
		Asks: []command.Command{eval(counterScript, nil, counter)},
		cost: linear(perKey + perTried*steps*ShortChannel), Instead: "PUBSUB NUMSUB",
	}
}

// counterScript returns a number of INFO stats.
const counterScript = `return tonumber(string.match(redis.call('INFO', 'stats'), ARGV[1] .. ':(%d+)')) or 0`

// What RESTORE takes, in nanoseconds.
const (
	perPacked   = 150  // for each byte of a collection, which may be unpacked
	perRestored = 1500 // for each element of one that is not packed
	perUnpacked = 0.5  // for each byte that a compressed string has
)

// restoreCost is the estimate of RESTORE, by what its payload begins with: the type
// and, of a string, whether it is compressed, of a collection, its length (Redis 7.0,
// rdb.h).
func restoreCost(cmd command.Command) Estimate {
	payload := cmd[3]
	e := Estimate{Base: perPacked * float64(len(payload)), Instead: "smaller values"}
	if len(payload) < 2 {
		return e
	}
	const (
		ofString         = 0
		quicklist        = 18
		compressed       = 0xc3
		setOf, hashOf    = 2, 4
		zsetOf, newZset  = 3, 5
		everyByteOfAList = 20 // a node of 8 KB may be compressed
	)
	switch payload[0] {
	case ofString:
		e.Base = perByte * float64(len(payload))
		if payload[1] == compressed {
			_, rest := rdbLength(payload[2:])
			whole, _ := rdbLength(rest)
			e.Base += perUnpacked * min(whole, longestString)
		}
	case setOf, hashOf, zsetOf, newZset:
		n, _ := rdbLength(payload[1:])
		e.Base = perRestored*min(n, float64(len(payload))) + perHashed*float64(len(payload))
	case quicklist:
		e.Base = everyByteOfAList * float64(len(payload))
	}
	return e
}

// rdbLength reads a length as it stands in a dump (rdb.h, RDB_6BITLEN and so on). What
// it cannot read is 0.
func rdbLength(text string) (n float64, rest string) {
	if text == "" {
		return 0, ""
	}
	bytes := 0 // that follow, beside those bits of the first byte that belong to the number
	first := text[0] & 0x3f
	switch kind := text[0] >> 6; {
	case kind == 1:
		bytes = 1
	case text[0] == 0x80:
		first, bytes = 0, 4
	case text[0] == 0x81:
		first, bytes = 0, 8
	case kind != 0:
		return 0, ""
	}
	if len(text) <= bytes {
		return 0, ""
	}
	n = float64(first)
	for i := range bytes {
		n = n*256 + float64(text[1+i])
	}
	return n, text[1+bytes:]
}

// drawn is the estimate of n elements that are drawn from a key, each anew.
func drawn(n float64, size, key string) Estimate {
	e := ofKeys([]string{key}, size)
	e.Base, e.Instead = n*perRandom, "a smaller count"
	e = e.withBytes([]string{key}, func(sizes, bytes []float64) float64 { return n * perDrawn * bytes[0] / max(sizes[0], 1) })
	e.bytes.asks[0] = append(e.bytes.asks[0], "SAMPLES", "1000")
	return e
}

// scanCost is the estimate of SCAN and its kin, for as many elements as they look at.
func scanCost(s *command.Spec, cmd command.Command) Estimate {
	at := command.CursorAt(s.Name)
	e := Estimate{Base: perScanned * command.OptionNumber(cmd, "count", 10)}
	steps := Hardness(patternOf(cmd[at+1:]))
	switch {
	case s.Name == "scan" && steps > maxKeySteps, s.Name != "scan" && steps > MaxElementSteps:
		return tooMuch("a pattern that repeats itself less between its asterisks")
	case s.Name == "scan":
		return e
	}
	size := map[byte]string{'s': "SCARD", 'h': "HLEN", 'z': "ZCARD"}[s.Name[0]]
	count := command.OptionNumber(append(command.Command{"", ""}, WithShortCount(cmd[at+1:])...), "count", 10)
	if count <= fewElements && steps == 0 {
		return e
	}
	e.Asks = []command.Command{{size, cmd[1]}}
	e.Instead = "a smaller COUNT, or a simpler pattern"
	return e.withBytes(cmd[1:2], func(sizes, bytes []float64) float64 {
		return (perCopy + perTried*steps) * bytes[0] * min(1, count/max(sizes[0], 1))
	})
}

// Redis tries each pattern that somebody listens to at the name of a channel to
// which something is published. That is brief with FewPatterns and a short name.
const (
	FewPatterns  = 64
	ShortChannel = 1024
	perPattern   = 150
)

// publishCost is the estimate of PUBLISH. No pattern is harder than MaxElementSteps.
func publishCost(cmd command.Command) Estimate {
	per := perPattern + perTried*MaxElementSteps*float64(len(cmd[1]))
	return Estimate{Asks: []command.Command{{"PUBSUB", "NUMPAT"}}, cost: linear(per), Instead: "a shorter name of the channel"}
}

// patternOf is the pattern among the options of SCAN or its kin.
func patternOf(options []string) (pattern string) {
	for i := 0; i+1 < len(options); i += 2 {
		if strings.EqualFold(options[i], "match") {
			pattern = options[i+1]
		}
	}
	return pattern
}

// Hardness is about how many steps Redis takes at the most for each byte of what it
// compares with a pattern; 0: it takes none twice. Behind an asterisk it tries the
// rest at each place, up to where that differs. So much depends on whether what is
// between two asterisks may overlap itself: "*aaaa" does at each place, "*abcd" at
// none.
func Hardness(pattern string) (steps float64) {
	parts := strings.Split(plainStars(pattern), "*")
	for _, part := range parts[1:] {
		if part != "" {
			steps = max(steps, overlap(part))
		}
	}
	return steps
}

// plainStars is a pattern of which each asterisk is one: in the place of an escaped
// character stands the character, and of a class, and whatever else may be more than
// one character, a question mark for each of its bytes.
func plainStars(pattern string) string {
	if !strings.ContainsAny(pattern, `\[`) {
		return pattern
	}
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		switch pattern[i] {
		case '\\':
			if i++; i < len(pattern) && pattern[i] != '*' {
				b.WriteByte(pattern[i])
			} else {
				b.WriteByte('?')
			}
		case '[':
			b.WriteByte('?')
			for i++; i < len(pattern) && pattern[i] != ']'; i++ {
				if pattern[i] == '\\' {
					i++
				}
				b.WriteByte('?')
			}
		default:
			b.WriteByte(pattern[i])
		}
	}
	return b.String()
}

// overlap is how often a text may have the beginnings of a part of a pattern, for
// each of their bytes: the longest beginning that may stand again so much further
// on, divided by how much that is.
func overlap(part string) (most float64) {
	if len(part) > 512 {
		return float64(len(part))
	}
	for by := 1; by < len(part); by++ {
		n := by
		for n < len(part) && (part[n] == part[n-by] || part[n] == '?' || part[n-by] == '?') {
			n++
		}
		most = max(most, float64(n)/float64(by))
	}
	return max(most, 1)
}

// maxCount is how many elements one call of SCAN or its kin may look at: some
// milliseconds' worth. COUNT is a hint (manual, SCAN), so a smaller one changes no
// iteration.
const (
	maxCount = 10000
	// hardCount stands for it with a pattern that takes more than easySteps.
	hardCount = 10
	easySteps = 4
)

// WithShortCount returns the options of SCAN or its kin with a COUNT of at most
// maxCount. What is no number stays: Redis has words for it.
func WithShortCount(options []string) []string {
	most := int64(maxCount)
	if Hardness(patternOf(options)) > easySteps {
		most = hardCount
	}
	for i := 0; i+1 < len(options); i++ {
		switch {
		case strings.EqualFold(options[i], "match"), strings.EqualFold(options[i], "type"):
			i++ // the pattern may be called COUNT
		case strings.EqualFold(options[i], "count"):
			if n, err := strconv.ParseInt(options[i+1], 10, 64); err == nil && n > most {
				options = slices.Clone(options)
				options[i+1] = strconv.FormatInt(most, 10)
			}
			i++
		}
	}
	return options
}

// ErrHardPattern refuses a pattern that is harder than MaxElementSteps.
var ErrHardPattern = errors.New("this pattern would keep Redis from everybody else whenever something is published: use one that repeats itself less between its asterisks")

package doctor

import (
	"slices"
	"strconv"
	"strings"
)

// Settings returns the settings of a redis node's file (base.conf) by name, in the form of CONFIG
// GET. Several lines "save" are one value, and so are those of client-output-buffer-limit.
// Directives that CONFIG GET does not have are left out.
func Settings(conf string) map[string]string {
	settings := map[string]string{}
	for line := range strings.Lines(conf) {
		words := confWords(strings.TrimSpace(line))
		if len(words) < 2 || strings.HasPrefix(words[0], "#") {
			continue
		}
		name, value := strings.ToLower(words[0]), strings.Join(words[1:], " ")
		switch name {
		case "include", "loadmodule", "user", "rename-command":
			continue
		case "save", "client-output-buffer-limit":
			if former := settings[name]; former != "" {
				value = former + " " + value
			}
		}
		settings[name] = value
	}
	return settings
}

// confWords returns the words of a line of redis.conf, without their quotes.
func confWords(line string) (words []string) {
	for line != "" {
		var word string
		if line[0] == '"' {
			end := 1
			for end < len(line) && line[end] != '"' {
				if line[end] == '\\' {
					end++
				}
				end++
			}
			end = min(end, len(line))
			word = strings.NewReplacer(`\\`, `\`, `\"`, `"`).Replace(line[1:end])
			line = line[min(end+1, len(line)):]
		} else {
			word, line, _ = strings.Cut(line, " ")
		}
		words, line = append(words, word), strings.TrimLeft(line, " ")
	}
	return words
}

// sameSetting reports whether two values of a setting mean the same.
func sameSetting(name, a, b string) bool {
	if a == b || strings.EqualFold(a, b) {
		return true
	}
	if name == "client-output-buffer-limit" { // in any order; "slave" is the old word for "replica"
		return slices.Equal(bufferLimits(a), bufferLimits(b))
	}
	x, okX := size(a)
	y, okY := size(b)
	return okX && okY && x == y
}

// bufferLimits returns the limits of each class of clients, sorted.
func bufferLimits(value string) (limits []string) {
	words := strings.Fields(strings.ReplaceAll(value, "slave", "replica"))
	for len(words) >= 4 {
		hard, _ := size(words[1])
		soft, _ := size(words[2])
		limits = append(limits, words[0]+" "+strconv.FormatInt(hard, 10)+" "+strconv.FormatInt(soft, 10)+" "+words[3])
		words = words[4:]
	}
	slices.Sort(limits)
	return limits
}

// size parses a number of bytes in the form of redis.conf (redis.conf, "Note on units").
func size(text string) (int64, bool) {
	lower := strings.ToLower(text)
	for _, u := range []struct {
		suffix string
		bytes  int64
	}{{"gb", 1 << 30}, {"mb", 1 << 20}, {"kb", 1 << 10}, {"g", 1e9}, {"m", 1e6}, {"k", 1e3}, {"b", 1}, {"", 1}} {
		if number, found := strings.CutSuffix(lower, u.suffix); found {
			n, err := strconv.ParseInt(number, 10, 64)
			return n * u.bytes, err == nil
		}
	}
	return 0, false
}

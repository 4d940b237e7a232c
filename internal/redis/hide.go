package redis

import "strings"

// Keys of Holdfast's own stand among the data, and no client is shown any: they are
// left out of what KEYS, SCAN and RANDOMKEY answer.

// listsKeys reports whether a command answers names of keys, which its arguments do
// not give.
func listsKeys(name string) bool {
	switch len(name) {
	case len("keys"):
		return strings.EqualFold(name, "keys") || strings.EqualFold(name, "scan")
	case len("randomkey"):
		return strings.EqualFold(name, "randomkey")
	}
	return false
}

// hideReserved leaves our own keys out of what commands answered.
func hideReserved(cmds []Command, results []Result) {
	for i := range results {
		if r := &results[i]; r.Err == nil && listsKeys(cmds[i][0]) {
			r.Reply = withoutReserved(r.Reply)
		}
	}
}

// withoutReserved is an answer without those of its texts that are our own keys.
func withoutReserved(r Reply) Reply {
	if r.Type() == Text && reserved(r.Text()) {
		return Reply{}
	}
	if r.Type() != Array {
		return r
	}
	var kept []Reply // not nil: something was left out or changed
	for i := range r.Len() {
		was := r.At(i)
		is := was
		hidden := was.Type() == Text && reserved(was.Text())
		changed := false
		if was.Type() == Array { // the keys that SCAN found
			is = withoutReserved(was)
			changed = is.Len() != was.Len()
		}
		if kept == nil && (hidden || changed) {
			kept = make([]Reply, 0, r.Len())
			for k := range i {
				kept = append(kept, r.At(k))
			}
		}
		if kept != nil && !hidden {
			kept = append(kept, is)
		}
	}
	if kept == nil {
		return r
	}
	return Reply{made: &madeReply{kind: Array, items: kept}}
}

// anyKey is RANDOMKEY that passes over keys of ours, ARGV[1] the beginning of
// their names. Where it meets nothing else for long, it answers that there is none.
const anyKey = `
for _ = 1, 1000 do
  local key = redis.call('RANDOMKEY')
  if not key or string.sub(key, 1, #ARGV[1]) ~= ARGV[1] then return key end
end
return false`

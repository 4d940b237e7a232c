package stack

import (
	"strings"

	"holdfast/internal/commands"
	"holdfast/internal/yamltree"
)

// validateKV checks the settings of a web node against each other.
func validateKV(r *reader, p path, k KVApp) {
	if least := k.RememberMin(); k.Remember < least && !r.faulty(p.key("remember")) && !r.faulty(p.key("hold")) {
		r.Report(r.positionOf(p.key("remember")), "%s is %s: a balancer's second try of a write may come %s after the first, with hold at %s, and has to find its record; write %s or more",
			p.key("remember"), shortDuration(k.Remember), shortDuration(least), shortDuration(k.Hold), shortDuration(least))
	}
	if k.Limits.Key > k.Limits.Body && !r.faulty(p.key("limits").key("key")) && !r.faulty(p.key("limits").key("body")) {
		r.Report(r.positionOf(p.key("limits").key("key")), "%s is %s, more than a whole request may have (%s is %s): lower it",
			p.key("limits").key("key"), k.Limits.Key.Text(), p.key("limits").key("body"), k.Limits.Body.Text())
	}

	for i, name := range k.Allow {
		if mode := commands.ScriptModes[k.Scripts]; commands.RefusedScript(mode, name) != "" && !r.faulty(p.key("scripts")) {
			r.Report(r.positionOf(p.key("allow").item(i)), "%s allows %s, and %s is %s: remove one of them", p.key("allow"), yamltree.Quoted(name), p.key("scripts"), k.Scripts)
		}
	}

	if len(k.Tokens) > 0 && r.has(p.key("tokens-file")) {
		r.Report(r.keyPosition(p.key("tokens-file")), "%s: tokens are in this file already: keep one of the two", p.key("tokens-file"))
	}

	tokens := p.key("tokens")
	if r.has(tokens) && len(k.Tokens) == 0 && !r.faulty(tokens) {
		r.Report(r.positionOf(tokens), "%s: there is none, so that nobody could come in: add one, or remove the key to let everybody in", tokens)
	}

	names, hashes := map[string]bool{}, map[string]bool{}
	for i, t := range k.Tokens {
		at := tokens.item(i)
		if r.faulty(at) {
			continue
		}
		switch name := at.key("name"); {
		case r.faulty(name):
		case !r.has(name):
			r.Report(r.positionOf(at), "%s: a token has no name: add name, such as shop", tokens)
		case names[t.Name]:
			r.Report(r.positionOf(name), "%s: a second token is named %q: choose another name", tokens, t.Name)
		}
		names[t.Name] = true
		hash := strings.ToLower(t.Hash)
		switch h := at.key("hash"); {
		case r.faulty(h):
		case !r.has(h):
			r.Report(r.positionOf(at), "%s: the token %q has no hash: \"holdfast token new\" makes a token and its hash", tokens, t.Name)
		case hashes[hash]:
			r.Report(r.positionOf(h), "%s: the token %q is another one's again: make a new one", tokens, t.Name)
		}
		hashes[hash] = true
	}
}

// adviseKV warns of limits of a web node that contradict each other or what Redis can hold.
func adviseKV(r *reader, p path, limits KVLimits, redis Redis) {
	body, answer := p.key("limits").key("body"), p.key("limits").key("answer")
	if at := r.positionOf(body); limits.Body > limits.Answer {
		if !r.has(body) {
			at = r.positionOf(answer)
		}
		r.warn(at, "%s is %s, and %s %s: a value that is longer than an answer can be written and not be read as a whole; raise %s, or lower %s",
			body, limits.Body.Text(), answer, limits.Answer.Text(), answer, body)
	}
	if redis.Memory == 0 {
		return
	}
	for _, limit := range []struct {
		at   path
		size Bytes
		what string
	}{{body, limits.Body, "a value as long"}, {answer, limits.Answer, "what gives an answer as long"}} {
		if limit.size > redis.Memory && r.has(limit.at) {
			r.warn(r.positionOf(limit.at), "%s is %s, more than all of Redis may have (redis.memory is %s): %s finds no room; lower it, or raise redis.memory",
				limit.at, limit.size.Text(), redis.Memory.Text(), limit.what)
		}
	}
}

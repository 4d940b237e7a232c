package auth

import (
	"bytes"
	"net/http"
	"strings"

	"github.com/valyala/fasthttp"

	"holdfast/internal/web/response"
)

// Where no tokens are asked for, anybody who can send a request can write. A page of another site
// can have the browser of a person who reaches the node send one, by a form, an image or a script.
// These headers give such a page away:
//
// - Host: a page whose own name leads to the node (see package hostname);
// - Sec-Fetch-Site (Fetch Metadata Request Headers): browsers name whose page asks, but only to https
//   and to this machine;
// - Origin (Fetch standard, section 3.1): browsers send it with each request except a GET or HEAD
//   whose response the page cannot read;
// - Referer, unless the page leaves it out.
//
// A program sends none of the last three.

// errCrossSite refuses another site's page.
var errCrossSite = response.NewError(fasthttp.StatusForbidden, "NOPERM requests from other sites' pages are not allowed; --cors (kv.cors in the stack file) names the origins that may")

// errUnsaidSite refuses a browser that does not say whose page asks.
var errUnsaidSite = response.NewError(fasthttp.StatusForbidden, "NOPERM over plain http a browser does not say which site's page sends this, so it may only read here (/get, /v1/keys). To write, use a program or https, or ask for tokens")

// WrongHost returns the error of a request for a host that is not a name of the node.
func (a *Authorizer) WrongHost() error {
	where := "--hosts (or HOLDFAST_HOSTS)"
	if a.cfg.InStack {
		where = "entry.hosts in the stack file"
	}
	return response.NewError(fasthttp.StatusMisdirectedRequest, "NOPERM the Host of the request is no name of this service; "+where+" adds names")
}

// AnswersTo reports whether a host is a name of the node.
func (a *Authorizer) AnswersTo(host []byte) bool {
	if a.cfg.Hosts == nil || a.cfg.Tokens != nil {
		return true
	}
	last := a.host.Load()
	if last != nil && *last == string(host) {
		return true
	}
	if !a.cfg.Hosts.Has(host) {
		return false
	}
	if last == nil && len(host) < 300 {
		name := string(host)
		a.host.Store(&name)
	}
	return true
}

// refusesSite refuses a request that another site's page may have sent, unless its origin is allowed
// or tokens are asked for. It reports whether it refused.
func (a *Authorizer) refusesSite(ctx *fasthttp.RequestCtx, allowed bool) bool {
	if a.cfg.Tokens != nil {
		return false
	}
	h := &ctx.Request.Header
	var err error
	if !a.AnswersTo(h.Host()) {
		err = a.WrongHost()
	} else if !allowed && !ctx.IsOptions() { // OPTIONS has no effect anywhere
		err = foreign(h.Peek, reads(ctx))
	}
	if err == nil {
		return false
	}
	response.SendError(ctx, err)
	return true
}

// reads reports whether a request can only read.
func reads(ctx *fasthttp.RequestCtx) bool {
	path := ctx.URI().PathOriginal()
	return (ctx.IsGet() || ctx.IsHead()) &&
		(len(path) <= 1 || string(path) == "/get" || bytes.HasPrefix(path, []byte("/get/")) || bytes.HasPrefix(path, []byte("/v1/")))
}

// foreign returns the error of a request that another site's page may have sent, or nil. field
// returns a field of the request's header; reads: the request can only read. A person may follow a
// link from another site to a read, but not to a request that writes.
//
// Every request comes through here, so it makes no strings of the fields.
func foreign(field func(name string) []byte, reads bool) error {
	site := field("Sec-Fetch-Site")
	switch string(site) {
	case "none", "same-origin", "":
	default: // same-site, cross-site, and any value to come
		if reads && string(field("Sec-Fetch-Mode")) == "navigate" {
			return nil
		}
		return errCrossSite
	}

	origin := field("Origin")
	switch {
	case len(origin) == 0:
	case string(origin) == "null" && string(site) == "same-origin": // a form of a page that hides its address
		return nil
	case !SameOrigin(origin, field("Host")):
		return errCrossSite
	default:
		return nil
	}
	if len(site) > 0 || reads || !bytes.HasPrefix(field("User-Agent"), []byte("Mozilla/")) {
		return nil
	}
	switch referer := field("Referer"); {
	case len(referer) == 0:
		return errUnsaidSite
	case !SameOrigin(referer, field("Host")):
		return errCrossSite
	}
	return nil
}

// SameOrigin reports whether a URL is of a host, in the form of the Host header. A proxy in front
// may have ended https, so the scheme counts only for the port where none is given.
func SameOrigin(url, host []byte) bool {
	scheme, rest, ok := bytes.Cut(url, []byte("://"))
	if !ok || len(host) == 0 {
		return false
	}
	rest, _, _ = bytes.Cut(rest, []byte("/"))
	port := []byte(":80")
	if bytes.EqualFold(scheme, []byte("https")) {
		port = []byte(":443")
	}
	return bytes.EqualFold(bytes.TrimSuffix(rest, port), bytes.TrimSuffix(host, port))
}

// Guard protects the admin's routes from pages of other sites, which may neither read them nor have
// the node make a profile. A browser that does not say whose page asks may read what costs nothing.
func (a *Authorizer) Guard(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		field := func(name string) []byte {
			if name == "Host" {
				return []byte(r.Host)
			}
			return []byte(r.Header.Get(name))
		}
		var err error
		if !a.cfg.Hosts.Has([]byte(r.Host)) {
			err = a.WrongHost()
		} else {
			err = foreign(field, !strings.HasPrefix(r.URL.Path, "/debug/"))
		}
		if err != nil {
			status, words := response.Outcome(err)
			http.Error(w, words, status)
			return
		}
		h.ServeHTTP(w, r)
	})
}

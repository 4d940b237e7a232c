// Package observe is for those who run a node. observer.go counts, logs and traces each request, by
// metrics.go, accesslog.go and trace.go. health.go tells balancers how the node is. admin.go serves
// /metrics, profiles and /healthz on a listener of its own.
//
// Not here: sending spans to a collector (package otlp).
package observe

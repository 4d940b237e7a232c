package cli

import (
	"holdfast/internal/metrics"
	"holdfast/internal/supervise"
)

// serveMetrics answers Prometheus at the stack's address for metrics, until stop, which
// waits for its end. Where the stack has none it does nothing.
func serveMetrics(sup *supervise.Supervisor) (stop func(), err error) {
	address := sup.Plan().Metrics
	if address == "" {
		return func() {}, nil
	}
	server, err := metrics.Listen(address, version, sup)
	if err != nil {
		return nil, err
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve() // it ends by Close; without it the stack goes on
	}()
	return func() {
		_ = server.Close()
		<-served
	}, nil
}

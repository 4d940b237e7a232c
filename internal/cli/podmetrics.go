package cli

import (
	"strconv"

	"holdfast/internal/metrics"
	"holdfast/internal/plan"
	"holdfast/internal/supervise"
)

// metrics serves the metrics of the pod's node for Prometheus.
func (p *podProcess) metrics(sup *supervise.Supervisor) (stop func(), err error) {
	server, err := metrics.ListenNode(":"+strconv.Itoa(plan.PodMetricsPort), version, sup, p.pod.Node)
	if err != nil {
		return nil, err
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve() // Close ends it; if it fails, the node goes on without metrics
	}()
	return func() {
		_ = server.Close()
		<-served
	}, nil
}

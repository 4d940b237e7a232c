package cli

import (
	"strconv"

	"holdfast/internal/metrics"
	"holdfast/internal/plan"
	"holdfast/internal/supervise"
)

// metrics tells Prometheus of the pod's node.
func (p *podProcess) metrics(sup *supervise.Supervisor) (end func(), err error) {
	server, err := metrics.ListenNode(":"+strconv.Itoa(plan.PodMetricsPort), version, sup, p.pod.Node)
	if err != nil {
		return nil, err
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve() // it ends by Close; without it the node serves on
	}()
	return func() {
		_ = server.Close()
		<-served
	}, nil
}

package cli

import (
	"fmt"
	"io"
	"time"

	"holdfast/internal/metrics"
	"holdfast/internal/supervise"
)

// followMetrics is how often it is looked whether the metrics have another address
// since a change of the stack.
const followMetrics = time.Second

// serveMetrics answers Prometheus at the stack's address for metrics, also at another
// one that a change of the stack gives it, until stop, which waits for its end. Where
// the stack has no such address it does nothing. That a later one is taken is said
// once, on complaints, and tried again; the former one stays until then.
func serveMetrics(sup *supervise.Supervisor, complaints io.Writer) (stop func(), err error) {
	var server *metrics.Server
	served := make(chan struct{})
	begin := func(address string) error {
		var next *metrics.Server
		ended := make(chan struct{})
		if address == "" {
			close(ended)
		} else {
			var err error
			if next, err = metrics.Listen(address, version, sup); err != nil {
				return err
			}
			go func() {
				defer close(ended)
				_ = next.Serve() // it ends by Close; without it the stack goes on
			}()
		}
		if server != nil {
			_ = server.Close()
			<-served
		}
		server, served = next, ended
		return nil
	}
	now := sup.Plan().Metrics
	if err := begin(now); err != nil {
		return nil, err
	}
	halt, followed := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(followed)
		ticker := time.NewTicker(followMetrics)
		defer ticker.Stop()
		said := ""
		for {
			select {
			case <-halt:
				return
			case <-ticker.C:
			}
			wanted := sup.Plan().Metrics
			if wanted == now {
				continue
			}
			if err := begin(wanted); err == nil {
				now, said = wanted, ""
			} else if said != wanted {
				said = wanted
				fmt.Fprintf(complaints, "holdfast: %v\n", err)
			}
		}
	}()
	return func() {
		close(halt)
		<-followed
		if server != nil {
			_ = server.Close()
			<-served
		}
	}, nil
}

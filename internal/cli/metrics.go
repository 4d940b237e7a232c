package cli

import (
	"fmt"
	"io"
	"time"

	"holdfast/internal/metrics"
	"holdfast/internal/supervise"
)

// followMetrics is how often serveMetrics checks whether a change of the stack has moved the
// metrics to another address.
const followMetrics = time.Second

// serveMetrics serves Prometheus at the stack's address for metrics, and moves when a change of the
// stack gives another address. Without an address it serves nothing. If a new address cannot be
// taken, it says so once on complaints, keeps the old one, and tries again. stop ends it and waits
// for its end.
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
				_ = next.Serve() // Close ends it; if it fails, the stack goes on without metrics
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

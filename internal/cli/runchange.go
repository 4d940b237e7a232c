package cli

import (
	"context"
	"errors"
	"fmt"

	"holdfast/internal/clock"
	"holdfast/internal/control"
	"holdfast/internal/supervise"
)

// client returns a client of the supervisor of a state directory. The client waits while another
// host is about to lead, and tells the user so.
func (g *globals) client(state string) *control.Client {
	return control.NewClient(state).RetryWhileBusy(func(why string) {
		fmt.Fprintf(g.stderr, "Waiting for up to 15 s: %s.\n", g.renderMessage(why))
	})
}

// errOtherLeader is the error of a change whose outcome is unknown.
var errOtherLeader = errors.New("another host leads since the middle of the change, and how that ended is not known: 'holdfast status' shows what runs")

// runChange has the supervisor carry a request out. If the lead passes to another host in the
// middle, that host goes on with the change, and runChange follows it to its end.
func runChange(ctx context.Context, g *globals, client *control.Client, req supervise.Request, tell func(supervise.Event)) (supervise.Result, error) {
	id := 0
	result, err := client.Change(ctx, req, func(e supervise.Event) {
		id = e.ID
		tell(e)
	})
	switch {
	case err == nil && !result.Unfinished, err != nil && !errors.Is(err, control.ErrInterrupted):
		return result, err
	case err == nil:
		id = result.ID
	}
	if _, notSeveral := client.Hosts(ctx); notSeveral != nil {
		return result, err
	}
	fmt.Fprintln(g.stderr, "The host that led does not any more. The next one goes on with the change.")
	return awaitChange(ctx, client, id, req.Kind, tell)
}

// awaitChange waits for the end of a change that began under the supervisor of another host. id is
// 0 if it is not known whether the change began.
func awaitChange(ctx context.Context, client *control.Client, id int, kind string, tell func(supervise.Event)) (supervise.Result, error) {
	var last supervise.Event
	for {
		st, err := client.Status(ctx)
		switch {
		case err != nil:
			return supervise.Result{}, fmt.Errorf("%w (%w)", errOtherLeader, err)
		case st.Change != nil && st.Change.ID == id && st.Change.Held != "":
			return supervise.Result{ID: id, Kind: kind, Held: true, Of: st.Change.Of}, nil
		case st.Change != nil && st.Change.ID == id && st.Change.Event != last:
			last = st.Change.Event
			tell(last)
		case st.Change == nil && st.Phase == supervise.PhaseRunning:
			return changeResult(st, id, kind, last)
		}
		if !clock.Sleep(ctx, askHostEvery) {
			return supervise.Result{}, ctx.Err()
		}
	}
}

// changeResult returns the result of a change, by the status of the stack.
func changeResult(st supervise.Status, id int, kind string, last supervise.Event) (supervise.Result, error) {
	switch {
	case id == 0:
		return supervise.Result{}, errOtherLeader
	case st.Stopped != nil && st.Stopped.ID == id:
		return *st.Stopped, nil
	case st.Generation >= id:
		return supervise.Result{ID: id, Kind: kind, Done: true, Steps: last.Of, Of: max(last.Of, 1)}, nil
	}
	return supervise.Result{}, errOtherLeader
}

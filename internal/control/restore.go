package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"

	"holdfast/internal/host"
	"holdfast/internal/supervise"
)

// This file is a restore on several hosts. The command runs on the host that has the backup. It
// sends the data to the host whose redis node is to get it, in a request that stays open. If
// the command ends before the restore is decided, that host removes the data again.

// StagePath is the path at which a host receives the data of a backup, below host.AtPath and
// the host's name.
const StagePath = "/restore"

// stageHead is the first line of the request. The data follows in the format of a Redis dump.
type stageHead struct {
	Staged supervise.Staged `json:"staged"`
	Copies int              `json:"copies"`
	// Server is redis.server of the stack file. It is empty if the sender is of an earlier
	// version; then any server will do.
	Server string `json:"server,omitempty"`
}

// maxStageHead is the largest size of that line, in bytes. A manifest has 16 KB at most.
const maxStageHead = 64 << 10

// StageHandler returns the handler of StagePath, for the host of a state directory. It answers
// one line when the data is ready, and keeps the data as long as the request is open.
func StageHandler(state string) http.Handler {
	var one sync.Mutex
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !one.TryLock() {
			writeJSON(w, http.StatusConflict, errorBody{Error: "another restore is being made ready on this host"})
			return
		}
		defer one.Unlock()
		in := bufio.NewReaderSize(r.Body, maxStageHead)
		head, err := readStageHead(in)
		if err == nil {
			err = supervise.StageDump(r.Context(), state, head.Server, head.Staged, head.Copies, in)
		}
		if err != nil {
			writeJSON(w, http.StatusConflict, errorBody{Error: err.Error()})
			return
		}
		defer supervise.Unstage(state)
		w.Header().Set("Content-Type", "application/x-ndjson")
		if json.NewEncoder(w).Encode(struct{}{}) != nil || http.NewResponseController(w).Flush() != nil {
			return
		}
		<-r.Context().Done()
	})
}

func readStageHead(in *bufio.Reader) (head stageHead, err error) {
	line, err := in.ReadSlice('\n')
	if err == nil {
		err = json.Unmarshal(line, &head)
	}
	if err != nil {
		return head, fmt.Errorf("read what is to be restored: %w", err)
	}
	return head, nil
}

// RestorePlace returns on which of several hosts the data of a backup has to be staged. The
// error tells why no restore can be carried out now.
func (c *Client) RestorePlace(ctx context.Context) (p supervise.RestorePlace, err error) {
	body, err := c.do(ctx, http.MethodGet, "/v1/restore")
	if err != nil {
		return p, err
	}
	defer body.Close()
	return p, json.NewDecoder(body).Decode(&p)
}

// StageRestore sends the dump of a backup to the host that is to get it. That host loads it
// into a Redis of its own, and keeps it ready until release is called or Restore decides for
// it.
func (c *Client) StageRestore(ctx context.Context, to supervise.RestorePlace, s supervise.Staged, dump io.Reader) (release func(), err error) {
	head, err := json.Marshal(stageHead{s, to.Copies, to.Server})
	if err != nil {
		return nil, err
	}

	ctx, cancel := context.WithCancel(ctx)
	// The dump goes through a pipe, because the transport may still read a request's body after
	// the request has ended. The dump is not read any more when StageRestore returns.
	in, out := io.Pipe()

	sent := make(chan error, 1)
	go func() {
		_, err := out.Write(append(head, '\n'))
		if err == nil {
			_, err = io.Copy(out, dump)
		}
		_ = out.CloseWithError(err) // a nil error means end of file
		sent <- err
	}()

	body, err := c.askOnce(ctx, http.MethodPost, host.AtPath+url.PathEscape(to.Host)+StagePath, in)
	_ = in.CloseWithError(io.ErrClosedPipe) // ends the writer if not everything was read
	readErr := <-sent
	if err == nil {
		_, err = bufio.NewReader(body).ReadString('\n')
	}

	if err != nil {
		cancel()
		if readErr != nil && !errors.Is(readErr, io.ErrClosedPipe) {
			err = readErr
		}
		return nil, err
	}
	return func() { cancel(); _ = body.Close() }, nil
}

// Restore replaces the stack's data by the staged data, and waits until Redis is up with it.
// Host and id name what was staged on a host of several.
func (c *Client) Restore(ctx context.Context, host, id string) (supervise.Restored, error) {
	var done supervise.Restored
	body, err := c.do(ctx, http.MethodPost, "/v1/restore?"+url.Values{"host": {host}, "id": {id}}.Encode())
	if err != nil {
		return done, err
	}
	defer body.Close()
	return done, json.NewDecoder(body).Decode(&done)
}

func (a *api) restorePlace(w http.ResponseWriter, r *http.Request) {
	place, err := a.stack.RestorePlace(r.Context())
	writeResult(w, place, err)
}

func (a *api) restore(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	done, err := a.stack.Restore(r.Context(), q.Get("host"), q.Get("id"))
	writeResult(w, done, err)
}

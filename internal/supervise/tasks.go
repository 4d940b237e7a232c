package supervise

import "sync"

// tasks are goroutines that somebody waits for. Unlike a sync.WaitGroup it may be given one
// while it is waited for and none runs: requests come until the control socket is closed,
// and find a supervisor that is being closed. Its context has ended then, and what such a
// request begins ends at once. The zero value has none.
type tasks struct {
	mu      sync.Mutex
	running int
	idle    chan struct{} // closed when none runs; nil: nobody waits
}

// Go runs f in a goroutine.
func (t *tasks) Go(f func()) {
	t.mu.Lock()
	t.running++
	t.mu.Unlock()
	go func() {
		defer t.end()
		f()
	}()
}

func (t *tasks) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running--; t.running == 0 && t.idle != nil {
		close(t.idle)
		t.idle = nil
	}
}

// Wait waits until none runs.
func (t *tasks) Wait() {
	t.mu.Lock()
	if t.running == 0 {
		t.mu.Unlock()
		return
	}
	if t.idle == nil {
		t.idle = make(chan struct{})
	}
	idle := t.idle
	t.mu.Unlock()
	<-idle
}

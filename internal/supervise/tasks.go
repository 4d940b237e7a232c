package supervise

import "sync"

// tasks is a group of goroutines that somebody waits for. Unlike with a sync.WaitGroup, a
// goroutine may be added during Wait while none is running: requests arrive until the control
// socket is closed, and find a supervisor that is being closed. Its context has ended by then,
// so what such a request begins ends at once. The zero value is an empty group.
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

// Wait waits until no goroutine of the group is running.
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

package logs

import (
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	readSize = 64 << 10 // bytes at once
	// gather is the pause after reading a pipe that had little in it. A node that writes many lines
	// thus wakes the writer 200 times a second, and not for each line.
	gather = 5 * time.Millisecond
	// unended is after how long a line without an end is stored.
	unended = time.Second
	// idle is how long a pipe may be silent before the reader checks whether any process still has
	// it open: not every system reports that (golang/go#24164).
	idle = 5 * time.Second

	// drainMost limits what is read at once for a caller of ask. It is more than a pipe holds, and
	// a limit for a node that never stops writing.
	drainMost = 4 << 20 // bytes
)

// pump stores what one node writes. It has a reader while a process has the pipe open, and another
// goroutine for the disk, so that no node has to wait for the disk.
type pump struct {
	out    *outbox
	stored chan struct{} // closed when the outbox is closed and everything is stored

	// Used by the reader only.
	buf []byte
	cut cutter

	mu      sync.Mutex
	pipe    *os.File // nil: no process has it open
	reading sync.WaitGroup
	asked   []chan struct{}
	ending  bool
}

func newPump(path string) *pump {
	p := &pump{out: newOutbox(), stored: make(chan struct{})}
	p.cut.emit = p.out.put
	go func() {
		defer close(p.stored)
		p.out.keep(newStore(path))
	}()
	return p
}

// open starts the reader of a pipe, unless it is running already or no process has the other end
// open.
func (p *pump) open(path string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pipe != nil || p.ending {
		return nil
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	raw, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return err
	}
	p.pipe = f
	p.reading.Go(func() { p.read(f, raw) })
	return nil
}

// inUse reports whether a process has the pipe open.
func (p *pump) inUse() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pipe != nil
}

// read reads a pipe until no process has it open, or the writer ends.
func (p *pump) read(f *os.File, raw syscall.RawConn) {
	if p.buf == nil {
		p.buf = make([]byte, readSize)
	}

	for {
		wait := idle
		if p.cut.begun {
			wait = unended
		}
		// Set the deadline before looking for questions: ask adds its question first, and then
		// moves the deadline.
		if err := f.SetReadDeadline(time.Now().Add(wait)); err != nil {
			p.leave(f)
			return
		}
		asked, ending := p.takeAsked()
		if len(asked) > 0 || ending {
			p.drain(raw)
			for _, done := range asked {
				p.out.ask(done)
			}
			if ending {
				p.leave(f)
				return
			}
			continue
		}

		n, err := f.Read(p.buf)
		now := time.Now()
		if n > 0 {
			p.cut.add(p.buf[:n], now)
			p.cut.flush()
			if n < readSize/2 {
				time.Sleep(gather)
			}
		}
		if p.cut.begun && now.Sub(p.cut.since) >= unended {
			p.cut.close()
		}
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded):
			if n, err := readNow(raw, p.buf); err == nil && n > 0 {
				p.cut.add(p.buf[:n], now)
				p.cut.flush()
			} else if err == io.EOF && p.left(f, raw) {
				return
			}
		case errors.Is(err, io.EOF):
			if p.left(f, raw) {
				return
			}
		default:
			p.cut.close()
			p.leave(f)
			return
		}
	}
}

// left ends the reading of a pipe that no process has open. It returns false if a process has
// opened it meanwhile: the reader then continues with that process.
func (p *pump) left(f *os.File, raw syscall.RawConn) bool {
	p.cut.close() // the last output may have had no line end
	p.mu.Lock()
	defer p.mu.Unlock()
	n, err := readNow(raw, p.buf)
	if n > 0 {
		p.cut.add(p.buf[:n], time.Now())
		p.cut.flush()
	}
	if err != io.EOF {
		return false
	}
	p.shut(f)
	return true
}

// leave ends the reading of a pipe, even if a process still has it open.
func (p *pump) leave(f *os.File) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shut(f)
}

// shut closes a pipe. The caller holds the lock.
func (p *pump) shut(f *os.File) {
	f.Close()
	p.pipe = nil
	for _, done := range p.asked {
		p.out.ask(done)
	}
	p.asked = nil
}

// takeAsked returns the channels that callers of ask wait for, and whether the writer is ending.
func (p *pump) takeAsked() ([]chan struct{}, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	asked := p.asked
	p.asked = nil
	return asked, p.ending
}

// drain reads everything that is in the pipe now.
func (p *pump) drain(raw syscall.RawConn) {
	for all := 0; all < drainMost; {
		n, err := readNow(raw, p.buf)
		if n == 0 || err != nil {
			break
		}
		p.cut.add(p.buf[:n], time.Now())
		all += n
	}
	p.cut.close()
}

// ask returns a channel that is closed when everything that the node has written so far is stored.
func (p *pump) ask() <-chan struct{} {
	done := make(chan struct{})
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pipe == nil {
		p.out.ask(done)
		return done
	}
	p.asked = append(p.asked, done)
	p.wake()
	return done
}

// wake makes the reader look for questions. The caller holds the lock.
func (p *pump) wake() {
	if p.pipe != nil {
		_ = p.pipe.SetReadDeadline(time.Unix(1, 0)) // if that fails, reading fails, too
	}
}

// end stores what the node has written so far, and ends the pump.
func (p *pump) end() {
	p.mu.Lock()
	p.ending = true
	p.wake()
	p.mu.Unlock()
	p.reading.Wait()
	p.out.close()
	<-p.stored
}

// readNow reads what is there, without waiting. It returns 0 bytes and io.EOF if no process has the
// pipe open, and 0 bytes and no error if it is empty.
func readNow(raw syscall.RawConn, buf []byte) (n int, err error) {
	outer := raw.Control(func(fd uintptr) {
		for {
			if n, err = unix.Read(int(fd), buf); err != unix.EINTR {
				return
			}
		}
	})
	switch {
	case outer != nil:
		return 0, outer
	case err == unix.EAGAIN:
		return 0, nil
	case err != nil:
		return 0, err
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

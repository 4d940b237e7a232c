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
	// Between two reads of a pipe that had little in it, so that a node which
	// writes many lines wakes the writer 200 times a second and not for each.
	gather = 5 * time.Millisecond
	// A line that has no end yet is stored after that time.
	unended = time.Second
	// How long a pipe may say nothing until it is looked whether anybody has it
	// open: not every system tells (golang/go#24164).
	idle = 5 * time.Second

	// drainMost is what is read at once for a caller of ask: more than a pipe
	// holds, and an end where a node never stops.
	drainMost = 4 << 20 // bytes
)

// pump stores what one node says. It has a reader, as long as a process has the
// pipe open, and a goroutine for the disk, so that no node waits for that.
type pump struct {
	out    *outbox
	stored chan struct{} // closed when the outbox is, and all of it is stored

	// Of the reader.
	buf []byte
	cut cutter

	mu      sync.Mutex
	pipe    *os.File // nil: nobody has it open
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

// open begins to read a pipe, unless that is under way or nobody has the other
// end of it.
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

// read reads a pipe until no process has it open any more, or the writer ends.
func (p *pump) read(f *os.File, raw syscall.RawConn) {
	if p.buf == nil {
		p.buf = make([]byte, readSize)
	}
	for {
		wait := idle
		if p.cut.begun {
			wait = unended
		}
		// The deadline first: ask sets it after it has asked.
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

// left ends the reading of a pipe that nobody has open, and reports whether it
// is so still: a process that was started meanwhile goes on with this reader.
func (p *pump) left(f *os.File, raw syscall.RawConn) bool {
	p.cut.close() // the last words may have had no end
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

// leave ends the reading of a pipe, also when a process still has it open.
func (p *pump) leave(f *os.File) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shut(f)
}

// shut closes a pipe. The lock is held.
func (p *pump) shut(f *os.File) {
	f.Close()
	p.pipe = nil
	for _, done := range p.asked {
		p.out.ask(done)
	}
	p.asked = nil
}

// takeAsked returns what the callers of ask wait for, and whether the writer
// ends.
func (p *pump) takeAsked() ([]chan struct{}, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	asked := p.asked
	p.asked = nil
	return asked, p.ending
}

// drain reads what the pipe has now.
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

// ask returns a channel that is closed when all that the node has said so far
// is stored.
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

// wake has the reader look what it was asked. The lock is held.
func (p *pump) wake() {
	if p.pipe != nil {
		_ = p.pipe.SetReadDeadline(time.Unix(1, 0)) // where that fails, reading does too
	}
}

// end stores what the node has said so far and ends the pump.
func (p *pump) end() {
	p.mu.Lock()
	p.ending = true
	p.wake()
	p.mu.Unlock()
	p.reading.Wait()
	p.out.close()
	<-p.stored
}

// readNow reads what there is, without waiting: 0 bytes and io.EOF where nobody
// has the pipe open, 0 bytes and no error where nothing is there.
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

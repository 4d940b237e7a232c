package machine

import (
	"context"
	"net"
	"path/filepath"
	"time"
)

// Elsewhere is a host that another supervisor looks after, such as another pod. Its nodes can
// be connected to, but nothing can be done there. Present reports false, and every method that
// would act on the host returns ErrUnreachable.
type Elsewhere struct {
	// Dir is the path of the state directory on that host.
	Dir string
}

var _ Machine = Elsewhere{}

// Dial implements Machine. It connects only by TCP.
func (Elsewhere) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if network != "tcp" {
		return nil, ErrUnreachable
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	return conn, known(err)
}

// Path implements Machine.
func (e Elsewhere) Path(elem ...string) string {
	return filepath.Join(append([]string{e.Dir}, elem...)...)
}

// The other methods of Machine.
func (Elsewhere) Present(context.Context) bool                   { return false }
func (Elsewhere) Close() error                                   { return nil }
func (Elsewhere) Write(context.Context, File) error              { return ErrUnreachable }
func (Elsewhere) Read(context.Context, string) ([]byte, error)   { return nil, ErrUnreachable }
func (Elsewhere) MakeDir(context.Context, string) error          { return ErrUnreachable }
func (Elsewhere) Stat(context.Context, string) (Info, error)     { return Info{}, ErrUnreachable }
func (Elsewhere) Remove(context.Context, string) error           { return ErrUnreachable }
func (Elsewhere) Rename(context.Context, string, string) error   { return ErrUnreachable }
func (Elsewhere) Glob(context.Context, string) ([]string, error) { return nil, ErrUnreachable }
func (Elsewhere) LookOutside(context.Context, string, string, []string) (OutsideFiles, error) {
	return OutsideFiles{}, ErrUnreachable
}
func (Elsewhere) Start(context.Context, Spec) (Process, error)     { return nil, ErrUnreachable }
func (Elsewhere) Adopt(context.Context, ID) (Process, error)       { return nil, ErrUnreachable }
func (Elsewhere) Alive(context.Context, ID) (bool, error)          { return false, ErrUnreachable }
func (Elsewhere) Find(context.Context, Trace) ([]ID, error)        { return nil, ErrUnreachable }
func (Elsewhere) Children(context.Context, int) []int              { return nil }
func (Elsewhere) LookPath(context.Context, string) (string, error) { return "", ErrUnreachable }
func (Elsewhere) Digest(context.Context, string) (string, error)   { return "", ErrUnreachable }
func (Elsewhere) Run(context.Context, string, ...string) (Output, error) {
	return Output{}, ErrUnreachable
}
func (Elsewhere) Free(context.Context, string) error               { return ErrUnreachable }
func (Elsewhere) Holder(context.Context, int) string               { return "" }
func (Elsewhere) Facts(context.Context) (Facts, error)             { return Facts{}, ErrUnreachable }
func (Elsewhere) Tail(context.Context, string, time.Time) []string { return nil }

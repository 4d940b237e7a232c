package httpfast

import "github.com/valyala/fasthttp"

// Options are the request's headers for how it is to be carried out and answered. They are valid as
// long as the request is.
type Options struct {
	Read, MaxLag, Write, SyncToken, Received []byte
	IdempotencyKey, Attempt                  []byte
	IdempotencyKeys, Attempts                int // how often once and attempt are given
	Encoding, Format                         []byte
}

// ReadHeader reads all of them in one pass over the header. Each look-up by name would be a pass of its
// own.
func (w *Options) ReadHeader(h *fasthttp.RequestHeader) {
	*w = Options{}
	for name, value := range h.All() {
		switch name[0] {
		case 'H', 'I', 'U': // the first letters of all of them
			w.Set(fieldOf(name), value)
		}
	}
}

// Set stores a field, if it is one of these.
func (w *Options) Set(field fieldSet, value []byte) {
	switch field {
	case readField:
		w.Read = value
	case maxLagField:
		w.MaxLag = value
	case writeField:
		w.Write = value
	case receivedField:
		w.Received = value
	case attemptField:
		w.Attempt = value
		w.Attempts++
	case onceField:
		w.IdempotencyKey = value
		w.IdempotencyKeys++
	case tokenField:
		if w.SyncToken = value; value == nil { // present, though empty
			w.SyncToken = []byte{}
		}
	case encodingField:
		w.Encoding = value
	case formatField:
		w.Format = value
	}
}

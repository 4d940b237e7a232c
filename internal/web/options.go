package web

import "github.com/valyala/fasthttp"

// wishes are the request's headers for how it is to be carried out and answered. They are valid as
// long as the request is.
type wishes struct {
	read, maxLag, write, token, received []byte
	once, attempt                        []byte
	onces, attempts                      int // how often once and attempt are given
	encoding, format                     []byte
}

// find reads all of them in one pass over the header. Each look-up by name would be a pass of its
// own.
func (w *wishes) find(h *fasthttp.RequestHeader) {
	*w = wishes{}
	for name, value := range h.All() {
		switch name[0] {
		case 'H', 'I', 'U': // the first letters of all of them
			w.set(fieldOf(name), value)
		}
	}
}

// set stores a field, if it is one of these.
func (w *wishes) set(field fields, value []byte) {
	switch field {
	case readField:
		w.read = value
	case maxLagField:
		w.maxLag = value
	case writeField:
		w.write = value
	case receivedField:
		w.received = value
	case attemptField:
		w.attempt = value
		w.attempts++
	case onceField:
		w.once = value
		w.onces++
	case tokenField:
		if w.token = value; value == nil { // present, though empty
			w.token = []byte{}
		}
	case encodingField:
		w.encoding = value
	case formatField:
		w.format = value
	}
}

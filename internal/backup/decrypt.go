package backup

import (
	"errors"
	"io"

	"holdfast/internal/encrypt"
)

// decrypting returns a reader that decrypts r. The error is an *encrypt.KeyError if the
// key is missing or wrong, and otherwise a *DamagedError.
func decrypting(r io.Reader, kind string, k encrypt.Key) (io.Reader, error) {
	plain, err := k.Reader(r, "the backup", kind)
	switch {
	case errors.As(err, new(*encrypt.KeyError)):
		return nil, err
	case err != nil:
		return nil, damaged("%w", err)
	}
	return &damageReader{plain}, nil
}

// damageReader turns errors of the decryption into a *DamagedError.
type damageReader struct{ plain io.Reader }

func (r *damageReader) Read(p []byte) (int, error) {
	n, err := r.plain.Read(p)
	if err != nil && err != io.EOF {
		err = damaged("what is encrypted is damaged: %w", err)
	}
	return n, err
}

package backup

import (
	"errors"
	"io"

	"holdfast/internal/encrypt"
)

// decrypting decrypts what it reads from r. An error about the key is an
// *encrypt.KeyError, any other a *DamagedError.
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

// damageReader tells a failure of the decryption, which is damage, from the end.
type damageReader struct{ plain io.Reader }

func (r *damageReader) Read(p []byte) (int, error) {
	n, err := r.plain.Read(p)
	if err != nil && err != io.EOF {
		err = damaged("what is encrypted is damaged: %w", err)
	}
	return n, err
}

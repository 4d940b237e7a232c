package identity

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Token is what a new host is given, to be pasted: 'holdfast join TOKEN'. It is a secret
// until it was used or is too old.
type Token struct {
	Stack string
	Host  string // the name of the host that is to join
	// Address is where the other hosts will reach it: the machine that joins has to have it.
	// The zero value: whoever made the token did not know.
	Address netip.Addr
	// Members are the addresses of hosts that answer, each with its port.
	Members []netip.AddrPort
	// ID tells which invitation it is, and is no secret.
	ID      [idSize]byte
	Secret  [secretSize]byte
	Expires time.Time // whole seconds
	// Authority is the fingerprint of the stack's authority: so the new host knows whom it
	// talks to before it says the secret.
	Authority [sha256.Size]byte
}

const (
	idSize     = 8
	secretSize = 16 // 128 bits need no slow hash
	sumSize    = 4
	maxToken   = 4096
	maxMembers = 16
	// tokenPrefix names the format; another one has another number.
	tokenPrefix = "hf1_"
)

// tokenFields are a Token as it is written. Letters keep the line short.
type tokenFields struct {
	Stack     string           `json:"s"`
	Host      string           `json:"h"`
	Address   netip.Addr       `json:"o,omitzero"`
	Members   []netip.AddrPort `json:"m"`
	ID        []byte           `json:"i"`
	Secret    []byte           `json:"k"`
	Expires   int64            `json:"e"`
	Authority []byte           `json:"a"`
}

// String is for messages; it has no secret.
func (t Token) String() string {
	return fmt.Sprintf("join token of host %s of stack %s", t.Host, t.Stack)
}

// GoString is String: no format shows the secret.
func (t Token) GoString() string { return t.String() }

// Encode returns the token as it is pasted: a prefix, and in base64 a checksum and the
// fields. The checksum tells a token that lost a character from one that is not known.
func (t Token) Encode() string {
	fields, err := json.Marshal(tokenFields{t.Stack, t.Host, t.Address, t.Members, t.ID[:], t.Secret[:], t.Expires.Unix(), t.Authority[:]})
	if err != nil {
		panic(err) // a struct of texts and numbers has a form in JSON
	}
	sum := sha256.Sum256(fields)
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(append(sum[:sumSize], fields...))
}

// ParseToken reads a token as Encode writes it, with blanks around it. Its error is an
// *Error, reason Garbled, that does not quote the token.
func ParseToken(text string) (Token, error) {
	text = strings.TrimSpace(text)
	switch {
	case text == "":
		return Token{}, refuse(Garbled, "there is no join token: paste the line that 'holdfast host add' printed")
	case len(text) > maxToken:
		return Token{}, refuse(Garbled, "the join token has %d characters, more than any has: paste the line that 'holdfast host add' printed, and nothing else", len(text))
	case !strings.HasPrefix(text, tokenPrefix):
		return Token{}, refuse(Garbled, "a join token begins with %s, and this does not: paste the whole line that 'holdfast host add' printed; a token of a newer version needs that version here, too", tokenPrefix)
	}

	raw, err := base64.RawURLEncoding.Strict().DecodeString(text[len(tokenPrefix):])
	if err != nil || len(raw) <= sumSize {
		return Token{}, incomplete()
	}
	fields := raw[sumSize:]
	if sum := sha256.Sum256(fields); !bytes.Equal(sum[:sumSize], raw[:sumSize]) {
		return Token{}, incomplete()
	}
	var f tokenFields
	if err := json.Unmarshal(fields, &f); err != nil {
		return Token{}, incomplete()
	}
	t := Token{Stack: f.Stack, Host: f.Host, Address: f.Address, Members: f.Members, Expires: time.Unix(f.Expires, 0)}
	sizes := copy(t.ID[:], f.ID) + copy(t.Secret[:], f.Secret) + copy(t.Authority[:], f.Authority)
	if sizes != idSize+secretSize+sha256.Size || !t.valid() || t.Encode() != text {
		return Token{}, incomplete()
	}
	return t, nil
}

func (t Token) valid() bool {
	if !validStack.MatchString(t.Stack) || !validName.MatchString(t.Host) || len(t.Members) == 0 || len(t.Members) > maxMembers {
		return false
	}
	for _, m := range t.Members {
		if !m.IsValid() || m.Port() == 0 {
			return false
		}
	}
	return true
}

func incomplete() error {
	return refuse(Garbled, "the join token is incomplete or was changed: paste the whole line that 'holdfast host add' printed")
}

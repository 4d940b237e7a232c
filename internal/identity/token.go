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

// Token is what the user pastes at a new host: 'holdfast join TOKEN'. It is a secret until it
// has been used or has expired.
type Token struct {
	Stack string
	Host  string // the name of the host that is to join
	// Address is where the other hosts will reach the new host, whose machine must have this
	// address. It is the zero value if it was not known when the token was made.
	Address netip.Addr
	// Members are the addresses of the hosts to ask, each with its port.
	Members []netip.AddrPort
	// ID identifies the invitation. It is not a secret.
	ID      [idSize]byte
	Secret  [secretSize]byte
	Expires time.Time // whole seconds
	// Authority is the fingerprint of the stack's authority. With it the new host can verify
	// the member before it sends the secret.
	Authority [sha256.Size]byte
}

const (
	idSize     = 8
	secretSize = 16 // 128 random bits: a fast hash of them is safe to keep
	sumSize    = 4
	maxToken   = 4096
	maxMembers = 16
	// tokenPrefix names the format. Another format has another number.
	tokenPrefix = "hf1_"
)

// tokenFields is the JSON form of a Token. One-letter names keep the line short.
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

// String returns a text for messages. It does not contain the secret.
func (t Token) String() string {
	return fmt.Sprintf("join token of host %s of stack %s", t.Host, t.Stack)
}

// GoString returns String, so that no format shows the secret.
func (t Token) GoString() string { return t.String() }

// Encode returns the token in the form that is pasted: a prefix, and then in base64 a checksum
// and the fields. By the checksum, a token that lost a character can be told from an unknown one.
func (t Token) Encode() string {
	fields, err := json.Marshal(tokenFields{t.Stack, t.Host, t.Address, t.Members, t.ID[:], t.Secret[:], t.Expires.Unix(), t.Authority[:]})
	if err != nil {
		panic(err) // a struct of texts and numbers can always be encoded
	}
	sum := sha256.Sum256(fields)
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(append(sum[:sumSize], fields...))
}

// ParseToken parses the result of Encode; white space around it is ignored. The error is an
// *Error, reason Garbled, which does not quote the token.
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

package token

import "testing"

// Balancers and web nodes of two versions have to agree, so this value must never change.
func TestTheResponseToAChallengeNeverChanges(t *testing.T) {
	if got, want := Response("secret", "challenge"), "751C9E50DAA7D390D8E39504AC8C88003029765B6FFA24DE91865F38210B740F"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

package outcome

import "testing"

func TestARefusalOfThisMomentIsTriedAgain(t *testing.T) {
	for words, want := range map[string]bool{
		"READONLY You can't write against a read only replica. script: 0b4, on @user_script:1.":            true,
		"MISCONF Errors writing to the AOF file: No space left on device":                                  true,
		"MISCONF Errors writing to the AOF file: No space left on device script: 0b4, on @user_script":     true,
		"LOADING Valkey is loading the dataset in memory":                                                  true,
		"READONLY says a script of a user's, which has written something":                                  false,
		"MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.": true,
		"MISCONF": false,
		"WRONGTYPE Operation against a key holding the wrong kind of value": false,
	} {
		if got := Retryable(words); got != want {
			t.Errorf("%q is tried again: %v, want %v", words, got, want)
		}
	}
}

package config_test

import (
	"testing"
	"time"

	"holdfast/internal/redis/config"
)

func TestAWriteIsRememberedLongerThanItIsTried(t *testing.T) {
	for hold, want := range map[time.Duration]time.Duration{
		0: 30 * time.Second, time.Second: 30 * time.Second, time.Minute: 6 * time.Minute,
	} {
		if got := (config.Config{Hold: hold}).WithDefaults().IdempotencyTTL; got != want {
			t.Errorf("held for %v, remembered for %v, want %v", hold, got, want)
		}
	}
}

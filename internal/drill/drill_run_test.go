package drill

import "testing"

func TestAHigherRateHasMoreKeys(t *testing.T) {
	for rate, want := range map[int]int{0: 12, 100: 12, 400: 12, 1500: 45, 4000: 120} {
		if got := (Mix{Rate: rate}).withDefaults(false).Keys; got != want {
			t.Errorf("at %d operations per second there are %d keys, want %d", rate, got, want)
		}
	}
	if got := (Mix{Rate: 4000, Keys: 5}).withDefaults(false).Keys; got != 5 {
		t.Errorf("%d keys, want the 5 that were asked for", got)
	}
}

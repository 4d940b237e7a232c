package logs

// enlarge does nothing: macOS gives a busy pipe more room by itself.
func enlarge(int) {}

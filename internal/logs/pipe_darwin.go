package logs

// enlarge does nothing: macOS enlarges a busy pipe by itself.
func enlarge(int) {}

package process

// closeOnExec sets close-on-exec for every open descriptor from first on.
func closeOnExec(first int) error { return closeEachOnExec(first) }

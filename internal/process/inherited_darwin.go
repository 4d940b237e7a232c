package process

// closeOnExec marks every descriptor from first on.
func closeOnExec(first int) error { return closeEachOnExec(first) }

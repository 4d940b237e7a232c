package drill

// hosts are machines of the drill's own, in network namespaces.
type hosts struct{}

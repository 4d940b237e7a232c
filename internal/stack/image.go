package stack

// validateImage reports mistakes in the addresses of an Image's containers.
func validateImage(r *reader, p path, a App) {
	at := p.key("at")
	if len(a.At) != 0 && len(a.At) != a.Nodes && !r.faulty(p.key("nodes")) && !r.faulty(at) {
		r.Report(r.keyPosition(at), "%s has %d addresses for %d nodes: 'holdfast export' writes one for each; remove the key, or correct it", at, len(a.At), a.Nodes)
	}
	seen := map[string]bool{}
	for i, address := range a.At {
		if seen[address] {
			r.Report(r.positionOf(at.item(i)), "%s: %s stands in the list already: remove one", at, address)
		}
		seen[address] = true
	}
}

// IsImage reports whether a text can be the name of a container image.
func IsImage(name string) bool { return imageRule.pattern.MatchString(name) }

// WithoutContainers returns the applications that are container images and whose containers have no
// addresses yet, sorted.
func (s Stack) WithoutContainers() (names []string) {
	for _, name := range s.AppNames() {
		if a := s.Apps[name]; a.Kind() == Image && len(a.At) == 0 {
			names = append(names, name)
		}
	}
	return names
}

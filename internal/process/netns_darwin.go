package process

import "errors"

// Within does something in a network namespace. There are none here.
func Within(netns string, do func() error) error {
	if netns == "" {
		return do()
	}
	return errors.New("network namespaces are Linux'")
}

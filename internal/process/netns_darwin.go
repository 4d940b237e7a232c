package process

import "errors"

// Within calls do. There are no network namespaces on macOS: with one, Within returns an
// error.
func Within(netns string, do func() error) error {
	if netns == "" {
		return do()
	}
	return errors.New("network namespaces are Linux'")
}

package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// mustNotExist refuses a path that is there, so that nothing is overwritten.
func mustNotExist(path string) error {
	switch _, err := os.Lstat(path); {
	case err == nil:
		return usagef("name another folder, or remove this one", "%s exists already", path)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	default:
		return fmt.Errorf("look at %s: %w", path, err)
	}
}

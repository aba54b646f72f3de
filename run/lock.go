package run

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
)

// lockFile is in a run folder while a process trains in it. The lock is the system's and ends with the process, however it
// ends; the file stays.
const lockFile = ".lock"

// lock holds the run folder for the session until Close; called again it does nothing.
func (s *Session) lock() (err error) {
	if s.unlock == nil {
		s.unlock, err = lockFolder(s.Config.Out)
	}
	return err
}

// lockFolder creates the run folder where it is missing and takes its lock, or says that another process has it.
func lockFolder(folder string) (unlock func(), err error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, fmt.Errorf("create run folder: %w", err)
	}
	lock := flock.New(filepath.Join(folder, lockFile))
	held, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock run folder: %w", err)
	}
	if !held {
		return nil, fmt.Errorf("another process is training in %s: wait for it, or give another --out", folder)
	}
	return func() { _ = lock.Close() }, nil
}

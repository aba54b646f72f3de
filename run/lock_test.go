package run

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestLockFolder: one run at a time trains in a folder, and the next may once it is done.
func TestLockFolder(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "runs", "one")
	unlock, err := lockFolder(folder)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockFolder(folder); err == nil || !strings.Contains(err.Error(), "another process is training in "+folder) {
		t.Errorf("a second lock gave %v", err)
	}
	unlock()
	again, err := lockFolder(folder)
	if err != nil {
		t.Fatalf("after the first was released: %v", err)
	}
	again()
}
